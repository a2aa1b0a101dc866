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

constexpr DType kTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

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
    default:
      return {0};
  }
}

// Random bytes with scales of ordinary size, either sign.
std::vector<uint8_t> random_weights(DType type, int64_t bytes, std::mt19937& rng) {
  std::vector<uint8_t> w(static_cast<size_t>(bytes));
  for (uint8_t& b : w) b = static_cast<uint8_t>(rng());
  for (int64_t at = 0; at < bytes; at += dtype_block(type).bytes) {
    for (const int offset : half_offsets(type)) {
      const auto half = static_cast<uint16_t>(0x2000 | (rng() & 0x83FF));
      std::memcpy(&w[static_cast<size_t>(at + offset)], &half, sizeof(half));
    }
  }
  return w;
}

class Inputs {
 public:
  Inputs(int64_t rows, int64_t cols, std::mt19937& rng) : cols_(cols) {
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
      quantize_row(x.data(), cols, r.q.data(), r.scales.data(), r.sums32.data(), r.sums16.data());
    }
    for (const Row& r : rows_)
      views_.push_back({r.q.data(), r.scales.data(), r.sums32.data(), r.sums16.data()});
  }
  const Int8Row* views() const { return views_.data(); }
  double value(int64_t row, int64_t k) const {
    const Row& r = rows_[static_cast<size_t>(row)];
    return double{r.scales[static_cast<size_t>(k / kInputBlock)]} * r.q[static_cast<size_t>(k)];
  }

 private:
  struct Row {
    std::vector<int8_t> q;
    std::vector<float> scales;
    std::vector<int16_t> sums32, sums16;
  };
  int64_t cols_;
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
  const int64_t block = dtype_block(type).elements;
  // The last is longer than what the kernels keep sums of at a time (80 blocks of 128).
  for (const int64_t cols : {block, 2 * block, 7 * block, int64_t{1536}, int64_t{10496}}) {
    for (const int64_t n : {1, 16, 31, 33, 77, 160}) {
      if (cols > 1536 && n != 33) continue;
      const auto w = random_weights(type, dtype_row_bytes(type, cols) * n, rng);
      for (const int64_t m : {1, 2, 3, 5, 6, 8, 13, 300}) {
        if (m == 300 && (cols > 2 * block || n != 33)) continue;
        const Inputs x(m, cols, rng);
        const BlockDotArgs args{.type = type,
                                .weights = w.data(),
                                .row_bytes = dtype_row_bytes(type, cols),
                                .cols = cols,
                                .rows = n,
                                .x = x.views(),
                                .m = m};
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
  const int64_t cols = 3 * dtype_block(type).elements, n = 9, m = 2;
  const int64_t row_bytes = dtype_row_bytes(type, cols);
  const auto w = random_weights(type, row_bytes * n, rng);
  const Inputs x(m, cols, rng);
  const auto y = run(block_dot_portable,
                     {.type = type,
                      .weights = w.data(),
                      .row_bytes = row_bytes,
                      .cols = cols,
                      .rows = n,
                      .x = x.views(),
                      .m = m},
                     n);
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t j = 0; j < n; ++j) {
    quant::decode(type, reinterpret_cast<const std::byte*>(w.data()) + j * row_bytes, cols,
                  row.data());
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
  quantize_row(x.data(), 160, q.data(), scales.data(), sums32.data(), sums16.data());
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

TEST(QuantizeRow, NotANumberAndInfinityShowInTheScale) {
  std::vector<float> x(128, 1.0f);
  std::vector<int8_t> q(128);
  float scale = 0;
  std::vector<int16_t> sums32(4), sums16(8);
  x[77] = NAN;
  quantize_row(x.data(), 128, q.data(), &scale, sums32.data(), sums16.data());
  EXPECT_TRUE(std::isnan(scale));
  x[77] = -INFINITY;
  quantize_row(x.data(), 128, q.data(), &scale, sums32.data(), sums16.data());
  EXPECT_TRUE(std::isinf(scale));
}

}  // namespace
}  // namespace fathom::cpu
