// Inputs of block_dot as int8.
#include "backend/cpu/kernels/block_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kernels/quantize_row.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 128-bit vectors whatever the target: the sums of 16 and the result must not depend on it, and
// the whole is a few per mille of a product.
void quantize_row(const float* x, int64_t cols, int8_t* q, float* scales, int16_t* sums32,
                  int16_t* sums16) {
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
    const auto inverse = hn::Set(df, max > 0 ? 127.0f / max : 0.0f);
    for (int64_t g = b; g < end; g += 16) {
      auto sum = hn::Zero(di);
      for (int64_t i = g; i < g + 16; i += lanes) {
        const auto v = hn::NearestInt(hn::Mul(hn::LoadU(df, x + i), inverse));
        sum = hn::Add(sum, v);
        hn::StoreU(hn::DemoteTo(d8, hn::DemoteTo(d16, v)), d8, q + i);
      }
      sums16[g / 16] = static_cast<int16_t>(hn::GetLane(hn::SumOfLanes(di, sum)));
      if (g % 32 == 16) sums32[g / 32] = static_cast<int16_t>(sums16[g / 16 - 1] + sums16[g / 16]);
    }
  }
}

}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::cpu {

HWY_EXPORT(quantize_row);

void quantize_row(const float* x, int64_t cols, int8_t* q, float* scales, int16_t* sums32,
                  int16_t* sums16) {
  HWY_DYNAMIC_DISPATCH(quantize_row)(x, cols, q, scales, sums32, sums16);
}

}  // namespace fathom::cpu
#endif
