// Rows of the KV cache in its storage types.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/kernels.h"
#include "quant/blocks.h"
#include "quant/codec.h"
#include "tensor/float_formats.h"

namespace fathom::cpu {

void encode_kv_row(DType type, const float* row, int64_t elements, std::byte* out) {
  switch (type) {
    case DType::kF16:
    case DType::kBF16: {
      auto* bits = reinterpret_cast<uint16_t*>(out);
      for (int64_t i = 0; i < elements; ++i)
        bits[i] = type == DType::kF16 ? f32_to_f16(row[i]) : f32_to_bf16(row[i]);
      return;
    }
    case DType::kQ8_0:
      return quant::encode(type, row, elements, nullptr, out);
    default:
      FATHOM_CHECK(false) << "no cache of type " << dtype_name(type);
  }
}

void decode_kv_slice(DType type, const std::byte* row, int64_t offset, int64_t elements,
                     float* out) {
  if (type != DType::kQ8_0) {
    const int64_t bytes = static_cast<int64_t>(dtype_bytes(type));
    return quant::decode(type, row + offset * bytes, elements, out);
  }
  const auto* blocks = reinterpret_cast<const quant::BlockQ8_0*>(row);
  for (int64_t i = 0; i < elements;) {
    const quant::BlockQ8_0& block = blocks[(offset + i) / quant::kBlock];
    const int64_t first = (offset + i) % quant::kBlock;
    const int64_t count = std::min<int64_t>(quant::kBlock - first, elements - i);
    const float d = f16_to_f32(block.d);
    for (int64_t j = 0; j < count; ++j) out[i + j] = d * static_cast<float>(block.qs[first + j]);
    i += count;
  }
}

}  // namespace fathom::cpu
