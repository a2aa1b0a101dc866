// Simulation: how values are rounded to what a short type would hold, though they stay float32.
//
// DeepSeek's own inference code does this to indexer and cache values, which its models were
// trained with. The facts are those of act_quant and fp4_act_quant in its inference/kernel.py
// (DeepSeek-V3.2-Exp, DeepSeek-V4-Pro): divide each block by its scale, clamp, round to nearest
// even, multiply.
#pragma once

#include <cstdint>

namespace fathom {

enum class SimulatedType : uint8_t {
  kNone,
  kFp8,  // E4M3
  kFp4,  // E2M1
};

// The columns of a row in blocks, of which the last may be shorter:
//   scale = the least power of two that is not below max(largest |x|, least_amax) / max
//   x     = scale · nearest(x / scale), ties to the even code
// A block with a value that is not finite stays as it is.
struct Simulation {
  SimulatedType type = SimulatedType::kNone;
  int64_t block = 0;
  // First x = H·x / sqrt(cols), H being Sylvester's Hadamard matrix: cols is a power of two.
  bool hadamard = false;

  bool defined() const { return hadamard || type != SimulatedType::kNone; }
  // The largest value of the type.
  float max() const { return type == SimulatedType::kFp8 ? 448.0f : 6.0f; }
  // Blocks of smaller values are scaled as if this were their largest: in FP4 the least that has a
  // normal scale, 6 · 2^−126.
  float least_amax() const { return type == SimulatedType::kFp8 ? 1e-4f : 0x1.8p-124f; }
};

}  // namespace fathom
