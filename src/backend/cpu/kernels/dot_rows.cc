// Matrix times rows for every stored weight format, in float32.
//
// Each output has one vector accumulator that runs over k in order, whatever the tile; so a result
// does not depend on the tile it was computed in.
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "backend/cpu/kernels/block_dot.h"
#include "backend/cpu/kernels/kernels.h"
#include "quant/codec.h"
#include "tensor/float_formats.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kernels/dot_rows.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fathom::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

// Loads of Lanes(DF) weights as float32, one struct per storage type.
struct LoadF32 {
  using T = float;
  static HWY_INLINE VF load(const T* p) { return hn::LoadU(DF(), p); }
};

struct LoadBF16 {
  using T = uint16_t;
  static HWY_INLINE VF load(const T* p) {
    const hn::RebindToUnsigned<DF> du32;
    const hn::Rebind<uint16_t, DF> du16;
    return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, p))));
  }
};

struct LoadF16 {
  using T = uint16_t;
  static HWY_INLINE VF load(const T* p) {
    const hn::Rebind<hwy::float16_t, DF> df16;
    return hn::PromoteTo(DF(), hn::LoadU(df16, reinterpret_cast<const hwy::float16_t*>(p)));
  }
};

struct LoadF8E4M3 {
  using T = uint8_t;
  static HWY_INLINE VF load(const T* p) {
    const DF df;
    const hn::RebindToUnsigned<DF> du32;
    const hn::Rebind<uint8_t, DF> du8;
    const auto v = hn::PromoteTo(du32, hn::LoadU(du8, p));
    const auto magnitude = hn::And(v, hn::Set(du32, 0x7Fu));
    const auto sign = hn::ShiftLeft<24>(hn::And(v, hn::Set(du32, 0x80u)));
    // Exponent and mantissa land in float32's fields with bias 127 instead of 7: a factor of 2^120,
    // which also turns E4M3's subnormals into the right values.
    const auto scaled =
        hn::Mul(hn::BitCast(df, hn::ShiftLeft<20>(magnitude)), hn::Set(df, 1.329227995784916e36f));
    const auto value = hn::BitCast(df, hn::Or(hn::BitCast(du32, scaled), sign));
    const auto is_nan = hn::RebindMask(df, hn::Eq(magnitude, hn::Set(du32, 0x7Fu)));
    return hn::IfThenElse(is_nan, hn::NaN(df), value);
  }
};

// Where float16 is converted by an instruction.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_TARGET == HWY_NEON
#define FATHOM_TILE_F8 1
#else
#define FATHOM_TILE_F8 0
#endif

// The last `count` < Lanes elements, zeros behind them.
template <class Load>
HWY_INLINE VF load_tail(const typename Load::T* p, int64_t count) {
  HWY_ALIGN typename Load::T buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(buffer, p, static_cast<size_t>(count) * sizeof(typename Load::T));
  return Load::load(buffer);
}

// F4_E2M1, whose weights of a block share a scale.
struct LoadF4E2M1 {
  using T = uint8_t;
  // Twice the values of 32 weights, which stand in 16 bytes.
  static HWY_INLINE void decode(const uint8_t* p, int8_t* out) {
    HWY_ALIGN static constexpr int8_t kDoubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                      0, -1, -2, -3, -4, -6, -8, -12};
#if HWY_TARGET == HWY_SCALAR
    for (int i = 0; i < 32; ++i) out[i] = kDoubled[p[i / 2] >> (i % 2 * 4) & 15];
#else
    const hn::FixedTag<uint8_t, 16> d8;
    const hn::FixedTag<int8_t, 16> di8;
    const auto table = hn::Load(di8, kDoubled);
    const auto two = hn::LoadU(d8, p);
    const auto low = hn::And(two, hn::Set(d8, uint8_t{15})), high = hn::ShiftRight<4>(two);
    const auto even = hn::TableLookupBytes(table, hn::BitCast(di8, low));
    const auto odd = hn::TableLookupBytes(table, hn::BitCast(di8, high));
    hn::Store(hn::InterleaveLower(di8, even, odd), di8, out);
    hn::Store(hn::InterleaveUpper(di8, even, odd), di8, out + 16);
#endif
  }
  static HWY_INLINE VF widen(const int8_t* p) {
    const DF df;
    const hn::RebindToSigned<DF> di32;
    const hn::Rebind<int8_t, DF> di8;
    return hn::ConvertTo(df, hn::PromoteTo(di32, hn::LoadU(di8, p)));
  }
  // The scale of twice the values.
  static HWY_INLINE float scale(uint8_t exponent) { return 0.5f * f8e8m0_to_f32(exponent); }
};

// acc[i][j] += x[i][k0, k1) · w row j, for a tile of MR inputs and NR weight rows. `ahead`:
// elements from here to the next tile's weights, whose short rows the hardware would not foresee.
template <class Load, int MR, int NR>
HWY_INLINE void accumulate(const float* const* x, const typename Load::T* const* w, int64_t k0,
                           int64_t k1, int64_t ahead, VF (&acc)[MR][NR]) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  int64_t k = k0;
  for (; k + lanes <= k1; k += lanes) {
    VF wv[NR];
    for (int j = 0; j < NR; ++j) {
      wv[j] = Load::load(w[j] + k);
      hwy::Prefetch(w[j] + k + ahead);
    }
    for (int i = 0; i < MR; ++i) {
      const VF xv = hn::LoadU(df, x[i] + k);
      for (int j = 0; j < NR; ++j) acc[i][j] = hn::MulAdd(xv, wv[j], acc[i][j]);
    }
  }
  if (k < k1) {
    VF wv[NR];
    for (int j = 0; j < NR; ++j) wv[j] = load_tail<Load>(w[j] + k, k1 - k);
    for (int i = 0; i < MR; ++i) {
      const VF xv = load_tail<LoadF32>(x[i] + k, k1 - k);
      for (int j = 0; j < NR; ++j) acc[i][j] = hn::MulAdd(xv, wv[j], acc[i][j]);
    }
  }
}

// The same as dot_tile for F4_E2M1.
template <int MR, int NR>
HWY_INLINE void dot_tile_f4(const float* const* x, const WeightView& w, int64_t n0,
                            float* const* y) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const int64_t row_bytes = w.cols / 2, row_scales = w.cols / kF4Block;
  const auto* rows = reinterpret_cast<const uint8_t*>(w.data) + n0 * row_bytes;
  const uint8_t* exponents = w.exponents + n0 * row_scales;
  VF acc[MR][NR];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) acc[i][j] = hn::Zero(df);
  for (int64_t b = 0; b < row_scales; ++b) {
    HWY_ALIGN int8_t decoded[NR][kF4Block];
    VF scale[NR];
    for (int j = 0; j < NR; ++j) {
      const uint8_t* p = rows + j * row_bytes + b * (kF4Block / 2);
      LoadF4E2M1::decode(p, decoded[j]);
      hwy::Prefetch(p + NR * row_bytes);
      scale[j] = hn::Set(df, LoadF4E2M1::scale(exponents[j * row_scales + b]));
    }
    for (int i = 0; i < MR; ++i) {
      for (int j = 0; j < NR; ++j) {
        VF part = hn::Zero(df);
        for (int64_t k = 0; k < kF4Block; k += lanes)
          part = hn::MulAdd(hn::LoadU(df, x[i] + b * kF4Block + k),
                            LoadF4E2M1::widen(decoded[j] + k), part);
        acc[i][j] = hn::MulAdd(part, scale[j], acc[i][j]);
      }
    }
  }
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) y[i][n0 + j] = hn::GetLane(hn::SumOfLanes(df, acc[i][j]));
}

// One MR x NR tile of outputs: columns n0, n0 + apart, …. `ahead`: as in accumulate.
template <class Load, int MR, int NR>
HWY_INLINE void dot_tile(const float* const* x, const WeightView& w, int64_t n0, int64_t apart,
                         int64_t ahead, float* const* y) {
  const DF df;
  const typename Load::T* rows[NR];
  for (int j = 0; j < NR; ++j)
    rows[j] = reinterpret_cast<const typename Load::T*>(w.data) + (n0 + j * apart) * w.cols;
  VF acc[MR][NR];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) acc[i][j] = hn::Zero(df);
  if (w.scales == nullptr) {
    accumulate<Load, MR, NR>(x, rows, 0, w.cols, ahead, acc);
  } else {
    for (int64_t k = 0; k < w.cols; k += w.scale_block_cols) {
      VF part[MR][NR];
      for (int i = 0; i < MR; ++i)
        for (int j = 0; j < NR; ++j) part[i][j] = hn::Zero(df);
      accumulate<Load, MR, NR>(x, rows, k, std::min(k + w.scale_block_cols, w.cols), ahead, part);
      for (int j = 0; j < NR; ++j) {
        const int64_t row = w.scale_row0 + n0 + j * apart;
        const VF scale = hn::Set(
            df, w.scales[row / w.scale_block_rows * w.scale_stride + k / w.scale_block_cols]);
        for (int i = 0; i < MR; ++i) acc[i][j] = hn::MulAdd(part[i][j], scale, acc[i][j]);
      }
    }
  }
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) y[i][n0 + j * apart] = hn::GetLane(hn::SumOfLanes(df, acc[i][j]));
}

#if FATHOM_TILE_F8
// 2 · Lanes(DF) weights of FP8 at half of LoadF8E4M3's cost, by way of float16, whose exponent is
// one bit longer: all but NaN, which comes out as ±1.875, as value / kF8Scale.
constexpr float kF8Scale = 256.0f;
HWY_INLINE void load_f8(const uint8_t* p, VF& low, VF& high) {
  const DF df;
  const hn::Repartition<int16_t, DF> d16;
  const hn::Rebind<int8_t, decltype(d16)> d8;
  const hn::Repartition<hwy::float16_t, DF> df16;
  const hn::Half<decltype(df16)> half16;
  // The sign's copies make room for the longer exponent; the lowest of them goes.
  const auto wide = hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(p)));
  const auto bits = hn::And(hn::ShiftLeft<7>(wide), hn::Set(d16, static_cast<int16_t>(0xBFFF)));
  const auto halves = hn::BitCast(df16, bits);
  low = hn::PromoteTo(df, hn::LowerHalf(half16, halves));
  high = hn::PromoteTo(df, hn::UpperHalf(half16, halves));
}

// dot_tile for FP8 with blocks of scales, without NaN, for NR rows that stand `apart`; false, and y
// is not set, if there is a NaN. Sums as dot_tile does, but for the factor of kF8Scale, so the bits
// are the same.
template <int MR, int NR>
HWY_INLINE bool dot_tile_f8(const float* const* x, const WeightView& w, int64_t n0, int64_t apart,
                            float* const* y) {
  const DF df;
  const hn::Repartition<uint8_t, DF> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const uint8_t* const rows = reinterpret_cast<const uint8_t*>(w.data) + n0 * w.cols;
  VF acc[MR][NR];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) acc[i][j] = hn::Zero(df);
  auto largest = hn::Zero(d8);
  const int64_t ahead = bytes_asked_ahead();
  for (int64_t b = 0; b < w.cols; b += w.scale_block_cols) {
    VF part[MR][NR];
    for (int i = 0; i < MR; ++i)
      for (int j = 0; j < NR; ++j) part[i][j] = hn::Zero(df);
    for (int64_t k = b; k < b + w.scale_block_cols; k += 4 * lanes) {
#pragma GCC unroll 8
      for (int j = 0; j < NR; ++j) {
        const uint8_t* const p = rows + j * apart * w.cols + k;
        hwy::Prefetch(p + ahead);
        largest = hn::Max(largest, hn::And(hn::LoadU(d8, p), hn::Set(d8, uint8_t{0x7F})));
        VF wv[4];
        load_f8(p, wv[0], wv[1]);
        load_f8(p + 2 * lanes, wv[2], wv[3]);
#pragma GCC unroll 4
        for (int i = 0; i < MR; ++i)
          for (int v = 0; v < 4; ++v)
            part[i][j] = hn::MulAdd(hn::LoadU(df, x[i] + k + v * lanes), wv[v], part[i][j]);
      }
    }
    for (int j = 0; j < NR; ++j) {
      const int64_t row = w.scale_row0 + n0 + j * apart;
      const float scale =
          w.scales[row / w.scale_block_rows * w.scale_stride + b / w.scale_block_cols];
      for (int i = 0; i < MR; ++i)
        acc[i][j] = hn::MulAdd(part[i][j], hn::Set(df, scale * kF8Scale), acc[i][j]);
    }
  }
  if (!hn::AllFalse(d8, hn::Eq(largest, hn::Set(d8, uint8_t{0x7F})))) return false;
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) y[i][n0 + j * apart] = hn::GetLane(hn::SumOfLanes(df, acc[i][j]));
  return true;
}
// Whether dot_tile_f8 takes such weights. Depends on the matrix alone.
HWY_INLINE bool takes_tile_f8(const WeightView& w) {
  return w.scales != nullptr && w.cols % w.scale_block_cols == 0 &&
         w.scale_block_cols % (4 * static_cast<int64_t>(hn::Lanes(DF()))) == 0;
}
#endif

// For few rows of inputs memory is the limit. It is read as some streams, each from begin to end,
// which is what comes fastest. Columns [n0, returned) are done.
template <class Load, int MR>
HWY_INLINE int64_t dot_streams(const float* const* x, const WeightView& w, int64_t n0, int64_t n1,
                               float* const* y) {
  constexpr int kStreams = 8 / MR;
  constexpr auto kElementBytes = static_cast<int64_t>(sizeof(typename Load::T));
  const int64_t each = (n1 - n0) / kStreams;
  for (int64_t n = n0; n < n0 + each; ++n) {
#if FATHOM_TILE_F8
    if constexpr (std::is_same_v<Load, LoadF8E4M3>)
      if (takes_tile_f8(w) && dot_tile_f8<MR, kStreams>(x, w, n, each, y)) continue;
#endif
    dot_tile<Load, MR, kStreams>(x, w, n, each, bytes_asked_ahead() / kElementBytes, y);
  }
  return n0 + each * kStreams;
}

template <class Load, int MR, int NR>
HWY_INLINE void dot_columns(const float* const* x, const WeightView& w, int64_t n0, int64_t n1,
                            float* const* y) {
  int64_t n = n0;
  if constexpr (std::is_same_v<Load, LoadF4E2M1>) {
    for (; n + NR <= n1; n += NR) dot_tile_f4<MR, NR>(x, w, n, y);
    for (; n < n1; ++n) dot_tile_f4<MR, 1>(x, w, n, y);
  } else {
#if FATHOM_TILE_F8
    if constexpr (std::is_same_v<Load, LoadF8E4M3>) {
      constexpr int kColumns = 8 / MR;
      if (takes_tile_f8(w)) {
        while (n + kColumns <= n1 && dot_tile_f8<MR, kColumns>(x, w, n, 1, y)) n += kColumns;
      }
    }
#endif
    for (; n + NR <= n1; n += NR) dot_tile<Load, MR, NR>(x, w, n, 1, NR * w.cols, y);
    for (; n < n1; ++n) dot_tile<Load, MR, 1>(x, w, n, 1, w.cols, y);
  }
}

template <class Load>
void dot_rows_as(const float* const* x, int64_t m, const WeightView& w, int64_t n0, int64_t n1,
                 float* const* y) {
  // Inputs in blocks that stay in a core's second-level cache, weights in strips within them.
  constexpr int64_t kBlockBytes = 256 << 10, kStrip = 16;
  const int64_t row_bytes = std::max<int64_t>(w.cols * static_cast<int64_t>(sizeof(float)), 1);
  const int64_t block = std::max<int64_t>(kBlockBytes / row_bytes / 4 * 4, 4);
  if constexpr (!std::is_same_v<Load, LoadF4E2M1>) {
    if (m == 1) n0 = dot_streams<Load, 1>(x, w, n0, n1, y);
    if (m == 2) n0 = dot_streams<Load, 2>(x, w, n0, n1, y);
  }
  for (int64_t m0 = 0; m0 < m; m0 += block) {
    const int64_t m1 = std::min(m0 + block, m);
    for (int64_t strip = n0; strip < n1; strip += kStrip) {
      const int64_t end = std::min(strip + kStrip, n1);
      int64_t i = m0;
      for (; i + 4 <= m1; i += 4) dot_columns<Load, 4, 4>(x + i, w, strip, end, y + i);
      for (; i + 2 <= m1; i += 2) dot_columns<Load, 2, 8>(x + i, w, strip, end, y + i);
      for (; i < m1; ++i) dot_columns<Load, 1, 8>(x + i, w, strip, end, y + i);
    }
  }
}

// Block formats, decoded a few rows at a time.
void dot_rows_decoded(const float* const* x, int64_t m, const WeightView& w, int64_t n0, int64_t n1,
                      float* const* y) {
  constexpr int64_t kRows = 8;
  std::vector<float> buffer(static_cast<size_t>(kRows * w.cols));
  std::vector<float*> out(static_cast<size_t>(m));
  WeightView decoded = w;
  decoded.dtype = DType::kF32;
  decoded.data = reinterpret_cast<const std::byte*>(buffer.data());
  for (int64_t n = n0; n < n1; n += kRows) {
    decoded.rows = std::min(kRows, n1 - n);
    quant::decode(w.dtype, w.data + n * w.row_bytes(), decoded.rows * w.cols, buffer.data());
    for (int64_t i = 0; i < m; ++i) out[static_cast<size_t>(i)] = y[i] + n;
    dot_rows_as<LoadF32>(x, m, decoded, 0, decoded.rows, out.data());
  }
}

void dot_rows(const float* const* x, int64_t m, const WeightView& w, int64_t n0, int64_t n1,
              float* const* y) {
  if (is_block_quantized(w.dtype)) return dot_rows_decoded(x, m, w, n0, n1, y);
  switch (w.dtype) {
    case DType::kF32:
      return dot_rows_as<LoadF32>(x, m, w, n0, n1, y);
    case DType::kBF16:
      return dot_rows_as<LoadBF16>(x, m, w, n0, n1, y);
    case DType::kF16:
      return dot_rows_as<LoadF16>(x, m, w, n0, n1, y);
    case DType::kF8E4M3:
      return dot_rows_as<LoadF8E4M3>(x, m, w, n0, n1, y);
    case DType::kF4E2M1:
      return dot_rows_as<LoadF4E2M1>(x, m, w, n0, n1, y);
    default:
      FATHOM_CHECK(false) << "no kernel for " << dtype_name(w.dtype);
  }
}

template <class Load>
void decode_row_as(const WeightView& w, int64_t row, float* out) {
  const DF df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  const auto* p = reinterpret_cast<const typename Load::T*>(w.data) + row * w.cols;
  const int64_t segment = w.scales != nullptr ? w.scale_block_cols : w.cols;
  for (int64_t k0 = 0; k0 < w.cols; k0 += segment) {
    const int64_t k1 = std::min(k0 + segment, w.cols);
    const VF scale =
        hn::Set(df, w.scales == nullptr
                        ? 1.0f
                        : w.scales[(w.scale_row0 + row) / w.scale_block_rows * w.scale_stride +
                                   k0 / w.scale_block_cols]);
    int64_t k = k0;
    for (; k + lanes <= k1; k += lanes) hn::StoreU(hn::Mul(Load::load(p + k), scale), df, out + k);
    if (k < k1) {
      HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)];
      hn::Store(hn::Mul(load_tail<Load>(p + k, k1 - k), scale), df, tail);
      std::memcpy(out + k, tail, static_cast<size_t>(k1 - k) * sizeof(float));
    }
  }
}

void decode_row(const WeightView& w, int64_t row, float* out) {
  if (is_block_quantized(w.dtype) || w.dtype == DType::kF4E2M1)
    return quant::decode_row(w, row, out);
  switch (w.dtype) {
    case DType::kF32:
      return decode_row_as<LoadF32>(w, row, out);
    case DType::kBF16:
      return decode_row_as<LoadBF16>(w, row, out);
    case DType::kF16:
      return decode_row_as<LoadF16>(w, row, out);
    case DType::kF8E4M3:
      return decode_row_as<LoadF8E4M3>(w, row, out);
    default:
      FATHOM_CHECK(false) << "no kernel for " << dtype_name(w.dtype);
  }
}

const char* target() { return hwy::TargetName(HWY_TARGET); }
#undef FATHOM_TILE_F8

}  // namespace fathom::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fathom::cpu {

HWY_EXPORT(dot_rows);
HWY_EXPORT(decode_row);
HWY_EXPORT(target);

void dot_rows(const float* const* x, int64_t m, const WeightView& w, int64_t n0, int64_t n1,
              float* const* y) {
  HWY_DYNAMIC_DISPATCH(dot_rows)(x, m, w, n0, n1, y);
}
void decode_row(const WeightView& w, int64_t row, float* out) {
  HWY_DYNAMIC_DISPATCH(decode_row)(w, row, out);
}
std::string_view target_name() { return HWY_DYNAMIC_DISPATCH(target)(); }

}  // namespace fathom::cpu
#endif
