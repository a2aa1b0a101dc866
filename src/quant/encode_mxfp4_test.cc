// MXFP4: what it can hold comes back, the rest loses no more than the specification's rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "quant/blocks.h"
#include "quant/codec.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

std::vector<std::byte> encoded(const std::vector<float>& x, const float* importance = nullptr) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> bytes(static_cast<std::size_t>(dtype_row_bytes(DType::kMXFP4, n)));
  encode(DType::kMXFP4, x.data(), n, importance, bytes.data());
  return bytes;
}

std::vector<float> there_and_back(const std::vector<float>& x, const float* importance = nullptr) {
  std::vector<float> y(x.size());
  decode(DType::kMXFP4, encoded(x, importance).data(), static_cast<int64_t>(x.size()), y.data());
  return y;
}

double error(const std::vector<float>& x, const std::vector<float>& y,
             const std::vector<float>& w = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    sum += (w.empty() ? 1.0 : w[i]) * (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  return sum;
}

// The specification's conversion (OCP Microscaling Formats 1.0, section 6.3): the scale takes the
// largest magnitude to 4 … 8, then each goes to the nearest code, found by trying all.
std::vector<float> plain(const std::vector<float>& x) {
  std::vector<float> y;
  for (std::size_t b = 0; b < x.size(); b += 32) {
    float largest = 0;
    for (std::size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale =
        largest > 0 ? std::exp2(std::floor(std::log2(largest)) - 2) : std::exp2(-127.0f);
    for (std::size_t i = b; i < b + 32; ++i) {
      float best = 0;
      for (int code = 0; code < 16; ++code) {
        const float v = f4e2m1_to_f32(static_cast<uint8_t>(code)) * scale;
        if (std::fabs(x[i] - v) < std::fabs(x[i] - best)) best = v;
      }
      y.push_back(best);
    }
  }
  return y;
}

std::vector<float> gaussian(unsigned seed, std::size_t n) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

// A file in FP4 can be written as another without loss, whichever codes a block uses.
TEST(EncodeMxfp4, WhatItHoldsComesBackExactly) {
  std::mt19937 rng(1);
  for (int trial = 0; trial < 2000; ++trial) {
    BlockMXFP4 b{.e = static_cast<uint8_t>(4 + rng() % 130), .qs = {}};
    const unsigned codes = 1 + rng() % 15;  // some blocks have only small codes
    for (uint8_t& q : b.qs) q = static_cast<uint8_t>(rng() % codes | (rng() % codes) << 4);
    std::vector<float> x(32);
    decode(DType::kMXFP4, reinterpret_cast<const std::byte*>(&b), 32, x.data());
    EXPECT_EQ(there_and_back(x), x) << "scale " << int{b.e} << ", codes below " << codes;
  }
}

TEST(EncodeMxfp4, RoundsToTheNearestAndToEven) {
  std::vector<float> x(32, 0.0f);
  x[0] = 6.0f;  // the scale is 1
  const std::pair<float, float> cases[] = {
      {0.25f, 0},    {0.26f, 0.5f}, {0.75f, 1},     {0.74f, 0.5f}, {1.25f, 1},
      {1.26f, 1.5f}, {1.75f, 2},    {2.5f, 2},      {2.51f, 3},    {3.5f, 4},
      {3.49f, 3},    {5.0f, 4},     {-0.25f, -0.f}, {-5.01f, -6},  {-1.75f, -2}};
  for (std::size_t i = 0; i < std::size(cases); ++i) x[i + 1] = cases[i].first;
  const auto y = there_and_back(x);
  ASSERT_EQ(y[0], 6);
  for (std::size_t i = 0; i < std::size(cases); ++i)
    EXPECT_EQ(y[i + 1], cases[i].second) << x[i + 1];
}

TEST(EncodeMxfp4, NeverWorseThanTheSpecification) {
  std::mt19937 rng(2);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> tails(4096), sparse(4096);
  for (float& v : tails) v = std::pow(normal(rng), 3.0f);
  for (float& v : sparse) v = rng() % 8 == 0 ? normal(rng) : 0.0f;
  for (const auto& x : {gaussian(3, 4096), tails, sparse}) {
    const auto ours = there_and_back(x), theirs = plain(x);
    for (std::size_t b = 0; b < x.size(); b += 32) {
      const auto part = [&](const std::vector<float>& v) {
        const auto begin = v.begin() + static_cast<std::ptrdiff_t>(b);
        return std::vector<float>(begin, begin + 32);
      };
      EXPECT_LE(error(part(x), part(ours)), error(part(x), part(theirs)) * 1.0001) << b;
    }
  }
}

TEST(EncodeMxfp4, GaussianWeightsLoseNoMoreThanMeasured) {
  const auto x = gaussian(4, 1 << 16);
  const double total = error(x, std::vector<float>(x.size(), 0.0f));
  const double ours = std::sqrt(error(x, there_and_back(x)) / total);
  EXPECT_LT(ours, 0.1160);
  EXPECT_GT(ours, 0.1000) << "better; lower the figure";
}

TEST(EncodeMxfp4, ImportantColumnsLoseLess) {
  const auto x = gaussian(5, 1 << 14);
  std::mt19937 rng(6);
  std::lognormal_distribution<float> spread(0, 1.5f);
  std::vector<float> w(x.size());
  for (float& v : w) v = spread(rng);
  EXPECT_LT(error(x, there_and_back(x, w.data()), w), 0.98 * error(x, there_and_back(x), w));
}

TEST(EncodeMxfp4, EdgesStayFinite) {
  for (const float v : {0.0f, 1.0f, -kMaxEncodable, kMaxEncodable, 1e-30f, 1e-38f, 1e-45f}) {
    const std::vector<float> x(32, v);
    for (const float y : there_and_back(x)) {
      EXPECT_TRUE(std::isfinite(y)) << v;
      EXPECT_NEAR(y, v, 0.2 * std::fabs(v) + 1e-39) << v;
    }
  }
  const auto zeros = encoded(std::vector<float>(32, 0.0f));
  for (const std::byte b : zeros) EXPECT_EQ(b, std::byte{0});
}

}  // namespace
}  // namespace fathom::quant
