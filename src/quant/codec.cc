#include "quant/codec.h"

#include <cstring>

#include "base/check.h"
#include "quant/blocks.h"
#include "quant/k_scales.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

void decode_block(const BlockQ4_0& b, float* out) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((b.qs[i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((b.qs[i] >> 4) - 8);
  }
}

void decode_block(const BlockQ4_1& b, float* out) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(b.qs[i] & 15) + m;
    out[i + 16] = d * static_cast<float>(b.qs[i] >> 4) + m;
  }
}

// The fifth bits of a Q5_0 or Q5_1 block.
uint32_t high_bits(const uint8_t (&qh)[4]) {
  uint32_t bits = 0;
  std::memcpy(&bits, qh, sizeof(bits));
  return bits;
}

void decode_block(const BlockQ5_0& b, float* out) {
  const float d = f16_to_f32(b.d);
  const uint32_t high = high_bits(b.qh);
  for (int i = 0; i < 16; ++i) {
    const auto lo = static_cast<int>((b.qs[i] & 15) | (high >> i & 1) << 4);
    const auto hi = static_cast<int>((b.qs[i] >> 4) | (high >> (i + 16) & 1) << 4);
    out[i] = d * static_cast<float>(lo - 16);
    out[i + 16] = d * static_cast<float>(hi - 16);
  }
}

void decode_block(const BlockQ5_1& b, float* out) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  const uint32_t high = high_bits(b.qh);
  for (int i = 0; i < 16; ++i) {
    const auto lo = static_cast<int>((b.qs[i] & 15) | (high >> i & 1) << 4);
    const auto hi = static_cast<int>((b.qs[i] >> 4) | (high >> (i + 16) & 1) << 4);
    out[i] = d * static_cast<float>(lo) + m;
    out[i + 16] = d * static_cast<float>(hi) + m;
  }
}

void decode_block(const BlockQ8_0& b, float* out) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < kBlock; ++i) out[i] = d * static_cast<float>(b.qs[i]);
}

void decode_block(const BlockQ2_K& b, float* out) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128, j = i % 128 / 32, l = i % 32;
    const int q = b.qs[32 * half + l] >> (2 * j) & 3, s = b.scales[i / 16];
    out[i] =
        d * static_cast<float>(s & 15) * static_cast<float>(q) - dmin * static_cast<float>(s >> 4);
  }
}

void decode_block(const BlockQ3_K& b, float* out) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128, j = i % 128 / 32, l = i % 32;
    const int q = (b.qs[32 * half + l] >> (2 * j) & 3) | (b.hmask[l] >> (4 * half + j) & 1) << 2;
    out[i] = d * static_cast<float>(q3_k_scale(b.scales, i / 16)) * static_cast<float>(q - 4);
  }
}

void decode_block(const BlockQ4_K& b, float* out) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int group = i / 32, byte = b.qs[group / 2 * 32 + i % 32];
    const ScaleMin s = q4_k_scale_min(b.scales, group);
    out[i] = d * static_cast<float>(s.scale) * static_cast<float>(byte >> (group % 2 * 4) & 15) -
             dmin * static_cast<float>(s.min);
  }
}

void decode_block(const BlockQ5_K& b, float* out) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int group = i / 32, byte = b.qs[group / 2 * 32 + i % 32];
    const int q = (byte >> (group % 2 * 4) & 15) | (b.qh[i % 32] >> group & 1) << 4;
    const ScaleMin s = q4_k_scale_min(b.scales, group);
    out[i] =
        d * static_cast<float>(s.scale) * static_cast<float>(q) - dmin * static_cast<float>(s.min);
  }
}

void decode_block(const BlockQ6_K& b, float* out) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128, j = i % 128 / 32, l = i % 32;
    const int low = b.ql[64 * half + 32 * (j % 2) + l] >> (j / 2 * 4) & 15;
    const int q = low | (b.qh[32 * half + l] >> (2 * j) & 3) << 4;
    out[i] = d * static_cast<float>(b.scales[i / 16]) * static_cast<float>(q - 32);
  }
}

void decode_block(const BlockMXFP4& b, float* out) {
  const float scale = f8e8m0_to_f32(b.e);
  for (int i = 0; i < 16; ++i) {
    out[i] = f4e2m1_to_f32(b.qs[i]) * scale;
    out[i + 16] = f4e2m1_to_f32(static_cast<uint8_t>(b.qs[i] >> 4)) * scale;
  }
}

template <class Block, int kElements>
void decode_blocks(const std::byte* data, int64_t elements, float* out) {
  FATHOM_CHECK_EQ(elements % kElements, 0);
  for (int64_t i = 0; i < elements; i += kElements, data += sizeof(Block)) {
    Block block;
    std::memcpy(&block, data, sizeof(Block));
    decode_block(block, out + i);
  }
}

template <float (*kWiden)(uint16_t)>
void widen(const std::byte* data, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, data + 2 * i, sizeof(bits));
    out[i] = kWiden(bits);
  }
}

}  // namespace

void decode(DType type, const std::byte* data, int64_t elements, float* out) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, data, static_cast<std::size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      return widen<f16_to_f32>(data, elements, out);
    case DType::kBF16:
      return widen<bf16_to_f32>(data, elements, out);
    case DType::kQ4_0:
      return decode_blocks<BlockQ4_0, kBlock>(data, elements, out);
    case DType::kQ4_1:
      return decode_blocks<BlockQ4_1, kBlock>(data, elements, out);
    case DType::kQ5_0:
      return decode_blocks<BlockQ5_0, kBlock>(data, elements, out);
    case DType::kQ5_1:
      return decode_blocks<BlockQ5_1, kBlock>(data, elements, out);
    case DType::kQ8_0:
      return decode_blocks<BlockQ8_0, kBlock>(data, elements, out);
    case DType::kQ2_K:
      return decode_blocks<BlockQ2_K, kSuperBlock>(data, elements, out);
    case DType::kQ3_K:
      return decode_blocks<BlockQ3_K, kSuperBlock>(data, elements, out);
    case DType::kQ4_K:
      return decode_blocks<BlockQ4_K, kSuperBlock>(data, elements, out);
    case DType::kQ5_K:
      return decode_blocks<BlockQ5_K, kSuperBlock>(data, elements, out);
    case DType::kQ6_K:
      return decode_blocks<BlockQ6_K, kSuperBlock>(data, elements, out);
    case DType::kMXFP4:
      return decode_blocks<BlockMXFP4, kBlock>(data, elements, out);
    default:
      FATHOM_CHECK(false) << "no codec for " << dtype_name(type);
  }
}

void decode_row(const WeightView& w, int64_t row, float* out) {
  const std::byte* data = w.data + row * w.row_bytes();
  if (w.dtype == DType::kF4E2M1) {
    const uint8_t* exponents = w.exponents + row * (w.cols / kF4Block);
    for (int64_t c = 0; c < w.cols; ++c) {
      const auto two = std::to_integer<uint8_t>(data[c / 2]);
      out[c] = f4e2m1_to_f32(c % 2 == 0 ? two : static_cast<uint8_t>(two >> 4)) *
               f8e8m0_to_f32(exponents[c / kF4Block]);
    }
    return;
  }
  if (w.dtype != DType::kF8E4M3) return decode(w.dtype, data, w.cols, out);
  FATHOM_CHECK(w.scales != nullptr);
  const float* scales = w.scales + (w.scale_row0 + row) / w.scale_block_rows * w.scale_stride;
  for (int64_t c = 0; c < w.cols; ++c)
    out[c] = f8e4m3_to_f32(std::to_integer<uint8_t>(data[c])) * scales[c / w.scale_block_cols];
}

}  // namespace fathom::quant
