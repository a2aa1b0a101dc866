// The block formats as block_dot-inl.h unpacks them: kLanes rows at a time, in the vector types and
// with the primitives of the file that includes it.

// What belongs to 128 columns of kLanes rows besides the bytes u.
struct Scales {
  F32 scales[8];  // per group
  F32 mins[4];    // m_g of Q4_1, Q5_1
  U32 k_mins[4];  // min_g of two groups as int16 pairs: Q2_K, Q4_K, Q5_K
  F32 negative_dmin;
};

struct alignas(64) Panel : Scales {
  void quad(int i, U32 bytes) { u[i] = bytes; }

  U32 u[32];  // u[i] lane n: bytes 4i … 4i + 3 of row n
};

enum class Mins { kNone, kFloat, kInteger };

// kLanes rows out of four ranges of rows that are read side by side, each from its begin to its
// end: lane n is row n / 4 of the present ones of range n % 4.
struct Streams {
  int64_t apart, row_bytes;
  int64_t ahead;  // bytes_asked_ahead()
  friend int64_t operator*(int64_t n, Streams s) { return n % 4 * s.apart + n / 4 * s.row_bytes; }
  friend const uint8_t* operator+(const uint8_t* p, Streams s) { return p + s.apart; }
  friend Streams operator/(Streams s, int64_t n) {
    return {s.apart / n, s.row_bytes / n, s.ahead / n};
  }
};

inline U32 splat(uint32_t v) { return U32{} + v; }
inline F32 splat_f(float v) { return F32{} + v; }

// Four bits to the lowest bits of four bytes.
inline U32 spread_bits(U32 bits) {
  return ((bits & splat(15)) * splat(0x00204081)) & splat(0x01010101);
}

constexpr uint32_t kNibbles = 0x0F0F0F0F, kPairs = 0x03030303, kOnes = 0x01010101;

// Each format: the quads (dwords) of a group, the offset of u, the largest u, the kind of mins;
// quads() unpacks the bytes u, scales() the rest of `blocks` 32-column blocks, beginning with block
// 4 · index of the rows at p. Where kScalesApart, p and stride of scales() are those of the scales.
// The loops of quads() are unrolled by hand: whoever takes the quads keeps sums in registers then,
// which GCC 12 does not find out by itself.
struct ScalesInBlocks {
  static constexpr bool kScalesApart = false;
};

struct FormatQ8_0 : ScalesInBlocks {
  static constexpr int kBlockBytes = 34, kBlockElements = 32;
  static constexpr int kQuads = 8, kOffset = 128, kMaxByte = 255;
  static constexpr Mins kMins = Mins::kNone;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int blocks, Out& out) {
    p += index * 4 * 34;
#pragma GCC unroll 8
    for (int b = 0; b < blocks; ++b, p += 34) {
      U32 t[8];
      transpose<8>(p + 2, stride, t);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) out.quad(8 * b + i, t[i] ^ splat(0x80808080));
    }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int blocks, Out& out) {
    p += index * 4 * 34;
    for (int b = 0; b < blocks; ++b) out.scales[b] = load_f16(p + 34 * b, stride);
  }
};

// Q4_0, Q4_1, Q5_0, Q5_1 differ in whether they have mins and fifth bits.
template <int kBytes, bool kHasMin, bool kFifthBit>
struct FormatSmall : ScalesInBlocks {
  static constexpr int kBlockBytes = kBytes, kBlockElements = 32;
  static constexpr int kQuads = 8, kOffset = kHasMin ? 0 : kFifthBit ? 16 : 8;
  static constexpr int kMaxByte = kFifthBit ? 31 : 15;
  static constexpr Mins kMins = kHasMin ? Mins::kFloat : Mins::kNone;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int blocks, Out& out) {
    p += index * 4 * kBlockBytes;
#pragma GCC unroll 8
    for (int b = 0; b < blocks; ++b, p += kBlockBytes) {
      const uint8_t* bits = p + (kHasMin ? 4 : 2);
      U32 t[4], high{};
      transpose<4>(bits + (kFifthBit ? 4 : 0), stride, t);
      if constexpr (kFifthBit) high = gather(bits, stride);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        U32 u = (i < 4 ? t[i] : t[i - 4] >> 4) & splat(kNibbles);
        if constexpr (kFifthBit) u |= spread_bits(high >> (4 * i)) << 4;
        out.quad(8 * b + i, u);
      }
    }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int blocks, Out& out) {
    p += index * 4 * kBlockBytes;
    for (int b = 0; b < blocks; ++b, p += kBlockBytes) {
      out.scales[b] = load_f16(p, stride);
      if constexpr (kHasMin) out.mins[b] = load_f16(p + 2, stride);
    }
  }
};

// 2^(e − 128) for e in the lowest byte: 2^−127 and NaN differ from the others in the fraction.
inline F32 half_exponent(U32 e) {
  const U32 fraction = (U32)(((e + splat(1)) & splat(254)) == U32{}) & splat(0x00400000);
  return (F32)((e << 23) | fraction) * splat_f(0.5f);
}

// The E2M1 codes as 2 · value + 12.
inline U32 f4_bytes(U32 nibbles) {
  alignas(16) static constexpr uint8_t kBytes[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                     12, 11, 10, 9,  8,  6,  4,  0};
  return lookup(kBytes, nibbles);
}

// MXFP4, whose blocks begin with their scale, and F4_E2M1, whose scales stand elsewhere, a byte for
// 16 of codes.
template <bool kApart>
struct FormatF4 {
  static constexpr bool kScalesApart = kApart;
  static constexpr int kBlockBytes = kApart ? 16 : 17, kBlockElements = 32;
  static constexpr int kQuads = 8, kOffset = 12, kMaxByte = 24;
  static constexpr Mins kMins = Mins::kNone;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int blocks, Out& out) {
    p += index * 4 * kBlockBytes + (kApart ? 0 : 1);
#pragma GCC unroll 8
    for (int b = 0; b < blocks; ++b, p += kBlockBytes) {
      U32 t[4];
      transpose<4>(p, stride, t);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        out.quad(8 * b + i, f4_bytes((i < 4 ? t[i] : t[i - 4] >> 4) & splat(kNibbles)));
    }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int blocks, Out& out) {
    if constexpr (kApart) {
      p += index * 4;
      // Behind the last block of a row may be the end of all.
      const U32 e = blocks == 4 ? gather(p, stride) : gather_bytes(p, stride, blocks);
      for (int b = 0; b < blocks; ++b) out.scales[b] = half_exponent((e >> (8 * b)) & splat(255));
    } else {
      p += index * 4 * kBlockBytes;
      for (int b = 0; b < blocks; ++b, p += kBlockBytes)
        out.scales[b] = half_exponent(gather(p, stride) & splat(255));
    }
  }
  // lane n: the `count` bytes at p + n · stride.
  template <class Stride>
  static U32 gather_bytes(const uint8_t* p, Stride stride, int count) {
    U32 v{};
    for (int n = 0; n < kLanes; ++n)
      for (int i = 0; i < count; ++i)
        reinterpret_cast<uint8_t*>(&v)[4 * n + i] = *(p + n * stride + i);
    return v;
  }
};

inline F32 byte_to_float(U32 v, int i) { return to_float((v >> (8 * i)) & splat(255)); }
inline F32 signed_byte_to_float(U32 v, int i) {
  return to_float((U32)((I32)(v << (24 - 8 * i)) >> 24));
}
// Bytes 2i, 2i + 1 as a pair of int16.
inline U32 byte_pair(U32 v, int i) {
  const U32 w = v >> (16 * i);
  return (w & splat(255)) | ((w & splat(0xFF00)) << 8);
}

// The first 16 bytes of a Q4_K or Q5_K block: d, dmin and the packed scales of half `half`.
template <class Stride, class Out>
inline void unpack_k_scales(const uint8_t* p, Stride stride, int half, Out& out) {
  U32 t[4];
  transpose<4>(p, stride, t);
  const F32 d = low_f16(t[0]);
  out.negative_dmin = -high_f16(t[0]);
  U32 s, m;
  if (half == 0) {
    s = t[1] & splat(0x3F3F3F3F);
    m = t[2] & splat(0x3F3F3F3F);
  } else {
    s = (t[3] & splat(kNibbles)) | (((t[1] >> 6) & splat(kPairs)) << 4);
    m = ((t[3] >> 4) & splat(kNibbles)) | (((t[2] >> 6) & splat(kPairs)) << 4);
  }
  for (int g = 0; g < 4; ++g) out.scales[g] = d * byte_to_float(s, g);
  for (int i = 0; i < 2; ++i) out.k_mins[i] = byte_pair(m, i);
}

struct FormatQ4_K : ScalesInBlocks {
  static constexpr int kBlockBytes = 144, kBlockElements = 256;
  static constexpr int kQuads = 8, kOffset = 0, kMaxByte = 15;
  static constexpr Mins kMins = Mins::kInteger;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 144;
#pragma GCC unroll 8
    for (int c = 0; c < 2; ++c) {
      U32 t[8];
      transpose<8>(p + 16 + 64 * half + 32 * c, stride, t);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        out.quad(16 * c + i, t[i] & splat(kNibbles));
        out.quad(16 * c + 8 + i, (t[i] >> 4) & splat(kNibbles));
      }
    }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    unpack_k_scales(p + index / 2 * 144, stride, static_cast<int>(index % 2), out);
  }
};

struct FormatQ5_K : ScalesInBlocks {
  static constexpr int kBlockBytes = 176, kBlockElements = 256;
  static constexpr int kQuads = 8, kOffset = 0, kMaxByte = 31;
  static constexpr Mins kMins = Mins::kInteger;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 176;
    U32 high[8];
    transpose<8>(p + 16, stride, high);
#pragma GCC unroll 8
    for (int c = 0; c < 2; ++c) {
      U32 t[8];
      transpose<8>(p + 48 + 64 * half + 32 * c, stride, t);
      const int g = 4 * half + 2 * c;
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const U32 fifth = (high[i] >> g) & splat(kOnes),
                  fifth2 = (high[i] >> (g + 1)) & splat(kOnes);
        out.quad(16 * c + i, (t[i] & splat(kNibbles)) | (fifth << 4));
        out.quad(16 * c + 8 + i, ((t[i] >> 4) & splat(kNibbles)) | (fifth2 << 4));
      }
    }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    unpack_k_scales(p + index / 2 * 176, stride, static_cast<int>(index % 2), out);
  }
};

struct FormatQ6_K : ScalesInBlocks {
  static constexpr int kBlockBytes = 210, kBlockElements = 256;
  static constexpr int kQuads = 4, kOffset = 32, kMaxByte = 63;
  static constexpr Mins kMins = Mins::kNone;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 210;
    U32 high[8];
    transpose<8>(p + 128 + 32 * half, stride, high);
#pragma GCC unroll 8
    for (int c = 0; c < 2; ++c) {
      U32 t[8];
      transpose<8>(p + 64 * half + 32 * c, stride, t);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const U32 two = (high[i] >> (2 * c)) & splat(kPairs);
        const U32 two2 = (high[i] >> (4 + 2 * c)) & splat(kPairs);
        out.quad(8 * c + i, (t[i] & splat(kNibbles)) | (two << 4));
        out.quad(16 + 8 * c + i, ((t[i] >> 4) & splat(kNibbles)) | (two2 << 4));
      }
    }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 210;
    U32 s[4];
    transpose<4>(p + 192, stride, s);
    const F32 d = load_f16(p + 208, stride);
    for (int g = 0; g < 8; ++g)
      out.scales[g] = d * signed_byte_to_float(s[2 * half + g / 4], g % 4);
  }
};

struct FormatQ2_K : ScalesInBlocks {
  static constexpr int kBlockBytes = 84, kBlockElements = 256;
  static constexpr int kQuads = 4, kOffset = 0, kMaxByte = 3;
  static constexpr Mins kMins = Mins::kInteger;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 84;
    U32 t[8];
    transpose<8>(p + 16 + 32 * half, stride, t);
#pragma GCC unroll 8
    for (int j = 0; j < 4; ++j)
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) out.quad(8 * j + i, (t[i] >> (2 * j)) & splat(kPairs));
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 84;
    U32 s[4];
    transpose<4>(p, stride, s);
    const U32 d = gather(p + 80, stride);
    const F32 scale = low_f16(d);
    out.negative_dmin = -high_f16(d);
    for (int g = 0; g < 8; ++g)
      out.scales[g] = scale * byte_to_float(s[2 * half + g / 4] & splat(kNibbles), g % 4);
    for (int i = 0; i < 4; ++i)
      out.k_mins[i] = byte_pair((s[2 * half + i / 2] >> 4) & splat(kNibbles), i % 2);
  }
};

struct FormatQ3_K : ScalesInBlocks {
  static constexpr int kBlockBytes = 110, kBlockElements = 256;
  static constexpr int kQuads = 4, kOffset = 4, kMaxByte = 7;
  static constexpr Mins kMins = Mins::kNone;
  template <class Stride, class Out>
  static void quads(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 110;
    U32 t[8], high[8];
    transpose<8>(p + 32 + 32 * half, stride, t);
    transpose<8>(p, stride, high);
#pragma GCC unroll 8
    for (int j = 0; j < 4; ++j)
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const U32 third = (high[i] >> (4 * half + j)) & splat(kOnes);
        out.quad(8 * j + i, ((t[i] >> (2 * j)) & splat(kPairs)) | (third << 2));
      }
  }
  template <class Stride, class Out>
  static void scales(const uint8_t* p, Stride stride, int64_t index, int, Out& out) {
    const int half = static_cast<int>(index % 2);
    p += index / 2 * 110;
    const F32 d = load_f16(p + 108, stride);
    const U32 top = gather(p + 104, stride);
    for (int i = 0; i < 2; ++i) {
      const U32 low = (gather(p + 96 + 4 * i, stride) >> (4 * half)) & splat(kNibbles);
      const U32 s = low | (((top >> (4 * half + 2 * i)) & splat(kPairs)) << 4);
      for (int g = 0; g < 4; ++g)
        out.scales[4 * i + g] = d * to_float(((s >> (8 * g)) & splat(255)) - splat(32));
    }
  }
};
