// block_dot.h for ARMv8.2 with the dot product extension: 4 outputs a vector.
#include <arm_neon.h>

#include "backend/cpu/kernels/block_dot.h"

namespace fathom::cpu {
namespace {

constexpr int kLanes = 4;
constexpr int kRows = 6;  // 12 integer and 12 float sums, 2 weights, 1 input: 27 of 32 registers
constexpr bool kSignedBytes = true, kBytePairs = false;
typedef uint32_t U32 __attribute__((vector_size(16)));
typedef int32_t I32 __attribute__((vector_size(16)));
typedef float F32 __attribute__((vector_size(16)));

inline F32 fma(F32 a, F32 b, F32 c) {
  return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline F32 to_float(U32 v) { return (F32)vcvtq_f32_s32((int32x4_t)v); }
// sdot takes both sides as signed: u up to 127.
inline U32 dot(U32 acc, U32 u, int32_t quad) {
  return (U32)vdotq_s32((int32x4_t)acc, (int8x16_t)u, (int8x16_t)vdupq_n_s32(quad));
}
inline U32 dot_signed(U32 acc, U32 u, int32_t quad) {
  return dot(acc, u ^ (U32{} + 0x80808080u), quad);
}
inline U32 pair_products(U32 u, int32_t) { return u; }
inline U32 add_pairs(U32 a, U32) { return a; }
inline U32 sum_pairs(U32 acc, U32) { return acc; }
inline U32 dot16(U32 acc, U32 a, int32_t pair) {
  const auto pairs = (int16x8_t)a, x = (int16x8_t)vdupq_n_s32(pair);
  const int32x4_t low = vmull_s16(vget_low_s16(pairs), vget_low_s16(x));
  const int32x4_t high = vmull_high_s16(pairs, x);
  return acc + (U32)vpaddq_s32(low, high);
}
inline F32 low_f16(U32 v) {
  return (F32)vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32((uint32x4_t)v)));
}
inline F32 high_f16(U32 v) { return low_f16(v >> 16); }

inline U32 lookup(const uint8_t* table, U32 v) {
  return (U32)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)v);
}

template <int D, class Stride>
inline void transpose(const uint8_t* p, Stride stride, U32* out) {
  for (int half = 0; half < D / 4; ++half) {
    uint32x4_t z[4];
    for (int i = 0; i < 4; ++i) z[i] = vreinterpretq_u32_u8(vld1q_u8(p + 16 * half + i * stride));
    const uint32x4_t a = vtrn1q_u32(z[0], z[1]), b = vtrn2q_u32(z[0], z[1]);
    const uint32x4_t c = vtrn1q_u32(z[2], z[3]), d = vtrn2q_u32(z[2], z[3]);
    const auto low = [](uint32x4_t x, uint32x4_t y) {
      return (U32)vtrn1q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y));
    };
    const auto high = [](uint32x4_t x, uint32x4_t y) {
      return (U32)vtrn2q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y));
    };
    out[4 * half] = low(a, c);
    out[4 * half + 1] = low(b, d);
    out[4 * half + 2] = high(a, c);
    out[4 * half + 3] = high(b, d);
  }
}

template <class Stride>
inline F32 load_f16(const uint8_t* p, Stride stride) {
  uint16_t v[4];
  for (int i = 0; i < 4; ++i) __builtin_memcpy(v + i, p + i * stride, 2);
  return (F32)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(v)));
}

template <class Stride>
inline U32 gather(const uint8_t* p, Stride stride) {
  uint32_t v[4];
  for (int i = 0; i < 4; ++i) __builtin_memcpy(v + i, p + i * stride, 4);
  return (U32)vld1q_u32(v);
}

template <class Format>
struct RowSums {
  static constexpr bool kAvailable = false;
};

#include "backend/cpu/kernels/block_dot-inl.h"

}  // namespace

void block_dot_neon(const BlockDotArgs& args) { run_type(args); }

}  // namespace fathom::cpu
