// Tests of the generator: the published vectors of Philox, and that draws behave as uniform numbers
// that depend on seed, position and stream alone.
#include "engine/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace fathom {
namespace random_test {

using Words = std::array<uint32_t, 4>;

// Random123's known answers (github.com/DEShawResearch/random123, tests/kat_vectors, "philox4x32
// 10").
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// 2²⁰ draws: mean and variance of U[0, 1) within five standard errors, each of 64 cells within six.
TEST(UniformTest, IsUniform) {
  constexpr int kDraws = 1 << 20;
  double sum = 0, squares = 0;
  std::vector<int> cells(64);
  for (int i = 0; i < kDraws; ++i) {
    const double u = uniform(42, static_cast<uint64_t>(i));
    ASSERT_GE(u, 0) << i;
    ASSERT_LT(u, 1) << i;
    sum += u;
    squares += u * u;
    ++cells[static_cast<std::size_t>(u * 64)];
  }
  const double mean = sum / kDraws, variance = squares / kDraws - mean * mean;
  EXPECT_NEAR(mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(variance, 1.0 / 12, 5 * std::sqrt(1.0 / 180 / kDraws));
  const double expected = kDraws / 64.0;
  for (std::size_t c = 0; c < cells.size(); ++c)
    EXPECT_NEAR(cells[c], expected, 6 * std::sqrt(expected)) << "cell " << c;
}

// Every one of the 53 bits is set in about half of the draws: no part of the words is lost.
TEST(UniformTest, UsesAllBits) {
  constexpr int kDraws = 4096;
  std::vector<int> ones(53);
  for (int i = 0; i < kDraws; ++i) {
    const auto bits = static_cast<uint64_t>(uniform(7, static_cast<uint64_t>(i)) * 0x1p53);
    for (std::size_t b = 0; b < ones.size(); ++b) ones[b] += static_cast<int>(bits >> b & 1);
  }
  for (std::size_t b = 0; b < ones.size(); ++b)
    EXPECT_NEAR(ones[b], kDraws / 2, 5 * std::sqrt(kDraws / 4)) << "bit " << b;
}

// Both halves of the seed and of the position count, and so does the stream.
TEST(UniformTest, DependsOnSeedPositionAndStreamAlone) {
  std::set<double> seen;
  int draws = 0;
  for (const uint64_t seed : {0ULL, 1ULL, 1ULL << 32, ~0ULL}) {
    for (const uint64_t position : {0ULL, 1ULL, 1ULL << 32, ~0ULL}) {
      for (const uint32_t stream : {0U, 1U, ~0U}) {
        seen.insert(uniform(seed, position, stream));
        ++draws;
        EXPECT_EQ(uniform(seed, position, stream), uniform(seed, position, stream));
      }
    }
  }
  EXPECT_EQ(static_cast<int>(seen.size()), draws);
}

}  // namespace random_test
}  // namespace fathom
