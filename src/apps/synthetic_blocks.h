// Random blocks of every weight format, for synthetic models.
//
// Weights of a deviation of about 0.02 around zero, as trained ones have: with the usual norms,
// activations stay finite through any number of layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace fathom {

bool has_random_blocks(DType type);
// Of DeepSeek's FP8 and FP4, and of their scales: F8_E4M3, I8 (two FP4 codes), F8_E8M0.
bool has_random_codes(DType type);

// `blocks` blocks of `type`, always the same. Needs has_random_blocks or has_random_codes.
std::vector<std::byte> random_blocks(DType type, int64_t blocks);

// About a megabyte of them; an odd number, so that no power of two repeats it.
inline int64_t synthetic_pattern_blocks(DType type) {
  return ((int64_t{1} << 20) / dtype_block(type).bytes) | 1;
}

}  // namespace fathom
