// fathom generate: token ids in, token ids out. End-of-sequence does not stop it.
#include <fmt/format.h>

#include "apps/app.h"
#include "apps/compute.h"
#include "base/limits.h"
#include "engine/engine.h"

namespace fathom {
namespace generate_command {

struct Options {
  std::string model, tokens;
  int64_t count = 0;
  int64_t chunk = 0;  // what suits the device
  bool print_ids = false;
  bool no_speculation = false;
  SamplingParams sampling{.temperature = 0};
  ComputeFlags compute;
};

Status run(const Options& o) {
  FATHOM_TRY(std::vector<int32_t> tokens, read_token_file(o.tokens));
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  if (!o.print_ids && loaded.tokenizer == nullptr) {
    return not_found(
        loaded.files.directory +
        "/tokenizer.json: no such file; text needs a tokenizer, --print-ids does without");
  }
  FATHOM_TRY(const auto backend, make_ops(o.compute, loaded));
  Ops& ops = *backend;
  const auto wanted = static_cast<int64_t>(tokens.size()) + o.count;
  FATHOM_TRY(auto engine, Engine::create(*loaded.model, ops,
                                         {.cache_tokens = wanted,
                                          .max_batch_tokens = o.chunk,
                                          .prefill_chunk = o.chunk,
                                          .kv_type = o.compute.kv_type(*loaded.model),
                                          .speculate_up_to = o.no_speculation ? 0 : 1}));
  FATHOM_TRY_STATUS(
      engine->submit({.prompt = std::move(tokens), .sampling = o.sampling, .max_tokens = o.count}));
  if (wanted > loaded.model->info().max_context_tokens) {
    fmt::print(stderr, "fathom: note: {} tokens are more than the model's context of {}\n", wanted,
               loaded.model->info().max_context_tokens);
  }
  std::vector<TokenEvent> events;
  while (engine->step(events)) {
  }
  std::vector<int32_t> ids;
  for (const TokenEvent& e : events) {
    if (e.finish == FinishReason::kError) return internal_error(e.error);
    ids.push_back(e.sampled.token);
  }
  if (o.print_ids) {
    fmt::print("{}\n", fmt::join(ids, " "));
    return {};
  }
  FATHOM_TRY(const std::string text, loaded.tokenizer->decode(ids));
  fmt::print("{}\n", text);
  return {};
}

}  // namespace generate_command

Action add_generate(CLI::App& program, CLI::App*& command) {
  using namespace generate_command;
  command = program.add_subcommand("generate", "Continue given token ids");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  command->add_option("--tokens", o->tokens, "File of whitespace-separated token ids")->required();
  command->add_option("-n", o->count, "Tokens to generate")
      ->required()
      ->check(CLI::Range(int64_t{1}, limits::kMaxContextTokens));
  command->add_option("--temperature", o->sampling.temperature,
                      "0 = the likeliest token (default 0)");
  command->add_option("--seed", o->sampling.seed, "Seed of the draw")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--chunk", o->chunk, "Prompt tokens a step (default 512; on a GPU 2048)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_flag("--no-speculation", o->no_speculation,
                    "Never draft tokens ahead with the model's MTP module; the ids are the same");
  command->add_flag("--print-ids", o->print_ids, "Print ids on one line instead of text");
  o->compute.add_to(*command);
  command->footer(
      "Example:\n  echo 0 5 6 7 > ids.txt\n  fathom generate nano --tokens ids.txt -n 16 "
      "--print-ids");
  return [o] { return run(*o); };
}

}  // namespace fathom
