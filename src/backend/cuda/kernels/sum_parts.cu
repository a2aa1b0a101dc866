// The sum of what several GPUs computed.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;

// In order of rank: every element's sum is the same wherever it is computed.
__global__ void sum_parts_kernel(SumPartsArgs a) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= a.count) return;
  float sum = a.parts[i];
  for (int r = 1; r < a.size; ++r) sum += a.parts[r * a.count + i];
  a.out[i] = sum;
}

}  // namespace

void sum_parts(const SumPartsArgs& a, cudaStream_t stream) {
  if (a.count > 0)
    launch_kernel(sum_parts_kernel, blocks_for(a.count, kThreads), kThreads, 0, stream, a);
}

}  // namespace fathom::cuda
