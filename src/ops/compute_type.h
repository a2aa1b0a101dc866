// In what precision a backend takes the inputs of matrix products.
#pragma once

#include <cstdint>

namespace fathom {

// Sums and everything else are float32. Of a GPU: its tensor cores take prompts, and
// generated rows of BF16 and FP8 weights, in bfloat16 unless kF32 is asked for; with kAuto and on
// sm_90, FP8 weights with scales for 128 x 128 take prompts in E4M3 with a scale for 128 of a row,
// as DeepSeek-V3 runs them.
enum class ComputeType : uint8_t {
  // int8 for block-quantised weights, float32 for others (FP4 on the CPU: three int8, 23 bits)
  kAuto,
  kInt8,  // int8 for FP4 too, on the CPU
  kF32,   // block-quantised weights and FP4 are decoded to float32
  kBF16,  // inputs rounded to bfloat16; weights as with kF32
};

}  // namespace fathom
