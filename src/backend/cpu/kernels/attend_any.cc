// attend.h for any instruction set and every cache type, in float32. Keys and values are unpacked a
// few rows at a time and serve all queries. Scores: one query a lane; values: one channel a lane.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cpu/kernels/attend.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kernels/attend_any.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After highway.h, and once per target.
#include <hwy/contrib/math/math-inl.h>

#include "backend/cpu/kernels/unpack_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
// At most a vector of all queries.
using DF = hn::CappedTag<float, kAttendQueries>;
using VF = hn::Vec<DF>;
constexpr int64_t kMaxBlock = 32;  // keys unpacked at once
constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t lanes() { return static_cast<int64_t>(hn::Lanes(DF())); }
int64_t padded(int64_t n) { return (n + kAttendQueries - 1) / kAttendQueries * kAttendQueries; }

// panel[d][query]
void pack(const AttendQuery* queries, int count, int64_t key_dim, float scale, std::byte* panel) {
  auto* out = reinterpret_cast<float*>(panel);
  for (int64_t d = 0; d < key_dim; ++d)
    for (int i = 0; i < kAttendQueries; ++i)
      out[d * kAttendQueries + i] = i < count ? queries[i].q[d] * scale : 0.0f;
}

// scores[k][query] of K keys, for V vectors of queries.
template <int K, int V>
HWY_INLINE void score_keys(const float* panel, const float* keys, int64_t stride, int64_t key_dim,
                           float* scores) {
  const DF df;
  VF sum[K][V];
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) sum[k][v] = hn::Zero(df);
  for (int64_t d = 0; d < key_dim; ++d) {
    VF q[V];
    for (int v = 0; v < V; ++v) q[v] = hn::Load(df, panel + d * kAttendQueries + v * lanes());
    for (int k = 0; k < K; ++k) {
      const VF key = hn::Set(df, keys[k * stride + d]);
      for (int v = 0; v < V; ++v) sum[k][v] = hn::MulAdd(key, q[v], sum[k][v]);
    }
  }
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) hn::Store(sum[k][v], df, scores + k * kAttendQueries + v * lanes());
}

template <int V>
void score_block(const float* panel, const float* keys, int64_t stride, int64_t key_dim, int64_t n,
                 float* scores) {
  constexpr int K = V == 1 ? 8 : 4;
  int64_t k = 0;
  for (; k + K <= n; k += K)
    score_keys<K, V>(panel, keys + k * stride, stride, key_dim, scores + k * kAttendQueries);
  for (; k < n; ++k)
    score_keys<1, V>(panel, keys + k * stride, stride, key_dim, scores + k * kAttendQueries);
}

// Scores become weights relative to the new maximum; rescale[query]: what everything before is
// worth by now. left[query]: how many of the keys it sees.
void soften(int64_t n, const float* left, float* scores, const AttendState& state, float* rescale) {
  const DF df;
  for (int64_t v = 0; v < kAttendQueries; v += lanes()) {
    const VF seen = hn::Load(df, left + v), old = hn::Load(df, state.max + v);
    VF max = old;
    for (int64_t j = 0; j < n; ++j) {
      const VF score = hn::Load(df, scores + j * kAttendQueries + v);
      const auto visible = hn::Lt(hn::Set(df, static_cast<float>(j)), seen);
      max = hn::IfThenElse(visible, hn::Max(max, score), max);
    }
    // Before the first visible key the maximum is −inf and everything below is 0.
    const auto begun = hn::Gt(old, hn::Set(df, -kInfinity));
    const VF factor = hn::IfThenElseZero(begun, hn::Exp(df, hn::Sub(old, max)));
    VF sum = hn::Mul(hn::Load(df, state.sum + v), factor);
    for (int64_t j = 0; j < n; ++j) {
      float* const at = scores + j * kAttendQueries + v;
      const auto visible = hn::Lt(hn::Set(df, static_cast<float>(j)), seen);
      const VF e = hn::IfThenElseZero(visible, hn::Exp(df, hn::Sub(hn::Load(df, at), max)));
      hn::Store(e, df, at);
      sum = hn::Add(sum, e);
    }
    hn::Store(max, df, state.max + v);
    hn::Store(sum, df, state.sum + v);
    hn::Store(factor, df, rescale + v);
  }
}

// acc[q][c] = acc[q][c] · rescale[q] + Σ_j weights[j][q] · values[j][c], for Q queries and C
// vectors of channels.
template <int Q, int C>
HWY_INLINE void add_values(const float* weights, const float* rescale, const float* values,
                           int64_t stride, int64_t n, float* acc, int64_t acc_stride) {
  const DF df;
  VF sum[Q][C];
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < C; ++c)
      sum[q][c] =
          hn::Mul(hn::Load(df, acc + q * acc_stride + c * lanes()), hn::Set(df, rescale[q]));
  for (int64_t j = 0; j < n; ++j) {
    VF v[C];
    for (int c = 0; c < C; ++c) v[c] = hn::LoadU(df, values + j * stride + c * lanes());
    for (int q = 0; q < Q; ++q) {
      const VF w = hn::Set(df, weights[j * kAttendQueries + q]);
      for (int c = 0; c < C; ++c) sum[q][c] = hn::MulAdd(w, v[c], sum[q][c]);
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int c = 0; c < C; ++c) hn::Store(sum[q][c], df, acc + q * acc_stride + c * lanes());
}

template <int Q>
HWY_INLINE void add_all_values(const float* weights, const float* rescale, const float* values,
                               int64_t stride, int64_t n, float* acc, int64_t channels) {
  int64_t c = 0;
  for (; c + 2 * lanes() <= channels; c += 2 * lanes())
    add_values<Q, 2>(weights, rescale, values + c, stride, n, acc + c, channels);
  for (; c < channels; c += lanes())
    add_values<Q, 1>(weights, rescale, values + c, stride, n, acc + c, channels);
}

// Values that are a part of the keys, as in MLA's latent.
bool values_in_keys(const AttendRows& rows) {
  const int64_t inside = rows.value_offset - rows.key_offset;
  return inside >= 0 && inside + padded(rows.value_dim) <= rows.key_dim;
}

// Keys unpacked at once, so that they and their values stay in a first-level cache.
int64_t block_keys(const AttendRows& rows) {
  const int64_t floats = padded(rows.key_dim) + (values_in_keys(rows) ? 0 : padded(rows.value_dim));
  return floats <= 256 ? kMaxBlock : kMaxBlock / 2;
}

// The keys and values of up to kMaxBlock rows, values padded to whole vectors.
struct Unpacked {
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t key_stride = 0, value_stride = 0;
};

Unpacked unpack_block(const AttendRows& rows, const std::byte* first, int64_t n) {
  static thread_local std::vector<float> scratch;
  const bool shared = values_in_keys(rows);
  const int64_t key_stride = padded(rows.key_dim);
  const int64_t value_stride = shared ? key_stride : padded(rows.value_dim);
  scratch.resize(static_cast<size_t>(kMaxBlock * (key_stride + (shared ? 0 : value_stride))));
  float* const keys = scratch.data();
  float* const values =
      shared ? keys + (rows.value_offset - rows.key_offset) : keys + kMaxBlock * key_stride;
  for (int64_t j = 0; j < n; ++j) {
    const std::byte* row = first + j * rows.row_bytes;
    unpack_row(rows.dtype, row, rows.key_offset, rows.key_dim, keys + j * key_stride);
    if (!shared)
      unpack_row(rows.dtype, row, rows.value_offset, rows.value_dim, values + j * value_stride);
  }
  return {keys, values, key_stride, value_stride};
}

void block(const AttendRows& rows, const AttendQuery* queries, int count, const float* panel,
           int64_t first, int64_t n, const AttendState& state) {
  const std::byte* data = reinterpret_cast<const std::byte*>(rows.data) +
                          rows.pages[first / rows.page_tokens] * rows.page_stride_bytes +
                          first % rows.page_tokens * rows.row_bytes;
  const Unpacked u = unpack_block(rows, data, n);
  HWY_ALIGN float scores[kMaxBlock * kAttendQueries], left[kAttendQueries] = {},
                                                      rescale[kAttendQueries];
  int64_t v = 0;
  for (; v + lanes() < count; v += 2 * lanes())
    score_block<2>(panel + v, u.keys, u.key_stride, rows.key_dim, n, scores + v);
  if (v < count) score_block<1>(panel + v, u.keys, u.key_stride, rows.key_dim, n, scores + v);
  for (int i = 0; i < count; ++i)
    left[i] = static_cast<float>(std::clamp<int64_t>(queries[i].num_keys - first, 0, n));
  soften(n, left, scores, state, rescale);
  const int64_t channels = padded(rows.value_dim);
  int q = 0;
  for (; q + 4 <= count; q += 4)
    add_all_values<4>(scores + q, rescale + q, u.values, u.value_stride, n,
                      state.acc + q * channels, channels);
  for (; q < count; ++q)
    add_all_values<1>(scores + q, rescale + q, u.values, u.value_stride, n,
                      state.acc + q * channels, channels);
}

void chunk(const AttendRows& rows, const AttendQuery* queries, int count, const std::byte* panel,
           int64_t begin, int64_t end, const AttendState& state) {
  std::fill_n(state.max, kAttendQueries, -kInfinity);
  std::fill_n(state.sum, kAttendQueries, 0.0f);
  std::fill_n(state.acc, kAttendQueries * padded(rows.value_dim), 0.0f);
  // Where blocks begin follows from the position alone.
  const int64_t keys = block_keys(rows);
  for (int64_t first = begin; first < end;) {
    const int64_t in_page = rows.page_tokens - first % rows.page_tokens;
    const int64_t n = std::min({keys - first % keys, in_page, end - first});
    block(rows, queries, count, reinterpret_cast<const float*>(panel), first, n, state);
    first += n;
  }
}

void merge(int count, int64_t value_dim, const AttendState& total, const AttendState& next) {
  const DF df;
  HWY_ALIGN float fa[kAttendQueries], fb[kAttendQueries];
  for (int64_t v = 0; v < kAttendQueries; v += lanes()) {
    const VF a = hn::Load(df, total.max + v), b = hn::Load(df, next.max + v);
    const VF max = hn::Max(a, b), none = hn::Set(df, -kInfinity);
    const VF scale_a = hn::IfThenElseZero(hn::Gt(a, none), hn::Exp(df, hn::Sub(a, max)));
    const VF scale_b = hn::IfThenElseZero(hn::Gt(b, none), hn::Exp(df, hn::Sub(b, max)));
    const VF sum = hn::MulAdd(hn::Load(df, next.sum + v), scale_b,
                              hn::Mul(hn::Load(df, total.sum + v), scale_a));
    hn::Store(max, df, total.max + v);
    hn::Store(sum, df, total.sum + v);
    hn::Store(scale_a, df, fa + v);
    hn::Store(scale_b, df, fb + v);
  }
  const int64_t channels = padded(value_dim);
  for (int q = 0; q < count; ++q) {
    float* to = total.acc + q * channels;
    const float* from = next.acc + q * channels;
    for (int64_t c = 0; c < channels; c += lanes()) {
      const VF kept = hn::Mul(hn::Load(df, to + c), hn::Set(df, fa[q]));
      hn::Store(hn::MulAdd(hn::Load(df, from + c), hn::Set(df, fb[q]), kept), df, to + c);
    }
  }
}

void finish(const AttendQuery* queries, int count, int64_t value_dim, const AttendState& total) {
  const int64_t channels = padded(value_dim);
  for (int q = 0; q < count; ++q) {
    const float inverse = 1.0f / (total.sum[q] + std::exp(queries[q].sink - total.max[q]));
    for (int64_t c = 0; c < value_dim; ++c)
      queries[q].out[c] = total.acc[q * channels + c] * inverse;
  }
}

}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::cpu {

HWY_EXPORT(pack);
HWY_EXPORT(chunk);
HWY_EXPORT(merge);
HWY_EXPORT(finish);

namespace {

void pack(const AttendQuery* queries, int count, int64_t key_dim, float scale, std::byte* panel) {
  HWY_DYNAMIC_DISPATCH(pack)(queries, count, key_dim, scale, panel);
}
void chunk(const AttendRows& rows, const AttendQuery* queries, int count, const std::byte* panel,
           int64_t begin, int64_t end, const AttendState& state) {
  HWY_DYNAMIC_DISPATCH(chunk)(rows, queries, count, panel, begin, end, state);
}
void merge(int count, int64_t value_dim, const AttendState& total, const AttendState& next) {
  HWY_DYNAMIC_DISPATCH(merge)(count, value_dim, total, next);
}
void finish(const AttendQuery* queries, int count, int64_t value_dim, const AttendState& total) {
  HWY_DYNAMIC_DISPATCH(finish)(queries, count, value_dim, total);
}

}  // namespace

extern const AttendKernel kAttendAny;
const AttendKernel kAttendAny = {pack, chunk, merge, finish};

}  // namespace fathom::cpu
#endif
