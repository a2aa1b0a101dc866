// block_dot.h for AVX-512 with VNNI: 16 outputs a vector.
#include <immintrin.h>

#include "backend/cpu/kernels/block_dot.h"

namespace fathom::cpu {
namespace {

constexpr int kLanes = 16;
constexpr int kRows = 6;  // 12 integer and 12 float sums, 2 weights, 1 input: 27 of 32 registers
constexpr bool kSignedBytes = false;
typedef uint32_t U32 __attribute__((vector_size(64)));
typedef int32_t I32 __attribute__((vector_size(64)));
typedef float F32 __attribute__((vector_size(64)));

inline F32 fma(F32 a, F32 b, F32 c) {
  return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline F32 to_float(U32 v) { return (F32)_mm512_cvtepi32_ps((__m512i)v); }
inline U32 dot(U32 acc, U32 u, int32_t quad) {
  return (U32)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)u, _mm512_set1_epi32(quad));
}
inline U32 dot_signed(U32 acc, U32, int32_t) { return acc; }
constexpr bool kBytePairs = false;
inline U32 pair_products(U32 u, int32_t) { return u; }
inline U32 add_pairs(U32 a, U32) { return a; }
inline U32 sum_pairs(U32 acc, U32) { return acc; }
inline U32 dot16(U32 acc, U32 a, int32_t pair) {
  return (U32)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)a, _mm512_set1_epi32(pair));
}
inline F32 low_f16(U32 v) { return (F32)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)v)); }
inline F32 high_f16(U32 v) { return low_f16(v >> 16); }

inline U32 lookup(const uint8_t* table, U32 v) {
  const __m512i all = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i*)table));
  return (U32)_mm512_shuffle_epi8(all, (__m512i)v);
}

inline __m128i load16(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
inline __m256i load32(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }

// In each 128-bit lane of four vectors: a 4 x 4 matrix of dwords, transposed.
inline void transpose_lanes(const __m512i* z, __m512i* t) {
  const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
  const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
  t[0] = _mm512_unpacklo_epi64(a, c);
  t[1] = _mm512_unpackhi_epi64(a, c);
  t[2] = _mm512_unpacklo_epi64(b, d);
  t[3] = _mm512_unpackhi_epi64(b, d);
}

template <int D, class Stride>
inline void transpose(const uint8_t* p, Stride stride, U32* out) {
  if constexpr (D == 4) {
    __m512i z[4], t[4];
    for (int i = 0; i < 4; ++i) {
      const uint8_t* row = p + i * stride;
      z[i] = _mm512_castsi128_si512(load16(row));
      z[i] = _mm512_inserti32x4(z[i], load16(row + 4 * stride), 1);
      z[i] = _mm512_inserti32x4(z[i], load16(row + 8 * stride), 2);
      z[i] = _mm512_inserti32x4(z[i], load16(row + 12 * stride), 3);
    }
    transpose_lanes(z, t);
    for (int i = 0; i < 4; ++i) out[i] = (U32)t[i];
  } else {
    // Lanes of a: dwords 0–3 of rows i, dwords 4–7 of rows i, the same of rows 4 + i; b: 8 on.
    __m512i a[4], b[4], s[4], t[4];
    for (int i = 0; i < 4; ++i) {
      const uint8_t* row = p + i * stride;
      a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(load32(row)), load32(row + 4 * stride), 1);
      b[i] = _mm512_inserti64x4(_mm512_castsi256_si512(load32(row + 8 * stride)),
                                load32(row + 12 * stride), 1);
    }
    transpose_lanes(a, s);
    transpose_lanes(b, t);
    for (int i = 0; i < 4; ++i) {
      out[i] = (U32)_mm512_shuffle_i32x4(s[i], t[i], 0x88);
      out[4 + i] = (U32)_mm512_shuffle_i32x4(s[i], t[i], 0xDD);
    }
  }
}

inline uint16_t load_word(const uint8_t* p) {
  uint16_t v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class Stride>
inline F32 load_f16(const uint8_t* p, Stride stride) {
  __m128i half[2];
  for (int h = 0; h < 2; ++h) {
    const uint8_t* q = p + 8 * h * stride;
    __m128i v = _mm_cvtsi32_si128(load_word(q));
    v = _mm_insert_epi16(v, load_word(q + stride), 1);
    v = _mm_insert_epi16(v, load_word(q + 2 * stride), 2);
    v = _mm_insert_epi16(v, load_word(q + 3 * stride), 3);
    v = _mm_insert_epi16(v, load_word(q + 4 * stride), 4);
    v = _mm_insert_epi16(v, load_word(q + 5 * stride), 5);
    v = _mm_insert_epi16(v, load_word(q + 6 * stride), 6);
    half[h] = _mm_insert_epi16(v, load_word(q + 7 * stride), 7);
  }
  return (F32)_mm512_cvtph_ps(_mm256_set_m128i(half[1], half[0]));
}

template <class Stride>
inline U32 gather(const uint8_t* p, Stride stride) {
  alignas(64) U32 v;
  for (int i = 0; i < kLanes; ++i) __builtin_memcpy((char*)&v + 4 * i, p + i * stride, 4);
  return v;
}

template <class Format>
struct RowSums {
  static constexpr bool kAvailable = false;
};
struct Streams;  // below
struct Scales;

inline __m512i load64(const void* p) { return _mm512_loadu_si512(p); }
inline __m512i splat8(int v) { return _mm512_set1_epi8((char)v); }

// Four rows with four partial sums in each 128-bit lane: lane i holds the rows' sums of lane i.
inline __m512i sum_lanes(const __m512i* z) {
  const __m512i a =
      _mm512_add_epi32(_mm512_unpacklo_epi32(z[0], z[1]), _mm512_unpackhi_epi32(z[0], z[1]));
  const __m512i b =
      _mm512_add_epi32(_mm512_unpacklo_epi32(z[2], z[3]), _mm512_unpackhi_epi32(z[2], z[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// z[j] lane i -> out[i] lane j.
inline void transpose_128(const __m512i* z, U32* out) {
  const __m512i a = _mm512_shuffle_i32x4(z[0], z[1], 0x44),
                b = _mm512_shuffle_i32x4(z[0], z[1], 0xEE);
  const __m512i c = _mm512_shuffle_i32x4(z[2], z[3], 0x44),
                d = _mm512_shuffle_i32x4(z[2], z[3], 0xEE);
  out[0] = (U32)_mm512_shuffle_i32x4(a, c, 0x88);
  out[1] = (U32)_mm512_shuffle_i32x4(a, c, 0xDD);
  out[2] = (U32)_mm512_shuffle_i32x4(b, d, 0x88);
  out[3] = (U32)_mm512_shuffle_i32x4(b, d, 0xDD);
}

// Sums of two groups of 8 lanes each, (g0, g1) and (g2, g3): four partial sums a group.
inline __m512i join_groups(__m512i z01, __m512i z23) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(z01, z23, 0x88),
                          _mm512_shuffle_i32x4(z01, z23, 0xDD));
}

struct TwoVectors {
  __m512i a, b;
};
// 128 inputs as formats of 16 bytes a group have their weights: the first 16 of each group, and the
// last.
inline TwoVectors split_inputs(const int8_t* q) {
  const __m512i a = load64(q), b = load64(q + 64);
  return {_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD)};
}

// The common part, four rows at a time. Row::unpack gives the 128 bytes u of one row.
template <class Row, int kGroupCount>
struct RowSumsOf {
  static constexpr bool kAvailable = true;
  static constexpr int kGroups = kGroupCount;
  static constexpr int kVectors = kGroups / 4;
  using Inputs = TwoVectors;
  // Lane i of v[r][v]: the sums of group 4v + i of four rows with input row r.
  template <int M>
  struct Part {
    __m512i v[M][kVectors];
  };
  // What else is kept of four rows.
  struct Four {
    typename Row::Kept kept[4];
  };

  static void keep(const uint8_t* p, int64_t apart, int64_t index, Four& four) {
    p += Row::kept_offset(index);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) four.kept[i] = Row::keep(p + i * apart);
  }

  template <int M>
  static void four_rows(const uint8_t* p, int64_t apart, int64_t index, const Inputs* x,
                        Part<M>& out) {
    p += Row::offset(index);
    __m512i z[M][kVectors][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const auto w = Row::unpack(p + i * apart, index);
#pragma GCC unroll 2
      for (int r = 0; r < M; ++r) {
        const __m512i zero = _mm512_setzero_si512();
        const __m512i s = _mm512_dpbusd_epi32(zero, w.a, x[r].a);
        const __m512i t = _mm512_dpbusd_epi32(Row::kJoin == 1 ? s : zero, w.b, x[r].b);
        if constexpr (kVectors == 2) {
          z[r][0][i] = s;
          z[r][1][i] = t;
        } else {
          z[r][0][i] = Row::kJoin == 1 ? t : join_groups(s, t);
        }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < M; ++r)
      for (int v = 0; v < kVectors; ++v) out.v[r][v] = sum_lanes(z[r][v]);
  }

  // out[g]: the sums of group g of all rows with input row r.
  template <int M>
  static void join(const Part<M>* parts, int r, U32* out) {
    for (int v = 0; v < kVectors; ++v) {
      const __m512i lanes[4] = {parts[0].v[r][v], parts[1].v[r][v], parts[2].v[r][v],
                                parts[3].v[r][v]};
      transpose_128(lanes, out + 4 * v);
    }
    if constexpr (Row::kOddGroupsSecond) {
      const U32 g2 = out[1];
      out[1] = (U32)((I32)out[2] >> 4);
      out[2] = g2;
      out[3] = (U32)((I32)out[3] >> 4);
    }
  }
};

// Formats whose scales a vector load can take from the rows later on.
struct KeepNothing {
  struct Kept {};
  static int64_t kept_offset(int64_t) { return 0; }
  static Kept keep(const uint8_t*) { return {}; }
};

// Formats with a half float a group of 32: they are taken when the row is read, in `kept`.
struct KeepHalves {
  using Kept = uint64_t;
};
// four[j].kept[i]: the halves of lane 4j + i.
template <class Four>
inline void scales_of_halves(const Four* four, F32* scales) {
  __m512i z[4], t[4];
  for (int i = 0; i < 4; ++i) {
    const __m256i halves =
        _mm256_set_epi64x((long long)four[3].kept[i], (long long)four[2].kept[i],
                          (long long)four[1].kept[i], (long long)four[0].kept[i]);
    z[i] = (__m512i)_mm512_cvtph_ps(halves);
  }
  transpose_lanes(z, t);
  for (int g = 0; g < 4; ++g) scales[g] = (F32)t[g];
}

struct RowQ8_0 : KeepHalves {
  static constexpr int kJoin = 2;
  static constexpr bool kOddGroupsSecond = false;
  static int64_t offset(int64_t index) { return index * 4 * 34; }
  static int64_t kept_offset(int64_t index) { return offset(index); }
  static TwoVectors unpack(const uint8_t* p, int64_t) {
    const __m512i a = _mm512_inserti64x4(_mm512_castsi256_si512(load32(p + 2)), load32(p + 36), 1);
    const __m512i b =
        _mm512_inserti64x4(_mm512_castsi256_si512(load32(p + 70)), load32(p + 104), 1);
    return {_mm512_xor_si512(a, splat8(0x80)), _mm512_xor_si512(b, splat8(0x80))};
  }
  static Kept keep(const uint8_t* p) {
    // Words 0, 17, 34 and 51.
    const __m512i words = _mm512_castsi128_si512(_mm_setr_epi16(0, 17, 34, 51, 0, 0, 0, 0));
    return (Kept)_mm_cvtsi128_si64(
        _mm512_castsi512_si128(_mm512_permutex2var_epi16(load64(p), words, load64(p + 64))));
  }
};
struct FormatQ8_0;
template <>
struct RowSums<FormatQ8_0> : RowSumsOf<RowQ8_0, 4> {
  static void scales(const Four* four, const uint8_t*, Streams, int64_t, Scales& out);
  static Inputs inputs(const int8_t* q) { return {load64(q), load64(q + 64)}; }
};

struct RowQ4_0 : KeepHalves {
  static constexpr int kJoin = 1;  // both vectors hold the same groups
  static constexpr bool kOddGroupsSecond = false;
  static int64_t offset(int64_t index) { return index * 4 * 18; }
  static int64_t kept_offset(int64_t index) { return offset(index); }
  static TwoVectors unpack(const uint8_t* p, int64_t) {
    // The 16 bytes after each scale, from words of bytes 0–63 and 8–71.
    alignas(64) static constexpr uint16_t kWords[32] = {1,  2,  3,  4,  5,  6,  7,  8,  10, 11, 12,
                                                        13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24,
                                                        25, 26, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i v =
        _mm512_permutex2var_epi16(load64(p), _mm512_load_si512(kWords), load64(p + 8));
    return {_mm512_and_si512(v, splat8(15)), _mm512_and_si512(_mm512_srli_epi16(v, 4), splat8(15))};
  }
  static Kept keep(const uint8_t* p) {
    // Words 0, 9, 18 and 27.
    const __m512i words = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 0, 0, 0, 0));
    return (Kept)_mm_cvtsi128_si64(
        _mm512_castsi512_si128(_mm512_permutexvar_epi16(words, load64(p))));
  }
};
template <int, bool, bool>
struct FormatSmall;
template <>
struct RowSums<FormatSmall<18, false, false>> : RowSumsOf<RowQ4_0, 4> {
  static void scales(const Four* four, const uint8_t*, Streams, int64_t, Scales& out);
  static Inputs inputs(const int8_t* q) { return split_inputs(q); }
};

// Formats with an exponent a group of 32.
struct KeepExponents {
  struct Kept {
    uint8_t exponents[4];
  };
};
inline U32 f4_bytes(U32 nibbles);  // below

// MXFP4 and F4_E2M1: 16 bytes a group, like Q4_0.
template <bool kApart>
struct RowF4 : KeepExponents {
  static constexpr int kJoin = 1, kBytes = kApart ? 16 : 17, kStep = kApart ? 1 : 17;
  static constexpr bool kOddGroupsSecond = false;
  static int64_t offset(int64_t index) { return index * 4 * kBytes; }
  static int64_t kept_offset(int64_t index) { return index * 4 * kStep; }
  static TwoVectors unpack(const uint8_t* p, int64_t) {
    __m512i v;
    if constexpr (kApart) {
      v = load64(p);
    } else {
      v = _mm512_castsi128_si512(load16(p + 1));
      v = _mm512_inserti32x4(v, load16(p + 18), 1);
      v = _mm512_inserti32x4(v, load16(p + 35), 2);
      v = _mm512_inserti32x4(v, load16(p + 52), 3);
    }
    const __m512i low = _mm512_and_si512(v, splat8(15));
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(v, 4), splat8(15));
    return {(__m512i)f4_bytes((U32)low), (__m512i)f4_bytes((U32)high)};
  }
  static Kept keep(const uint8_t* p) { return {{p[0], p[kStep], p[2 * kStep], p[3 * kStep]}}; }
};
template <bool>
struct FormatF4;
template <bool kApart>
struct RowSums<FormatF4<kApart>> : RowSumsOf<RowF4<kApart>, 4> {
  using Four = typename RowSumsOf<RowF4<kApart>, 4>::Four;
  static void scales(const Four* four, const uint8_t*, Streams, int64_t, Scales& out);
  static TwoVectors inputs(const int8_t* q) { return split_inputs(q); }
};

struct RowQ4_K : KeepNothing {
  static constexpr int kJoin = 2;
  static constexpr bool kOddGroupsSecond = true;  // (g0, g2) and (g1, g3)
  static int64_t offset(int64_t index) { return index / 2 * 144 + 16 + index % 2 * 64; }
  static TwoVectors unpack(const uint8_t* p, int64_t) {
    const __m512i v = load64(p);
    // The high halves stay where they are, 16 times their value.
    return {_mm512_and_si512(v, splat8(15)), _mm512_and_si512(v, splat8(0xF0))};
  }
};
struct FormatQ4_K;
template <>
struct RowSums<FormatQ4_K> : RowSumsOf<RowQ4_K, 4> {
  static void scales(const Four*, const uint8_t* p, Streams streams, int64_t index, Scales& out);
  static Inputs inputs(const int8_t* q) {
    const __m512i a = load64(q), b = load64(q + 64);
    return {_mm512_shuffle_i64x2(a, b, 0x44), _mm512_shuffle_i64x2(a, b, 0xEE)};
  }
};

struct RowQ6_K : KeepNothing {
  static constexpr int kJoin = 2;
  static constexpr bool kOddGroupsSecond = false;
  static int64_t offset(int64_t index) { return index / 2 * 210; }
  static TwoVectors unpack(const uint8_t* p, int64_t index) {
    const int64_t half = index % 2;
    const __m512i v = load64(p + 64 * half);
    const __m512i high = _mm512_broadcast_i64x4(load32(p + 128 + 32 * half));
    // Bits 0–1 (2–3 in the upper half) for the low nibbles, 4–5 (6–7) for the high ones.
    const __m512i counts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(2), 1);
    const __m512i shifted = _mm512_srlv_epi32(high, counts);
    const __m512i top = splat8(0x30), nibble = splat8(15);
    constexpr int kAndOr = 0xEA;  // (a & b) | c
    return {_mm512_ternarylogic_epi32(v, nibble,
                                      _mm512_and_si512(_mm512_slli_epi16(shifted, 4), top), kAndOr),
            _mm512_ternarylogic_epi32(_mm512_srli_epi16(v, 4), nibble,
                                      _mm512_and_si512(shifted, top), kAndOr)};
  }
};
struct FormatQ6_K;
template <>
struct RowSums<FormatQ6_K> : RowSumsOf<RowQ6_K, 8> {
  static void scales(const Four*, const uint8_t* p, Streams streams, int64_t index, Scales& out);
  static Inputs inputs(const int8_t* q) { return {load64(q), load64(q + 64)}; }
};

#include "backend/cpu/kernels/block_dot-inl.h"

inline void RowSums<FormatQ8_0>::scales(const Four* four, const uint8_t*, Streams, int64_t,
                                        Scales& out) {
  scales_of_halves(four, out.scales);
}
inline void RowSums<FormatSmall<18, false, false>>::scales(const Four* four, const uint8_t*,
                                                           Streams, int64_t, Scales& out) {
  scales_of_halves(four, out.scales);
}
template <bool kApart>
inline void RowSums<FormatF4<kApart>>::scales(const Four* four, const uint8_t*, Streams, int64_t,
                                              Scales& out) {
  U32 e;  // lane 4j + i: those of four[j].kept[i]
  __builtin_memcpy(&e, four, sizeof(e));
  for (int g = 0; g < 4; ++g) out.scales[g] = half_exponent((e >> (8 * g)) & splat(255));
}
inline void RowSums<FormatQ4_K>::scales(const Four*, const uint8_t* p, Streams streams,
                                        int64_t index, Scales& out) {
  FormatQ4_K::scales(p, streams, index, 4, out);
}
inline void RowSums<FormatQ6_K>::scales(const Four*, const uint8_t* p, Streams streams,
                                        int64_t index, Scales& out) {
  FormatQ6_K::scales(p, streams, index, 4, out);
}

}  // namespace

void block_dot_avx512(const BlockDotArgs& args) { run_type(args); }

}  // namespace fathom::cpu
