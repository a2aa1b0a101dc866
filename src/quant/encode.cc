// encode(): cuts rows into blocks and hands each to its format's encoder.
#include "quant/encode.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "quant/codec.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

constexpr int kSmallestGroup = 16;

// Importance of one block, made safe: a column that no text has used still counts a little (else
// its weight could become anything), and a group of zeros counts as one of equal values.
template <int kElements>
void read_importance(const float* importance, std::array<float, kElements>& w) {
  if (importance == nullptr) return w.fill(1.0f);
  for (int g = 0; g < kElements; g += kSmallestGroup) {
    float sum = 0;
    for (int i = g; i < g + kSmallestGroup; ++i) sum += importance[i];
    const float floor = sum > 0 ? 1e-3f * sum / kSmallestGroup : 1.0f;
    for (int i = g; i < g + kSmallestGroup; ++i)
      w[static_cast<std::size_t>(i)] = std::max(importance[i], floor);
  }
}

template <class Block, int kElements>
void encode_blocks(const float* x, int64_t elements, const float* importance, std::byte* out) {
  FATHOM_CHECK_EQ(elements % kElements, 0);
  std::array<float, kElements> w;
  for (int64_t i = 0; i < elements; i += kElements, out += sizeof(Block)) {
    read_importance<kElements>(importance == nullptr ? nullptr : importance + i, w);
    Block block{};
    encode_block(x + i, w.data(), block);
    std::memcpy(out, &block, sizeof(Block));
  }
}

template <uint16_t (*kNarrow)(float)>
void narrow(const float* x, int64_t elements, std::byte* out) {
  for (int64_t i = 0; i < elements; ++i) {
    const uint16_t bits = kNarrow(x[i]);
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
}

}  // namespace

void encode(DType type, const float* x, int64_t elements, const float* importance, std::byte* out) {
  switch (type) {
    case DType::kF32:
      std::memcpy(out, x, static_cast<std::size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      return narrow<f32_to_f16>(x, elements, out);
    case DType::kBF16:
      return narrow<f32_to_bf16>(x, elements, out);
    case DType::kQ4_0:
      return encode_blocks<BlockQ4_0, kBlock>(x, elements, importance, out);
    case DType::kQ4_1:
      return encode_blocks<BlockQ4_1, kBlock>(x, elements, importance, out);
    case DType::kQ5_0:
      return encode_blocks<BlockQ5_0, kBlock>(x, elements, importance, out);
    case DType::kQ5_1:
      return encode_blocks<BlockQ5_1, kBlock>(x, elements, importance, out);
    case DType::kQ8_0:
      return encode_blocks<BlockQ8_0, kBlock>(x, elements, importance, out);
    case DType::kQ2_K:
      return encode_blocks<BlockQ2_K, kSuperBlock>(x, elements, importance, out);
    case DType::kQ3_K:
      return encode_blocks<BlockQ3_K, kSuperBlock>(x, elements, importance, out);
    case DType::kQ4_K:
      return encode_blocks<BlockQ4_K, kSuperBlock>(x, elements, importance, out);
    case DType::kQ5_K:
      return encode_blocks<BlockQ5_K, kSuperBlock>(x, elements, importance, out);
    case DType::kQ6_K:
      return encode_blocks<BlockQ6_K, kSuperBlock>(x, elements, importance, out);
    case DType::kMXFP4:
      return encode_blocks<BlockMXFP4, kBlock>(x, elements, importance, out);
    default:
      FATHOM_CHECK(false) << "no codec for " << dtype_name(type);
  }
}

}  // namespace fathom::quant
