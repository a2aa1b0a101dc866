#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "engine/random.h"

namespace fathom {
namespace {

// The largest logit, the lower id among equals; −1 if none is above −inf.
int32_t arg_max(std::span<const float> logits) {
  int32_t best = -1;
  float max = -INFINITY;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > max) {
      max = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  return best;
}

// False if a logit is NaN or +inf, or none is above −inf.
bool are_usable(std::span<const float> logits) {
  bool broken = false, any = false;
  for (const float l : logits) {
    broken |= !(l < INFINITY);
    any |= l > -INFINITY;
  }
  return any && !broken;
}

void compute_logprobs(std::span<const float> logits, int top, std::vector<TokenLogprob>& out,
                      double& log_sum) {
  const int32_t best = arg_max(logits);
  const double max = logits[static_cast<std::size_t>(best)];
  double sum = 0;
  for (const float l : logits) sum += std::exp(l - max);
  log_sum = max + std::log(sum);
  if (top == 0) return;
  std::vector<int32_t> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto count = std::min<std::size_t>(static_cast<std::size_t>(top), order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](int32_t a, int32_t b) {
                      const float la = logits[static_cast<std::size_t>(a)];
                      const float lb = logits[static_cast<std::size_t>(b)];
                      return la != lb ? la > lb : a < b;
                    });
  for (std::size_t i = 0; i < count; ++i) {
    const float l = logits[static_cast<std::size_t>(order[i])];
    out.push_back({order[i], static_cast<float>(l - log_sum)});
  }
}

void apply_penalties(std::span<float> logits, const SamplingParams& p,
                     std::span<const int32_t> prompt, std::span<const int32_t> answer,
                     std::vector<int32_t>& counts) {
  if (p.repetition_penalty != 1) {
    counts.assign(logits.size(), 0);
    const auto once = [&](int32_t id) {
      if (counts[static_cast<std::size_t>(id)]++ != 0) return;
      float& l = logits[static_cast<std::size_t>(id)];
      // A penalty below 1 may not lift a logit out of the range of floats: +inf has no softmax.
      l = l > 0 ? std::min(l / p.repetition_penalty, std::numeric_limits<float>::max())
                : l * p.repetition_penalty;
    };
    std::for_each(prompt.begin(), prompt.end(), once);
    std::for_each(answer.begin(), answer.end(), once);
  }
  if (p.presence_penalty != 0 || p.frequency_penalty != 0) {
    counts.assign(logits.size(), 0);
    for (const int32_t id : answer) ++counts[static_cast<std::size_t>(id)];
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (counts[i] == 0) continue;
      logits[i] -= p.presence_penalty + p.frequency_penalty * static_cast<float>(counts[i]);
    }
  }
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<std::size_t>(id)] += bias;
}

}  // namespace

Status validate(const SamplingParams& p, int64_t vocab_size) {
  const auto check = [](std::string_view name, double v, double min, double max) -> Status {
    if (v >= min && v <= max) return {};
    return invalid_argument(fmt::format("{} is {}, expected {} to {}", name, v, min, max));
  };
  FATHOM_TRY_STATUS(check("temperature", p.temperature, 0, 100));
  FATHOM_TRY_STATUS(check("top_k", p.top_k, 0, limits::kMaxVocab));
  FATHOM_TRY_STATUS(check("top_p", p.top_p, 0, 1));
  FATHOM_TRY_STATUS(check("min_p", p.min_p, 0, 1));
  FATHOM_TRY_STATUS(check("repetition_penalty", p.repetition_penalty, 1e-3, 1e3));
  FATHOM_TRY_STATUS(check("presence_penalty", p.presence_penalty, -100, 100));
  FATHOM_TRY_STATUS(check("frequency_penalty", p.frequency_penalty, -100, 100));
  if (p.logit_bias.size() > static_cast<std::size_t>(limits::kMaxLogitBiases)) {
    return invalid_argument(fmt::format("logit_bias has {} entries, expected at most {}",
                                        p.logit_bias.size(), limits::kMaxLogitBiases));
  }
  for (const auto& [id, bias] : p.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return invalid_argument(
          fmt::format("logit_bias names token {}, expected 0 to {}", id, vocab_size - 1));
    }
    FATHOM_TRY_STATUS(check("logit_bias", bias, -1e4, 1e4));
  }
  return {};
}

Result<SampledToken> Sampler::sample(std::span<float> logits, const SamplingParams& params,
                                     std::span<const int32_t> prompt,
                                     std::span<const int32_t> answer, int64_t position,
                                     int top_logprobs) {
  SampledToken out;
  if (!are_usable(logits)) {
    return internal_error(
        fmt::format("the model's logits at position {} hold NaN or infinity: its "
                    "weights or its numbers are broken",
                    position - 1));
  }
  const int32_t best = arg_max(logits);
  double log_sum = 0;
  std::vector<float> raw;
  if (top_logprobs >= 0) {
    compute_logprobs(logits, top_logprobs, out.top, log_sum);
    raw.assign(logits.begin(), logits.end());
  }
  apply_penalties(logits, params, prompt, answer, counts_);
  out.token = params.temperature == 0 ? arg_max(logits) : draw(logits, params, position);
  if (out.token < 0) out.token = best;  // every logit was banned
  if (top_logprobs >= 0)
    out.logprob = static_cast<float>(raw[static_cast<std::size_t>(out.token)] - log_sum);
  return out;
}

// Without truncation the tokens stay in the order of their ids: no sort of the vocabulary.
int32_t Sampler::draw(std::span<const float> logits, const SamplingParams& p, int64_t position) {
  const int32_t best = arg_max(logits);
  if (best < 0) return -1;
  const float max = logits[static_cast<std::size_t>(best)];
  const double u = uniform(p.seed, static_cast<uint64_t>(position));
  if (p.top_k > 0 || p.top_p < 1) return draw_truncated(logits, p, max, u);
  const double t = p.temperature;
  const double floor = p.min_p > 0 ? std::log(p.min_p) * t : -INFINITY;  // of logit − max
  double total = 0;
  for (const float l : logits)
    if (l - max >= floor) total += std::exp((l - max) / t);
  double left = u * total;
  int32_t last = best;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] - max >= floor)) continue;
    const double w = std::exp((logits[i] - max) / t);
    if (w > 0) last = static_cast<int32_t>(i);
    left -= w;
    if (left < 0) return last;
  }
  return last;
}

// Candidates sorted by falling logit (equal ones by id), cut, then drawn from.
int32_t Sampler::draw_truncated(std::span<const float> logits, const SamplingParams& p, float max,
                                double u) {
  const double t = p.temperature;
  candidates_.clear();
  double total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > -INFINITY)) continue;
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  std::size_t kept = candidates_.size();
  if (p.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(p.top_k));
  // top_p rarely needs many: sort a prefix and grow it until it holds the wanted mass.
  std::size_t sorted = std::min<std::size_t>(kept, p.top_k > 0 ? kept : 256);
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(sorted),
                    candidates_.end(), more_likely);
  const auto weight = [&](const Candidate& c) { return std::exp((c.logit - max) / t); };
  const std::size_t pool = p.top_k > 0 ? kept : candidates_.size();
  for (std::size_t i = 0; i < pool; ++i) total += weight(candidates_[i]);
  const double min_weight = p.min_p;
  double mass = 0;
  std::size_t n = 0;
  while (n < kept) {
    if (n == sorted) {
      sorted = std::min(kept, sorted * 4);
      std::partial_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(n),
                        candidates_.begin() + static_cast<std::ptrdiff_t>(sorted),
                        candidates_.end(), more_likely);
    }
    const double w = weight(candidates_[n]);
    if (n > 0 && (mass >= p.top_p * total || w < min_weight)) break;
    mass += w;
    ++n;
  }
  double left = u * mass;
  for (std::size_t i = 0; i < n; ++i) {
    left -= weight(candidates_[i]);
    if (left < 0) return candidates_[i].id;
  }
  return candidates_[n - 1].id;
}

}  // namespace fathom
