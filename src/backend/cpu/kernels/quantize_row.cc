// Inputs of block_dot as int8.
#include <cstring>

#include "backend/cpu/kernels/block_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kernels/quantize_row.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The even ones of 32 bytes, then the odd ones.
HWY_INLINE void part(int8_t* q) {
#if HWY_TARGET == HWY_SCALAR
  int8_t natural[32];
  std::memcpy(natural, q, sizeof(natural));
  for (int i = 0; i < 16; ++i) {
    q[i] = natural[2 * i];
    q[16 + i] = natural[2 * i + 1];
  }
#else
  const hn::FixedTag<int8_t, 16> d8;
  const auto low = hn::LoadU(d8, q), high = hn::LoadU(d8, q + 16);
  hn::StoreU(hn::ConcatEven(d8, high, low), d8, q);
  hn::StoreU(hn::ConcatOdd(d8, high, low), d8, q + 16);
#endif
}

// 128-bit vectors whatever the target: the sums of 16 and the result must not depend on it, and
// the whole is a few per mille of a product.
void quantize_row(const float* x, int64_t cols, InputOrder order, int8_t* q, float* scales,
                  int16_t* sums32, int16_t* sums16, float* rest) {
  const hn::CappedTag<float, 4> df;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::Rebind<int16_t, decltype(df)> d16;
  const hn::Rebind<int8_t, decltype(df)> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const auto magnitude_bits = hn::Set(di, 0x7FFFFFFF);
  for (int64_t b = 0; b < cols; b += kInputBlock) {
    const int64_t end = b + kInputBlock < cols ? b + kInputBlock : cols;
    // Magnitudes compare as integers, a NaN above all others.
    auto largest = hn::Zero(di);
    for (int64_t i = b; i < end; i += lanes)
      largest = hn::Max(largest, hn::And(hn::BitCast(di, hn::LoadU(df, x + i)), magnitude_bits));
    const float max = hn::GetLane(hn::BitCast(df, hn::MaxOfLanes(di, largest)));
    scales[b / kInputBlock] = max / 127.0f;
    const auto scale = hn::Set(df, scales[b / kInputBlock]);
    const auto inverse = hn::Set(df, max > 0 ? 127.0f / max : 0.0f);
    for (int64_t g = b; g < end; g += 16) {
      auto sum = hn::Zero(di);
      for (int64_t i = g; i < g + 16; i += lanes) {
        const auto in = hn::LoadU(df, x + i);
        const auto v = hn::NearestInt(hn::Mul(in, inverse));
        sum = hn::Add(sum, v);
        if (rest != nullptr)
          hn::StoreU(hn::Sub(in, hn::Mul(hn::ConvertTo(df, v), scale)), df, rest + i);
        hn::StoreU(hn::DemoteTo(d8, hn::DemoteTo(d16, v)), d8, q + i);
      }
      sums16[g / 16] = static_cast<int16_t>(hn::GetLane(hn::SumOfLanes(di, sum)));
      if (g % 32 != 16) continue;
      sums32[g / 32] = static_cast<int16_t>(sums16[g / 16 - 1] + sums16[g / 16]);
      if (order == InputOrder::kEvenThenOdd) part(q + g - 16);
    }
  }
}

}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::cpu {

HWY_EXPORT(quantize_row);

void quantize_row(const float* x, int64_t cols, InputOrder order, int8_t* q, float* scales,
                  int16_t* sums32, int16_t* sums16, float* rest) {
  HWY_DYNAMIC_DISPATCH(quantize_row)(x, cols, order, q, scales, sums32, sums16, rest);
}

}  // namespace fathom::cpu
#endif
