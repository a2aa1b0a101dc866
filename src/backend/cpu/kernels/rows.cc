// Element-wise kernels on one row, and attention of one query.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

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

// scores[j] = q · keys[j] for KEYS keys side by side, each summed as dot() does.
template <int KEYS>
HWY_INLINE void dot_keys(const float* q, const float* keys, int64_t stride, int64_t n,
                         float* scores) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  VF acc[KEYS];
  for (int j = 0; j < KEYS; ++j) acc[j] = hn::Zero(df);
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    const VF qv = hn::LoadU(df, q + k);
    for (int j = 0; j < KEYS; ++j)
      acc[j] = hn::MulAdd(qv, hn::LoadU(df, keys + j * stride + k), acc[j]);
  }
  for (int j = 0; j < KEYS; ++j) {
    float sum = hn::GetLane(hn::SumOfLanes(df, acc[j]));
    for (int64_t t = k; t < n; ++t) sum += q[t] * keys[j * stride + t];
    scores[j] = sum;
  }
}

// out[k..] = out[k..] · rescale + Σ_j weights[j] · values[j][k..] for VECTORS vectors, sums in
// registers.
template <int VECTORS>
HWY_INLINE void add_values(float rescale, const float* weights, const float* values, int64_t stride,
                           int64_t count, float* out) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  VF acc[VECTORS];
  for (int v = 0; v < VECTORS; ++v)
    acc[v] = hn::Mul(hn::Set(df, rescale), hn::LoadU(df, out + v * lanes));
  for (int64_t j = 0; j < count; ++j) {
    const VF w = hn::Set(df, weights[j]);
    for (int v = 0; v < VECTORS; ++v)
      acc[v] = hn::MulAdd(w, hn::LoadU(df, values + j * stride + v * lanes), acc[v]);
  }
  for (int v = 0; v < VECTORS; ++v) hn::StoreU(acc[v], df, out + v * lanes);
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
    hn::StoreU(hn::Mul(v, hn::LoadU(df, weight + k)), df, out + k);
  }
  for (; k < n; ++k) out[k] = x[k] * scale * weight[k];
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

// scores[j] = exp(scores[j] − max) for j < n; returns their sum. `scores` is padded to a whole
// vector.
HWY_INLINE float exp_block(float* scores, int64_t n, float max) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  for (int64_t j = n; j % lanes != 0; ++j) scores[j] = -1e30f;
  const VF mv = hn::Set(df, max);
  VF sum = hn::Zero(df);
  for (int64_t j = 0; j < n; j += lanes) {
    const VF e = hn::Exp(df, hn::Sub(hn::LoadU(df, scores + j), mv));
    hn::StoreU(e, df, scores + j);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(df, sum));
}

void attend_row(const AttendRowArgs& args) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  HWY_ALIGN float scores[kMaxPageTokens + HWY_MAX_BYTES / sizeof(float)];
  std::vector<float> decoded;  // keys and values of a page, where the cache is not float32
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  std::fill(args.out, args.out + args.value_dim, 0.0f);
  // Blocks are pages: their borders depend on positions alone.
  for (int64_t begin = 0; begin < args.num_keys; begin += args.kv.page_tokens) {
    const int64_t n = std::min(args.kv.page_tokens, args.num_keys - begin);
    const std::byte* const page = args.kv.row(args.pages, begin);
    const float* keys = reinterpret_cast<const float*>(page) + args.key_offset;
    const float* values = reinterpret_cast<const float*>(page) + args.value_offset;
    int64_t stride = args.kv.row_elements;
    if (args.kv.dtype != DType::kF32) {
      stride = args.key_dim + args.value_dim;
      decoded.resize(static_cast<size_t>(n * stride));
      for (int64_t j = 0; j < n; ++j) {
        float* row = &decoded[static_cast<size_t>(j * stride)];
        const std::byte* cached = page + j * args.kv.row_bytes();
        decode_kv_slice(args.kv.dtype, cached, args.key_offset, args.key_dim, row);
        decode_kv_slice(args.kv.dtype, cached, args.value_offset, args.value_dim,
                        row + args.key_dim);
      }
      keys = decoded.data();
      values = keys + args.key_dim;
    }
    float block_max = max;
    int64_t key = 0;
    for (; key + 4 <= n; key += 4)
      dot_keys<4>(args.q, keys + key * stride, stride, args.key_dim, scores + key);
    for (; key < n; ++key)
      dot_keys<1>(args.q, keys + key * stride, stride, args.key_dim, scores + key);
    for (int64_t j = 0; j < n; ++j) {
      scores[j] *= args.scale;
      block_max = std::max(block_max, scores[j]);
    }
    // What was summed so far was relative to the old maximum.
    const float rescale = max == block_max ? 1.0f : std::exp(max - block_max);
    max = block_max;
    sum = sum * rescale + exp_block(scores, n, max);
    int64_t k = 0;
    for (; k + 4 * lanes <= args.value_dim; k += 4 * lanes)
      add_values<4>(rescale, scores, values + k, stride, n, args.out + k);
    for (; k + lanes <= args.value_dim; k += lanes)
      add_values<1>(rescale, scores, values + k, stride, n, args.out + k);
    for (; k < args.value_dim; ++k) {
      float value = args.out[k] * rescale;
      for (int64_t j = 0; j < n; ++j) value += scores[j] * values[j * stride + k];
      args.out[k] = value;
    }
  }
  const float inverse = 1.0f / sum;
  for (int64_t i = 0; i < args.value_dim; ++i) args.out[i] *= inverse;
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
HWY_EXPORT(attend_row);

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
void attend_row(const AttendRowArgs& args) { HWY_DYNAMIC_DISPATCH(attend_row)(args); }

}  // namespace fathom::cpu
#endif
