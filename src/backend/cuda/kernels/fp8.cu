// Operands of the FP8 tensor cores: inputs quantised (fp8.cuh).
#include "backend/cuda/kernels/fp8.cuh"

#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;

// A warp has 128 columns of a row, a block of threads the same columns of 8 rows.
__global__ void quantize_kernel(F32Rows x, Fp8Codes out) {
  begin_kernel();
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const int64_t c = static_cast<int64_t>(blockIdx.y) * 128 + threadIdx.x % 32 * 4;
  if (r >= x.rows) return;
  float4 v{0, 0, 0, 0};
  if (c < x.cols) {
    const float* p = x.row(r) + c;
    v = {p[0], p[1], p[2], p[3]};
  }
  float scale;
  const uint32_t codes = fp8_four(v, scale);
  if (c < x.cols) *reinterpret_cast<uint32_t*>(out.q + r * x.cols + c) = codes;
  if (threadIdx.x % 32 == 0) out.scales[blockIdx.y * out.rows + r] = scale;
}

// Half a warp has 128 columns of a row, a block of threads the same columns of 16 rows.
__global__ void silu_kernel(const uint16_t* gate, const uint16_t* up, int64_t rows, int64_t cols,
                            Fp8Codes out) {
  begin_kernel();
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / 16) + threadIdx.x / 16;
  const int64_t c = static_cast<int64_t>(blockIdx.y) * 128 + threadIdx.x % 16 * 8;
  const bool inside = r < rows && c < cols;
  float v[8] = {};
  float top = 0;
  if (inside) {
    const uint4 g4 = *reinterpret_cast<const uint4*>(gate + r * cols + c);
    const uint4 u4 = *reinterpret_cast<const uint4*>(up + r * cols + c);
    const uint32_t g[4] = {g4.x, g4.y, g4.z, g4.w}, u[4] = {u4.x, u4.y, u4.z, u4.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = silu(bf16_bits(g[i] & 0xFFFF)) * bf16_bits(u[i] & 0xFFFF);
      v[2 * i + 1] = silu(bf16_bits(g[i] >> 16)) * bf16_bits(u[i] >> 16);
      top = fmaxf(top, fmaxf(fabsf(v[2 * i]), fabsf(v[2 * i + 1])));
    }
  }
#pragma unroll
  for (int o = 8; o > 0; o /= 2) top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, o));
  if (r >= rows) return;
  const float scale = fp8_scale(top);
  if (inside) {
    *reinterpret_cast<uint2*>(out.q + r * cols + c) = {
        fp8_pair(v[0], v[1], scale) | fp8_pair(v[2], v[3], scale) << 16,
        fp8_pair(v[4], v[5], scale) | fp8_pair(v[6], v[7], scale) << 16};
  }
  if (threadIdx.x % 16 == 0) out.scales[blockIdx.y * out.rows + r] = scale;
}

}  // namespace

void quantize_fp8(const F32Rows& x, const Fp8Codes& out, cudaStream_t stream) {
  const dim3 grid(blocks_for(x.rows, kThreads / 32), blocks_for(x.cols, 128));
  launch_kernel(quantize_kernel, grid, kThreads, 0, stream, x, out);
}

void silu_mul_fp8(const uint16_t* gate, const uint16_t* up, int64_t rows, int64_t cols,
                  const Fp8Codes& out, cudaStream_t stream) {
  const dim3 grid(blocks_for(rows, kThreads / 16), blocks_for(cols, 128));
  launch_kernel(silu_kernel, grid, kThreads, 0, stream, gate, up, rows, cols, out);
}

}  // namespace fathom::cuda
