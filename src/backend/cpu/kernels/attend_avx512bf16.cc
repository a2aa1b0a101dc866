// attend.h for AVX-512 with BF16. Scores: one query a lane, the key's channels broadcast in pairs.
// Values: one channel a lane, weights of two neighbouring keys broadcast in pairs; channels stand
// in the order in which unpacking interleaves two rows.
#include <immintrin.h>

#include <cmath>

#include "backend/cpu/kernels/attend.h"

namespace fathom::cpu {
namespace {

constexpr int kQ = kAttendQueries;
constexpr int64_t kAttendPage = 64;  // the only page_tokens it takes
constexpr int kKeys = 8;             // keys side by side
constexpr int kTogether = 8;         // queries whose values are summed together
constexpr int kNear = 8;             // keys between what is computed and what the L1 is asked for

inline __m512 bf16_dot(__m512 acc, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}
inline __m512i broadcast_pair(const uint16_t* p) {
  int32_t v;
  __builtin_memcpy(&v, p, sizeof(v));
  return _mm512_set1_epi32(v);
}
// Sixteen floats rounded to BF16, in the low half of each dword.
inline __m512i round_bf16(__m512 v) {
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v));
}

// e^x for x <= 0: 2^n · p(r), r in ±ln2/2; the Taylor terms up to r^6 leave an error of about 1e-7.
inline __m512 exp_negative(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.0f / 720);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

void pack(const AttendQuery* queries, int count, int64_t key_dim, float scale, std::byte* out) {
  auto* const panel = (uint16_t*)out;
  for (int64_t c = 0; c < key_dim; c += 2) {
    alignas(64) float even[kQ] = {}, odd[kQ] = {};
    for (int i = 0; i < count; ++i) {
      even[i] = queries[i].q[c] * scale;
      odd[i] = queries[i].q[c + 1] * scale;
    }
    const __m512i pair = _mm512_or_si512(round_bf16(_mm512_load_ps(even)),
                                         _mm512_slli_epi32(round_bf16(_mm512_load_ps(odd)), 16));
    _mm512_store_si512(panel + c * kQ, pair);
  }
}

// Cache lines to ask for, two at a time: requests that find the processor's queue full are dropped.
struct Lines {
  static constexpr unsigned kMost = 512;
  const uint16_t* far[kMost];   // for the second-level cache
  const uint16_t* near[kMost];  // for the first
  unsigned num_far = 0, num_near = 0, asked_far = 0, asked_near = 0;

  void add_far(const uint16_t* begin, int64_t elements) {
    for (int64_t i = 0; i < elements && num_far < kMost; i += 32) far[num_far++] = begin + i;
  }
  void add_near(const uint16_t* begin, int64_t elements) {
    for (int64_t i = 0; i < elements && num_near < kMost; i += 32) near[num_near++] = begin + i;
  }
  void ask() {
    if (asked_far < num_far) __builtin_prefetch(far[asked_far++], 0, 2);
    if (asked_near < num_near) __builtin_prefetch(near[asked_near++], 0, 3);
  }
};

// scores[k] lane i = q_i · key k, for N keys that stand `stride` elements apart.
template <int N>
inline void score_keys(const uint16_t* panel, const uint16_t* keys, int64_t stride, int64_t dim,
                       Lines& ahead, __m512* scores) {
  __m512 acc[N];
  for (int k = 0; k < N; ++k) acc[k] = _mm512_setzero_ps();
  for (int64_t c = 0; c < dim; c += 2) {
    ahead.ask();
    const __m512i q = _mm512_load_si512(panel + c * kQ);
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) acc[k] = bf16_dot(acc[k], q, broadcast_pair(keys + k * stride + c));
  }
  for (int k = 0; k < N; ++k) scores[k] = acc[k];
}

// acc[i] = acc[i] · rescale_i + Σ weights · values over `pairs` pairs of keys, for N queries.
// weights[pair][16]: two BF16 a dword. last_single: the last pair has no second key. C: lines of
// 32 channels side by side; rows are far apart, so what is loaded should serve at once.
template <int N, int C>
inline void add_values(const uint32_t* weights, const uint16_t* values, int64_t stride,
                       int64_t pairs, bool last_single, int64_t value_dim, const float* rescale,
                       float* acc) {
  for (int64_t v = 0; v < value_dim; v += 32 * C) {
    __m512 sum[N][2 * C];
    for (int i = 0; i < N; ++i)
      for (int c = 0; c < 2 * C; ++c)
        sum[i][c] = _mm512_mul_ps(_mm512_load_ps(acc + i * value_dim + v + 16 * c),
                                  _mm512_set1_ps(rescale[i]));
    for (int64_t j = 0; j < pairs; ++j) {
      __m512i pair[2 * C];
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) {
        const uint16_t* row = values + 2 * j * stride + v + 32 * c;
        const __m512i a = _mm512_loadu_si512(row);
        const __m512i b = last_single && j + 1 == pairs ? _mm512_setzero_si512()
                                                        : _mm512_loadu_si512(row + stride);
        pair[2 * c] = _mm512_unpacklo_epi16(a, b);
        pair[2 * c + 1] = _mm512_unpackhi_epi16(a, b);
      }
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) {
        const __m512i weight = _mm512_set1_epi32((int32_t)weights[j * kQ + i]);
#pragma GCC unroll 4
        for (int c = 0; c < 2 * C; ++c) sum[i][c] = bf16_dot(sum[i][c], pair[c], weight);
      }
    }
    for (int i = 0; i < N; ++i)
      for (int c = 0; c < 2 * C; ++c) _mm512_store_ps(acc + i * value_dim + v + 16 * c, sum[i][c]);
  }
}

// For `count` queries: the 32 registers hold 12 queries with one line, or 6 with two.
template <int N>
void add_values_upto(int count, const uint32_t* weights, const uint16_t* values, int64_t stride,
                     int64_t pairs, bool last_single, int64_t value_dim, const float* rescale,
                     float* acc) {
  if constexpr (N > 2) {
    if (count <= N - 2)
      return add_values_upto<N - 2>(count, weights, values, stride, pairs, last_single, value_dim,
                                    rescale, acc);
  }
  if (N <= 6 && value_dim % 64 == 0) {
    add_values<N, 2>(weights, values, stride, pairs, last_single, value_dim, rescale, acc);
  } else {
    add_values<N, 1>(weights, values, stride, pairs, last_single, value_dim, rescale, acc);
  }
}

// A row's key and value: rows are too far apart for the hardware to foresee.
inline void add_row(const AttendRows& rows, const uint16_t* row, Lines& lines) {
  const int64_t begin = rows.key_offset, end = begin + rows.key_dim;
  lines.add_far(row + begin, rows.key_dim);
  if (rows.value_offset >= begin && rows.value_offset + rows.value_dim <= end) return;
  lines.add_far(row + rows.value_offset, rows.value_dim);
}

// One page: keys [0, n) of it, `first` being the position of its first key. `more`: another page
// follows, in this chunk or the next.
void page(const AttendRows& rows, const AttendQuery* queries, int count, const uint16_t* panel,
          int64_t first, int64_t n, bool more, const AttendState& state) {
  const int64_t stride = rows.row_bytes / 2;
  const auto* base =
      (const uint16_t*)(rows.data + rows.pages[first / kAttendPage] * rows.page_stride_bytes);
  alignas(64) __m512 scores[kAttendPage + kKeys];
  const uint16_t* keys = base + rows.key_offset;
  int64_t k = 0;
  const auto* next = base;
  if (more)
    next =
        (const uint16_t*)(rows.data + rows.pages[first / kAttendPage + 1] * rows.page_stride_bytes);
  for (; k + kKeys <= n; k += kKeys) {
    Lines ahead;
    for (int64_t j = k; j < k + kKeys; ++j) {
      if (more) add_row(rows, next + j * stride, ahead);
      if (j + kNear < n) ahead.add_near(keys + (j + kNear) * stride, rows.key_dim);
    }
    score_keys<kKeys>(panel, keys + k * stride, stride, rows.key_dim, ahead, scores + k);
  }
  Lines none;
  for (; k < n; ++k)
    score_keys<1>(panel, keys + k * stride, stride, rows.key_dim, none, scores + k);

  alignas(64) int32_t left[kQ] = {};  // keys of this page that the query sees
  for (int i = 0; i < count; ++i) {
    const int64_t seen = queries[i].num_keys - first;
    left[i] = (int32_t)(seen < 0 ? 0 : seen > n ? n : seen);
  }
  const __m512i seen = _mm512_load_si512(left);
  const __m512 old_max = _mm512_load_ps(state.max);
  __m512 max = old_max;
  for (int64_t j = 0; j < n; ++j) {
    const __mmask16 visible = _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32((int32_t)j));
    max = _mm512_mask_max_ps(max, visible, max, scores[j]);
  }
  // Before the first visible key the maximum is −inf and everything below is 0.
  const __m512 infinity = _mm512_set1_ps(-__builtin_inff());
  const __mmask16 begun = _mm512_cmp_ps_mask(old_max, infinity, _CMP_GT_OQ);
  const __m512 rescale = _mm512_maskz_mov_ps(begun, exp_negative(_mm512_sub_ps(old_max, max)));
  __m512 sum = _mm512_mul_ps(_mm512_load_ps(state.sum), rescale);
  alignas(64) uint32_t weights[kAttendPage / 2][kQ];
  const int64_t pairs = (n + 1) / 2;
  for (int64_t j = 0; j < pairs; ++j) {
    __m512i bits[2];
    for (int64_t h = 0; h < 2; ++h) {
      const int64_t key = 2 * j + h;
      const __mmask16 visible = _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32((int32_t)key));
      const __m512 e = exp_negative(_mm512_sub_ps(scores[key < n ? key : 0], max));
      bits[h] = _mm512_maskz_mov_epi32(visible, round_bf16(e));
      sum = _mm512_add_ps(sum, (__m512)_mm512_slli_epi32(bits[h], 16));
    }
    _mm512_store_si512(weights[j], _mm512_or_si512(bits[0], _mm512_slli_epi32(bits[1], 16)));
  }
  _mm512_store_ps(state.max, max);
  _mm512_store_ps(state.sum, sum);
  alignas(64) float factors[kQ];
  _mm512_store_ps(factors, rescale);
  for (int i = 0; i < count; i += kTogether)
    add_values_upto<kTogether>(count - i < kTogether ? count - i : kTogether, weights[0] + i,
                               base + rows.value_offset, stride, pairs, n % 2 != 0, rows.value_dim,
                               factors + i, state.acc + i * rows.value_dim);
}

void chunk(const AttendRows& rows, const AttendQuery* queries, int count, const std::byte* panel,
           int64_t begin, int64_t end, const AttendState& state) {
  for (int i = 0; i < kQ; ++i) {
    state.max[i] = -__builtin_inff();
    state.sum[i] = 0;
  }
  for (int64_t i = 0; i < kQ * rows.value_dim; ++i) state.acc[i] = 0;
  for (int64_t first = begin; first < end; first += kAttendPage) {
    const int64_t n = end - first < kAttendPage ? end - first : kAttendPage;
    page(rows, queries, count, (const uint16_t*)panel, first, n,
         first + kAttendPage < queries[count - 1].num_keys, state);
  }
}

void merge(int count, int64_t value_dim, const AttendState& total, const AttendState& next) {
  const __m512 infinity = _mm512_set1_ps(-__builtin_inff());
  const __m512 a = _mm512_load_ps(total.max), b = _mm512_load_ps(next.max);
  const __m512 max = _mm512_max_ps(a, b);
  const __mmask16 has_a = _mm512_cmp_ps_mask(a, infinity, _CMP_GT_OQ);
  const __mmask16 has_b = _mm512_cmp_ps_mask(b, infinity, _CMP_GT_OQ);
  const __m512 scale_a = _mm512_maskz_mov_ps(has_a, exp_negative(_mm512_sub_ps(a, max)));
  const __m512 scale_b = _mm512_maskz_mov_ps(has_b, exp_negative(_mm512_sub_ps(b, max)));
  const __m512 sum = _mm512_fmadd_ps(_mm512_load_ps(next.sum), scale_b,
                                     _mm512_mul_ps(_mm512_load_ps(total.sum), scale_a));
  _mm512_store_ps(total.max, max);
  _mm512_store_ps(total.sum, sum);
  alignas(64) float fa[kQ], fb[kQ];
  _mm512_store_ps(fa, scale_a);
  _mm512_store_ps(fb, scale_b);
  for (int i = 0; i < count; ++i) {
    float* to = total.acc + i * value_dim;
    const float* from = next.acc + i * value_dim;
    for (int64_t v = 0; v < value_dim; v += 16) {
      const __m512 kept = _mm512_mul_ps(_mm512_load_ps(to + v), _mm512_set1_ps(fa[i]));
      _mm512_store_ps(to + v,
                      _mm512_fmadd_ps(_mm512_load_ps(from + v), _mm512_set1_ps(fb[i]), kept));
    }
  }
}

void finish(const AttendQuery* queries, int count, int64_t value_dim, const AttendState& total) {
  // Unpacking put channels 8L … 8L + 3 into lane L of the first vector, 8L + 4 … into the second's.
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  for (int i = 0; i < count; ++i) {
    const float sink = std::exp(queries[i].sink - total.max[i]);
    const __m512 inverse = _mm512_set1_ps(1.0f / (total.sum[i] + sink));
    const float* acc = total.acc + i * value_dim;
    for (int64_t v = 0; v < value_dim; v += 32) {
      const __m512 a = _mm512_mul_ps(_mm512_load_ps(acc + v), inverse);
      const __m512 b = _mm512_mul_ps(_mm512_load_ps(acc + v + 16), inverse);
      _mm512_storeu_ps(queries[i].out + v, _mm512_permutex2var_ps(a, low, b));
      _mm512_storeu_ps(queries[i].out + v + 16, _mm512_permutex2var_ps(a, high, b));
    }
  }
}

}  // namespace

extern const AttendKernel kAttendAvx512Bf16;
const AttendKernel kAttendAvx512Bf16 = {pack, chunk, merge, finish};

}  // namespace fathom::cpu
