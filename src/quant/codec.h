// Scalar reference codecs of the block formats: what every kernel is tested against, and what
// `fathom quantize` writes with. Knows blocks, not files (io/) nor tensors' names (apps/).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/weight_view.h"

namespace fathom::quant {

// Decodes `elements` weights (whole blocks of `type`) to float32. Also takes F32, F16 and BF16.
// `data` may be unaligned.
void decode(DType type, const std::byte* data, int64_t elements, float* out);

// The largest magnitude that F16, and so the scale of every block format, holds. encode() wants
// weights within it (F32 and BF16 take any).
inline constexpr float kMaxEncodable = 65504.0f;

// Encodes `elements` weights (whole blocks of `type`; also F32, F16, BF16) to `out`, which may be
// unaligned. x: finite, within kMaxEncodable. importance: [elements], how much the squared error of
// each weight matters (not negative; a block of zeros counts as one of equal values), or null for
// equal ones. Rounds to the block that leaves little Σ importance · error², by search: never worse
// than rounding each weight to the nearest step of the plainest scale, usually 5–20 % better.
// The result depends on the arguments alone. Threads: any number at once.
void encode(DType type, const float* x, int64_t elements, const float* importance, std::byte* out);

// Row `row` of a weight of any type, FP8 and FP4 scales applied, as float32.
void decode_row(const WeightView& w, int64_t row, float* out);

}  // namespace fathom::quant
