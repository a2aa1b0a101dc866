// index_scores.h for any instruction set: one head a lane, a few keys at a time.
#include "backend/cpu/kernels/index_scores.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kernels/index_scores.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After highway.h, and once per target.
#include "backend/cpu/kernels/unpack_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using DF = hn::CappedTag<float, kIndexHeads>;
using VF = hn::Vec<DF>;

constexpr int64_t kKeys = 4;    // multiplied side by side
constexpr int64_t kBlock = 16;  // unpacked at once

int64_t lanes() { return static_cast<int64_t>(hn::Lanes(DF())); }

// total[k] += weights · relu(q · key_k) of V vectors of heads, for K keys.
template <int K, int V>
HWY_INLINE void add_heads(const IndexQuery& query, int64_t head, const float* keys, VF* total) {
  const DF df;
  VF sum[K][V];
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) sum[k][v] = hn::Zero(df);
  for (int64_t d = 0; d < query.dim; ++d) {
    const float* const at = query.panel + d * query.heads + head;
    VF q[V];
    for (int v = 0; v < V; ++v) q[v] = hn::Load(df, at + v * lanes());
    for (int k = 0; k < K; ++k) {
      const VF key = hn::Set(df, keys[k * query.dim + d]);
      for (int v = 0; v < V; ++v) sum[k][v] = hn::MulAdd(key, q[v], sum[k][v]);
    }
  }
  for (int v = 0; v < V; ++v) {
    const VF w = hn::Load(df, query.weights + head + v * lanes());
    for (int k = 0; k < K; ++k)
      total[k] = hn::MulAdd(w, hn::Max(sum[k][v], hn::Zero(df)), total[k]);
  }
}

template <int K>
HWY_INLINE void score_keys(const IndexQuery& query, const float* keys, float* scores) {
  const DF df;
  VF total[K];
  for (int k = 0; k < K; ++k) total[k] = hn::Zero(df);
  int64_t head = 0;
  for (; head + 4 * lanes() <= query.heads; head += 4 * lanes())
    add_heads<K, 4>(query, head, keys, total);
  for (; head < query.heads; head += lanes()) add_heads<K, 1>(query, head, keys, total);
  for (int k = 0; k < K; ++k) scores[k] = hn::GetLane(hn::SumOfLanes(df, total[k]));
}

void scores(const IndexQuery& query, DType dtype, const std::byte* rows, int64_t row_bytes,
            int64_t count, float* out) {
  static thread_local std::vector<float> keys;
  keys.resize(static_cast<size_t>(kBlock * query.dim));
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t n = std::min(kBlock, count - first);
    for (int64_t j = 0; j < n; ++j)
      unpack_row(dtype, rows + (first + j) * row_bytes, 0, query.dim, keys.data() + j * query.dim);
    int64_t j = 0;
    for (; j + kKeys <= n; j += kKeys)
      score_keys<kKeys>(query, keys.data() + j * query.dim, out + first + j);
    for (; j < n; ++j) score_keys<1>(query, keys.data() + j * query.dim, out + first + j);
  }
}

}  // namespace
}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::cpu {

HWY_EXPORT(scores);

int64_t padded_index_heads(int64_t heads) {
  return (heads + kIndexHeads - 1) / kIndexHeads * kIndexHeads;
}

void pack_index_query(const float* q, const float* w, int64_t heads, int64_t dim, float* panel,
                      float* weights) {
  const int64_t padded = padded_index_heads(heads);
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t h = 0; h < padded; ++h) panel[d * padded + h] = h < heads ? q[h * dim + d] : 0.0f;
  for (int64_t h = 0; h < padded; ++h) weights[h] = h < heads ? w[h] : 0.0f;
}

void index_scores(const IndexQuery& query, DType dtype, const std::byte* rows, int64_t row_bytes,
                  int64_t count, float* scores_out) {
  HWY_DYNAMIC_DISPATCH(scores)(query, dtype, rows, row_bytes, count, scores_out);
}

}  // namespace fathom::cpu
#endif
