// Sampler: from a row of logits to a token. A pure function of the logits, the parameters, the
// tokens so far, the seed and the position.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fathom {

// Applied in this order: penalties, logit_bias, temperature, top_k, top_p, min_p, draw.
struct SamplingParams {
  float temperature = 1;  // 0 = the largest logit, ties to the lower id
  int32_t top_k = 0;      // keep the k most likely; 0 = all
  float top_p = 1;        // keep the fewest whose probabilities reach top_p
  float min_p = 0;        // keep those with at least min_p times the largest probability
  // Divides positive and multiplies negative logits of tokens seen in prompt or answer
  // (CTRL, arXiv:1909.05858); 1 = off.
  float repetition_penalty = 1;
  float presence_penalty = 0;   // subtracted once from tokens of the answer
  float frequency_penalty = 0;  // subtracted for every occurrence in the answer
  std::vector<std::pair<int32_t, float>> logit_bias;  // added; −100 bans in effect
  uint64_t seed = 0;
};

// Refuses NaN and values out of range; names the parameter. vocab_size bounds logit_bias ids.
Status validate(const SamplingParams& params, int64_t vocab_size);

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct SampledToken {
  int32_t token = 0;
  float logprob = 0;  // of the model's own distribution: before penalties and temperature
  std::vector<TokenLogprob> top;  // the likeliest, descending, as many as asked for
};

class Sampler {
 public:
  // `logits`: [vocab], overwritten. `prompt` and `answer`: tokens so far. `position`: index in the
  // whole sequence of the token being drawn. top_logprobs < 0: compute no logprobs. An error if the
  // logits hold NaN or +inf, or nothing above −inf.
  Result<SampledToken> sample(std::span<float> logits, const SamplingParams& params,
                              std::span<const int32_t> prompt, std::span<const int32_t> answer,
                              int64_t position, int top_logprobs);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  int32_t draw(std::span<const float> logits, const SamplingParams& params, int64_t position);
  int32_t draw_truncated(std::span<const float> logits, const SamplingParams& params, float max,
                         double u);
  std::vector<Candidate> candidates_;
  std::vector<int32_t> counts_;
};

}  // namespace fathom
