// Scalar reference codecs of the block formats: what every kernel is tested against, and what
// `fathom quantize` writes with. Knows blocks, not files (io/) nor tensors' names (apps/).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom::quant {

// Decodes `elements` weights (whole blocks of `type`) to float32. Also takes F32, F16 and BF16.
// `data` may be unaligned.
void decode(DType type, const std::byte* data, int64_t elements, float* out);

}  // namespace fathom::quant
