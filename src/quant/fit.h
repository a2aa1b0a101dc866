// Fitting scales: the searches that the encoders share. Internal to quant/.
//
// A group of weights x is to be written as scale · q + offset with integers q in [lo, hi], so that
// Σ w (x − scale · q − offset)² is small, w being how much each column matters. For given q the
// best scale and offset are a linear least-squares problem; so a search tries many ways to round x
// to integers, solves that problem for each, and keeps the one that leaves the least error.
//
// Candidates stand in lanes: the inner loops run over them and vectorise without changing the order
// of any sum, so the result is the same on every machine.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/float_formats.h"

namespace fathom::quant {

struct IntRange {
  float lo = 0, hi = 0;
};

// Weights of one group; w is never all zero.
struct Group {
  const float* x;
  const float* w;
  int n;
};

struct Affine {
  float scale = 0, offset = 0;
};

// A scale as the block will have it.
inline float stored(float v) { return f16_to_f32(f32_to_f16(v)); }

// The integer nearest to v (ties to even), within the range.
inline float round_into(float v, IntRange range) {
  constexpr float kMagic = 12582912.0f;  // 1.5 · 2^23: adding it leaves no fraction bits
  v = v < range.lo ? range.lo : v;
  v = v > range.hi ? range.hi : v;
  return (v + kMagic) - kMagic;
}

inline float inverse(float v) { return v == 0 ? 0.0f : 1.0f / v; }

template <std::size_t K>
using Lanes = std::array<float, K>;

// Sums over a group, for each of K ways to round it: q = round((x − base) · inv).
template <std::size_t K>
struct RoundedSums {
  Lanes<K> wq{}, wqq{}, wxq{};
};

template <std::size_t K>
RoundedSums<K> rounded_sums(const Group& g, const Lanes<K>& base, const Lanes<K>& inv,
                            IntRange range) {
  RoundedSums<K> s;
  for (int i = 0; i < g.n; ++i) {
    const float x = g.x[i], w = g.w[i];
    for (std::size_t k = 0; k < K; ++k) {
      const float q = round_into((x - base[k]) * inv[k], range);
      const float wq = w * q;
      s.wq[k] += wq;
      s.wqq[k] += wq * q;
      s.wxq[k] += wq * x;
    }
  }
  return s;
}

// The weighted squared error of K codes (scale, offset), each x rounded to its nearest integer.
template <std::size_t K>
Lanes<K> rounding_errors(const Group& g, const std::array<Affine, K>& codes, IntRange range) {
  Lanes<K> scale, offset, inv, error{};
  for (std::size_t k = 0; k < K; ++k) {
    scale[k] = codes[k].scale;
    offset[k] = codes[k].offset;
    inv[k] = inverse(codes[k].scale);
  }
  for (int i = 0; i < g.n; ++i) {
    const float x = g.x[i], w = g.w[i];
    for (std::size_t k = 0; k < K; ++k) {
      const float q = round_into((x - offset[k]) * inv[k], range);
      const float e = x - (scale[k] * q + offset[k]);
      error[k] += w * e * e;
    }
  }
  return error;
}

template <std::size_t K>
std::size_t least(const Lanes<K>& errors) {
  return static_cast<std::size_t>(std::min_element(errors.begin(), errors.end()) - errors.begin());
}

// What rounding to nearest would take: the weight of the largest magnitude goes to −n, the end of
// the range [−n, n − 1] that reaches farther.
inline float plain_scale(const Group& g, float n) {
  float extreme = 0;
  for (int i = 0; i < g.n; ++i)
    if (std::fabs(g.x[i]) > std::fabs(extreme)) extreme = g.x[i];
  return extreme / -n;
}

// As plain_scale: the range covers all weights (and 0 if the offset may not be positive).
inline Affine plain_affine(const Group& g, IntRange range, bool offset_not_positive) {
  const auto [lo, hi] = std::minmax_element(g.x, g.x + g.n);
  const float from = offset_not_positive ? std::min(*lo, 0.0f) : *lo;
  return {(std::max(*hi, from) - from) / range.hi, from};
}

// The best scale for x ≈ scale · q, q in [−n, hi]. Of both signs if `both_signs`: the longer side
// of the range then goes to whichever side of x needs it.
inline float fit_scale(const Group& g, IntRange range) {
  constexpr std::size_t kSteps = 16, kBoth = 2 * kSteps;
  float amax = 0;
  for (int i = 0; i < g.n; ++i) amax = std::max(amax, std::fabs(g.x[i]));
  if (amax == 0) return 0;
  Lanes<kBoth> base{}, inv;
  for (std::size_t k = 0; k < kSteps; ++k) {
    // The largest weight lands from 1.3 inside the range's end to 1.2 beyond it.
    const float reach = (-range.lo + (static_cast<float>(k) - 8.0f) * 0.16f) / amax;
    inv[k] = reach;
    inv[kSteps + k] = -reach;
  }
  const RoundedSums<kBoth> s = rounded_sums(g, base, inv, range);
  float best = 0, best_gain = 0;
  for (std::size_t k = 0; k < kBoth; ++k) {
    if (!(s.wqq[k] > 0)) continue;
    const float gain = s.wxq[k] * s.wxq[k] / s.wqq[k];
    if (gain > best_gain) {
      best_gain = gain;
      best = s.wxq[k] / s.wqq[k];
    }
  }
  return best;
}

// The best scale and offset for x ≈ scale · q + offset, q in [0, hi], scale >= 0; with
// `offset_not_positive` (the K formats subtract a minimum that has no sign) offset <= 0.
inline Affine fit_affine(const Group& g, IntRange range, bool offset_not_positive) {
  constexpr std::size_t kSide = 6, kAll = kSide * kSide;
  float w = 0, wx = 0;
  for (int i = 0; i < g.n; ++i) {
    w += g.w[i];
    wx += g.w[i] * g.x[i];
  }
  Affine best = plain_affine(g, range, offset_not_positive);
  const float step = best.scale, lo = best.offset, width = step * range.hi;
  if (step == 0) return best;
  // Both ends move: outwards by a quarter of a step, or inwards, so that outliers are cut.
  Lanes<kAll> base, inv;
  for (std::size_t k = 0; k < kAll; ++k) {
    const float at_lo = (static_cast<float>(k % kSide) * 0.25f - 0.25f) * step;
    const float at_hi = (static_cast<float>(k / kSide) * 0.25f - 0.25f) * step;
    base[k] = lo + at_lo;
    inv[k] = range.hi / std::max(width - at_lo - at_hi, 0.1f * step);
  }
  const RoundedSums<kAll> s = rounded_sums(g, base, inv, range);
  float best_gain = -INFINITY;
  for (std::size_t k = 0; k < kAll; ++k) {
    const float det = w * s.wqq[k] - s.wq[k] * s.wq[k];
    if (!(det > 0)) continue;
    Affine a{(w * s.wxq[k] - wx * s.wq[k]) / det, (s.wqq[k] * wx - s.wq[k] * s.wxq[k]) / det};
    if (offset_not_positive && a.offset > 0) a = {s.wxq[k] / s.wqq[k], 0};
    const float gain = a.scale * s.wxq[k] + a.offset * wx;
    if (a.scale >= 0 && gain > best_gain) {
      best_gain = gain;
      best = a;
    }
  }
  return best;
}

}  // namespace fathom::quant
