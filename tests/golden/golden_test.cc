// Every architecture against its golden: logits, greedy tokens, layer outputs, MTP logits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/engine.h"
#include "ops/reference/reference_ops.h"
#include "support/backend.h"
#include "support/golden.h"

namespace fathom::test {
namespace {

// Logits may differ from the golden by this share of the golden's own standard deviation: float32
// sums in another order differ by about a tenth of it.
constexpr double kTolerance = 5e-4;

// Largest |actual − expected| relative to the standard deviation of expected, with where it stands.
struct Difference {
  double worst = 0;
  std::size_t index = 0;
};

Difference compare(std::span<const float> actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  const double sd = standard_deviation(expected);
  Difference d;
  for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double diff = std::fabs(static_cast<double>(actual[i]) - expected[i]) / sd;
    if (!(diff <= d.worst)) d = {diff, i};
  }
  return d;
}

#define EXPECT_CLOSE(actual, expected, what)                                                       \
  do {                                                                                             \
    const std::vector<float> a(actual), e(expected);                                               \
    const Difference d = compare(a, e);                                                            \
    EXPECT_LE(d.worst, kTolerance)                                                                 \
        << what << ": element " << d.index << " is " << a[d.index] << ", expected " << e[d.index]; \
  } while (false)

// Records the outputs that the model marks.
class RecordingOps : public OpsDecorator {
 public:
  using OpsDecorator::OpsDecorator;
  void mark(std::string_view name, const TensorView& v) override {
    auto& out = marks[std::string(name)];
    Workspace host;
    const TensorView x = on_host(v, host);
    for (int64_t r = 0; r < x.rows; ++r) out.insert(out.end(), x.f32(r), x.f32(r) + x.cols);
  }
  std::map<std::string, std::vector<float>> marks;
};

struct Prompt {
  std::string key;  // "p0."
  std::vector<int32_t> ids;
};

std::vector<Prompt> prompts(const Golden& golden) {
  std::vector<Prompt> out;
  for (int i = 0; golden.has("p" + std::to_string(i) + ".input_ids"); ++i) {
    const std::string key = "p" + std::to_string(i) + ".";
    out.push_back({key, golden.ids(key + "input_ids")});
  }
  return out;
}

// Rows `positions` of a matrix with `cols` columns.
std::vector<float> rows_of(const std::vector<float>& m, std::span<const int32_t> positions,
                           std::size_t cols) {
  std::vector<float> out;
  for (const int32_t p : positions) {
    const auto begin = m.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(p) * cols);
    out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(cols));
  }
  return out;
}

// The positions of a golden's logits; nano's file leaves them out: its rows are the last ones.
std::vector<int32_t> positions(const Golden& g, const std::string& key, const std::string& what,
                               std::size_t rows) {
  if (g.has(key + what + "_positions")) return g.ids(key + what + "_positions");
  const auto count = static_cast<std::size_t>(g.shape(key + what)[0]);
  std::vector<int32_t> out;
  for (std::size_t i = rows - count; i < rows; ++i) out.push_back(static_cast<int32_t>(i));
  return out;
}

std::vector<int32_t> greedy(const Model& model, Ops& ops, const std::vector<int32_t>& prompt,
                            int64_t count, int64_t chunk) {
  auto engine = Engine::create(model, ops,
                               {.cache_tokens = static_cast<int64_t>(prompt.size()) + count,
                                .max_batch_tokens = chunk,
                                .prefill_chunk = chunk});
  auto submitted =
      (*engine)->submit({.prompt = prompt, .sampling = {.temperature = 0}, .max_tokens = count});
  if (!submitted) ADD_FAILURE() << submitted.error().message;
  std::vector<TokenEvent> events;
  while ((*engine)->step(events)) {
  }
  std::vector<int32_t> out;
  for (const TokenEvent& e : events) out.push_back(e.sampled.token);
  return out;
}

void check_logits(const Model& model, Ops& ops, const Golden& golden, const Prompt& p) {
  const auto vocab = static_cast<std::size_t>(model.info().vocab_size);
  const auto logits = all_logits(model, ops, p.ids, {});
  const std::vector<float> expected = golden.floats(p.key + "logits");
  EXPECT_CLOSE(rows_of(logits, positions(golden, p.key, "logits", p.ids.size()), vocab), expected,
               p.key << "logits");
  if (golden.has(p.key + "incremental_logits")) {
    std::vector<int32_t> rows;
    for (std::size_t i = 19; i < p.ids.size(); ++i) rows.push_back(static_cast<int32_t>(i));
    EXPECT_CLOSE(rows_of(logits, rows, vocab), golden.floats(p.key + "incremental_logits"),
                 p.key << "incremental_logits");
  }
  if (golden.has(p.key + "mtp_logits")) {
    const auto mtp = all_logits(model, ops, p.ids, {}, true);
    ASSERT_EQ(mtp.size(), (p.ids.size() - 1) * vocab);
    EXPECT_CLOSE(rows_of(mtp, positions(golden, p.key, "mtp_logits", p.ids.size() - 1), vocab),
                 golden.floats(p.key + "mtp_logits"), p.key << "mtp_logits");
  }
}

void check_layers(const Model& model, Ops& ops, const Golden& golden, const Prompt& p) {
  if (!golden.has(p.key + "hidden.embed")) return;
  RecordingOps recorder(ops);
  all_logits(model, recorder, p.ids, {});
  std::vector<std::string> names = {"embed", "final_norm"};
  for (int64_t i = 0; i < model.info().num_layers; ++i)
    names.push_back("layer" + std::to_string(i));
  for (const std::string& name : names) {
    if (!golden.has(p.key + "hidden." + name)) continue;
    EXPECT_CLOSE(recorder.marks[name], golden.floats(p.key + "hidden." + name), p.key << name);
  }
  EXPECT_TRUE(golden.has(p.key + "hidden.layer0"));
}

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  std::string dir() const {
    return GetParam() == "nano" ? nano_dir() : data_dir() + "/" + GetParam();
  }
};

TEST_P(GoldenTest, LogitsAndLayers) {
  const OpenModel open = open_model(dir());
  const Golden golden(dir());
  const auto backend = make_backend({.threads = 2, .compute = kExactCompute});
  Ops& ops = *backend;
  const auto all = prompts(golden);
  ASSERT_GE(all.size(), 5u);
  for (const Prompt& p : all) {
    check_logits(*open.model, ops, golden, p);
    check_layers(*open.model, ops, golden, p);
  }
}

TEST_P(GoldenTest, GreedyTokensForEveryChunk) {
  const OpenModel open = open_model(dir());
  const Golden golden(dir());
  const auto backend = make_backend({.threads = 2, .compute = kExactCompute});
  Ops& ops = *backend;
  for (const Prompt& p : prompts(golden)) {
    const std::vector<int32_t> expected = golden.ids(p.key + "greedy_ids");
    ASSERT_FALSE(expected.empty());
    for (const int64_t chunk : {int64_t{1}, int64_t{7}, int64_t{64}, int64_t{1} << 20}) {
      EXPECT_EQ(greedy(*open.model, ops, p.ids, static_cast<int64_t>(expected.size()), chunk),
                expected)
          << p.key << " chunk " << chunk;
    }
  }
}

TEST_P(GoldenTest, ReferenceOpsGiveTheSameLogits) {
  const OpenModel open = open_model(dir());
  const Golden golden(dir());
  ReferenceOps ops;
  // Scalar code is slow: the prompts of up to 64 tokens.
  for (const Prompt& p : prompts(golden))
    if (p.ids.size() <= 64) check_logits(*open.model, ops, golden, p);
}

struct Division {
  std::string model;
  int ranks;
};

class TensorParallelTest : public testing::TestWithParam<Division> {
 protected:
  std::string dir() const {
    return GetParam().model == "nano" ? nano_dir() : data_dir() + "/" + GetParam().model;
  }
  ModelOptions options() const { return {.tensor_parallel = GetParam().ranks}; }
};

TEST_P(TensorParallelTest, LogitsLayersAndGreedyTokens) {
  const OpenModel open = open_model(dir(), {}, options());
  const Golden golden(dir());
  const auto backend = make_backends(GetParam().ranks, {.threads = 1, .compute = kExactCompute});
  if (backend == nullptr) GTEST_SKIP() << "too few GPUs";
  for (const Prompt& p : prompts(golden)) {
    check_logits(*open.model, *backend, golden, p);
    check_layers(*open.model, *backend, golden, p);
    const std::vector<int32_t> expected = golden.ids(p.key + "greedy_ids");
    for (const int64_t chunk : {int64_t{7}, int64_t{1} << 20}) {
      EXPECT_EQ(greedy(*open.model, *backend, p.ids, static_cast<int64_t>(expected.size()), chunk),
                expected)
          << p.key << " chunk " << chunk;
    }
  }
}

// A row's logits depend on the row alone.
TEST_P(TensorParallelTest, TheSameBitsForEveryChunk) {
  const OpenModel open = open_model(dir(), {}, options());
  const auto backend = make_backends(GetParam().ranks, {.threads = 1, .compute = kExactCompute});
  if (backend == nullptr) GTEST_SKIP() << "too few GPUs";
  const std::vector<int32_t> ids = prompts(Golden(dir())).back().ids;
  const std::vector<float> whole = all_logits(*open.model, *backend, ids, {});
  for (const int64_t chunk : {1, 7})
    EXPECT_EQ(all_logits(*open.model, *backend, ids, {.chunk = chunk}), whole) << chunk;
}

// Every architecture, heads of keys that are divided and that are repeated.
INSTANTIATE_TEST_SUITE_P(
    Models, TensorParallelTest,
    testing::Values(
        Division{"qwen2", 1}, Division{"qwen2", 2}, Division{"qwen2", 6},
        Division{"qwen2_tied_f16", 5}, Division{"qwen3", 2}, Division{"qwen3", 4},
        Division{"llama_mha", 2}, Division{"llama_mha", 4}, Division{"llama_gqa_llama3rope", 2},
        Division{"llama_linear_f32", 4}, Division{"deepseek_v2_lite", 2},
        Division{"deepseek_v2_lite", 4}, Division{"deepseek_v2", 1}, Division{"deepseek_v2", 2},
        Division{"deepseek_v2", 4}, Division{"deepseek_v3", 2}, Division{"deepseek_v3", 4},
        Division{"deepseek_v3_fp8", 2}, Division{"deepseek_v3_fp8", 4}, Division{"deepseek_v32", 2},
        Division{"deepseek_v32", 4}, Division{"nano", 1}, Division{"nano", 2}, Division{"nano", 4}),
    [](const auto& test) { return test.param.model + "_" + std::to_string(test.param.ranks); });

TEST(TensorParallelTypes, BlocksOfWeightsStayWhole) {
  const Golden golden(nano_dir());
  const std::vector<int32_t> ids = golden.ids("p0.input_ids");
  const OpenModel one = open_model(nano_dir(), DType::kQ8_0);
  const std::vector<int32_t> expected =
      greedy(*one.model, *make_backend({.threads = 1, .compute = kExactCompute}), ids, 24, 64);
  for (const int ranks : {2, 4}) {
    const OpenModel open = open_model(nano_dir(), DType::kQ8_0, {.tensor_parallel = ranks});
    const auto backend = make_backends(ranks, {.threads = 1, .compute = kExactCompute});
    if (backend == nullptr) GTEST_SKIP() << "too few GPUs";
    EXPECT_EQ(greedy(*open.model, *backend, ids, 24, 64), expected) << ranks;
  }
}

TEST(TensorParallelTypes, WhatCannotBeDividedIsSaid) {
  const auto error_of = [](const std::string& dir, int ranks, std::optional<DType> type = {}) {
    auto files = open_model_files(dir);
    EXPECT_TRUE(files.has_value());
    if (type) files->weights = std::make_unique<EncodedWeights>(std::move(files->weights), *type);
    const auto model = load_model(*files, {.tensor_parallel = ranks});
    return model.has_value() ? "" : model.error().message;
  };
  using testing::HasSubstr;
  EXPECT_THAT(error_of(data_dir() + "/qwen2", 4),
              testing::AllOf(HasSubstr("num_attention_heads"), HasSubstr("a multiple of 4")));
  EXPECT_THAT(error_of(data_dir() + "/llama_gqa_llama3rope", 3),
              testing::AllOf(HasSubstr("num_key_value_heads"), HasSubstr("divisor of 3")));
  EXPECT_THAT(error_of(data_dir() + "/deepseek_v4", 2), HasSubstr("deepseek_v4"));
  EXPECT_THAT(error_of(nano_dir(), 2, DType::kQ4_K),
              testing::AllOf(HasSubstr("o_proj.weight"), HasSubstr("whole blocks of 256 (Q4_K)")));
}

std::vector<std::string> all_models() {
  auto names = fixtures();
  names.push_back("nano");
  return names;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(all_models()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace fathom::test
