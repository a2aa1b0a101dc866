// fathom run: one answer, or a conversation on the terminal.
#include <editline/readline.h>
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "apps/app.h"
#include "apps/compute.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "chat/answer_stream.h"
#include "chat/encode_prompt.h"
#include "engine/engine.h"

namespace fathom {
namespace run_command {

volatile std::sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

struct Options {
  std::string model, prompt, system, think = "auto";
  std::optional<double> temperature, top_p, min_p;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  double repetition_penalty = 1;
  std::vector<std::string> stops;
  int64_t max_tokens = 0;  // 0 = what the context leaves
  int64_t context = 0;     // 0 = the model's, but no more than kDefaultContext
  bool show_thinking = false;
  ComputeFlags compute;
};

// A cache for a long context is large; who wants more says so with --ctx.
constexpr int64_t kDefaultContext = 8192;

class Session {
 public:
  Session(const Options& options, const LoadedModel& model, Ops& ops)
      : options_(options), model_(model), ops_(ops) {}

  Status start();
  // Asks `text` and prints the answer as it comes. An interrupted answer stays in the conversation.
  Status ask(const std::string& text);
  void reset() { messages_.resize(system_messages_); }
  Status save(const std::string& path) const;
  bool empty() const { return messages_.size() == system_messages_; }

 private:
  struct Answer {
    std::string reasoning, content;
    int64_t tokens = 0;
    double seconds = 0, first_token_seconds = 0;
  };
  Status generate(std::vector<int32_t> prompt, bool opens_thinking, Answer& answer);
  void print(const OutputEvent& event, Answer& answer);
  SamplingParams sampling();

  const Options& options_;
  const LoadedModel& model_;
  Ops& ops_;
  std::unique_ptr<Engine> engine_;
  std::vector<ChatMessage> messages_;
  std::size_t system_messages_ = 0;
  std::mt19937_64 seeds_{std::random_device{}()};
  const bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
  bool dimmed_ = false;
};

Status Session::start() {
  int64_t context = options_.context > 0
                        ? options_.context
                        : std::min(kDefaultContext, model_.model->info().max_context_tokens);
  FATHOM_TRY(engine_, Engine::create(*model_.model, ops_,
                                     {.cache_tokens = context,
                                      .max_sequences = 1,
                                      .kv_type = options_.compute.kv_type(*model_.model)}));
  if (!options_.system.empty()) messages_.push_back({.role = "system", .content = options_.system});
  system_messages_ = messages_.size();
  return {};
}

// Flags, then the model's own defaults, then 0.6 and 0.95 (what DeepSeek advises for R1).
SamplingParams Session::sampling() {
  const ModelFiles& f = model_.files;
  SamplingParams p;
  const double fallback = f.do_sample ? 0.6 : 0.0;
  p.temperature =
      static_cast<float>(options_.temperature.value_or(f.temperature.value_or(fallback)));
  p.top_p = static_cast<float>(options_.top_p.value_or(f.top_p.value_or(0.95)));
  p.top_k = static_cast<int32_t>(options_.top_k.value_or(f.top_k.value_or(0)));
  p.min_p = static_cast<float>(options_.min_p.value_or(0));
  p.repetition_penalty = static_cast<float>(options_.repetition_penalty);
  p.seed = options_.seed.value_or(seeds_());
  return p;
}

// Control characters (C0 but line feed and tab, DEL, C1) as U+FFFD: what a model writes must not
// steer the terminal. `text` is whole UTF-8 characters.
std::string without_controls(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = std::max<std::size_t>(utf8_valid_length(text, i), 1);
    const char32_t c = utf8_decode(text, i, n);
    const bool control = (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0);
    out += control ? std::string_view("\uFFFD") : text.substr(i, n);
    i += n;
  }
  return out;
}

void Session::print(const OutputEvent& event, Answer& answer) {
  const bool reasoning = event.kind == OutputEvent::Kind::kReasoning;
  (reasoning ? answer.reasoning : answer.content) += event.text;
  // A pipe gets the answer alone.
  if (reasoning && !terminal_ && !options_.show_thinking) return;
  if (terminal_ && reasoning != dimmed_) {
    std::fputs(reasoning ? "\033[2m" : "\033[0m", stdout);
    dimmed_ = reasoning;
  }
  if (!reasoning && !answer.reasoning.empty() && answer.content.size() == event.text.size() &&
      (terminal_ || options_.show_thinking))
    std::fputs("\n\n", stdout);
  const std::string text = terminal_ ? without_controls(event.text) : event.text;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

Status Session::generate(std::vector<int32_t> prompt, bool opens_thinking, Answer& answer) {
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t room = engine_->context_tokens() - prompt_tokens;
  if (room < 1) {
    return invalid_argument(
        fmt::format("the conversation has {} tokens and fills the context; /reset starts anew, "
                    "--ctx enlarges it",
                    prompt_tokens));
  }
  const std::vector<int32_t> stops(model_.files.eos_token_ids.begin(),
                                   model_.files.eos_token_ids.end());
  AnswerStream stream(*model_.tokenizer, *model_.chat_family,
                      {.starts_in_thinking = opens_thinking}, options_.stops);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  FATHOM_TRY(const uint64_t id,
             engine_->submit({.prompt = std::move(prompt),
                              .sampling = sampling(),
                              .max_tokens = options_.max_tokens > 0 ? options_.max_tokens : room,
                              .stop_tokens = stops}));
  std::vector<TokenEvent> events;
  Status status;
  interrupted = 0;
  while (interrupted == 0 && !stream.stopped() && engine_->step(events)) {
    for (const TokenEvent& e : events) {
      if (e.finish == FinishReason::kError) {
        status = internal_error(e.error);
        continue;
      }
      if (answer.tokens++ == 0) answer.first_token_seconds = elapsed();
      if (e.finish == FinishReason::kStop) continue;
      for (const OutputEvent& out : stream.push(e.sampled.token)) print(out, answer);
    }
    events.clear();
  }
  engine_->cancel(id);
  for (const OutputEvent& out : stream.finish()) print(out, answer);
  answer.seconds = elapsed();
  return status;
}

Status Session::ask(const std::string& text) {
  messages_.push_back({.role = "user", .content = text});
  RenderOptions render;
  if (options_.think != "auto") render.thinking = options_.think == "on";
  Answer answer;
  const auto run = [&]() -> Status {
    FATHOM_TRY(const auto pieces, render_chat_pieces(*model_.chat_family, messages_, render));
    FATHOM_TRY(std::vector<int32_t> prompt, encode_prompt(*model_.tokenizer, pieces));
    return generate(std::move(prompt), prompt_opens_thinking(pieces), answer);
  };
  const Status status = run();
  if (dimmed_) std::fputs("\033[0m", stdout);
  dimmed_ = false;
  if (!status) {
    messages_.pop_back();
    return status;
  }
  std::fputs(interrupted != 0 ? " [stopped]\n" : "\n", stdout);
  std::fflush(stdout);
  messages_.push_back({.role = "assistant", .content = answer.content});
  if (!answer.reasoning.empty()) messages_.back().reasoning_content = answer.reasoning;
  if (::isatty(STDERR_FILENO) != 0 && answer.tokens > 1) {
    const double decode = answer.seconds - answer.first_token_seconds;
    fmt::print(stderr, "\033[2m{} tokens, {:.0f} tokens/s, first token after {:.2f} s\033[0m\n",
               answer.tokens, static_cast<double>(answer.tokens - 1) / std::max(decode, 1e-9),
               answer.first_token_seconds);
  }
  return {};
}

Status Session::save(const std::string& path) const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ChatMessage& m : messages_) {
    nlohmann::ordered_json entry = {{"role", m.role}, {"content", m.content.value_or("")}};
    if (m.reasoning_content) entry["reasoning_content"] = *m.reasoning_content;
    list.push_back(std::move(entry));
  }
  return write_file_atomically(path, list.dump(2) + "\n");
}

constexpr const char* kHelp =
    "/help         this help\n"
    "/reset        forget the conversation\n"
    "/save FILE    write the conversation as JSON (OpenAI's message form)\n"
    "/exit         leave (so does Ctrl-D)\n"
    "Ctrl-C stops an answer or drops the line. A line that ends in \\ goes on in the next one.\n";

// What Ctrl-C does while a line is typed.
int drop_line(int, int) {
  interrupted = 1;
  ::rl_done = 1;
  return 0;
}

void start_editor() {
  std::setlocale(LC_CTYPE, "");
  ::rl_initialize();
  ::rl_add_defun("drop-line", drop_line, 'C' & 0x1F);
}

// While it lives, Ctrl-C is a key like others. As a signal the editor would swallow it or take it
// for the end of the input, depending on the moment.
class InterruptIsAKey {
 public:
  InterruptIsAKey() : changed_(::tcgetattr(STDIN_FILENO, &before_) == 0) {
    termios without = before_;
    without.c_cc[VINTR] = _POSIX_VDISABLE;
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSANOW, &without);
  }
  ~InterruptIsAKey() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  InterruptIsAKey(const InterruptIsAKey&) = delete;
  InterruptIsAKey& operator=(const InterruptIsAKey&) = delete;

 private:
  termios before_{};
  bool changed_;
};

// A line from the terminal with editing and history, or from a pipe. nullopt at the end;
// `interrupted` is set if the line was dropped.
std::optional<std::string> read_line(bool terminal, const char* prompt) {
  if (!terminal) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  const InterruptIsAKey interrupt_is_a_key;
  char* line = ::readline(prompt);
  if (line == nullptr) {
    if (interrupted == 0) return std::nullopt;
    fmt::print("^C\n");
    return std::string();
  }
  std::string out = line;
  std::free(line);
  if (!out.empty()) ::add_history(out.c_str());
  return out;
}

// One message: lines joined while they end in a backslash. Empty if it was dropped.
std::optional<std::string> read_message(bool terminal) {
  interrupted = 0;
  auto text = read_line(terminal, ">>> ");
  while (text && text->ends_with('\\')) {
    text->back() = '\n';
    const auto more = read_line(terminal, "... ");
    if (!more) break;
    if (interrupted != 0) return std::string();
    *text += *more;
  }
  return text;
}

// Runs a /command. False: it was "leave".
bool command(Session& session, const std::string& line) {
  const auto space = line.find(' ');
  const std::string name = line.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
  if (name == "/exit" || name == "/quit" || name == "/bye") return false;
  if (name == "/help") {
    fmt::print("{}", kHelp);
  } else if (name == "/reset") {
    session.reset();
    fmt::print("The conversation is empty again.\n");
  } else if (name == "/save") {
    if (argument.empty()) {
      fmt::print("/save needs a file name\n");
    } else if (const Status s = session.save(argument); !s) {
      fmt::print("{}\n", s.error().message);
    } else {
      fmt::print("Saved to {}.\n", argument);
    }
  } else {
    fmt::print("{} is no command; /help lists them\n", name);
  }
  return true;
}

Status chat(Session& session, const LoadedModel& model) {
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) {
    start_editor();
    fmt::print("{} is ready. /help lists commands, Ctrl-D leaves.\n", model.model->info().name);
  }
  while (true) {
    std::fflush(stdout);
    const auto text = read_message(terminal);
    if (!text) break;
    if (text->find_first_not_of(" \t\n") == std::string::npos) continue;
    if (text->starts_with('/')) {
      if (!command(session, *text)) break;
      continue;
    }
    if (const Status s = session.ask(*text); !s) {
      if (!terminal) return s;
      fmt::print("{}\n", s.error().message);
    }
  }
  if (terminal) fmt::print("\n");
  return {};
}

Status run(const Options& o, bool has_prompt) {
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  FATHOM_TRY([[maybe_unused]] const Tokenizer* tokenizer, require_tokenizer(loaded));
  if (!loaded.chat_family) {
    return invalid_argument(
        loaded.files.directory +
        ": its chat template is none that fathom knows; fathom generate continues raw tokens");
  }
  FATHOM_TRY(const auto backend, make_ops(o.compute, loaded));
  Ops& ops = *backend;
  Session session(o, loaded, ops);
  FATHOM_TRY_STATUS(session.start());
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  if (has_prompt) return session.ask(o.prompt);
  return chat(session, loaded);
}

}  // namespace run_command

Action add_run(CLI::App& program, CLI::App*& command) {
  using namespace run_command;
  command = program.add_subcommand("run", "Ask a model once (-p), or talk to it");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  CLI::Option* prompt = command->add_option("-p,--prompt", o->prompt, "Ask this and leave");
  command->add_option("--system", o->system, "System prompt");
  command->add_option("--temperature", o->temperature,
                      "0 = the likeliest token (default: the model's)");
  command->add_option("--top-k", o->top_k, "Keep the k likeliest tokens")
      ->check(CLI::Range(int64_t{0}, limits::kMaxVocab));
  command->add_option("--top-p", o->top_p, "Keep the likeliest tokens up to this probability");
  command->add_option("--min-p", o->min_p,
                      "Keep tokens with this share of the best one's probability");
  command->add_option("--repetition-penalty", o->repetition_penalty, "1 = off");
  command->add_option("--seed", o->seed, "Seed: the same one gives the same answer")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--stop", o->stops,
                   "Stop before this text, in the reasoning too (may be given several times)")
      ->allow_extra_args(false);
  command
      ->add_option("--max-tokens", o->max_tokens,
                   "Longest answer (default: what the context leaves)")
      ->check(CLI::PositiveNumber);
  command->add_option("--ctx", o->context, "Tokens of context (default: the model's, at most 8192)")
      ->check(CLI::PositiveNumber);
  command->add_option("--think", o->think, "auto, on or off")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  command->add_flag("--show-thinking", o->show_thinking, "Print the reasoning into pipes, too");
  o->compute.add_to(*command);
  command->footer("Examples:\n  fathom run nano -p 'What is 4837 + 926?'\n  fathom run nano");
  return [o, prompt] { return run(*o, prompt->count() > 0); };
}

}  // namespace fathom
