// Rounding of a matrix product's inputs to the compute type (cpu_ops.h).
#pragma once

#include <cstdint>

#include "backend/cpu/cpu_ops.h"

namespace fathom::cpu {

// Values that share one int8 scale: GGUF's Q8_0 block, so that the products can be taken in
// integers.
inline constexpr int64_t kInt8Block = 32;

// out[i] = x[i] rounded to `type`, kept as float32; out may be x.
// int8: per block of kInt8Block, scale = max|x| / 127, value = round(x / scale) · scale.
void round_inputs(ComputeType type, const float* x, int64_t n, float* out);

}  // namespace fathom::cpu
