// A backend (support/backend.h) against ReferenceOps on every op, weight format and instruction
// set, with odd and empty shapes.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <string>

#include "ops/reference/reference_ops.h"
#include "quant/codec.h"
#include "quant/encode.h"
#include "support/backend.h"
#include "support/random_data.h"
#include "tensor/float_formats.h"

namespace fathom::test {
namespace {

constexpr double kTolerance = 2e-5;

struct Format {
  DType dtype;
  int64_t block;  // of scales; 0 = none
};
constexpr std::array<Format, 5> kFormats = {{{DType::kF32, 0},
                                             {DType::kF16, 0},
                                             {DType::kBF16, 0},
                                             {DType::kF8E4M3, 0},
                                             {DType::kF8E4M3, 128}}};

class OpsTest : public testing::Test {
 protected:
  ReferenceOps reference_;
  // Inputs in float32, whatever the weights: block_dot_test has the int8 ones.
  OpBackend backend_{{.threads = 2, .compute = ComputeType::kF32}};
  OpBackend auto_{{.threads = 2}};
  std::mt19937 rng_{42};
};

std::string shape(int64_t m, int64_t k, int64_t n, const Format& f) {
  return std::string(dtype_name(f.dtype)) + "/" + std::to_string(f.block) +
         " m=" + std::to_string(m) + " k=" + std::to_string(k) + " n=" + std::to_string(n);
}

TEST_F(OpsTest, Linear) {
  for_each_target([&] {
    for (const Format& f : kFormats) {
      for (const int64_t m : {0, 1, 2, 3, 4, 7, 33}) {
        for (const int64_t k : {1, 7, 16, 40, 129, 256, 300}) {
          for (const int64_t n : {1, 5, 8, 67, 260}) {
            const Weight w(rng_, f.dtype, n, k, f.block);
            const Weight bias(rng_, DType::kF32, 1, n);
            Matrix x(m, k, 3), expected(m, n), actual(m, n, 1);
            x.fill(rng_);
            const WeightView b = n % 2 == 0 ? WeightView{} : bias.view();
            reference_.linear({x.view(), w, b, expected.view()});
            backend_.linear({x.view(), w, b, actual.view()});
            const double summand = f.block > 0 ? 0.02 : 1.0;
            expect_close(actual.view(), expected.view(), kTolerance, shape(m, k, n, f),
                         summand * std::sqrt(static_cast<double>(k)));
            if (HasFailure()) return;
          }
        }
      }
    }
  });
}

TEST_F(OpsTest, LinearOfFp4) {
  for_each_target([&] {
    for (const int64_t m : {0, 1, 2, 3, 4, 7, 33}) {
      for (const int64_t k : {32, 96, 320}) {
        for (const int64_t n : {1, 5, 8, 67, 260}) {
          const Weight w(rng_, DType::kF4E2M1, n + 3, k);
          const WeightView rows = w.view().row_range(2, n);
          Matrix x(m, k, 3), expected(m, n), actual(m, n, 1);
          x.fill(rng_);
          reference_.linear({x.view(), rows, {}, expected.view()});
          for (OpBackend* ops : {&backend_, &auto_}) {  // auto's int8 are as exact as float32
            ops->linear({x.view(), rows, {}, actual.view()});
            expect_close(actual.view(), expected.view(), kTolerance,
                         shape(m, k, n, {DType::kF4E2M1, 32}),
                         0.1 * std::sqrt(static_cast<double>(k)));
          }
        }
      }
    }
  });
  // Every scale, NaN included, and every code.
  Weight w(rng_, DType::kF4E2M1, 256, 32);
  std::vector<uint8_t> exponents(256);
  std::iota(exponents.begin(), exponents.end(), 0);
  WeightView view = w.view();
  view.exponents = exponents.data();
  Matrix expected(256, 32), actual(256, 32);
  std::vector<int32_t> ids(256);
  std::iota(ids.begin(), ids.end(), 0);
  reference_.embed({view, ids, expected.view()});
  backend_.embed({view, ids, actual.view()});
  for (int64_t r = 0; r < 256; ++r) {
    for (int64_t c = 0; c < 32; ++c) {
      const float e = expected.view().f32(r)[c], a = actual.view().f32(r)[c];
      EXPECT_TRUE(e == a || (std::isnan(e) && std::isnan(a) && r == 255))
          << r << " " << e << " " << a;
    }
  }
}

// Weights in the block formats of GGUF files against the same ones decoded: with inputs in float32,
// and as the backend takes them for speed (int8: an error of up to 1/254 of the largest of 32).
TEST_F(OpsTest, LinearOfBlockFormats) {
  for (const DType type :
       {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ2_K,
        DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kMXFP4}) {
    for (const int64_t k : {256, 768}) {
      for (const int64_t n : {1, 5, 67}) {
        const Weight exact(rng_, DType::kF32, n, k);
        const int64_t row_bytes = dtype_row_bytes(type, k);
        std::vector<std::byte> blocks(static_cast<std::size_t>(n * row_bytes));
        std::vector<float> values(static_cast<std::size_t>(n * k));
        for (int64_t r = 0; r < n; ++r) {
          std::byte* const row = blocks.data() + r * row_bytes;
          quant::encode(type, exact.view().f32() + r * k, k, nullptr, row);
          quant::decode(type, row, k, values.data() + r * k);
        }
        const WeightView w{.data = blocks.data(), .dtype = type, .rows = n, .cols = k};
        const WeightView decoded{
            .data = reinterpret_cast<const std::byte*>(values.data()), .rows = n, .cols = k};
        for (const int64_t m : {1, 3, 9}) {
          Matrix x(m, k), expected(m, n), actual(m, n, 1);
          x.fill(rng_);
          reference_.linear({x.view(), decoded, {}, expected.view()});
          const double summands = std::sqrt(static_cast<double>(k));
          const std::string what = shape(m, k, n, {type, 0});
          backend_.linear({x.view(), w, {}, actual.view()});
          expect_close(actual.view(), expected.view(), kTolerance, what + " float32", summands);
          auto_.linear({x.view(), w, {}, actual.view()});
          expect_close(actual.view(), expected.view(), 0.05, what + " auto", summands);
          if (HasFailure()) return;
        }
      }
    }
  }
}

// There are several ways to compute these; a row's bits are the same with each, and NaN stays NaN.
TEST_F(OpsTest, LinearOfFp8GivesARowTheSameBitsAmongOthersAndKeepsNan) {
  for_each_target([&] {
    const int64_t m = 7, k = 384, n = 67;
    Weight w(rng_, DType::kF8E4M3, n, k, 128);
    Matrix x(m, k), expected(m, n), together(m, n), alone(1, n);
    x.fill(rng_);
    reference_.linear({x.view(), w.view(), {}, expected.view()});
    for (const bool nan : {false, true}) {
      // Behind the check of const: the test's own memory.
      auto* bytes = const_cast<std::byte*>(w.view().data);
      if (nan) bytes[20 * k + 200] = std::byte{0xFF};
      backend_.linear({x.view(), w.view(), {}, together.view()});
      for (int64_t i = 0; i < m; ++i) {
        backend_.linear({x.view().row_range(i, 1), w.view(), {}, alone.view()});
        for (int64_t j = 0; j < n; ++j) {
          const float a = alone.view().f32(0)[j], t = together.view().f32(i)[j];
          if (nan && j == 20) {
            EXPECT_TRUE(std::isnan(a) && std::isnan(t)) << i << " " << a << " " << t;
          } else {
            EXPECT_EQ(a, t) << i << " " << j;
            EXPECT_NEAR(t, expected.view().f32(i)[j], 1e-4) << i << " " << j;
          }
        }
      }
    }
    if (HasFailure()) return;
  });
}

// A view of some rows of a stored matrix must find its own scales.
TEST_F(OpsTest, LinearOfARowRangeUsesItsScales) {
  const Weight w(rng_, DType::kF8E4M3, 300, 200, 128);
  Matrix x(5, 200), expected(5, 131), actual(5, 131);
  x.fill(rng_);
  const WeightView part = w.view().row_range(100, 131);
  reference_.linear({x.view(), part, {}, expected.view()});
  for_each_target([&] {
    backend_.linear({x.view(), part, {}, actual.view()});
    expect_close(actual.view(), expected.view(), kTolerance, "rows 100..230");
  });
}

// The E4M3 value next to v, the even code of two; 448 is the largest.
float to_e4m3(float v) {
  int exponent = 0;
  std::frexp(v, &exponent);
  const float unit = std::ldexp(1.0f, std::max(exponent - 4, -9));
  return std::clamp(std::nearbyint(v / unit) * unit, -448.0f, 448.0f);
}

// x as the FP8 tensor cores of a GPU take prompts: E4M3 with a scale for 128 of a row.
void round_to_fp8(const TensorView& x) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t begin = 0; begin < x.cols; begin += 128) {
      const std::span<float> block(
          x.f32(r) + begin, static_cast<std::size_t>(std::min<int64_t>(128, x.cols - begin)));
      float top = 0;
      for (const float v : block) top = std::max(top, std::fabs(v));
      const float scale = top / 448.0f;
      for (float& v : block) v = scale > 0 ? to_e4m3(v / scale) * scale : 0;
    }
  }
}

// Sums of E4M3 products on the tensor cores: their rms error measured on an H100 is 1.3e-4 of the
// sum's deviation, the worst of a million 1.6e-3.
constexpr double kFp8Tolerance = 3e-3;

// Prompts of FP8 weights as DeepSeek-V3 has them, with rows, columns and inputs that are no whole
// blocks, against decoded weights and inputs rounded as the backend does.
TEST_F(OpsTest, LinearOfFp8Prompts) {
  const bool fp8 = has_fp8_prompts(auto_);
  for (const auto& [k, n] : {std::pair<int64_t, int64_t>{128, 128},
                             {144, 272},
                             {384, 64},
                             {1408, 208},
                             {640, 72},
                             {200, 72},
                             {200, 67}}) {
    const bool blocks = k % 16 == 0 && n % 8 == 0;  // others take another way
    const Weight w(rng_, DType::kF8E4M3, n, k, 128);
    const Weight bias(rng_, DType::kF32, 1, n);
    for (const int64_t m : {1, 3, 4, 65, 130}) {
      for (const bool with_bias : {false, true}) {
        Matrix x(m, k), rounded(m, k), expected(m, n), actual(m, n, 4);
        x.fill(rng_);
        x.view().f32(0)[5] = 20;  // its block alone loses precision
        for (int64_t c = 0; m > 1 && c < std::min<int64_t>(k, 128); ++c) x.view().f32(1)[c] = 0;
        rounded.copy(x);
        if (fp8 && blocks) round_to_fp8(rounded.view());
        const WeightView b = with_bias ? bias.view() : WeightView{};
        reference_.linear({rounded.view(), w, b, expected.view()});
        auto_.begin_rows({.rows = m, .prompt_rows = m});
        auto_.linear({x.view(), w, b, actual.view()});
        const double tolerance = fp8 && blocks ? kFp8Tolerance : kTolerance + kPromptRounding;
        expect_close(actual.view(), expected.view(), tolerance,
                     shape(m, k, n, {w.view().dtype, 128}),
                     0.02 * std::sqrt(static_cast<double>(k)));
        if (HasFailure()) return;
      }
    }
  }
  auto_.begin_rows({});
}

TEST_F(OpsTest, LinearOfFp8PromptsOfARowRangeUsesItsScales) {
  const Weight w(rng_, DType::kF8E4M3, 400, 640, 128);
  Matrix x(9, 640), rounded(9, 640);
  x.fill(rng_);
  rounded.copy(x);
  if (has_fp8_prompts(auto_)) round_to_fp8(rounded.view());
  for (const int64_t first : {128, 256}) {
    const WeightView part = w.view().row_range(first, 144);
    Matrix expected(9, 144), actual(9, 144);
    reference_.linear({rounded.view(), part, {}, expected.view()});
    auto_.begin_rows({.rows = 9, .prompt_rows = 9});
    auto_.linear({x.view(), part, {}, actual.view()});
    expect_close(actual.view(), expected.view(),
                 has_fp8_prompts(auto_) ? kFp8Tolerance : kTolerance + kPromptRounding,
                 "rows from " + std::to_string(first) + " on", 0.5);
  }
  auto_.begin_rows({});
}

// Whatever stands beside it, and wherever it stands.
TEST_F(OpsTest, Fp8PromptsGiveARowTheSameBitsAmongOthers) {
  const int64_t m = 300, k = 1408, n = 272;
  const Weight w(rng_, DType::kF8E4M3, n, k, 128), up(rng_, DType::kF8E4M3, n, k, 128),
      down(rng_, DType::kF8E4M3, k, n, 128);
  Matrix x(m, k), all(m, n), mlp(m, k);
  x.fill(rng_);
  const SwigluWeights swiglu{.gate = w, .up = up, .down = down};
  auto_.begin_rows({.rows = m, .prompt_rows = m});
  auto_.linear({x.view(), w, {}, all.view()});
  auto_.mlp({x.view(), swiglu, mlp.view()});
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1},
                                     {0, 2},
                                     {1, 3},
                                     {7, 5},
                                     {100, 64},
                                     {3, 129},
                                     {299, 1},
                                     {0, 255}}) {
    Matrix some(count, n), some_mlp(count, k);
    const TensorView rows = x.view().row_range(first, count);
    auto_.begin_rows({.rows = count, .prompt_rows = count});
    auto_.linear({rows, w, {}, some.view()});
    auto_.mlp({rows, swiglu, some_mlp.view()});
    for (int64_t r = 0; r < count; ++r) {
      EXPECT_EQ(std::memcmp(some.view().f32(r), all.view().f32(first + r), n * sizeof(float)), 0)
          << "row " << first + r << " of " << first << " + " << count;
      EXPECT_EQ(std::memcmp(some_mlp.view().f32(r), mlp.view().f32(first + r), k * sizeof(float)),
                0)
          << "block: row " << first + r << " of " << first << " + " << count;
    }
  }
  auto_.begin_rows({});
}

// The hidden values go from bfloat16 to E4M3.
TEST_F(OpsTest, GeneratedRowsHaveTheSameBitsInEveryBatch) {
  const int64_t m = 150, k = 1536, n = 272;
  for (const DType type : {DType::kBF16, DType::kF8E4M3, DType::kQ8_0, DType::kQ4_K}) {
    const bool blocks = dtype_block(type).elements > 1;
    const Weight stored(rng_, blocks ? DType::kF32 : type, n, k, type == DType::kF8E4M3 ? 128 : 0);
    WeightView w = stored;
    std::vector<std::byte> encoded;
    if (blocks) {
      const int64_t row_bytes = dtype_row_bytes(type, k);
      encoded.resize(static_cast<std::size_t>(n * row_bytes));
      for (int64_t r = 0; r < n; ++r) {
        quant::encode(type, stored.view().f32() + r * k, k, nullptr,
                      encoded.data() + r * row_bytes);
      }
      w = {.data = encoded.data(), .dtype = type, .rows = n, .cols = k};
    }
    Matrix x(m, k), all(m, n);
    x.fill(rng_);
    auto_.begin_rows({.rows = m});
    auto_.linear({x.view(), w, {}, all.view()});
    for (const int64_t count : {1, 2, 8, 9, 16, 17, 32, 33, 64, 65}) {
      Matrix some(count, n);
      const int64_t first = m - count - 3;
      auto_.begin_rows({.rows = count});
      auto_.linear({x.view().row_range(first, count), w, {}, some.view()});
      for (int64_t r = 0; r < count; ++r) {
        EXPECT_EQ(std::memcmp(some.view().f32(r), all.view().f32(first + r), n * sizeof(float)), 0)
            << dtype_name(type) << ": row " << r << " of " << count;
      }
    }
    auto_.begin_rows({});
  }
}

TEST_F(OpsTest, MlpOfFp8Prompts) {
  const bool fp8 = has_fp8_prompts(auto_);
  const int64_t m = 37, k = 400, inner = 272;
  const Weight gate(rng_, DType::kF8E4M3, inner, k, 128), up(rng_, DType::kF8E4M3, inner, k, 128),
      down(rng_, DType::kF8E4M3, k, inner, 128);
  Matrix x(m, k), rounded(m, k), g(m, inner), u(m, inner), expected(m, k), actual(m, k);
  x.fill(rng_);
  rounded.copy(x);
  if (fp8) round_to_fp8(rounded.view());
  reference_.linear({rounded.view(), gate, {}, g.view()});
  reference_.linear({rounded.view(), up, {}, u.view()});
  const auto stored = [&](float v) { return fp8 ? bf16_to_f32(f32_to_bf16(v)) : v; };
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < inner; ++c) {
      float& v = g.view().f32(r)[c];
      v = stored(v);
      v = v / (1 + std::exp(-v)) * stored(u.view().f32(r)[c]);
    }
  }
  if (fp8) round_to_fp8(g.view());
  reference_.linear({g.view(), down, {}, expected.view()});
  auto_.begin_rows({.rows = m, .prompt_rows = m});
  auto_.mlp({x.view(), {.gate = gate, .up = up, .down = down}, actual.view()});
  auto_.begin_rows({});
  // Values that bfloat16 moves over the middle of two E4M3 codes: each a sixteenth of itself, and
  // few of them.
  expect_close(actual.view(), expected.view(), fp8 ? 0.02 : kTolerance + 4 * kPromptRounding,
               "block");
}

TEST_F(OpsTest, LinearsAreIndependent) {
  const Weight a(rng_, DType::kBF16, 70, 48), b(rng_, DType::kF32, 9, 48),
      c(rng_, DType::kF16, 33, 20);
  Matrix x(6, 48), y(6, 20, 1);
  x.fill(rng_);
  y.fill(rng_);
  std::array<Matrix, 3> expected = {Matrix(6, 70), Matrix(6, 9), Matrix(6, 33)};
  std::array<Matrix, 3> actual = {Matrix(6, 70), Matrix(6, 9), Matrix(6, 33)};
  const auto run = [&](Ops& ops, std::array<Matrix, 3>& out) {
    ops.linears(std::array{LinearArgs{x.view(), a, {}, out[0].view()},
                           LinearArgs{x.view(), b, {}, out[1].view()},
                           LinearArgs{y.view(), c, {}, out[2].view()}});
  };
  run(reference_, expected);
  run(backend_, actual);
  for (std::size_t i = 0; i < 3; ++i)
    expect_close(actual[i].view(), expected[i].view(), kTolerance, "product " + std::to_string(i));
}

TEST_F(OpsTest, Embed) {
  for_each_target([&] {
    for (const Format& f : kFormats) {
      const Weight table(rng_, f.dtype, 50, 139, f.block);
      const std::array<int32_t, 4> ids = {49, 0, 7, 7};
      Matrix expected(4, 139), actual(4, 139, 2);
      reference_.embed({table, ids, expected.view()});
      backend_.embed({table, ids, actual.view()});
      expect_close(actual.view(), expected.view(), 0, shape(4, 139, 50, f));
    }
  });
}

TEST_F(OpsTest, EveryShortFloatCodeDecodes) {
  for_each_target([&] {
    for (const DType dtype : {DType::kF8E4M3, DType::kF16, DType::kBF16}) {
      const int64_t cols = 256, rows = dtype == DType::kF8E4M3 ? 1 : 256;
      std::vector<uint16_t> codes;
      for (int i = 0; i < 65536; ++i) codes.push_back(static_cast<uint16_t>(i));
      std::vector<uint8_t> bytes;
      for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<uint8_t>(i));
      const void* data = dtype == DType::kF8E4M3 ? static_cast<void*>(bytes.data()) : codes.data();
      const WeightView table{
          .data = static_cast<const std::byte*>(data), .dtype = dtype, .rows = rows, .cols = cols};
      Matrix expected(1, cols), actual(1, cols);
      for (int32_t r = 0; r < rows; ++r) {
        reference_.embed({table, std::span(&r, 1), expected.view()});
        backend_.embed({table, std::span(&r, 1), actual.view()});
        for (int64_t c = 0; c < cols; ++c) {
          const float e = expected.view().f32(0)[c], a = actual.view().f32(0)[c];
          if (std::isnan(e) && std::isnan(a)) continue;
          // Without F16C, infinities and NaN of binary16 become large numbers: no checkpoint has
          // them.
          if (dtype == DType::kF16 && !std::isfinite(e)) continue;
          ASSERT_EQ(a, e) << dtype_name(dtype) << " code " << r * 256 + c;
        }
      }
    }
  });
}

// Far beyond the range of exp: silu is x or 0, never NaN.
TEST_F(OpsTest, MlpOfHugeInputs) {
  for_each_target([&] {
    const std::array<float, 1> one = {1.0f};
    const WeightView w{
        .data = reinterpret_cast<const std::byte*>(one.data()), .rows = 1, .cols = 1};
    for (const float v : {-3e38f, -1e4f, -105.0f, -88.0f, 0.0f, 88.0f, 1e4f, 1e19f}) {
      Matrix x(1, 1), expected(1, 1), actual(1, 1);
      x.view().f32(0)[0] = v;
      reference_.mlp({x.view(), {.gate = w, .up = w, .down = w}, expected.view()});
      backend_.mlp({x.view(), {.gate = w, .up = w, .down = w}, actual.view()});
      expect_close(actual.view(), expected.view(), 1e-6, std::to_string(v));
      EXPECT_FALSE(std::isnan(actual.view().f32(0)[0])) << v;
    }
  });
}

TEST_F(OpsTest, Norms) {
  for_each_target([&] {
    for (const int64_t rows : {0, 1, 5}) {
      for (const int64_t cols : {1, 6, 64, 5001}) {
        const Weight w(rng_, DType::kF32, 1, cols);
        Matrix x(rows, cols, 1), delta(rows, cols), expected(rows, cols), actual(rows, cols, 3);
        x.fill(rng_, 5);
        delta.fill(rng_);
        for (const WeightView& weight : {w.view(), WeightView{}}) {
          reference_.rms_norm({x.view(), weight, 1e-6f, expected.view()});
          backend_.rms_norm({x.view(), weight, 1e-6f, actual.view()});
          expect_close(actual.view(), expected.view(), kTolerance, "rms_norm");
        }
        const Weight bias(rng_, DType::kF32, 1, cols);
        reference_.layer_norm({x.view(), w, bias, 1e-6f, expected.view()});
        backend_.layer_norm({x.view(), w, bias, 1e-6f, actual.view()});
        expect_close(actual.view(), expected.view(), kTolerance, "layer_norm");
        Matrix x2(rows, cols);
        x2.copy(x);
        reference_.add_rms_norm({x.view(), delta.view(), w, 1e-5f, expected.view()});
        backend_.add_rms_norm({x2.view(), delta.view(), w, 1e-5f, actual.view()});
        expect_close(actual.view(), expected.view(), kTolerance, "add_rms_norm");
        expect_close(x2.view(), x.view(), 0, "add_rms_norm's sum");
      }
    }
  });
}

TEST_F(OpsTest, Rope) {
  for_each_target([&] {
    for (const RopeLayout layout : {RopeLayout::kHalf, RopeLayout::kPairs}) {
      for (const int64_t dims : {2, 6, 64}) {
        const int64_t heads = 3, head_dim = dims + 5;
        std::vector<double> frequencies;
        for (int64_t i = 0; i < dims / 2; ++i)
          frequencies.push_back(
              std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dims)));
        const std::array<int32_t, 3> positions = {0, 3, 100000};
        Matrix expected_angles(3, dims), angles(3, dims), expected(3, heads * head_dim),
            actual(3, heads * head_dim, 1);
        expected.fill(rng_);
        actual.copy(expected);
        reference_.rope_angles({positions, frequencies, 1.25, expected_angles.view()});
        backend_.rope_angles({positions, frequencies, 1.25, angles.view()});
        expect_close(angles.view(), expected_angles.view(), 0, "angles");
        reference_.rope({expected.view(), angles.view(), heads, 5, layout});
        backend_.rope({actual.view(), angles.view(), heads, 5, layout});
        expect_close(actual.view(), expected.view(), kTolerance, "rope");
        RopeArgs back{actual.view(), angles.view(), heads, 5, layout, true};
        backend_.rope(back);
        back.x = expected.view();
        reference_.rope(back);
        expect_close(actual.view(), expected.view(), kTolerance, "rope back");
      }
    }
  });
}

TEST_F(OpsTest, GatherAndAdd) {
  Matrix x(5, 33, 1), expected(3, 33), actual(3, 33, 2);
  x.fill(rng_);
  const std::array<int32_t, 3> rows = {4, 0, 4};
  reference_.gather_rows({x.view(), rows, expected.view()});
  backend_.gather_rows({x.view(), rows, actual.view()});
  expect_close(actual.view(), expected.view(), 0, "gather_rows");
  reference_.add({expected.view(), x.view().row_range(1, 3)});
  backend_.add({actual.view(), x.view().row_range(1, 3)});
  expect_close(actual.view(), expected.view(), 0, "add");
}

// SwiGLU weights of one format with or without biases.
struct Expert {
  Weight gate, up, down, gate_bias, up_bias, down_bias;
  Expert(std::mt19937& rng, const Format& f, int64_t hidden, int64_t inner)
      : gate(rng, f.dtype, inner, hidden, f.block),
        up(rng, f.dtype, inner, hidden, f.block),
        down(rng, f.dtype, hidden, inner, f.block),
        gate_bias(rng, DType::kF32, 1, inner),
        up_bias(rng, DType::kF32, 1, inner),
        down_bias(rng, DType::kF32, 1, hidden) {}
  SwigluWeights weights(bool bias) const {
    SwigluWeights w{.gate = gate, .up = up, .down = down};
    if (bias) {
      w.gate_bias = gate_bias;
      w.up_bias = up_bias;
      w.down_bias = down_bias;
    }
    return w;
  }
};

TEST_F(OpsTest, Mlp) {
  for_each_target([&] {
    for (const Format& f : kFormats) {
      const Expert e(rng_, f, 72, 150);
      for (const int64_t rows : {0, 1, 9}) {
        for (const bool bias : {false, true}) {
          Matrix x(rows, 72, 1), expected(rows, 72), actual(rows, 72, 1);
          x.fill(rng_, 0.2f);
          reference_.mlp({x.view(), e.weights(bias), expected.view()});
          backend_.mlp({x.view(), e.weights(bias), actual.view()});
          expect_close(actual.view(), expected.view(), 1e-4, shape(rows, 72, 150, f));
        }
      }
    }
  });
}

TEST_F(OpsTest, Route) {
  for (const RouterScoring scoring :
       {RouterScoring::kSoftmax, RouterScoring::kSigmoid, RouterScoring::kSqrtSoftplus}) {
    for (const RouterGroups groups :
         {RouterGroups::kNone, RouterGroups::kMax, RouterGroups::kTop2Sum}) {
      for (const bool normalize : {false, true}) {
        for (const bool ties : {false, true}) {
          const int64_t tokens = 200, experts = 24, picks = 5;
          const Weight bias(rng_, DType::kF32, 1, experts);
          Matrix logits(tokens, experts, 1), expected_w(tokens, picks), actual_w(tokens, picks);
          logits.fill(rng_, 2);
          if (ties)
            for (int64_t t = 0; t < tokens; ++t)
              for (int64_t e = 0; e < experts; ++e)
                logits.view().f32(t)[e] = static_cast<float>(rng_() % 3);
          std::vector<int32_t> expected_ids(static_cast<std::size_t>(tokens * picks)),
              ids(expected_ids.size());
          RouteArgs args{.logits = logits.view(),
                         .bias = ties ? WeightView{} : bias.view(),
                         .scoring = scoring,
                         .groups = groups,
                         .num_groups = 6,
                         .groups_per_token = 3,
                         .normalize = normalize,
                         .scaling_factor = 2.5f};
          const auto view = [&](std::vector<int32_t>& v) {
            return TensorView{reinterpret_cast<std::byte*>(v.data()), DType::kI32, tokens, picks,
                              picks};
          };
          args.ids = view(expected_ids);
          args.weights = expected_w.view();
          reference_.route(args);
          args.ids = view(ids);
          args.weights = actual_w.view();
          backend_.route(args);
          EXPECT_EQ(ids, expected_ids) << "ties " << ties;
          expect_close(actual_w.view(), expected_w.view(), 1e-6, "route weights");
        }
      }
    }
  }
}

TEST_F(OpsTest, RouteByToken) {
  const int64_t tokens = 3, experts = 7, picks = 2;
  const std::vector<int32_t> table = {1, 2, 6, 0, 3, 5, 4, 1};  // of a vocabulary of 4
  const std::array<int32_t, 3> token_ids = {3, 0, 1};
  const std::vector<int32_t> expected_ids = {4, 1, 1, 2, 6, 0};
  Matrix logits(tokens, experts), expected(tokens, picks), actual(tokens, picks);
  logits.fill(rng_, 2);
  std::vector<int32_t> ids(expected_ids.size());
  RouteArgs args{
      .logits = logits.view(),
      .experts_of_token = table,
      .token_ids = token_ids,
      .scoring = RouterScoring::kSqrtSoftplus,
      .normalize = true,
      .scaling_factor = 1.5f,
      .ids = {reinterpret_cast<std::byte*>(ids.data()), DType::kI32, tokens, picks, picks},
      .weights = expected.view()};
  reference_.route(args);
  EXPECT_EQ(ids, expected_ids);
  const auto score = [&](int64_t t, int64_t e) {
    return std::sqrt(std::log1p(std::exp(logits.view().f32(t)[e])));
  };
  EXPECT_NEAR(expected.view().f32(0)[1], 1.5f * score(0, 1) / (score(0, 4) + score(0, 1)), 1e-5);
  std::fill(ids.begin(), ids.end(), -1);
  args.weights = actual.view();
  backend_.route(args);
  EXPECT_EQ(ids, expected_ids);
  expect_close(actual.view(), expected.view(), 1e-6, "weights");
}

TEST_F(OpsTest, Moe) {
  for_each_target([&] {
    for (const Format& f : kFormats) {
      const int64_t hidden = 40, inner = 24, experts = 5, picks = 2;
      std::vector<std::unique_ptr<Expert>> owned;
      std::vector<SwigluWeights> weights;
      for (int64_t e = 0; e < experts; ++e) {
        owned.push_back(std::make_unique<Expert>(rng_, f, hidden, inner));
        weights.push_back(owned.back()->weights(false));
      }
      const Expert wide(rng_, f, hidden, 3 * inner);
      const SwigluWeights shared = wide.weights(false);
      for (const int64_t tokens : {0, 1, 6, 70}) {
        for (const bool with_shared : {false, true}) {
          Matrix x(tokens, hidden, 1), w(tokens, picks), expected(tokens, hidden),
              actual(tokens, hidden, 1);
          x.fill(rng_, 0.3f);
          w.fill(rng_);
          std::vector<int32_t> ids;
          for (int64_t i = 0; i < tokens; ++i) {  // expert 3 gets nothing
            const auto first = static_cast<int32_t>(rng_() % 3);
            ids.insert(ids.end(), {first, first == 2 ? 4 : first + 1});
          }
          const TensorView id_view{reinterpret_cast<std::byte*>(ids.data()), DType::kI32, tokens,
                                   picks, picks};
          const SwigluWeights* s = with_shared ? &shared : nullptr;
          MoeArgs args{.x = x.view(),
                       .ids = id_view,
                       .weights = w.view(),
                       .experts = weights,
                       .shared = s,
                       .out = expected.view()};
          // A limit that about half of the values meet.
          args.limit = tokens == 6 ? 0.5f : args.limit;
          reference_.moe(args);
          args.out = actual.view();
          backend_.moe(args);
          expect_close(actual.view(), expected.view(), 1e-4, shape(tokens, hidden, inner, f));
        }
      }
    }
  });
}

}  // namespace
}  // namespace fathom::test
