// Inputs in E4M3 with a scale for 128 neighbours of a row, as DeepSeek-V3 quantises activations
// (act_quant of its inference/kernel.py): the largest magnitude of them becomes 448. Internal to
// kernels/.
#pragma once

#include <cuda_fp8.h>

#include <cstdint>

namespace fathom::cuda {

// Two values in E4M3. A scale of 0: all of the 128 are 0, or too small for a scale.
__device__ inline uint32_t fp8_pair(float a, float b, float scale) {
  const float2 v = scale > 0 ? float2{a / scale, b / scale} : float2{0, 0};
  return __nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, __NV_E4M3);
}
__device__ inline float fp8_scale(float largest) { return largest / 448.0f; }

// Four of a warp's 128.
__device__ inline uint32_t fp8_four(float4 v, float& scale) {
  float top = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int o = 16; o > 0; o /= 2) top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, o));
  scale = fp8_scale(top);
  return fp8_pair(v.x, v.y, scale) | fp8_pair(v.z, v.w, scale) << 16;
}

}  // namespace fathom::cuda
