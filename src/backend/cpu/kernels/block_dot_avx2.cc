// block_dot.h for AVX2 (with FMA and F16C): 8 outputs a vector. Compiled a second time, with
// AVX-VNNI, as block_dot_avxvnni.cc.
#include <immintrin.h>

#include "backend/cpu/kernels/block_dot.h"

namespace fathom::cpu {
namespace {

constexpr int kLanes = 8;
constexpr int kRows = 2;  // 4 integer and 4 float sums, 2 weights, inputs and temporaries: 16
typedef uint32_t U32 __attribute__((vector_size(32)));
typedef int32_t I32 __attribute__((vector_size(32)));
typedef float F32 __attribute__((vector_size(32)));

inline F32 fma(F32 a, F32 b, F32 c) {
  return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline F32 to_float(U32 v) { return (F32)_mm256_cvtepi32_ps((__m256i)v); }

#ifdef __AVXVNNI__
constexpr bool kSignedBytes = false;
inline U32 dot(U32 acc, U32 u, int32_t quad) {
  return (U32)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)u, _mm256_set1_epi32(quad));
}
inline U32 dot_signed(U32 acc, U32, int32_t) { return acc; }
#else
constexpr bool kSignedBytes = true;
// Pairs of products must fit 16 bits: u up to 128.
inline U32 dot(U32 acc, U32 u, int32_t quad) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)u, _mm256_set1_epi32(quad));
  return acc + (U32)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
// acc + Σ (u − 128)·s, as |u − 128| times s with its sign.
inline U32 dot_signed(U32 acc, U32 u, int32_t quad) {
  const __m256i w = (__m256i)(u ^ (U32{} + 0x80808080u));
  const __m256i pairs =
      _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(_mm256_set1_epi32(quad), w));
  return acc + (U32)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#endif

inline U32 dot16(U32 acc, U32 a, int32_t pair) {
  return acc + (U32)_mm256_madd_epi16((__m256i)a, _mm256_set1_epi32(pair));
}
inline F32 low_f16(U32 v) {
  const __m256i low = (__m256i)(v & (U32{} + 0xFFFFu));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x88);
  return (F32)_mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}
inline F32 high_f16(U32 v) { return low_f16(v >> 16); }

inline __m128i load16(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
// Dwords of rows p and p + 4 · stride in the two 128-bit lanes.
inline __m256i load_lanes(const uint8_t* p, int64_t stride) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(p)), load16(p + 4 * stride), 1);
}

template <int D>
inline void transpose(const uint8_t* p, int64_t stride, U32* out) {
  for (int half = 0; half < D / 4; ++half) {
    __m256i z[4];
    for (int i = 0; i < 4; ++i) z[i] = load_lanes(p + 16 * half + i * stride, stride);
    const __m256i a = _mm256_unpacklo_epi32(z[0], z[1]), b = _mm256_unpackhi_epi32(z[0], z[1]);
    const __m256i c = _mm256_unpacklo_epi32(z[2], z[3]), d = _mm256_unpackhi_epi32(z[2], z[3]);
    out[4 * half] = (U32)_mm256_unpacklo_epi64(a, c);
    out[4 * half + 1] = (U32)_mm256_unpackhi_epi64(a, c);
    out[4 * half + 2] = (U32)_mm256_unpacklo_epi64(b, d);
    out[4 * half + 3] = (U32)_mm256_unpackhi_epi64(b, d);
  }
}

inline uint16_t load_word(const uint8_t* p) {
  uint16_t v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

inline F32 load_f16(const uint8_t* p, int64_t stride) {
  __m128i v = _mm_cvtsi32_si128(load_word(p));
  v = _mm_insert_epi16(v, load_word(p + stride), 1);
  v = _mm_insert_epi16(v, load_word(p + 2 * stride), 2);
  v = _mm_insert_epi16(v, load_word(p + 3 * stride), 3);
  v = _mm_insert_epi16(v, load_word(p + 4 * stride), 4);
  v = _mm_insert_epi16(v, load_word(p + 5 * stride), 5);
  v = _mm_insert_epi16(v, load_word(p + 6 * stride), 6);
  v = _mm_insert_epi16(v, load_word(p + 7 * stride), 7);
  return (F32)_mm256_cvtph_ps(v);
}

inline U32 gather(const uint8_t* p, int64_t stride) {
  alignas(32) U32 v;
  for (int i = 0; i < kLanes; ++i) __builtin_memcpy((char*)&v + 4 * i, p + i * stride, 4);
  return v;
}

template <class Format>
struct RowSums {
  static constexpr bool kAvailable = false;
};

#include "backend/cpu/kernels/block_dot-inl.h"

}  // namespace

#ifdef __AVXVNNI__
void block_dot_avxvnni(const BlockDotArgs& args) { run_type(args); }
#else
void block_dot_avx2(const BlockDotArgs& args) { run_type(args); }
#endif

}  // namespace fathom::cpu
