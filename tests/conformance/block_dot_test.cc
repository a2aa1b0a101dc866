// Every block_dot kernel that this machine can run gives the very bits of the portable one, and
// that one is the product of the decoded weights.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/kernels/block_dot.h"
#include "quant/codec.h"

namespace fathom::cpu {
namespace {

constexpr DType kTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,  DType::kQ5_1,
                            DType::kQ8_0, DType::kQ2_K, DType::kQ3_K,  DType::kQ4_K,
                            DType::kQ5_K, DType::kQ6_K, DType::kMXFP4, DType::kF4E2M1};

// Columns that come whole: a block, and of F4_E2M1 those that share a scale.
int64_t block_of(DType type) {
  return type == DType::kF4E2M1 ? kF4Block : dtype_block(type).elements;
}

// Where the half floats of a block stand.
std::vector<int> half_offsets(DType type) {
  switch (type) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ2_K:
      return {80, 82};
    case DType::kQ3_K:
      return {108};
    case DType::kQ6_K:
      return {208};
    case DType::kMXFP4:
    case DType::kF4E2M1:
      return {};
    default:
      return {0};
  }
}

uint8_t random_exponent(std::mt19937& rng) { return static_cast<uint8_t>(118 + rng() % 5); }

// Random bytes with scales of ordinary size, either sign; with `exponents` where those stand apart.
struct Weights {
  Weights(DType type, int64_t rows, int64_t cols, std::mt19937& rng)
      : view{.dtype = type, .rows = rows, .cols = cols},
        bytes(static_cast<size_t>(rows * view.row_bytes())) {
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(rng());
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(dtype_block(type).bytes)) {
      for (const int offset : half_offsets(type)) {
        const auto half = static_cast<uint16_t>(0x2000 | (rng() & 0x83FF));
        std::memcpy(&bytes[at + static_cast<size_t>(offset)], &half, sizeof(half));
      }
      if (type == DType::kMXFP4) bytes[at] = random_exponent(rng);
    }
    view.data = reinterpret_cast<const std::byte*>(bytes.data());
    if (type != DType::kF4E2M1) return;
    exponents.resize(static_cast<size_t>(rows * cols / kF4Block));
    for (uint8_t& e : exponents) e = random_exponent(rng);
    view.exponents = exponents.data();
  }
  BlockDotArgs args(const Int8Row* x, int64_t m) const {
    return {.type = view.dtype,
            .weights = bytes.data(),
            .exponents = view.exponents,
            .row_bytes = view.row_bytes(),
            .cols = view.cols,
            .rows = view.rows,
            .x = x,
            .m = m};
  }

  WeightView view;
  std::vector<uint8_t> bytes, exponents;
};

class Inputs {
 public:
  Inputs(int64_t rows, int64_t cols, DType weights, std::mt19937& rng)
      : order_(input_order(weights)) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows; ++i) {
      Row& r = rows_.emplace_back();
      std::vector<float> x(static_cast<size_t>(cols));
      for (float& v : x) v = normal(rng) * (rng() % 64 == 0 ? 20.0f : 1.0f);
      const auto n = static_cast<size_t>(cols);
      r.q.resize(n);
      r.scales.resize((n + 127) / 128);
      r.sums32.resize(n / 32);
      r.sums16.resize(n / 16);
      quantize_row(x.data(), cols, order_, r.q.data(), r.scales.data(), r.sums32.data(),
                   r.sums16.data());
    }
    for (const Row& r : rows_)
      views_.push_back({r.q.data(), r.scales.data(), r.sums32.data(), r.sums16.data()});
  }
  const Int8Row* views() const { return views_.data(); }
  double value(int64_t row, int64_t k) const {
    const Row& r = rows_[static_cast<size_t>(row)];
    const int64_t at = order_ == InputOrder::kNatural ? k : k / 32 * 32 + k % 2 * 16 + k % 32 / 2;
    return double{r.scales[static_cast<size_t>(k / kInputBlock)]} * r.q[static_cast<size_t>(at)];
  }

 private:
  struct Row {
    std::vector<int8_t> q;
    std::vector<float> scales;
    std::vector<int16_t> sums32, sums16;
  };
  InputOrder order_;
  std::vector<Row> rows_;
  std::vector<Int8Row> views_;
};

std::vector<std::vector<float>> run(BlockDot kernel, BlockDotArgs args, int64_t piece) {
  std::vector<std::vector<float>> y(static_cast<size_t>(args.m),
                                    std::vector<float>(static_cast<size_t>(args.rows), -1.0f));
  std::vector<float*> rows;
  for (auto& row : y) rows.push_back(row.data());
  args.y = rows.data();
  for (int64_t n = 0; n < args.rows; n += piece) {
    args.n0 = n;
    args.n1 = std::min(n + piece, args.rows);
    kernel(args);
  }
  return y;
}

class BlockDotTest : public testing::TestWithParam<DType> {};

TEST_P(BlockDotTest, EveryKernelEqualsThePortableOneBitByBit) {
  const DType type = GetParam();
  std::mt19937 rng(7);
  const int64_t block = block_of(type);
  // The last is longer than what the kernels keep sums of at a time (80 blocks of 128).
  for (const int64_t cols : {block, 2 * block, 7 * block, int64_t{1536}, int64_t{10496}}) {
    for (const int64_t n : {1, 16, 31, 33, 77, 160}) {
      if (cols > 1536 && n != 33) continue;
      const Weights w(type, n, cols, rng);
      for (const int64_t m : {1, 2, 3, 5, 6, 8, 13, 300}) {
        if (m == 300 && (cols > 2 * block || n != 33)) continue;
        const Inputs x(m, cols, type, rng);
        const BlockDotArgs args = w.args(x.views(), m);
        const auto expected = run(block_dot_portable, args, n);
        for (const BlockDotKernel& kernel : block_dot_kernels()) {
          for (const int64_t piece : {n, int64_t{32}}) {
            const auto got = run(kernel.function, args, piece);
            for (size_t i = 0; i < got.size(); ++i)
              ASSERT_EQ(
                  0, std::memcmp(got[i].data(), expected[i].data(), got[i].size() * sizeof(float)))
                  << kernel.name << " cols " << cols << " rows " << n << " inputs " << m;
          }
        }
      }
    }
  }
}

TEST_P(BlockDotTest, ThePortableOneIsTheProductOfTheDecodedWeights) {
  const DType type = GetParam();
  std::mt19937 rng(8);
  const int64_t cols = 3 * block_of(type), n = 9, m = 2;
  const Weights w(type, n, cols, rng);
  const Inputs x(m, cols, type, rng);
  const auto y = run(block_dot_portable, w.args(x.views(), m), n);
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t j = 0; j < n; ++j) {
    quant::decode_row(w.view, j, row.data());
    for (int64_t i = 0; i < m; ++i) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < cols; ++k) {
        const double product = row[static_cast<size_t>(k)] * x.value(i, k);
        sum += product;
        magnitude += std::fabs(product);
      }
      EXPECT_NEAR(y[static_cast<size_t>(i)][static_cast<size_t>(j)], sum, 1e-5 * magnitude);
    }
  }
}

// Scales of 0 (2^-127), 1, 254 and 255 (NaN): every kernel gives what float64 gives.
TEST(BlockDotExponents, ExtremesAndNotANumber) {
  for (const DType type : {DType::kMXFP4, DType::kF4E2M1}) {
    for (const int64_t cols : {int64_t{32}, int64_t{128}, int64_t{160}}) {
      std::mt19937 rng(9);
      const int64_t n = 64;
      Weights w(type, n, cols, rng);
      const auto exponent_of = [&](int64_t row) -> uint8_t {
        constexpr uint8_t kExtremes[] = {0, 1, 2, 254, 255};
        return row < 5 ? kExtremes[row] : 127;
      };
      for (int64_t row = 0; row < n; ++row) {
        for (int64_t b = 0; b < cols / 32; ++b) {
          const auto at = static_cast<size_t>(row * cols / 32 + b);
          (type == DType::kMXFP4 ? w.bytes[17 * at] : w.exponents[at]) = exponent_of(row);
        }
      }
      for (const int64_t m : {1, 3}) {
        const Inputs x(m, cols, type, rng);
        std::vector<float> weights(static_cast<size_t>(cols));
        for (const BlockDotKernel& kernel : block_dot_kernels()) {
          const auto y = run(kernel.function, w.args(x.views(), m), n);
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t row = 0; row < n; ++row) {
              quant::decode_row(w.view, row, weights.data());
              double sum = 0, magnitude = 0;
              for (int64_t k = 0; k < cols; ++k) {
                sum += double{weights[static_cast<size_t>(k)]} * x.value(i, k);
                magnitude += std::fabs(double{weights[static_cast<size_t>(k)]} * x.value(i, k));
              }
              const float got = y[static_cast<size_t>(i)][static_cast<size_t>(row)];
              const std::string what = std::string(kernel.name) + " " +
                                       std::string(dtype_name(type)) + " row " +
                                       std::to_string(row);
              if (exponent_of(row) == 255) {
                EXPECT_TRUE(std::isnan(got)) << what;
              } else if (exponent_of(row) == 254) {
                EXPECT_FALSE(std::fabs(got) < 1e30f) << what;  // infinite, or nearly
              } else {
                EXPECT_NEAR(got, sum, 1e-5 * magnitude + 1e-44) << what;
              }
            }
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, BlockDotTest, testing::ValuesIn(kTypes),
                         [](const auto& test) { return std::string(dtype_name(test.param)); });

// scripts/test_arm.sh says which kernel each emulated processor must get: without that, a kernel
// that is never chosen would pass every test.
TEST(BlockDotKernels, TheBestOfThisProcessorComesFirst) {
  ASSERT_FALSE(block_dot_kernels().empty());
  EXPECT_STREQ(block_dot_kernels().back().name, "portable");
  if (const char* best = std::getenv("FATHOM_EXPECT_KERNEL"); best != nullptr) {
    EXPECT_STREQ(block_dot_kernels().front().name, best);
  }
}

TEST(QuantizeRow, RoundsToNearestEvenWithTheLargestAt127) {
  std::vector<float> x(160, 0.0f);
  x[0] = 127.0f;
  x[1] = -0.5f;
  x[2] = 1.5f;
  x[3] = -127.0f;
  x[130] = 1e-3f;
  std::vector<int8_t> q(160);
  std::vector<float> scales(2);
  std::vector<int16_t> sums32(5), sums16(10);
  quantize_row(x.data(), 160, InputOrder::kNatural, q.data(), scales.data(), sums32.data(),
               sums16.data());
  EXPECT_EQ(scales[0], 1.0f);
  EXPECT_EQ(q[0], 127);
  EXPECT_EQ(q[1], 0);
  EXPECT_EQ(q[2], 2);
  EXPECT_EQ(q[3], -127);
  EXPECT_EQ(sums16[0], 2);
  EXPECT_EQ(sums32[0], 2);
  EXPECT_FLOAT_EQ(scales[1], 1e-3f / 127.0f);
  EXPECT_EQ(q[130], 127);
  EXPECT_EQ(sums32[4], 127);
}

TEST(QuantizeRow, EvenInputsComeBeforeOddOnes) {
  std::vector<float> x(160, 0.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 32) - 10.0f;
  x[0] = x[128] = 127.0f;  // the scale is 1
  std::vector<int8_t> q(160), natural(160);
  std::vector<float> scales(2);
  std::vector<int16_t> sums32(5), sums16(10), natural16(10);
  quantize_row(x.data(), 160, InputOrder::kNatural, natural.data(), scales.data(), sums32.data(),
               natural16.data());
  quantize_row(x.data(), 160, InputOrder::kEvenThenOdd, q.data(), scales.data(), sums32.data(),
               sums16.data());
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_EQ(q[i / 32 * 32 + i % 2 * 16 + i % 32 / 2], x[i]) << i;
  EXPECT_EQ(sums16, natural16);
  EXPECT_EQ(natural[5], -5);
}

TEST(QuantizeRow, NotANumberAndInfinityShowInTheScale) {
  std::vector<float> x(128, 1.0f);
  std::vector<int8_t> q(128);
  float scale = 0;
  std::vector<int16_t> sums32(4), sums16(8);
  x[77] = NAN;
  quantize_row(x.data(), 128, InputOrder::kNatural, q.data(), &scale, sums32.data(), sums16.data());
  EXPECT_TRUE(std::isnan(scale));
  x[77] = -INFINITY;
  quantize_row(x.data(), 128, InputOrder::kNatural, q.data(), &scale, sums32.data(), sums16.data());
  EXPECT_TRUE(std::isinf(scale));
}

}  // namespace
}  // namespace fathom::cpu
