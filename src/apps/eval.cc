// fathom eval: exact-match accuracy on a file of problems, answered greedily in batches.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "apps/app.h"
#include "apps/compute.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "chat/encode_prompt.h"
#include "engine/engine.h"

namespace fathom {
namespace eval_command {

constexpr int64_t kMaxAnswerTokens = 400;

struct Options {
  std::string model, data, answers;
  bool json = false;
  int64_t batch = 64;
  ComputeFlags compute;
};

struct Problem {
  std::string task;
  std::string answer;  // what is right
  std::vector<int32_t> prompt;
  bool thinks = false;  // the answer follows </think>
  std::vector<int32_t> output;
};

struct Score {
  int64_t right = 0, total = 0;
};

std::string strip(std::string_view s) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const auto begin = s.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(s.substr(begin, s.find_last_not_of(kSpace) - begin + 1));
}

// A line: {task, messages | prompt, answer}. A prompt is raw text behind the begin token.
Result<Problem> read_problem(const LoadedModel& model, const std::string& line,
                             const std::string& where) {
  FATHOM_TRY(const nlohmann::json value, parse_json(line, where));
  if (!value.is_object()) return invalid_argument(where + ": expected an object");
  const JsonReader reader(value, where);
  Problem p;
  FATHOM_TRY(p.task, reader.string("task"));
  FATHOM_TRY(p.answer, reader.string("answer"));
  if (reader.has("prompt")) {
    FATHOM_TRY(const std::string prompt, reader.string("prompt"));
    if (model.files.bos_token_id)
      p.prompt.push_back(static_cast<int32_t>(*model.files.bos_token_id));
    FATHOM_TRY(const auto ids, model.tokenizer->encode(prompt));
    p.prompt.insert(p.prompt.end(), ids.begin(), ids.end());
    return p;
  }
  if (!reader.has("messages")) return reader.bad("messages", "messages or a prompt");
  if (!model.chat_family) {
    return invalid_argument(
        model.files.directory +
        ": its chat template is none that fathom knows, so messages cannot be rendered");
  }
  FATHOM_TRY(const auto messages, parse_messages(value["messages"].dump(), where + ": messages"));
  FATHOM_TRY(const auto pieces, render_chat_pieces(*model.chat_family, messages, {}));
  FATHOM_TRY(p.prompt, encode_prompt(*model.tokenizer, pieces));
  p.thinks = prompt_opens_thinking(pieces);
  return p;
}

Result<std::vector<Problem>> read_problems(const LoadedModel& model, const std::string& path) {
  FATHOM_TRY(const std::string text, read_file(path, limits::kMaxJsonBytes));
  std::vector<Problem> problems;
  int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    ++number;
    begin = end + 1;
    if (strip(line).empty()) continue;
    const std::string where = fmt::format("{} line {}", path, number);
    auto problem = read_problem(model, line, where);
    if (!problem) {
      Error error = std::move(problem).error();
      if (!error.message.starts_with(where)) error.message = where + ": " + error.message;
      return error;
    }
    problems.push_back(*std::move(problem));
  }
  if (problems.empty()) return invalid_argument(path + ": no problems, expected lines of JSON");
  return problems;
}

Status answer_all(const LoadedModel& model, Ops& ops, const Options& o,
                  std::vector<Problem>& problems) {
  std::size_t longest = 0;
  for (const Problem& p : problems) longest = std::max(longest, p.prompt.size());
  const auto room = static_cast<int64_t>(longest) + kMaxAnswerTokens + kDefaultPageTokens;
  FATHOM_TRY(auto engine, Engine::create(*model.model, ops,
                                         {.cache_tokens = room * o.batch,
                                          .max_sequences = o.batch,
                                          .kv_type = o.compute.kv_type(*model.model)}));
  const std::vector<int32_t> stops(model.files.eos_token_ids.begin(),
                                   model.files.eos_token_ids.end());
  std::map<uint64_t, Problem*> by_id;
  for (Problem& p : problems) {
    FATHOM_TRY(const uint64_t id, engine->submit({.prompt = p.prompt,
                                                  .sampling = {.temperature = 0},
                                                  .max_tokens = kMaxAnswerTokens,
                                                  .stop_tokens = stops}));
    by_id[id] = &p;
  }
  Progress progress("eval", static_cast<int64_t>(problems.size()), "problems");
  int64_t done = 0;
  std::vector<TokenEvent> events;
  while (engine->step(events)) {
    for (const TokenEvent& e : events) {
      if (e.finish == FinishReason::kError) return internal_error(e.error);
      if (e.finish != FinishReason::kStop) by_id[e.request_id]->output.push_back(e.sampled.token);
      done += e.finish.has_value();
    }
    events.clear();
    progress.set(done);
  }
  return {};
}

// The text after </think>, stripped; of a thought that never ends there is none.
Result<std::string> final_answer(const LoadedModel& model, const Problem& p) {
  FATHOM_TRY(const std::string text, model.tokenizer->decode(p.output, true));
  constexpr std::string_view kEnd = "</think>";
  const auto end = text.rfind(kEnd);
  if (end != std::string::npos) return strip(std::string_view(text).substr(end + kEnd.size()));
  return p.thinks ? std::string() : strip(text);
}

void print_scores(const std::map<std::string, Score>& tasks, const Score& all, bool json,
                  double seconds, int64_t tokens) {
  if (json) {
    nlohmann::ordered_json j;
    for (const auto& [task, s] : tasks) {
      j["tasks"][task] = {
          {"right", s.right},
          {"total", s.total},
          {"accuracy", static_cast<double>(s.right) / static_cast<double>(s.total)}};
    }
    j["right"] = all.right;
    j["total"] = all.total;
    j["accuracy"] = static_cast<double>(all.right) / static_cast<double>(all.total);
    j["seconds"] = seconds;
    j["generated_tokens"] = tokens;
    fmt::print("{}\n", j.dump(2));
    return;
  }
  const auto row = [](const std::string& name, const Score& s) {
    fmt::print("{:<14} {:>5}/{:<5} {:6.2f} %\n", name, s.right, s.total,
               100.0 * static_cast<double>(s.right) / static_cast<double>(s.total));
  };
  for (const auto& [task, s] : tasks) row(task, s);
  row("all", all);
  fmt::print("{} tokens generated in {:.1f} s ({:.0f} tokens/s)\n", tokens, seconds,
             static_cast<double>(tokens) / seconds);
}

Status run(const Options& o) {
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  FATHOM_TRY([[maybe_unused]] const Tokenizer* tokenizer, require_tokenizer(loaded));
  FATHOM_TRY(std::vector<Problem> problems, read_problems(loaded, o.data));
  FATHOM_TRY(const auto backend, make_ops(o.compute, loaded));
  Ops& ops = *backend;
  const auto start = std::chrono::steady_clock::now();
  FATHOM_TRY_STATUS(answer_all(loaded, ops, o, problems));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::map<std::string, Score> tasks;
  Score all;
  int64_t tokens = 0;
  std::string lines;
  for (const Problem& p : problems) {
    FATHOM_TRY(const std::string given, final_answer(loaded, p));
    const bool right = given == p.answer;
    for (Score* s : {&tasks[p.task], &all}) {
      ++s->total;
      s->right += right;
    }
    tokens += static_cast<int64_t>(p.output.size());
    lines +=
        nlohmann::ordered_json{
            {"task", p.task}, {"expected", p.answer}, {"given", given}, {"right", right}}
            .dump() +
        "\n";
  }
  if (!o.answers.empty()) FATHOM_TRY_STATUS(write_file_atomically(o.answers, lines));
  print_scores(tasks, all, o.json, seconds, tokens);
  return {};
}

}  // namespace eval_command

Action add_eval(CLI::App& program, CLI::App*& command) {
  using namespace eval_command;
  command = program.add_subcommand("eval", "Exact-match accuracy on a file of problems");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  command->add_option("--data", o->data, "Lines of {task, messages | prompt, answer}")->required();
  command->add_flag("--json", o->json, "Print JSON");
  command->add_option("--answers", o->answers,
                      "Also write each answer to this file, as JSON lines");
  command->add_option("--batch", o->batch, "Problems at once (default 64)")
      ->check(CLI::Range(1, 4096));
  o->compute.add_to(*command);
  command->footer("Example:\n  fathom eval nano --data models/nano/eval.jsonl");
  return [o] { return run(*o); };
}

}  // namespace fathom
