// Values rounded to what a short type would hold: the formats against values worked out by hand,
// A backend (support/backend.h) against ReferenceOps, and models that round their caches for
// chunks, threads and replay.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "ops/reference/reference_ops.h"
#include "support/backend.h"
#include "support/cached_step.h"
#include "support/golden.h"

namespace fathom::test {
namespace simulate_test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

constexpr Simulation kFp8{.type = SimulatedType::kFp8, .block = 64};
constexpr Simulation kFp4{.type = SimulatedType::kFp4, .block = 32};
constexpr Simulation kHadamard{.hadamard = true};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class SimulateTest : public testing::Test {
 protected:
  // The row after both backends' op: they must agree on every value.
  std::vector<float> simulated(std::vector<float> row, const Simulation& simulation) {
    std::vector<float> other = row;
    const auto view = [](std::vector<float>& v) {
      const auto n = static_cast<int64_t>(v.size());
      return TensorView{reinterpret_cast<std::byte*>(v.data()), DType::kF32, 1, n, n};
    };
    reference_.simulate({view(row), simulation});
    backend_.simulate({view(other), simulation});
    EXPECT_THAT(other, ElementsAreArray(row));
    return row;
  }
  ReferenceOps reference_;
  OpBackend backend_{{.threads = 2}};
};

TEST_F(SimulateTest, EveryFp4ValueStays) {
  const std::vector<float> codes = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                    -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
  for (const int exponent : {-126, -100, -3, 0, 5, 100}) {
    std::vector<float> row;
    for (const float v : codes) row.push_back(std::ldexp(v, exponent));
    EXPECT_THAT(simulated(row, kFp4), ElementsAreArray(row)) << exponent;
  }
}

TEST_F(SimulateTest, Fp4RoundsTiesToTheEvenCode) {
  // 6 in the block makes the scale 1.
  EXPECT_THAT(simulated({6, 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, -0.25f, -1.25f, -5}, kFp4),
              ElementsAre(6, 0, 1, 1, 2, 2, 4, 4, 0, -1, -4));
  EXPECT_THAT(simulated({6, 0.26f, 0.74f, 1.26f, 1.74f, 2.51f, 3.49f, 5.01f, 0.24f}, kFp4),
              ElementsAre(6, 0.5f, 0.5f, 1.5f, 1.5f, 3, 3, 6, 0));
}

TEST_F(SimulateTest, ScalesAreTheNextPowerOfTwo) {
  // Just above 6 the scale is 2, of which 6.01 is 3.005 and 1 a half.
  EXPECT_THAT(simulated({6.01f, 1, 0.5f, 0.4f}, kFp4), ElementsAre(6, 1, 0, 0));
  EXPECT_THAT(simulated({std::nextafter(6.0f, 7.0f), 0.5f}, kFp4), ElementsAre(6, 0));
  EXPECT_THAT(simulated({std::nextafter(6.0f, 5.0f), 0.5f}, kFp4), ElementsAre(6, 0.5f));
  // 3 has the scale 1/2.
  EXPECT_THAT(simulated({3, 0.25f, 0.125f, 0.375f}, kFp4), ElementsAre(3, 0.25f, 0, 0.5f));
  EXPECT_THAT(simulated({448, 0x1p-9f, 0x1p-10f, 0x3p-10f}, kFp8),
              ElementsAre(448, 0x1p-9f, 0, 0x1p-8f));
  EXPECT_THAT(simulated({449, 0x1p-9f, 0x1p-8f}, kFp8), ElementsAre(448, 0, 0x1p-8f));
}

TEST_F(SimulateTest, EveryFp8ValueStays) {
  for (const int exponent : {-12, 0, 9}) {
    for (int first = 0; first < 127; first += 42) {  // 448 and 42 more in a block
      std::vector<float> row = {std::ldexp(448.0f, exponent)};
      for (int code = first; code < std::min(first + 42, 127); ++code)
        row.push_back(std::ldexp(f8e4m3_to_f32(static_cast<uint8_t>(code)), exponent) *
                      (code % 2 == 0 ? 1.0f : -1.0f));
      EXPECT_THAT(simulated(row, kFp8), ElementsAreArray(row)) << exponent << " " << first;
    }
  }
}

TEST_F(SimulateTest, Fp8RoundsTiesToTheEvenCode) {
  // Between 16 and 32 codes are 2 apart, between 2^-6 and 2^-5 2^-9.
  EXPECT_THAT(simulated({448, 17, 19, 21, -17.5f, -19, 0x11p-10f, 0x13p-10f}, kFp8),
              ElementsAre(448, 16, 20, 20, -18, -20, 0x1p-6f, 0x14p-10f));
  EXPECT_THAT(simulated({448, 431, 432, 433, 416}, kFp8), ElementsAre(448, 416, 448, 448, 416));
}

TEST_F(SimulateTest, SmallBlocksHaveALeastScale) {
  // 1e-4 / 448 = 2.2e-7, for which the scale is 2^-22: codes are multiples of 2^-31 at the least.
  EXPECT_THAT(simulated({0x1p-31f, 0x1.8p-32f, 0x1p-33f, 0}, kFp8),
              ElementsAre(0x1p-31f, 0x1p-31f, 0, 0));
  EXPECT_THAT(simulated({1e-30f, -1e-30f}, kFp8), ElementsAre(0, 0));
  // In FP4 2^-126, of which half is the least code.
  EXPECT_THAT(simulated({0x1p-127f, 0x1p-129f}, kFp4), ElementsAre(0x1p-127f, 0));
  EXPECT_THAT(simulated({0, 0, 0}, kFp4), ElementsAre(0, 0, 0));
  EXPECT_THAT(simulated({}, kFp4), ElementsAre());
}

TEST_F(SimulateTest, BlocksAreApartAndTheLastMayBeShort) {
  const Simulation two{.type = SimulatedType::kFp4, .block = 2};
  EXPECT_THAT(simulated({6, 0.3f, 0.6f, 0.3f, 0.3f}, two),
              ElementsAre(6, 0.5f, 0.5f, 0.25f, 0.25f));
  std::vector<float> row(70, 0.25f);
  row[3] = 600;  // of the first 64
  const std::vector<float> out = simulated(row, kFp8);
  EXPECT_EQ(out[3], 576);  // 64 apart with the scale 2
  EXPECT_EQ(out[64], 0.25f);
  row[40] = kInfinity;
  row[69] = 0.27f;
  const std::vector<float> kept = simulated(row, kFp8);
  EXPECT_EQ(kept[3], 600);
  EXPECT_EQ(kept[40], kInfinity);
  EXPECT_EQ(kept[69], 0.28125f);
}

TEST_F(SimulateTest, HadamardOfFour) {
  EXPECT_THAT(simulated({1, 2, 4, 8}, kHadamard), ElementsAre(7.5f, -2.5f, -4.5f, 1.5f));
  EXPECT_THAT(simulated({5}, kHadamard), ElementsAre(5));
}

TEST_F(SimulateTest, HadamardTwiceIsNothing) {
  std::mt19937 rng(8);
  for (const std::size_t n : {1, 2, 16, 32, 128, 512}) {
    // Whole numbers, so that sums are exact in any order.
    std::vector<float> row(n);
    for (float& v : row) v = static_cast<float>(static_cast<int>(rng() % 201) - 100);
    const std::vector<float> once = simulated(row, kHadamard);
    double before = 0, after = 0;
    for (std::size_t i = 0; i < n; ++i) {
      before += static_cast<double>(row[i]) * row[i];
      after += static_cast<double>(once[i]) * once[i];
    }
    EXPECT_NEAR(after, before, 1e-5 * before);
    std::vector<float> twice = once;
    const auto count = static_cast<int64_t>(n);
    backend_.simulate(
        {{reinterpret_cast<std::byte*>(twice.data()), DType::kF32, 1, count, count}, kHadamard});
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(twice[i], row[i], 1e-3) << i;
  }
}

TEST_F(SimulateTest, CpuIsTheReferenceOnRandomRows) {
  std::mt19937 rng(9);
  for (const SimulatedType type : {SimulatedType::kFp8, SimulatedType::kFp4}) {
    for (const int64_t block : {32, 64, 128}) {
      for (const int64_t rows : {0, 1, 5, 40}) {
        for (const int64_t cols : {1, 31, 64, 200, 512}) {
          for (const float size : {1e-30f, 1e-5f, 1.0f, 1e4f}) {
            Matrix expected(rows, cols, 3), actual(rows, cols, 1);
            expected.fill(rng, size);
            actual.copy(expected);
            const Simulation simulation{.type = type, .block = block};
            reference_.simulate({expected.view(), simulation});
            backend_.simulate({actual.view(), simulation});
            expect_close(actual.view(), expected.view(), 0, "rounded", 0);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

// A compressed row is rounded as simulate would round it, before it goes into the cache.
TEST_F(SimulateTest, CompressedRows) {
  std::mt19937 rng(10);
  const int64_t entry = 128, width = 2 * entry, rate = 4;
  const Weight ape(rng, DType::kF32, rate, width), norm(rng, DType::kF32, 1, entry);
  const std::array specs = {KvLayerSpec{.row_elements = 2 * width, .exact = true},
                            KvLayerSpec{.row_elements = entry, .tokens_per_row = rate}};
  KvCache cache = *KvCache::create(specs, {.capacity_tokens = 64, .page_tokens = 16});
  PageTables tables;
  ASSERT_TRUE(cache.cover(13, tables));
  const std::array sequences = {
      SequenceRows{.first_row = 0, .num_rows = 13, .start_position = 0, .pages = tables.pages}};
  std::normal_distribution<float> normal(0, 1);
  for (int64_t r = 0; r < 13; ++r)
    std::generate_n(reinterpret_cast<float*>(cache.layers()[0].row(sequences[0], r)), 2 * width,
                    [&] { return normal(rng); });
  const std::vector<double> frequencies = {1.0, 0.1, 0.003};
  CompressArgs args{.source = cache.layers()[0],
                    .out = cache.layers()[1],
                    .sequences = sequences,
                    .overlap = true,
                    .ape = ape,
                    .norm = norm,
                    .eps = 1e-6f,
                    .inverse_frequencies = frequencies};
  for (Ops* ops : {static_cast<Ops*>(&reference_), static_cast<Ops*>(&backend_)}) {
    const auto entries = [&](const Simulation& simulation, int64_t simulated) {
      args.simulation = simulation;
      args.simulated = simulated;
      ops->compress(args);
      auto out = std::make_unique<Matrix>(3, entry);
      for (int64_t r = 0; r < 3; ++r)
        std::copy_n(reinterpret_cast<const float*>(args.out.row(sequences[0], r)), entry,
                    out->view().f32(r));
      return out;
    };
    for (const auto& [simulation, channels] :
         {std::pair{kFp8, entry - 6}, std::pair{Simulation{kFp4.type, kFp4.block, true}, entry}}) {
      const auto plain = entries({}, 0), rounded = entries(simulation, channels);
      ops->simulate({plain->view().columns(0, channels), simulation});
      expect_close(rounded->view(), plain->view(), 0, std::string(ops->description()), 0);
    }
  }
}

// What the models do with it.
class SimulatedModelTest : public testing::TestWithParam<const char*> {
 protected:
  std::string dir() const { return data_dir() + "/" + GetParam(); }
  std::vector<int32_t> prompt() const {
    const Golden golden(dir());
    std::vector<int32_t> out;
    for (int i = 0; golden.has("p" + std::to_string(i) + ".input_ids"); ++i) {
      auto ids = golden.ids("p" + std::to_string(i) + ".input_ids");
      if (ids.size() > out.size()) out = std::move(ids);
    }
    if (out.size() > 170) out.resize(170);
    return out;
  }
};

TEST_P(SimulatedModelTest, LogitsDependOnTheTokensAlone) {
  const OpenModel open = open_model(dir(), {}, {.simulate_quantised_cache = true});
  const auto backend = make_backend({.threads = 2, .compute = kExactCompute});
  const auto alone = make_backend({.threads = 1, .compute = kExactCompute});
  Ops &two = *backend, &one = *alone;
  const auto ids = prompt();
  ASSERT_GT(ids.size(), 64u);
  for (const DType kv : {DType::kF32, DType::kBF16}) {
    const auto logits = [&](Ops& ops, int64_t chunk, int64_t generated_from, bool mtp = false) {
      const ScoreOptions options{.chunk = chunk, .kv_type = kv, .generated_from = generated_from};
      return all_logits(*open.model, ops, ids, options, mtp);
    };
    const int64_t all = 1 << 20;
    const auto whole = logits(two, all, -1);
    for (const int64_t chunk : {1, 7, 64}) EXPECT_TRUE(logits(two, chunk, -1) == whole) << chunk;
    EXPECT_TRUE(logits(one, 64, -1) == whole) << "1 thread";
    EXPECT_TRUE(logits(one, 7, 10) == logits(two, 1, 10)) << "replay";
    if (open.model->info().mtp_layers == 0) continue;
    EXPECT_TRUE(logits(one, 7, -1, true) == logits(two, all, -1, true)) << "mtp";
  }
}

TEST_P(SimulatedModelTest, BothBackendsComputeTheSame) {
  const OpenModel open = open_model(dir(), {}, {.simulate_quantised_cache = true});
  const OpenModel plain = open_model(dir());
  ReferenceOps reference;
  const auto backend = make_backend({.threads = 2, .compute = kExactCompute});
  const auto ids = prompt();
  const auto a = all_logits(*open.model, *backend, ids, {});
  const auto b = all_logits(*open.model, reference, ids, {});
  const auto without = all_logits(*plain.model, *backend, ids, {});
  ASSERT_EQ(a.size(), b.size());
  // Sums in another order make a value fall to the other side of a tie now and then; what the
  // rounding itself changes is far more.
  double differ = 0, effect = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differ += std::fabs(static_cast<double>(a[i]) - b[i]);
    effect += std::fabs(static_cast<double>(a[i]) - without[i]);
  }
  RecordProperty("share", std::to_string(differ / effect));
  EXPECT_GT(effect, 0);
  EXPECT_LT(differ, 0.1 * effect);
}

INSTANTIATE_TEST_SUITE_P(Models, SimulatedModelTest,
                         testing::Values("deepseek_v32", "deepseek_v4", "deepseek_v4_fp4"));

// Of all that is rounded: type, block, transform and columns of a row.
class RecordingOps : public OpsDecorator {
 public:
  using OpsDecorator::OpsDecorator;
  void simulate(const SimulateArgs& a) override {
    add("", a.simulation, a.x.cols);
    OpsDecorator::simulate(a);
  }
  void compress(const CompressArgs& a) override {
    add("entry ", a.simulation, a.simulated);
    OpsDecorator::compress(a);
  }
  std::set<std::string> seen;

 private:
  void add(const std::string& what, const Simulation& s, int64_t cols) {
    const std::string type = s.type == SimulatedType::kFp8   ? "fp8"
                             : s.type == SimulatedType::kFp4 ? "fp4"
                                                             : "none";
    seen.insert(what + type + "/" + std::to_string(s.block) + (s.hadamard ? " H " : " ") +
                std::to_string(cols));
  }
};

// With a power of two as its scale, FP8 hardly ever shows in logits what its blocks are.
TEST(SimulatedModel, FormatsAreThoseOfDeepSeeksCode) {
  const auto backend = make_backend({.threads = 2, .compute = kExactCompute});
  const std::vector<int32_t> ids(20, 5);
  const auto seen = [&](const std::string& name, bool simulate) {
    const OpenModel open =
        open_model(data_dir() + "/" + name, {}, {.simulate_quantised_cache = simulate});
    RecordingOps ops(*backend);
    all_logits(*open.model, ops, ids, {});
    return ops.seen;
  };
  // index_head_dim is 32 in both; V4's head_dim is 64, of which 16 channels have rope.
  EXPECT_THAT(seen("deepseek_v32", true), ElementsAre("fp8/128 H 32"));
  EXPECT_THAT(seen("deepseek_v32", false), ElementsAre());
  EXPECT_THAT(seen("deepseek_v4", true),
              ElementsAre("entry fp4/32 H 32", "entry fp8/64 48", "fp4/32 H 32", "fp8/64 48"));
  EXPECT_THAT(seen("deepseek_v4", false), ElementsAre("entry none/0 0"));
}

TEST(SimulatedModel, OtherArchitecturesAreRefused) {
  for (const char* name : {"llama_mha", "qwen3", "deepseek_v2", "deepseek_v3"}) {
    const auto files = open_model_files(data_dir() + "/" + name);
    ASSERT_TRUE(files);
    const auto model = load_model(*files, {.simulate_quantised_cache = true});
    ASSERT_FALSE(model) << name;
    EXPECT_THAT(model.error().message, ::testing::HasSubstr("model_type"));
    EXPECT_THAT(model.error().message, ::testing::HasSubstr("deepseek_v32 or deepseek_v4"));
    EXPECT_EQ(model.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace simulate_test
}  // namespace fathom::test
