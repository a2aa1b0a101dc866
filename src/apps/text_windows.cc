#include "apps/text_windows.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/limits.h"

namespace fathom {
namespace {

// −log p(token) under a row of logits.
double negative_log_likelihood(const float* logits, int64_t vocab, int32_t token) {
  float max = logits[0];
  for (int64_t i = 1; i < vocab; ++i) max = std::max(max, logits[i]);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - max);
  return max + std::log(sum) - logits[token];
}

}  // namespace

void TextWindowFlags::add_to(CLI::App& command) {
  command.add_option("--file", file, "Text file, UTF-8")->required();
  command.add_option("--ctx", ctx, "Tokens a window (default 512)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20));
  command.add_option("--windows", windows, "Only the first N windows (default: all)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command.add_flag("--special", special,
                   "Special tokens spelled in the text are tokens (else they are plain text)");
}

Result<std::vector<std::vector<int32_t>>> read_text_windows(const LoadedModel& model,
                                                            const TextWindowFlags& flags) {
  FATHOM_TRY(const Tokenizer* tokenizer, require_tokenizer(model));
  FATHOM_TRY(const std::string text, read_file(flags.file, limits::kMaxPromptBytes));
  FATHOM_TRY(const auto ids, tokenizer->encode(text, {.special_as_text = !flags.special}));
  std::vector<std::vector<int32_t>> out;
  const auto window = static_cast<std::size_t>(flags.ctx);
  for (std::size_t begin = 0; begin < ids.size(); begin += window) {
    if (flags.windows > 0 && static_cast<int64_t>(out.size()) >= flags.windows) break;
    const std::size_t end = std::min(begin + window, ids.size());
    std::vector<int32_t> tokens;
    tokens.reserve(window + 1);
    if (model.files.bos_token_id) tokens.push_back(static_cast<int32_t>(*model.files.bos_token_id));
    tokens.insert(tokens.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                  ids.begin() + static_cast<std::ptrdiff_t>(end));
    if (tokens.size() >= 2) out.push_back(std::move(tokens));
  }
  if (out.empty())
    return invalid_argument(flags.file + ": fewer than two tokens, nothing to predict");
  return out;
}

void TextScore::add(const std::vector<int32_t>& tokens, int64_t first, const TensorView& logits) {
  for (int64_t i = 0; i < logits.rows; ++i) {
    const auto next = static_cast<std::size_t>(first + i) + 1;
    if (next >= tokens.size()) break;
    const double nll = negative_log_likelihood(logits.f32(i), logits.cols, tokens[next]);
    total_ += nll;
    squares_ += nll * nll;
    ++count_;
  }
}

double TextScore::perplexity() const {
  return std::exp(total_ / static_cast<double>(std::max<int64_t>(count_, 1)));
}

double TextScore::standard_error() const {
  const auto n = static_cast<double>(std::max<int64_t>(count_, 1));
  const double mean = total_ / n;
  return perplexity() * std::sqrt(std::max(squares_ / n - mean * mean, 0.0) / n);
}

}  // namespace fathom
