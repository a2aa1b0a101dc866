// Element types of weights, activations and caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fathom {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,  // the finite variant (e4m3fn): max 448, no infinities, 0x7F and 0xFF are NaN
  kI64,
  kI32,
  kI8,
  kU8,
  // Nothing computes with these; a file may hold tensors of them that no model asks for.
  kF64,
  kU64,
  kU32,
  kI16,
  kU16,
  kBool,
  kF8E5M2,
  kF8E8M0,  // of scales: 2^(byte − 127)
  // Two to a byte, the first in the low bits; a scale of kF8E8M0 for 32 of a row (weight_view.h).
  // No file names it: DeepSeek's have it as I8.
  kF4E2M1,
  // Block formats of GGUF files: a block of weights shares its scales (quant/blocks.h).
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kMXFP4,
};

// Bytes of one element. Only for types that are stored one by one.
std::size_t dtype_bytes(DType type);

// A block's elements and bytes; {1, dtype_bytes} for types that are stored one by one.
struct DTypeBlock {
  int64_t elements = 1;
  int64_t bytes = 0;
};
DTypeBlock dtype_block(DType type);
inline bool is_block_quantized(DType type) { return type >= DType::kQ4_0; }
// Bytes of `cols` consecutive elements, which must be whole blocks.
int64_t dtype_row_bytes(DType type, int64_t cols);

// "F32", "BF16", …: the names of the safetensors format; "Q4_K", …: those of GGUF.
std::string_view dtype_name(DType type);
std::optional<DType> dtype_from_name(std::string_view name);

}  // namespace fathom
