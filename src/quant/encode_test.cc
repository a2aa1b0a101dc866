// The encoders: never worse than rounding to nearest, as good as measured before, safe at the
// edges.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "quant/codec.h"
#include "quant/fit.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

constexpr int64_t kElements = 256 * 64;

struct Format {
  DType type;
  int group;        // elements that share a scale
  bool affine;      // has a minimum
  IntRange range;   // of the integers
  int scale_limit;  // K formats: the largest integer scale; 0: scales are F16
  double gaussian;  // relative root mean square error on gaussian weights, as measured
};

const std::vector<Format> kFormats = {{DType::kQ8_0, 32, false, {-127, 127}, 0, 0.0050},
                                      {DType::kQ4_0, 32, false, {-8, 7}, 0, 0.0810},
                                      {DType::kQ4_1, 32, true, {0, 15}, 0, 0.0692},
                                      {DType::kQ5_0, 32, false, {-16, 15}, 0, 0.0401},
                                      {DType::kQ5_1, 32, true, {0, 31}, 0, 0.0338},
                                      {DType::kQ2_K, 16, true, {0, 3}, 15, 0.2584},
                                      {DType::kQ3_K, 16, false, {-4, 3}, 31, 0.1435},
                                      {DType::kQ4_K, 32, true, {0, 15}, 63, 0.0699},
                                      {DType::kQ5_K, 32, true, {0, 31}, 63, 0.0346},
                                      {DType::kQ6_K, 16, false, {-32, 31}, 127, 0.0172}};

std::vector<float> random_values(unsigned seed, const std::function<float(std::mt19937&)>& draw) {
  std::mt19937 rng(seed);
  std::vector<float> x(kElements);
  for (float& v : x) v = draw(rng);
  return x;
}

std::vector<float> gaussian(unsigned seed) {
  std::normal_distribution<float> normal(0, 0.02f);
  return random_values(seed, [&](std::mt19937& rng) { return normal(rng); });
}

std::vector<float> there_and_back(DType type, const std::vector<float>& x,
                                  const float* importance = nullptr) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> bytes(static_cast<std::size_t>(dtype_row_bytes(type, n)));
  encode(type, x.data(), n, importance, bytes.data());
  std::vector<float> y(x.size());
  decode(type, bytes.data(), n, y.data());
  return y;
}

double squared_error(const std::vector<float>& x, const std::vector<float>& y,
                     const std::vector<float>& w = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = static_cast<double>(x[i]) - y[i];
    sum += (w.empty() ? 1.0 : w[i]) * e * e;
  }
  return sum;
}

float stored(float v) { return f16_to_f32(f32_to_f16(v)); }

// Rounding to nearest with the scale (and minimum) that just covers a group; K formats round those
// to integers times the largest.
std::vector<float> plain(const Format& f, const std::vector<float>& x) {
  std::vector<Affine> codes;
  for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(f.group)) {
    const float* g = x.data() + i;
    const auto [lo, hi] = std::minmax_element(g, g + f.group);
    const float extreme = -*lo > *hi ? *lo : *hi;
    const float floor = f.scale_limit > 0 ? std::min(*lo, 0.0f) : *lo;
    codes.push_back(f.affine ? Affine{(*hi - floor) / f.range.hi, floor}
                             : Affine{extreme / f.range.lo, 0});
  }
  const std::size_t together = f.scale_limit > 0 ? static_cast<std::size_t>(256 / f.group) : 1;
  for (std::size_t i = 0; i < codes.size(); i += together) {
    float scale = 0, offset = 0;
    for (std::size_t k = i; k < i + together; ++k) {
      if (std::fabs(codes[k].scale) > std::fabs(scale)) scale = codes[k].scale;
      offset = std::max(offset, -codes[k].offset);
    }
    // Integer scales without a minimum have a sign and reach one farther below 0.
    const auto limit = static_cast<float>(std::max(f.scale_limit, 1));
    const float d = stored(f.affine ? scale / limit : scale / (-limit - 1));
    const float dmin = stored(offset / limit);
    for (std::size_t k = i; k < i + together; ++k) {
      if (f.scale_limit == 0) {
        codes[k] = {stored(codes[k].scale), stored(codes[k].offset)};
      } else {
        codes[k] = {d * std::min(std::nearbyint(codes[k].scale * inverse(d)), limit),
                    dmin * std::nearbyint(codes[k].offset * inverse(dmin))};
      }
    }
  }
  std::vector<float> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Affine& c = codes[i / static_cast<std::size_t>(f.group)];
    y.push_back(c.scale * round_into((x[i] - c.offset) * inverse(c.scale), f.range) + c.offset);
  }
  return y;
}

TEST(Encode, NeverWorseThanRoundingToNearest) {
  std::normal_distribution<float> normal(0, 1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  const std::vector<std::vector<float>> inputs = {
      gaussian(1),
      random_values(2, [&](std::mt19937& r) { return 0.05f * uniform(r); }),
      random_values(3, [&](std::mt19937& r) { return std::pow(normal(r), 3.0f); }),  // long tails
      random_values(4, [&](std::mt19937& r) { return 3 + 0.1f * normal(r); }),       // all positive
      random_values(5, [&](std::mt19937& r) { return r() % 8 == 0 ? normal(r) : 0.0f; }),
      random_values(6, [&](std::mt19937& r) { return 0.25f * static_cast<float>(r() % 7); }),
  };
  for (const Format& f : kFormats) {
    for (std::size_t n = 0; n < inputs.size(); ++n) {
      SCOPED_TRACE(std::string(dtype_name(f.type)) + " input " + std::to_string(n));
      const auto &x = inputs[n], ours = there_and_back(f.type, x), simple = plain(f, x);
      const double best = squared_error(x, ours), worst = squared_error(x, simple);
      EXPECT_LE(best, worst * 1.0001);
      // Row by row too, where a row is a block of the K formats.
      for (std::size_t i = 0; i < x.size(); i += 256) {
        const auto part = [&](const std::vector<float>& v) {
          return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(i),
                                    v.begin() + static_cast<std::ptrdiff_t>(i) + 256);
        };
        EXPECT_LE(squared_error(part(x), part(ours)),
                  squared_error(part(x), part(simple)) * 1.0001 + 1e-12)
            << "block " << i / 256;
      }
    }
  }
}

TEST(Encode, GaussianWeightsLoseNoMoreThanMeasured) {
  const auto x = gaussian(7);
  const double total = squared_error(x, std::vector<float>(x.size(), 0));
  for (const Format& f : kFormats) {
    const double rmse = std::sqrt(squared_error(x, there_and_back(f.type, x)) / total);
    EXPECT_LT(rmse, f.gaussian * 1.01) << dtype_name(f.type);
    EXPECT_GT(rmse, f.gaussian * 0.9) << dtype_name(f.type) << ": better; lower the figure";
  }
}

TEST(Encode, ImportantColumnsLoseLess) {
  const auto x = gaussian(8);
  std::lognormal_distribution<float> spread(0, 1.5f);
  const auto w = random_values(9, [&](std::mt19937& rng) { return spread(rng); });
  for (const Format& f : kFormats) {
    const double with = squared_error(x, there_and_back(f.type, x, w.data()), w);
    const double without = squared_error(x, there_and_back(f.type, x), w);
    EXPECT_LT(with, without * 0.95) << dtype_name(f.type);
  }
}

TEST(Encode, ImportanceOfZerosIsNoImportance) {
  const auto x = gaussian(10);
  const std::vector<float> zeros(x.size(), 0.0f);
  for (const Format& f : kFormats)
    EXPECT_EQ(there_and_back(f.type, x, zeros.data()), there_and_back(f.type, x));
  // A single used column: the others must still be near.
  std::vector<float> one(x.size(), 0.0f);
  for (std::size_t i = 0; i < one.size(); i += 256) one[i] = 1e6f;
  for (const Format& f : kFormats) {
    const double loss = squared_error(x, there_and_back(f.type, x, one.data()));
    EXPECT_LT(loss, 0.5 * squared_error(x, zeros)) << dtype_name(f.type);
  }
}

TEST(Encode, ValuesThatTheFormatHoldsStayExact) {
  // Powers of two times the integers of one group's range, the ends included.
  for (const Format& f : kFormats) {
    std::vector<float> x(256);
    const int lo = static_cast<int>(f.range.lo), hi = static_cast<int>(f.range.hi);
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = 0.125f * static_cast<float>(lo + static_cast<int>(i % 16) * (hi - lo) / 15);
    // With integer scales a power of two need not be reachable: near is enough there.
    const double tolerance = f.scale_limit > 0 ? 1e-5 : 0;
    const double total = squared_error(x, std::vector<float>(x.size(), 0));
    EXPECT_LE(squared_error(x, there_and_back(f.type, x)), tolerance * total) << dtype_name(f.type);
  }
}

TEST(Encode, EdgesAreFinite) {
  std::vector<std::pair<std::string, std::vector<float>>> cases;
  cases.emplace_back("zeros", std::vector<float>(256, 0.0f));
  cases.emplace_back("ones", std::vector<float>(256, 1.0f));
  cases.emplace_back("minus ones", std::vector<float>(256, -1.0f));
  cases.emplace_back("largest", std::vector<float>(256, kMaxEncodable));
  std::vector<float> both(256, -kMaxEncodable);
  for (std::size_t i = 0; i < both.size(); i += 3) both[i] = kMaxEncodable;
  cases.emplace_back("both ends", both);
  cases.emplace_back("tiny", std::vector<float>(256, 1e-30f));
  cases.emplace_back("subnormal scales", std::vector<float>(256, 3e-6f));
  std::vector<float> spike(256, 0.0f);
  spike[200] = -7.5f;
  cases.emplace_back("spike", spike);
  for (const auto& [name, x] : cases) {
    for (const Format& f : kFormats) {
      const auto y = there_and_back(f.type, x);
      const float reach = *std::max_element(
          x.begin(), x.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_TRUE(std::isfinite(y[i])) << name << " " << dtype_name(f.type) << " " << i;
        ASSERT_LE(std::fabs(y[i]), std::fabs(reach) * 1.2f + 1e-5f)
            << name << " " << dtype_name(f.type) << " " << i;
      }
    }
  }
}

TEST(Encode, ZerosStayZerosAndASpikeStays) {
  std::vector<float> spike(256, 0.0f);
  spike[200] = -7.5f;
  for (const Format& f : kFormats) {
    const auto y = there_and_back(f.type, spike);
    for (std::size_t i = 0; i < y.size(); ++i)
      EXPECT_NEAR(y[i], spike[i], 0.02f) << dtype_name(f.type) << " " << i;
  }
}

TEST(Encode, ResultDoesNotDependOnNeighboursOrAlignment) {
  const auto x = gaussian(11);
  for (const Format& f : kFormats) {
    const auto row = static_cast<std::size_t>(dtype_row_bytes(f.type, 256));
    std::vector<std::byte> whole(row * 64), part(row + 1);
    encode(f.type, x.data(), kElements, nullptr, whole.data());
    encode(f.type, x.data() + 256 * 9, 256, nullptr, part.data() + 1);
    EXPECT_TRUE(std::equal(part.begin() + 1, part.end(),
                           whole.begin() + static_cast<std::ptrdiff_t>(9 * row)))
        << dtype_name(f.type);
  }
}

TEST(Encode, FloatsAreRoundedToNearest) {
  const std::vector<float> x = {1.0f, -2.5f, 0.1f, 65504.0f, 1e-8f, 0.0f};
  EXPECT_EQ(there_and_back(DType::kF32, x), x);
  const auto half = there_and_back(DType::kF16, x), brain = there_and_back(DType::kBF16, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(half[i], x[i], std::fabs(x[i]) * 0x1p-11f + 0x1p-25f);
    EXPECT_NEAR(brain[i], x[i], std::fabs(x[i]) * 0x1p-8f);
  }
}

}  // namespace
}  // namespace fathom::quant
