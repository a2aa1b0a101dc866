// block_dot.h for AVX2 (with FMA and F16C): 8 outputs a vector. Compiled a second time, with
// AVX-VNNI, as block_dot_avxvnni.cc.
#include <immintrin.h>

#include "backend/cpu/kernels/block_dot.h"

namespace fathom::cpu {
namespace {

constexpr int kLanes = 8;
constexpr int kRows = 3;  // 6 integer sums, 2 weights and their signs, input and temporaries: 16
typedef uint32_t U32 __attribute__((vector_size(32)));
typedef int32_t I32 __attribute__((vector_size(32)));
typedef float F32 __attribute__((vector_size(32)));

inline F32 fma(F32 a, F32 b, F32 c) {
  return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline F32 to_float(U32 v) { return (F32)_mm256_cvtepi32_ps((__m256i)v); }

#ifdef __AVXVNNI__
constexpr bool kSignedBytes = false, kBytePairs = false;
inline U32 dot(U32 acc, U32 u, int32_t quad) {
  return (U32)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)u, _mm256_set1_epi32(quad));
}
inline U32 dot_signed(U32 acc, U32, int32_t) { return acc; }
inline U32 pair_products(U32 u, int32_t) { return u; }
inline U32 add_pairs(U32 a, U32) { return a; }
inline U32 sum_pairs(U32 acc, U32) { return acc; }
#else
constexpr bool kSignedBytes = true, kBytePairs = true;
// Pairs of products must fit 16 bits: u up to 128.
inline U32 pair_products(U32 u, int32_t quad) {
  return (U32)_mm256_maddubs_epi16((__m256i)u, _mm256_set1_epi32(quad));
}
inline U32 add_pairs(U32 a, U32 b) { return (U32)_mm256_add_epi16((__m256i)a, (__m256i)b); }
inline U32 sum_pairs(U32 acc, U32 pairs) {
  return acc + (U32)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1));
}
inline U32 dot(U32 acc, U32 u, int32_t quad) { return sum_pairs(acc, pair_products(u, quad)); }
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

inline U32 lookup(const uint8_t* table, U32 v) {
  const __m256i all = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)table));
  return (U32)_mm256_shuffle_epi8(all, (__m256i)v);
}

inline __m128i load16(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
// Dwords of rows p and p + 4 · stride in the two 128-bit lanes.
template <class Stride>
inline __m256i load_lanes(const uint8_t* p, Stride stride) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(p)), load16(p + 4 * stride), 1);
}

template <int D, class Stride>
inline void transpose(const uint8_t* p, Stride stride, U32* out) {
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

template <class Stride>
inline F32 load_f16(const uint8_t* p, Stride stride) {
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

template <class Stride>
inline U32 gather(const uint8_t* p, Stride stride) {
  alignas(32) U32 v;
  for (int i = 0; i < kLanes; ++i) __builtin_memcpy((char*)&v + 4 * i, p + i * stride, 4);
  return v;
}

template <class Format>
struct RowSums {
  static constexpr bool kAvailable = false;
};
struct Streams;  // below
struct Scales;

inline __m256i load32(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline __m256i two16(const void* low, const void* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load16((const uint8_t*)low)),
                                 load16((const uint8_t*)high), 1);
}
inline __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }

// Sums of 8 products: each of 8 dwords those of its 4 bytes of a·x and of b·y. The products of
// unsigned bytes must fit 16 bits four at a time: up to 64.
inline __m256i sums_of_two(__m256i a, __m256i x, __m256i b, __m256i y) {
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), a, x), b, y);
#else
  const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a, x), _mm256_maddubs_epi16(b, y));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#endif
}
inline __m256i sums_of_one(__m256i a, __m256i x) {
#ifdef __AVXVNNI__
  return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), a, x);
#else
  return _mm256_madd_epi16(_mm256_maddubs_epi16(a, x), _mm256_set1_epi16(1));
#endif
}
// The four sums of a in the low lane, those of b in the high one.
inline __m256i fold_lanes(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                          _mm256_permute2x128_si256(a, b, 0x31));
}
// Four rows with four partial sums in each lane: lane i holds the rows' sums of lane i.
inline __m256i sum_lanes(const __m256i* z) {
  const __m256i a =
      _mm256_add_epi32(_mm256_unpacklo_epi32(z[0], z[1]), _mm256_unpackhi_epi32(z[0], z[1]));
  const __m256i b =
      _mm256_add_epi32(_mm256_unpacklo_epi32(z[2], z[3]), _mm256_unpackhi_epi32(z[2], z[3]));
  return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

struct FourVectors {
  __m256i v[4];
};
struct FormatQ8_0;
struct FormatQ4_K;
struct FormatQ5_K;
struct FormatQ6_K;
template <int, bool, bool>
struct FormatSmall;
template <bool>
struct FormatF4;
inline U32 f4_bytes(U32 nibbles);

// The common part, four rows at a time. Row::unpack gives the 128 weights of one row, Row::inputs
// the inputs in the same order, and Row::sums, for groups 2v and 2v + 1, four partial sums each in
// the lanes of z[v].
template <class Row, int kGroupCount>
struct RowSumsOf {
  static constexpr bool kAvailable = true;
  static constexpr int kGroups = kGroupCount;
  static constexpr int kVectors = kGroups / 2;
  using Inputs = FourVectors;
  // The lanes of v[r][v]: the sums of groups 2v and 2v + 1 of four rows with input row r.
  template <int M>
  struct Part {
    __m256i v[M][kVectors];
  };
  // What else is kept of four rows.
  struct Four {
    typename Row::Kept kept;
  };

  static Inputs inputs(const int8_t* q) { return Row::inputs(q); }

  static void keep(const uint8_t* p, int64_t apart, int64_t index, Four& four) {
    p += Row::kept_offset(index);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) Row::keep(p + i * apart, i, four.kept);
  }

  template <int M>
  static void four_rows(const uint8_t* p, int64_t apart, int64_t index, const Inputs* x,
                        Part<M>& out) {
    p += Row::offset(index);
    __m256i z[M][kVectors][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const FourVectors w = Row::unpack(p + i * apart, index);
#pragma GCC unroll 2
      for (int r = 0; r < M; ++r) {
        __m256i own[kVectors];
        Row::sums(w, x[r], own);
        for (int v = 0; v < kVectors; ++v) z[r][v][i] = own[v];
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
      out[2 * v] = (U32)_mm256_permute2x128_si256(parts[0].v[r][v], parts[1].v[r][v], 0x20);
      out[2 * v + 1] = (U32)_mm256_permute2x128_si256(parts[0].v[r][v], parts[1].v[r][v], 0x31);
    }
  }

  static void scales(const Four* fours, const uint8_t* p, Streams streams, int64_t index,
                     Scales& out);
};

// Two groups in the lanes of a vector: elements 0–15 of both, then 16–31 of both.
struct SplitGroups {
  static FourVectors inputs(const int8_t* q) {
    return {two16(q, q + 32), two16(q + 16, q + 48), two16(q + 64, q + 96), two16(q + 80, q + 112)};
  }
  static void sums(const FourVectors& w, const FourVectors& x, __m256i* z) {
    for (int v = 0; v < 2; ++v)
      z[v] = sums_of_two(w.v[2 * v], x.v[2 * v], w.v[2 * v + 1], x.v[2 * v + 1]);
  }
};
// A group of 32 a vector, or two of 16.
template <int kGroupElements>
struct WholeGroups {
  static FourVectors inputs(const int8_t* q) {
    return {load32(q), load32(q + 32), load32(q + 64), load32(q + 96)};
  }
  static void sums(const FourVectors& w, const FourVectors& x, __m256i* z) {
    for (int v = 0; v < 4; ++v) {
      const __m256i s = sums_of_one(w.v[v], x.v[v]);
      if constexpr (kGroupElements == 16) {
        z[v] = s;
      } else if (v % 2 == 0) {
        z[v / 2] = s;
      } else {
        z[v / 2] = fold_lanes(z[v / 2], s);
      }
    }
  }
};

// Formats with a half float or two a group of 32: they are taken when the row is read, since the
// row may have left the first-level cache when they are needed.
template <int kBlockBytes, int kHalves>
struct KeepHalves {
  struct Kept {
    uint16_t halves[kHalves][4][4];  // [which][group][row]
  };
  static int64_t kept_offset(int64_t index) { return index * 4 * kBlockBytes; }
  static void keep(const uint8_t* p, int row, Kept& kept) {
    for (int h = 0; h < kHalves; ++h)
      for (int g = 0; g < 4; ++g)
        __builtin_memcpy(&kept.halves[h][g][row], p + g * kBlockBytes + 2 * h, 2);
  }
};
// Formats whose scales a vector load can take from the rows later on.
struct KeepNothing {
  struct Kept {};
  static int64_t kept_offset(int64_t) { return 0; }
  static void keep(const uint8_t*, int, Kept&) {}
};

struct RowQ8_0 : KeepHalves<34, 1> {
  static int64_t offset(int64_t index) { return index * 4 * 34; }
  static FourVectors unpack(const uint8_t* p, int64_t) {
    FourVectors w{load32(p + 2), load32(p + 36), load32(p + 70), load32(p + 104)};
#ifdef __AVXVNNI__
    for (auto& v : w.v) v = _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80));
#endif
    return w;
  }
  static FourVectors inputs(const int8_t* q) { return WholeGroups<32>::inputs(q); }
  static void sums(const FourVectors& w, const FourVectors& x, __m256i* z) {
#ifdef __AVXVNNI__
    WholeGroups<32>::sums(w, x, z);
#else
    // |w| times x with the sign of w: pairs of products of up to 128 · 127 fit 16 bits.
    __m256i s[4];
    for (int v = 0; v < 4; ++v)
      s[v] = sums_of_one(_mm256_abs_epi8(w.v[v]), _mm256_sign_epi8(x.v[v], w.v[v]));
    for (int v = 0; v < 2; ++v) z[v] = fold_lanes(s[2 * v], s[2 * v + 1]);
#endif
  }
};

// Q4_0 and Q4_1.
template <int kBlockBytes, int kHalves>
struct RowNibbles : KeepHalves<kBlockBytes, kHalves>, SplitGroups {
  static int64_t offset(int64_t index) { return index * 4 * kBlockBytes; }
  static FourVectors unpack(const uint8_t* p, int64_t) {
    p += 2 * kHalves;
    const __m256i a = two16(p, p + kBlockBytes),
                  b = two16(p + 2 * kBlockBytes, p + 3 * kBlockBytes);
    return {low_nibbles(a), high_nibbles(a), low_nibbles(b), high_nibbles(b)};
  }
};

// MXFP4 and F4_E2M1.
template <bool kApart>
struct RowF4 : SplitGroups {
  static constexpr int kBytes = kApart ? 16 : 17, kStep = kApart ? 1 : 17;
  struct Kept {
    uint8_t exponents[4][4];  // [row][group]
  };
  static int64_t offset(int64_t index) { return index * 4 * kBytes; }
  static int64_t kept_offset(int64_t index) { return index * 4 * kStep; }
  static void keep(const uint8_t* p, int row, Kept& kept) {
    for (int g = 0; g < 4; ++g) kept.exponents[row][g] = p[g * kStep];
  }
  static FourVectors unpack(const uint8_t* p, int64_t) {
    p += kApart ? 0 : 1;
    const __m256i a = two16(p, p + kBytes), b = two16(p + 2 * kBytes, p + 3 * kBytes);
    const auto bytes = [](__m256i nibbles) { return (__m256i)f4_bytes((U32)nibbles); };
    return {bytes(low_nibbles(a)), bytes(high_nibbles(a)), bytes(low_nibbles(b)),
            bytes(high_nibbles(b))};
  }
};

struct RowQ4_K : KeepNothing, WholeGroups<32> {
  using Format = FormatQ4_K;
  static int64_t offset(int64_t index) { return index / 2 * 144 + 16 + index % 2 * 64; }
  static FourVectors unpack(const uint8_t* p, int64_t) {
    const __m256i a = load32(p), b = load32(p + 32);
    return {low_nibbles(a), high_nibbles(a), low_nibbles(b), high_nibbles(b)};
  }
};

// Bit `bit` of every byte, as 16.
inline __m256i bit_as_16(__m256i v, int bit) {
  const __m256i one = _mm256_set1_epi8(16);
  return _mm256_and_si256(bit < 4 ? _mm256_slli_epi16(v, 4 - bit) : _mm256_srli_epi16(v, bit - 4),
                          one);
}

struct RowQ5_K : KeepNothing, WholeGroups<32> {
  using Format = FormatQ5_K;
  static int64_t offset(int64_t index) { return index / 2 * 176; }
  static FourVectors unpack(const uint8_t* p, int64_t index) {
    const __m256i high = load32(p + 16);
    const __m256i bits = index % 2 == 0 ? high : _mm256_srli_epi16(high, 4);
    const __m256i a = load32(p + 48 + 64 * (index % 2)), b = load32(p + 80 + 64 * (index % 2));
    return {_mm256_or_si256(low_nibbles(a), bit_as_16(bits, 0)),
            _mm256_or_si256(high_nibbles(a), bit_as_16(bits, 1)),
            _mm256_or_si256(low_nibbles(b), bit_as_16(bits, 2)),
            _mm256_or_si256(high_nibbles(b), bit_as_16(bits, 3))};
  }
};

struct RowQ6_K : KeepNothing, WholeGroups<16> {
  using Format = FormatQ6_K;
  static int64_t offset(int64_t index) { return index / 2 * 210; }
  static FourVectors unpack(const uint8_t* p, int64_t index) {
    const int64_t half = index % 2;
    const __m256i a = load32(p + 64 * half), b = load32(p + 64 * half + 32);
    const __m256i high = load32(p + 128 + 32 * half), top = _mm256_set1_epi8(0x30);
    const auto two = [&](__m256i shifted) { return _mm256_and_si256(shifted, top); };
    return {_mm256_or_si256(low_nibbles(a), two(_mm256_slli_epi16(high, 4))),
            _mm256_or_si256(low_nibbles(b), two(_mm256_slli_epi16(high, 2))),
            _mm256_or_si256(high_nibbles(a), two(high)),
            _mm256_or_si256(high_nibbles(b), two(_mm256_srli_epi16(high, 2)))};
  }
};

using FormatQ4_0 = FormatSmall<18, false, false>;
using FormatQ4_1 = FormatSmall<20, true, false>;
template <>
struct RowSums<FormatQ8_0> : RowSumsOf<RowQ8_0, 4> {};
template <>
struct RowSums<FormatQ4_0> : RowSumsOf<RowNibbles<18, 1>, 4> {};
template <>
struct RowSums<FormatQ4_1> : RowSumsOf<RowNibbles<20, 2>, 4> {};
template <>
struct RowSums<FormatQ4_K> : RowSumsOf<RowQ4_K, 4> {};
template <>
struct RowSums<FormatQ5_K> : RowSumsOf<RowQ5_K, 4> {};
template <>
struct RowSums<FormatQ6_K> : RowSumsOf<RowQ6_K, 8> {};
template <bool kApart>
struct RowSums<FormatF4<kApart>> : RowSumsOf<RowF4<kApart>, 4> {};

template <class Four>
inline F32 kept_halves(const Four* fours, int which, int group) {
  const __m128i low = _mm_loadl_epi64((const __m128i*)fours[0].kept.halves[which][group]);
  const __m128i high = _mm_loadl_epi64((const __m128i*)fours[1].kept.halves[which][group]);
  return (F32)_mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
}

#include "backend/cpu/kernels/block_dot-inl.h"

template <class Row, int kGroupCount>
inline void RowSumsOf<Row, kGroupCount>::scales(const Four* fours, const uint8_t* p,
                                                Streams streams, int64_t index, Scales& out) {
  if constexpr (requires { fours->kept.halves; }) {
    constexpr int kHalves = sizeof(fours->kept.halves) / sizeof(fours->kept.halves[0]);
    for (int g = 0; g < 4; ++g) out.scales[g] = kept_halves(fours, 0, g);
    if constexpr (kHalves == 2)
      for (int g = 0; g < 4; ++g) out.mins[g] = kept_halves(fours, 1, g);
  } else if constexpr (requires { fours->kept.exponents; }) {
    U32 e;  // lane 4j + i: those of row i of fours[j]
    __builtin_memcpy(&e, fours, sizeof(e));
    for (int g = 0; g < 4; ++g) out.scales[g] = half_exponent((e >> (8 * g)) & splat(255));
  } else {
    Row::Format::scales(p, streams, index, 4, out);
  }
}

}  // namespace

#ifdef __AVXVNNI__
void block_dot_avxvnni(const BlockDotArgs& args) { run_type(args); }
#else
void block_dot_avx2(const BlockDotArgs& args) { run_type(args); }
#endif

}  // namespace fathom::cpu
