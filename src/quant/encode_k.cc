// Encoders of the K formats: 256 weights in groups whose scales are small integers themselves,
// times one (two) floats. First each group gets the scale it would like; then those become
// integers, and in a few rounds each group takes the integer that suits it best among the
// neighbours, the weights follow, and the shared floats are solved for anew.
#include <array>
#include <cmath>
#include <cstdint>

#include "quant/encode.h"
#include "quant/fit.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

constexpr int kRounds = 3;

// What both kinds of block hold: integers of weights, scales (and minimums) of groups.
template <std::size_t kGroups>
struct SuperBlock {
  float d = 0, dmin = 0;
  std::array<int, kGroups> scale{}, min{};
  float error = INFINITY;
};

template <std::size_t kGroups>
constexpr int kGroupSize = kSuperBlock / static_cast<int>(kGroups);

template <std::size_t kGroups>
Group group(const float* x, const float* w, std::size_t g) {
  const std::size_t first = g * kGroupSize<kGroups>;
  return {x + first, w + first, kGroupSize<kGroups>};
}

// The weights' integers under the block's final scales.
template <std::size_t kGroups>
std::array<int, kSuperBlock> integers(const float* x, const SuperBlock<kGroups>& b,
                                      IntRange range) {
  std::array<int, kSuperBlock> q;
  for (std::size_t i = 0; i < q.size(); ++i) {
    const std::size_t g = i / kGroupSize<kGroups>;
    const float scale = b.d * static_cast<float>(b.scale[g]);
    const float offset = -b.dmin * static_cast<float>(b.min[g]);
    q[i] = static_cast<int>(round_into((x[i] - offset) * inverse(scale), range));
  }
  return q;
}

// Starts from the scales that the groups wish for.
template <std::size_t kGroups>
SuperBlock<kGroups> start_symmetric(const std::array<float, kGroups>& wish, IntRange scales) {
  float extreme = 0;
  for (const float v : wish)
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  SuperBlock<kGroups> b;
  b.d = stored(extreme / scales.lo);
  for (std::size_t g = 0; g < kGroups; ++g)
    b.scale[g] = static_cast<int>(round_into(wish[g] * inverse(b.d), scales));
  return b;
}

// A few rounds from `b`; returns the best block seen.
template <std::size_t kGroups>
SuperBlock<kGroups> improve_symmetric(const float* x, const float* w, SuperBlock<kGroups> b,
                                      IntRange range, IntRange scales, int rounds) {
  SuperBlock<kGroups> best;
  for (int round = 0; round < rounds; ++round) {
    b.error = 0;
    float xq = 0, qq = 0;
    for (std::size_t g = 0; g < kGroups; ++g) {
      std::array<Affine, 4> codes;
      std::array<int, 4> choices = {0, b.scale[g] - 1, b.scale[g], b.scale[g] + 1};
      for (std::size_t k = 0; k < codes.size(); ++k) {
        choices[k] =
            std::clamp(choices[k], static_cast<int>(scales.lo), static_cast<int>(scales.hi));
        codes[k] = {b.d * static_cast<float>(choices[k]), 0};
      }
      const Group values = group<kGroups>(x, w, g);
      const Lanes<4> errors = rounding_errors(values, codes, range);
      const std::size_t k = least(errors);
      b.scale[g] = choices[k];
      b.error += errors[k];
      const auto s = static_cast<float>(b.scale[g]);
      const RoundedSums<1> sums = rounded_sums<1>(values, {0.0f}, {inverse(codes[k].scale)}, range);
      xq += s * sums.wxq[0];
      qq += s * s * sums.wqq[0];
    }
    if (b.error < best.error) best = b;
    if (!(qq > 0)) break;
    b.d = stored(xq / qq);
  }
  return best;
}

// w = d · scale · q: Q3_K, Q6_K. Scales lie in [scales.lo, scales.hi], which reaches farther below
// 0. From the fitted scales, or, where that ends better, from the plain ones.
template <std::size_t kGroups>
SuperBlock<kGroups> fit_symmetric(const float* x, const float* w, IntRange range, IntRange scales) {
  std::array<float, kGroups> fitted, plain;
  for (std::size_t g = 0; g < kGroups; ++g) {
    const Group values = group<kGroups>(x, w, g);
    fitted[g] = fit_scale(values, range);
    plain[g] = plain_scale(values, -range.lo);
  }
  const auto a = improve_symmetric(x, w, start_symmetric(fitted, scales), range, scales, kRounds);
  const auto b = improve_symmetric(x, w, start_symmetric(plain, scales), range, scales, 1);
  return a.error <= b.error ? a : b;
}

// Sums over a block for solving d and dmin: x ≈ d · (s q) − dmin · m.
struct Normal {
  float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  void add(const Group& g, const Affine& code, int scale, int min, IntRange range) {
    const RoundedSums<1> s = rounded_sums<1>(g, {code.offset}, {inverse(code.scale)}, range);
    float w = 0, wx = 0;
    for (int i = 0; i < g.n; ++i) {
      w += g.w[i];
      wx += g.w[i] * g.x[i];
    }
    const auto a = static_cast<float>(scale), b = static_cast<float>(-min);
    aa += a * a * s.wqq[0];
    ab += a * b * s.wq[0];
    bb += b * b * w;
    xa += a * s.wxq[0];
    xb += b * wx;
  }
  // Leaves d and dmin as they are where the sums do not determine better ones.
  void solve(float& d, float& dmin) const {
    const float det = aa * bb - ab * ab;
    if (det > 1e-6f * aa * bb) {
      const float new_d = (xa * bb - xb * ab) / det, new_dmin = (xb * aa - xa * ab) / det;
      if (new_d > 0 && new_dmin >= 0) {
        d = stored(new_d);
        dmin = stored(new_dmin);
      }
    } else if (bb == 0 && aa > 0 && xa > 0) {
      d = stored(xa / aa);
    }
  }
};

template <std::size_t kGroups>
SuperBlock<kGroups> start_affine(const std::array<Affine, kGroups>& wish, int limit) {
  float max_scale = 0, max_min = 0;
  for (const Affine& a : wish) {
    max_scale = std::max(max_scale, a.scale);
    max_min = std::max(max_min, -a.offset);
  }
  const IntRange small{0, static_cast<float>(limit)};
  SuperBlock<kGroups> b;
  b.d = stored(max_scale / small.hi);
  b.dmin = stored(max_min / small.hi);
  for (std::size_t g = 0; g < kGroups; ++g) {
    b.scale[g] = static_cast<int>(round_into(wish[g].scale * inverse(b.d), small));
    b.min[g] = static_cast<int>(round_into(-wish[g].offset * inverse(b.dmin), small));
  }
  return b;
}

template <std::size_t kGroups>
SuperBlock<kGroups> improve_affine(const float* x, const float* w, SuperBlock<kGroups> b,
                                   IntRange range, int limit, int rounds) {
  SuperBlock<kGroups> best;
  for (int round = 0; round < rounds; ++round) {
    b.error = 0;
    Normal normal;
    for (std::size_t g = 0; g < kGroups; ++g) {
      std::array<Affine, 9> codes;
      std::array<std::array<int, 2>, 9> choices;
      for (std::size_t k = 0; k < codes.size(); ++k) {
        const int s = std::clamp(b.scale[g] + static_cast<int>(k / 3) - 1, 0, limit);
        const int m = std::clamp(b.min[g] + static_cast<int>(k % 3) - 1, 0, limit);
        choices[k] = {s, m};
        codes[k] = {b.d * static_cast<float>(s), -b.dmin * static_cast<float>(m)};
      }
      const Group values = group<kGroups>(x, w, g);
      const Lanes<9> errors = rounding_errors(values, codes, range);
      const std::size_t k = least(errors);
      b.scale[g] = choices[k][0];
      b.min[g] = choices[k][1];
      b.error += errors[k];
      normal.add(values, codes[k], b.scale[g], b.min[g], range);
    }
    if (b.error < best.error) best = b;
    normal.solve(b.d, b.dmin);
  }
  return best;
}

// w = d · scale · q − dmin · min: Q2_K, Q4_K, Q5_K. Scales and minimums lie in [0, limit]. From the
// fitted ones, or, where that ends better, from the plain ones.
template <std::size_t kGroups>
SuperBlock<kGroups> fit_affine_block(const float* x, const float* w, IntRange range, int limit) {
  std::array<Affine, kGroups> fitted, plain;
  for (std::size_t g = 0; g < kGroups; ++g) {
    const Group values = group<kGroups>(x, w, g);
    fitted[g] = fit_affine(values, range, true);
    plain[g] = plain_affine(values, range, true);
  }
  const auto a = improve_affine(x, w, start_affine(fitted, limit), range, limit, kRounds);
  const auto b = improve_affine(x, w, start_affine(plain, limit), range, limit, 1);
  return a.error <= b.error ? a : b;
}

// The 6-bit scales and minimums of Q4_K and Q5_K (blocks.h).
void pack_scales(const SuperBlock<8>& b, uint8_t (&out)[12]) {
  for (std::size_t g = 0; g < 4; ++g) {
    const int s = b.scale[g + 4], m = b.min[g + 4];
    out[g] = static_cast<uint8_t>(b.scale[g] | (s >> 4) << 6);
    out[g + 4] = static_cast<uint8_t>(b.min[g] | (m >> 4) << 6);
    out[g + 8] = static_cast<uint8_t>((s & 15) | (m & 15) << 4);
  }
}

}  // namespace

void encode_block(const float* x, const float* w, BlockQ2_K& out) {
  const IntRange range{0, 3};
  const auto b = fit_affine_block<16>(x, w, range, 15);
  const auto q = integers(x, b, range);
  out.d = f32_to_f16(b.d);
  out.dmin = f32_to_f16(b.dmin);
  for (std::size_t g = 0; g < 16; ++g)
    out.scales[g] = static_cast<uint8_t>(b.scale[g] | b.min[g] << 4);
  for (std::size_t i = 0; i < q.size(); ++i)
    out.qs[i / 128 * 32 + i % 32] |= static_cast<uint8_t>(q[i] << (i % 128 / 32 * 2));
}

void encode_block(const float* x, const float* w, BlockQ3_K& out) {
  const IntRange range{-4, 3};
  const auto b = fit_symmetric<16>(x, w, range, {-32, 31});
  const auto q = integers(x, b, range);
  out.d = f32_to_f16(b.d);
  for (std::size_t g = 0; g < 16; ++g) {
    const int s = b.scale[g] + 32;
    out.scales[g % 8] |= static_cast<uint8_t>((s & 15) << (g / 8 * 4));
    out.scales[8 + g % 4] |= static_cast<uint8_t>((s >> 4) << (g / 4 * 2));
  }
  for (std::size_t i = 0; i < q.size(); ++i) {
    const int v = q[i] + 4;
    out.qs[i / 128 * 32 + i % 32] |= static_cast<uint8_t>((v & 3) << (i % 128 / 32 * 2));
    out.hmask[i % 32] |= static_cast<uint8_t>((v >> 2) << (i / 32));
  }
}

void encode_block(const float* x, const float* w, BlockQ4_K& out) {
  const IntRange range{0, 15};
  const auto b = fit_affine_block<8>(x, w, range, 63);
  const auto q = integers(x, b, range);
  out.d = f32_to_f16(b.d);
  out.dmin = f32_to_f16(b.dmin);
  pack_scales(b, out.scales);
  for (std::size_t i = 0; i < q.size(); ++i)
    out.qs[i / 64 * 32 + i % 32] |= static_cast<uint8_t>(q[i] << (i / 32 % 2 * 4));
}

void encode_block(const float* x, const float* w, BlockQ5_K& out) {
  const IntRange range{0, 31};
  const auto b = fit_affine_block<8>(x, w, range, 63);
  const auto q = integers(x, b, range);
  out.d = f32_to_f16(b.d);
  out.dmin = f32_to_f16(b.dmin);
  pack_scales(b, out.scales);
  for (std::size_t i = 0; i < q.size(); ++i) {
    out.qs[i / 64 * 32 + i % 32] |= static_cast<uint8_t>((q[i] & 15) << (i / 32 % 2 * 4));
    out.qh[i % 32] |= static_cast<uint8_t>((q[i] >> 4) << (i / 32));
  }
}

void encode_block(const float* x, const float* w, BlockQ6_K& out) {
  const IntRange range{-32, 31};
  const auto b = fit_symmetric<16>(x, w, range, {-128, 127});
  const auto q = integers(x, b, range);
  out.d = f32_to_f16(b.d);
  for (std::size_t g = 0; g < 16; ++g) out.scales[g] = static_cast<int8_t>(b.scale[g]);
  for (std::size_t i = 0; i < q.size(); ++i) {
    const int v = q[i] + 32;
    const std::size_t half = i / 128, j = i % 128 / 32, l = i % 32;
    out.ql[64 * half + 32 * (j % 2) + l] |= static_cast<uint8_t>((v & 15) << (j / 2 * 4));
    out.qh[32 * half + l] |= static_cast<uint8_t>((v >> 4) << (2 * j));
  }
}

}  // namespace fathom::quant
