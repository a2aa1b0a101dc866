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
  kF8E8M0,
};

// Bytes of one element.
std::size_t dtype_bytes(DType type);

// "F32", "BF16", …: the names of the safetensors format.
std::string_view dtype_name(DType type);
std::optional<DType> dtype_from_name(std::string_view name);

}  // namespace fathom
