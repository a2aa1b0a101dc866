// Element-wise kernels on one row.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kernels/rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After highway.h, and once per target.
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

// Σ a·b, one accumulator in order of k, the tail added last.
HWY_INLINE float dot(const float* a, const float* b, int64_t n) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  VF acc = hn::Zero(df);
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes)
    acc = hn::MulAdd(hn::LoadU(df, a + k), hn::LoadU(df, b + k), acc);
  float sum = hn::GetLane(hn::SumOfLanes(df, acc));
  for (; k < n; ++k) sum += a[k] * b[k];
  return sum;
}

void axpy_row(float a, const float* x, int64_t n, float* y) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const VF av = hn::Set(df, a);
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes)
    hn::StoreU(hn::MulAdd(av, hn::LoadU(df, x + k), hn::LoadU(df, y + k)), df, y + k);
  for (; k < n; ++k) y[k] += a * x[k];
}

void rms_norm_row(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const float scale = 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + eps);
  const VF sv = hn::Set(df, scale);
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    const VF v = hn::Mul(hn::LoadU(df, x + k), sv);
    hn::StoreU(weight == nullptr ? v : hn::Mul(v, hn::LoadU(df, weight + k)), df, out + k);
  }
  for (; k < n; ++k) out[k] = x[k] * scale * (weight == nullptr ? 1.0f : weight[k]);
}

void add_row(float* x, const float* delta, int64_t n) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes)
    hn::StoreU(hn::Add(hn::LoadU(df, x + k), hn::LoadU(df, delta + k)), df, x + k);
  for (; k < n; ++k) x[k] += delta[k];
}

HWY_INLINE VF silu_mul(VF gate, VF up) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  const VF negated = hn::Neg(gate);
  // Highway's Exp is good up to 104. Beyond 87 the quotient is below 1e-35, so zero.
  const VF limit = hn::Set(df, 87.0f);
  const VF e = hn::Exp(df, hn::Min(negated, limit));
  const VF silu = hn::Div(gate, hn::Add(one, e));
  return hn::Mul(hn::IfThenZeroElse(hn::Gt(negated, limit), silu), up);
}

void silu_mul_row(float* gate, const float* up, int64_t n) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes)
    hn::StoreU(silu_mul(hn::LoadU(df, gate + k), hn::LoadU(df, up + k)), df, gate + k);
  if (k < n) {
    HWY_ALIGN float g[HWY_MAX_BYTES / sizeof(float)] = {}, u[HWY_MAX_BYTES / sizeof(float)] = {};
    const size_t bytes = static_cast<size_t>(n - k) * sizeof(float);
    std::memcpy(g, gate + k, bytes);
    std::memcpy(u, up + k, bytes);
    hn::Store(silu_mul(hn::Load(df, g), hn::Load(df, u)), df, g);
    std::memcpy(gate + k, g, bytes);
  }
}

void rope_half_row(float* x, const float* cos, const float* sin, int64_t dims) {
  const int64_t half = dims / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

void rope_pairs_row(float* x, const float* cos, const float* sin, int64_t dims) {
  for (int64_t i = 0; i < dims / 2; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::cpu {

HWY_EXPORT(rms_norm_row);
HWY_EXPORT(add_row);
HWY_EXPORT(axpy_row);
HWY_EXPORT(silu_mul_row);
HWY_EXPORT(rope_half_row);
HWY_EXPORT(rope_pairs_row);

void rms_norm_row(const float* x, const float* weight, int64_t n, float eps, float* out) {
  HWY_DYNAMIC_DISPATCH(rms_norm_row)(x, weight, n, eps, out);
}
void add_row(float* x, const float* delta, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_row)(x, delta, n);
}
void axpy_row(float a, const float* x, int64_t n, float* y) {
  HWY_DYNAMIC_DISPATCH(axpy_row)(a, x, n, y);
}
void silu_mul_row(float* gate, const float* up, int64_t n) {
  HWY_DYNAMIC_DISPATCH(silu_mul_row)(gate, up, n);
}
void rope_half_row(float* x, const float* cos, const float* sin, int64_t dims) {
  HWY_DYNAMIC_DISPATCH(rope_half_row)(x, cos, sin, dims);
}
void rope_pairs_row(float* x, const float* cos, const float* sin, int64_t dims) {
  HWY_DYNAMIC_DISPATCH(rope_pairs_row)(x, cos, sin, dims);
}

}  // namespace fathom::cpu
#endif
