// Operands of the tensor cores in bfloat16: inputs rounded, weights decoded; and what is added to
// their results.
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;

__device__ uint4 pack8(const float (&v)[8]) {
  return {pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7])};
}

__global__ void round_kernel(F32Rows x, uint16_t* out) {
  begin_kernel();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t per_row = x.cols / 8;
  if (at >= x.rows * per_row) return;
  const int64_t r = at / per_row, c = at % per_row * 8;
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = x.row(r)[c + i];
  reinterpret_cast<uint4*>(out)[at] = pack8(v);
}

template <DType T>
__global__ void decode_kernel(DeviceWeight w, uint16_t* out) {
  begin_kernel();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t per_row = w.cols / 8;
  if (at >= w.rows * per_row) return;
  float v[8];
  decode8<T>(w, at / per_row, at % per_row * 8, v);
  reinterpret_cast<uint4*>(out)[at] = pack8(v);
}

__global__ void silu_kernel(uint4* gate, const uint4* up, int64_t count) {
  begin_kernel();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= count) return;
  const uint4 g4 = gate[at], u4 = up[at];
  const uint32_t g[4] = {g4.x, g4.y, g4.z, g4.w}, u[4] = {u4.x, u4.y, u4.z, u4.w};
  uint32_t out[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto low = [](uint32_t two) { return __uint_as_float(two << 16); };
    const auto high = [](uint32_t two) { return __uint_as_float(two & 0xFFFF0000u); };
    out[i] = pack(silu(low(g[i])) * low(u[i]), silu(high(g[i])) * high(u[i]));
  }
  gate[at] = {out[0], out[1], out[2], out[3]};
}

__global__ void bias_kernel(F32Rows x, const float* bias) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (i < x.cols) x.row(blockIdx.x)[i] += bias[i];
}

}  // namespace

void round_inputs(const F32Rows& x, uint16_t* out, cudaStream_t stream) {
  launch_kernel(round_kernel, blocks_for(x.rows * x.cols / 8, kThreads), kThreads, 0, stream, x,
                out);
}

void decode_weight(const DeviceWeight& w, uint16_t* out, cudaStream_t stream) {
  for_weight_type(w.dtype, [&]<DType T>() {
    launch_kernel(decode_kernel<T>, blocks_for(w.rows * w.cols / 8, kThreads), kThreads, 0, stream,
                  w, out);
  });
}

void silu_mul_bf16(uint16_t* gate, const uint16_t* up, int64_t count, cudaStream_t stream) {
  launch_kernel(silu_kernel, blocks_for(count / 8, kThreads), kThreads, 0, stream,
                reinterpret_cast<uint4*>(gate), reinterpret_cast<const uint4*>(up), count / 8);
}

void add_bias(const F32Rows& x, const float* bias, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(x.rows), blocks_for(x.cols, kThreads));
  launch_kernel(bias_kernel, grid, kThreads, 0, stream, x, bias);
}

}  // namespace fathom::cuda
