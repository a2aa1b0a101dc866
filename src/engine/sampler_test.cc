// Tests of the sampler: its draws against an oracle that computes the exact distribution, penalties
// against numbers worked out by hand, logprobs, and refusals.
#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>

namespace fathom {
namespace sampler_test {

using testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Result<SampledToken> sample(std::vector<float> logits, const SamplingParams& params,
                            int64_t position = 1, int top_logprobs = -1,
                            const std::vector<int32_t>& prompt = {},
                            const std::vector<int32_t>& answer = {}) {
  return Sampler().sample(logits, params, prompt, answer, position, top_logprobs);
}

int32_t token(std::vector<float> logits, const SamplingParams& params, int64_t position = 1) {
  auto result = sample(std::move(logits), params, position);
  return result ? result->token : -1;
}

// What params make of logits, straight from the definitions: softmax at the temperature, the top_k
// likeliest, the fewest of those that hold top_p of their mass, those with min_p of the best.
std::vector<double> oracle(const std::vector<float>& logits, const SamplingParams& params) {
  const std::size_t n = logits.size();
  std::vector<std::size_t> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) order.resize(std::min(n, static_cast<std::size_t>(params.top_k)));
  std::vector<double> p(n, 0);
  const auto normalise = [&] {
    double sum = 0;
    for (const std::size_t i : order) sum += p[i];
    for (const std::size_t i : order) p[i] /= sum;
  };
  const double largest = logits[order[0]];
  for (const std::size_t i : order) p[i] = std::exp((logits[i] - largest) / params.temperature);
  normalise();
  double mass = 0;
  std::size_t kept = 0;
  while (kept < order.size() && (kept == 0 || mass < params.top_p)) mass += p[order[kept++]];
  while (kept > 1 && p[order[kept - 1]] < params.min_p * p[order[0]]) --kept;
  for (std::size_t i = kept; i < order.size(); ++i) p[order[i]] = 0;
  order.resize(kept);
  normalise();
  return p;
}

// Draws at `draws` positions; tokens of probability 0 must not come, the others as often as their
// probability says: chi-square within four standard deviations.
void expect_distribution(const std::vector<float>& logits, SamplingParams params, int draws,
                         const std::string& what) {
  params.seed = 20;
  const std::vector<double> p = oracle(logits, params);
  std::vector<int> counts(logits.size());
  Sampler sampler;
  for (int position = 1; position <= draws; ++position) {
    std::vector<float> row = logits;
    const auto drawn = sampler.sample(row, params, {}, {}, position, -1);
    ASSERT_TRUE(drawn) << what << ": " << drawn.error().message;
    ASSERT_GT(p[static_cast<std::size_t>(drawn->token)], 0) << what << ": token " << drawn->token;
    ++counts[static_cast<std::size_t>(drawn->token)];
  }
  // Neighbours share a cell until ten draws are expected in it.
  double chi_square = 0, expected = 0, seen = 0;
  int cells = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    expected += p[i] * draws;
    seen += counts[i];
    if (expected < 10) continue;
    chi_square += (seen - expected) * (seen - expected) / expected;
    ++cells;
    expected = seen = 0;
  }
  const double freedom = cells - 1;
  EXPECT_LE(chi_square, freedom + 4 * std::sqrt(2 * freedom) + 1e-9)
      << what << ", " << cells << " cells";
}

std::vector<float> normal_logits(std::size_t count, float scale, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> logits(count);
  for (float& l : logits) l = normal(rng);
  return logits;
}

TEST(SamplerTest, GreedyTakesTheLargestAndTheLowerIdOfEquals) {
  const SamplingParams greedy{.temperature = 0};
  EXPECT_EQ(token({1, 3, 2}, greedy), 1);
  EXPECT_EQ(token({1, 3, 3, 3}, greedy), 1);
  EXPECT_EQ(token({-5, -5}, greedy), 0);
  EXPECT_EQ(token({-kInf, -7, -kInf}, greedy), 1);
}

TEST(SamplerTest, DrawsFollowTheSoftmax) {
  const auto logits = normal_logits(40, 2, 1);
  constexpr int kDraws = 200'000;
  expect_distribution(logits, {.temperature = 1}, kDraws, "temperature 1");
  expect_distribution(logits, {.temperature = 0.5f}, kDraws, "temperature 0.5");
  expect_distribution(logits, {.temperature = 3}, kDraws, "temperature 3");
}

TEST(SamplerTest, DrawsFollowEachTruncation) {
  const auto logits = normal_logits(40, 2, 2);
  constexpr int kDraws = 200'000;
  expect_distribution(logits, {.temperature = 1, .top_k = 7}, kDraws, "top_k");
  expect_distribution(logits, {.temperature = 1, .top_p = 0.8f}, kDraws, "top_p");
  expect_distribution(logits, {.temperature = 1, .min_p = 0.07f}, kDraws, "min_p");
  expect_distribution(logits, {.temperature = 2, .min_p = 0.3f}, kDraws, "min_p at temperature 2");
}

TEST(SamplerTest, DrawsFollowTruncationsTogether) {
  const auto logits = normal_logits(40, 2, 3);
  constexpr int kDraws = 200'000;
  expect_distribution(logits, {.temperature = 0.7f, .top_k = 12, .top_p = 0.9f}, kDraws, "k, p");
  expect_distribution(logits, {.temperature = 1.5f, .top_k = 12, .min_p = 0.2f}, kDraws, "k, min");
  expect_distribution(logits, {.temperature = 1.5f, .top_p = 0.85f, .min_p = 0.1f}, kDraws,
                      "p, min");
  expect_distribution(logits, {.temperature = 2, .top_k = 20, .top_p = 0.9f, .min_p = 0.05f},
                      kDraws, "k, p, min");
}

// top_p over thousands of tokens, and a top_k larger than any block that is sorted at once.
TEST(SamplerTest, TruncatesFlatDistributionsOfLargeVocabularies) {
  const auto logits = normal_logits(5000, 0.3f, 4);
  expect_distribution(logits, {.temperature = 1, .top_p = 0.9f}, 1'500, "top_p of 5,000");
  expect_distribution(logits, {.temperature = 1, .top_k = 3'000, .top_p = 0.95f}, 700,
                      "top_k 3,000");
}

TEST(SamplerTest, TruncationsKeepTheLowerIdsAmongEquals) {
  const std::vector<float> equal(600, 1.5f);
  for (int64_t position = 1; position < 200; ++position) {
    EXPECT_LT(token(equal, {.top_k = 5}, position), 5);
    EXPECT_LT(token(equal, {.top_p = 0.5f}, position), 300);
    EXPECT_EQ(token(equal, {.top_k = 1}, position), 0);
    EXPECT_EQ(token(equal, {.top_p = 0}, position), 0);
  }
  EXPECT_EQ(token({1, 4, 2}, {.min_p = 1}), 1);
}

// Temperatures near both ends of what validate() takes.
TEST(SamplerTest, ExtremeTemperaturesAreGreedyAndUniform) {
  const std::vector<float> logits = {1, 3, 2, 2.999f};
  for (int64_t position = 1; position < 100; ++position)
    EXPECT_EQ(token(logits, {.temperature = 1e-30f}, position), 1);
  expect_distribution(logits, {.temperature = 100}, 50'000, "temperature 100");
  expect_distribution({3e38f, -3e38f, 3e38f, 0}, {.temperature = 1}, 50'000, "largest floats");
}

// Order-independent: the same draw from a fresh sampler and from one that has served other
// requests.
TEST(SamplerTest, DrawIsAFunctionOfSeedAndPosition) {
  const auto logits = normal_logits(300, 1, 5);
  const auto other = normal_logits(4000, 1, 6);
  Sampler used;
  std::map<int32_t, int> by_seed, by_position;
  for (int64_t position = 1; position <= 50; ++position) {
    for (const SamplingParams& params :
         {SamplingParams{.seed = 9}, SamplingParams{.top_k = 50, .top_p = 0.9f, .seed = 9},
          SamplingParams{.repetition_penalty = 1.3f, .presence_penalty = 1, .seed = 9}}) {
      const std::vector<int32_t> prompt = {3, 4}, answer = {5, 5};
      std::vector<float> noise = other, row = logits;
      ASSERT_TRUE(
          used.sample(noise, {.top_p = 0.99f, .presence_penalty = 2}, prompt, answer, 77, 5));
      const auto from_used = used.sample(row, params, prompt, answer, position, -1);
      const auto fresh = sample(logits, params, position, -1, prompt, answer);
      EXPECT_EQ(from_used->token, fresh->token) << "position " << position;
    }
    ++by_position[token(logits, {.seed = 9}, position)];
    ++by_seed[token(logits, {.seed = static_cast<uint64_t>(position)}, 1)];
  }
  EXPECT_GT(by_position.size(), 20u);
  EXPECT_GT(by_seed.size(), 20u);
}

// The token that greedy takes of logits after penalties tells their order; logit_bias moves the
// bar.
TEST(SamplerTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  // Penalty 2: token 0 (prompt, twice): 6 -> 3; token 1 (answer): 5 -> 2.5; token 2 (unseen): 2.9.
  const std::vector<int32_t> prompt = {0, 0}, answer = {1};
  SamplingParams p{.temperature = 0, .repetition_penalty = 2};
  EXPECT_EQ(sample({6, 5, 2.9f}, p, 1, -1, prompt, answer)->token, 0);
  EXPECT_EQ(sample({6, 5, 3.1f}, p, 1, -1, prompt, answer)->token, 2);
  EXPECT_EQ(sample({-kInf, 5, 2.4f}, p, 1, -1, prompt, answer)->token, 1);
  EXPECT_EQ(sample({-kInf, 5, 2.6f}, p, 1, -1, prompt, answer)->token, 2);
  // Negative: −1 -> −2 (token 0), so −1.9 wins and −2.1 does not.
  EXPECT_EQ(sample({-1, -9, -1.9f}, p, 1, -1, prompt, answer)->token, 2);
  EXPECT_EQ(sample({-1, -9, -2.1f}, p, 1, -1, prompt, answer)->token, 0);
  p.repetition_penalty = 0.5f;  // rewards: 1 -> 2
  EXPECT_EQ(sample({1, -9, 1.9f}, p, 1, -1, prompt, answer)->token, 0);
}

TEST(SamplerTest, PresenceAndFrequencyCountTheAnswerAlone) {
  const std::vector<int32_t> prompt = {0, 0, 2}, answer = {1, 1, 1};
  // Presence 1.5: token 1: 5 -> 3.5, once. Tokens of the prompt keep their logits.
  const SamplingParams presence{.temperature = 0, .presence_penalty = 1.5f};
  EXPECT_EQ(sample({3.4f, 5, 0}, presence, 1, -1, prompt, answer)->token, 1);
  EXPECT_EQ(sample({3.6f, 5, 0}, presence, 1, -1, prompt, answer)->token, 0);
  // Frequency 0.5, three times: 5 -> 3.5.
  const SamplingParams frequency{.temperature = 0, .frequency_penalty = 0.5f};
  EXPECT_EQ(sample({3.4f, 5, 0}, frequency, 1, -1, prompt, answer)->token, 1);
  EXPECT_EQ(sample({3.6f, 5, 0}, frequency, 1, -1, prompt, answer)->token, 0);
  // All three, 2 as the divisor: 6 -> 3, − 1 − 3·0.25 = 1.25.
  const SamplingParams all{
      .temperature = 0, .repetition_penalty = 2, .presence_penalty = 1, .frequency_penalty = 0.25f};
  EXPECT_EQ(sample({2.4f, 6, 0}, all, 1, -1, prompt, answer)->token, 1);  // 2.4 -> 1.2
  EXPECT_EQ(sample({2.6f, 6, 0}, all, 1, -1, prompt, answer)->token, 0);  // 2.6 -> 1.3
  // Negative penalties reward: 1 + 1.5 = 2.5.
  const SamplingParams reward{.temperature = 0, .presence_penalty = -1.5f};
  EXPECT_EQ(sample({2.4f, 1, 0}, reward, 1, -1, prompt, answer)->token, 1);
}

TEST(SamplerTest, LogitBiasBansForcesAndAddsUp) {
  SamplingParams p{.temperature = 0, .logit_bias = {{1, -100}}};
  EXPECT_EQ(token({1, 9, 3}, p), 2);
  p.logit_bias = {{0, 100}};
  EXPECT_EQ(token({1, 9, 3}, p), 0);
  p.logit_bias = {{0, 5}, {0, 4}};
  EXPECT_EQ(token({1, 9, 3}, p), 0);
  p = {.temperature = 1, .logit_bias = {{1, -100}}};
  for (int64_t position = 1; position < 500; ++position)
    EXPECT_NE(token({1, 9, 3}, p, position), 1);
  p.logit_bias = {{0, 100}};
  for (int64_t position = 1; position < 500; ++position)
    EXPECT_EQ(token({1, 9, 3}, p, position), 0);
  // A token that the model rules out stays out whatever the bias.
  p.logit_bias = {{0, 1e4f}};
  EXPECT_EQ(token({-kInf, 9, -kInf}, p), 1);
}

TEST(SamplerTest, BrokenLogitsAreAnErrorThatNamesThePosition) {
  const std::vector<std::vector<float>> broken = {{},
                                                  {kNaN},
                                                  {1, kNaN, 2},
                                                  {kNaN, kNaN, kNaN},
                                                  {1, kInf, 2},
                                                  {kInf, kInf, kInf},
                                                  {-kInf, -kInf},
                                                  {kNaN, -kInf, 0},
                                                  {0, 1, -kNaN}};
  for (std::size_t i = 0; i < broken.size(); ++i) {
    for (const SamplingParams& params :
         {SamplingParams{.temperature = 0}, SamplingParams{}, SamplingParams{.top_k = 2},
          SamplingParams{.top_p = 0.5f}, SamplingParams{.min_p = 0.5f}}) {
      for (const int top : {-1, 0, 3}) {
        const auto result = sample(broken[i], params, 8, top);
        ASSERT_FALSE(result) << "case " << i;
        EXPECT_THAT(result.error().message, HasSubstr("position 7"));
      }
    }
  }
}

// Penalties can push finite logits out of the range of floats; a token comes all the same.
TEST(SamplerTest, PenaltiesThatOverflowStillGiveAToken) {
  const std::vector<int32_t> prompt = {0, 1, 2};
  for (const SamplingParams& params :
       {SamplingParams{.temperature = 0, .repetition_penalty = 1e-3f},
        SamplingParams{.repetition_penalty = 1e-3f},
        SamplingParams{.top_k = 2, .repetition_penalty = 1e-3f},
        SamplingParams{.temperature = 0, .repetition_penalty = 1e3f},
        SamplingParams{.repetition_penalty = 1e3f},
        SamplingParams{.top_p = 0.5f, .repetition_penalty = 1e3f}}) {
    for (const std::vector<float>& logits :
         {std::vector<float>{1, 3e38f, 2}, {-3e38f, -3e38f, -3e38f}, {3e38f, 2e38f, -3e38f}}) {
      const auto result = sample(logits, params, 1, 2, prompt);
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_GE(result->token, 0);
      EXPECT_LT(result->token, 3);
      const bool lifted = logits[0] == 1 && params.repetition_penalty < 1;
      EXPECT_TRUE(!lifted || result->token == 1) << result->token;
    }
  }
}

TEST(SamplerTest, LogprobsAreTheRawDistributionSorted) {
  const std::vector<float> logits = {0.5f, 2, -1, 2, -kInf, 0};
  double sum = 0;
  for (const float l : logits) sum += std::exp(l);
  // Penalties, bias and temperature pick another token but change no logprob.
  const SamplingParams params{
      .temperature = 0, .repetition_penalty = 5, .frequency_penalty = 3, .logit_bias = {{0, 50}}};
  const auto result = sample(logits, params, 1, 6, {1}, {3});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->token, 0);
  EXPECT_NEAR(result->logprob, std::log(std::exp(0.5) / sum), 1e-6);
  const std::vector<int32_t> order = {1, 3, 0, 5, 2, 4};
  ASSERT_EQ(result->top.size(), order.size());
  double total = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const TokenLogprob& t = result->top[i];
    EXPECT_EQ(t.token, order[i]) << "place " << i;
    const float l = logits[static_cast<std::size_t>(t.token)];
    EXPECT_NEAR(std::exp(t.logprob), std::exp(l) / sum, 1e-6);
    total += std::exp(static_cast<double>(t.logprob));
  }
  EXPECT_NEAR(total, 1, 1e-6);
}

TEST(SamplerTest, AsManyLogprobsAsAsked) {
  const auto logits = normal_logits(100, 3, 7);
  EXPECT_TRUE(sample(logits, {}, 1, -1)->top.empty());
  EXPECT_EQ(sample(logits, {}, 1, -1)->logprob, 0);
  const auto none = sample(logits, {}, 1, 0), five = sample(logits, {}, 1, 5),
             all = sample(logits, {}, 1, 1000);
  EXPECT_TRUE(none->top.empty());
  EXPECT_LT(none->logprob, 0);
  EXPECT_EQ(none->logprob, five->logprob);
  ASSERT_EQ(five->top.size(), 5u);
  ASSERT_EQ(all->top.size(), 100u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(five->top[i].token, all->top[i].token);
}

TEST(ValidateTest, TakesTheEndsOfEveryRange) {
  EXPECT_TRUE(validate({}, 10));
  EXPECT_TRUE(validate({.temperature = 0, .top_k = 0, .top_p = 0, .min_p = 0}, 10));
  EXPECT_TRUE(validate({.temperature = 100, .top_k = 1 << 24, .top_p = 1, .min_p = 1}, 10));
  EXPECT_TRUE(validate({.presence_penalty = -100, .frequency_penalty = 100}, 10));
  EXPECT_TRUE(validate({.logit_bias = {{0, -100}, {9, 100}}}, 10));
}

TEST(ValidateTest, NamesTheParameterItRefuses) {
  const auto refuse = [](const SamplingParams& params, const char* name) {
    const Status status = validate(params, 10);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(status.error().message, testing::StartsWith(name));
    EXPECT_THAT(status.error().message, HasSubstr("expected"));
  };
  for (const float bad : {kNaN, -kInf, kInf, -0.01f, 100.5f})
    refuse({.temperature = bad}, "temperature");
  for (const int32_t bad : {-1, (1 << 24) + 1, INT32_MIN}) refuse({.top_k = bad}, "top_k");
  for (const float bad : {kNaN, -0.1f, 1.01f, kInf}) refuse({.top_p = bad}, "top_p");
  for (const float bad : {kNaN, -0.1f, 1.01f, kInf}) refuse({.min_p = bad}, "min_p");
  for (const float bad : {kNaN, 0.0f, -1.0f, 1001.0f, kInf})
    refuse({.repetition_penalty = bad}, "repetition_penalty");
  for (const float bad : {kNaN, -101.0f, 101.0f, kInf}) {
    refuse({.presence_penalty = bad}, "presence_penalty");
    refuse({.frequency_penalty = bad}, "frequency_penalty");
  }
  for (const float bad : {kNaN, -kInf, kInf, 1.1e4f})
    refuse({.logit_bias = {{3, bad}}}, "logit_bias");
  for (const int32_t id : {-1, 10, INT32_MAX}) refuse({.logit_bias = {{id, 1}}}, "logit_bias");
  SamplingParams many;
  many.logit_bias.assign(1025, {1, 1});
  refuse(many, "logit_bias");
}

}  // namespace sampler_test
}  // namespace fathom
