// Rows of the cache as float32, for the kernels that read them many at a time. Included once per
// instruction set, behind highway.h.
#if defined(FATHOM_CPU_UNPACK_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FATHOM_CPU_UNPACK_ROW_INL_H_
#undef FATHOM_CPU_UNPACK_ROW_INL_H_
#else
#define FATHOM_CPU_UNPACK_ROW_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "backend/cpu/kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {
namespace {

// Elements [offset, offset + count) of a row.
HWY_INLINE void unpack_row(DType dtype, const std::byte* row, int64_t offset, int64_t count,
                           float* out) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  const hn::Rebind<hwy::float16_t, decltype(df)> dh;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const auto* wide = reinterpret_cast<const float*>(row) + offset;
  const auto* bits = reinterpret_cast<const uint16_t*>(row) + offset;
  int64_t i = 0;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, wide, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::kBF16:
      for (; i + lanes <= count; i += lanes) {
        const auto high = hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, bits + i)));
        hn::StoreU(hn::BitCast(df, high), df, out + i);
      }
      break;
    case DType::kF16:
      for (; i + lanes <= count; i += lanes) {
        const auto half = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(bits + i));
        hn::StoreU(hn::PromoteTo(df, half), df, out + i);
      }
      break;
    default:
      break;
  }
  if (i < count) decode_kv_slice(dtype, row, offset + i, count - i, out + i);
}

}  // namespace
}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
