// fathom perplexity: how well a model predicts a text.
#include <fmt/format.h>

#include <cmath>

#include "apps/app.h"
#include "base/file.h"
#include "base/limits.h"
#include "engine/score.h"

namespace fathom {
namespace {

struct Options {
  std::string model, file;
  int64_t ctx = 512;
  ComputeFlags compute;
};

// −log p(token) under a row of logits.
double negative_log_likelihood(const float* logits, int64_t vocab, int32_t token) {
  float max = logits[0];
  for (int64_t i = 1; i < vocab; ++i) max = std::max(max, logits[i]);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - max);
  return max + std::log(sum) - logits[token];
}

// The text is cut into windows of ctx tokens, each behind a begin token if the model has one; every
// token of a window but the first is predicted from those before it.
Status run(const Options& o) {
  FATHOM_TRY(const LoadedModel loaded, load(o.model, o.compute));
  FATHOM_TRY(const Tokenizer* tokenizer, require_tokenizer(loaded));
  FATHOM_TRY(const std::string text, read_file(o.file, limits::kMaxPromptBytes));
  FATHOM_TRY(const auto ids, tokenizer->encode(text, {.special_as_text = true}));
  FATHOM_TRY(const CpuOpsOptions ops_options, o.compute.options());
  CpuOps ops(ops_options);
  Progress progress("perplexity", static_cast<int64_t>(ids.size()), "tokens");
  double total = 0, squares = 0;
  int64_t count = 0;
  const auto window = static_cast<std::size_t>(o.ctx);
  for (std::size_t begin = 0; begin < ids.size(); begin += window) {
    std::vector<int32_t> tokens;
    tokens.reserve(window + 1);
    if (loaded.files.bos_token_id)
      tokens.push_back(static_cast<int32_t>(*loaded.files.bos_token_id));
    const std::size_t end = std::min(begin + window, ids.size());
    tokens.insert(tokens.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                  ids.begin() + static_cast<std::ptrdiff_t>(end));
    if (tokens.size() < 2) continue;
    FATHOM_TRY_STATUS(score_tokens(
        *loaded.model, ops, tokens, {.kv_type = o.compute.kv_type(*loaded.model)},
        [&](int64_t first, const TensorView& logits) -> Status {
          for (int64_t i = 0; i < logits.rows; ++i) {
            const auto next = static_cast<std::size_t>(first + i) + 1;
            if (next >= tokens.size()) break;
            const double nll = negative_log_likelihood(logits.f32(i), logits.cols, tokens[next]);
            total += nll;
            squares += nll * nll;
            ++count;
          }
          return {};
        }));
    progress.set(static_cast<int64_t>(end),
                 fmt::format("ppl {:.4f}",
                             std::exp(total / static_cast<double>(std::max<int64_t>(count, 1)))));
  }
  if (count == 0) return invalid_argument(o.file + ": fewer than two tokens, nothing to predict");
  const double n = static_cast<double>(count), mean = total / n;
  const double error = std::sqrt(std::max(squares / n - mean * mean, 0.0) / n);
  fmt::print("perplexity {:.4f} ± {:.4f} over {} tokens (windows of {})\n", std::exp(mean),
             std::exp(mean) * error, count, o.ctx);
  return {};
}

}  // namespace

Action add_perplexity(CLI::App& program, CLI::App*& command) {
  command = program.add_subcommand("perplexity", "How well a model predicts a text");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "Model directory, file or bundled name")->required();
  command->add_option("--file", o->file, "Text file, UTF-8")->required();
  command->add_option("--ctx", o->ctx, "Tokens a window (default 512)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20));
  o->compute.add_to(*command);
  command->footer("Example:\n  fathom perplexity nano --file README.md --ctx 256");
  return [o] { return run(*o); };
}

}  // namespace fathom
