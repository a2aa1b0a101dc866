// Block formats of GGUF files whose blocks are no multiple of 16 bytes, taken apart into planes
// that are: the quants of a row one after another, and its scales.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

// A thread two bytes of a block.
__global__ void repack_kernel(RepackArgs a) {
  begin_kernel();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int halves = a.block_bytes / 2;
  const int64_t block = at / halves;
  if (block >= a.blocks) return;
  const int i = static_cast<int>(at % halves) * 2;
  const auto v = *reinterpret_cast<const uint16_t*>(a.from + block * a.block_bytes + i);
  const auto put = [&](uint8_t* plane, int64_t bytes, int offset) {
    *reinterpret_cast<uint16_t*>(plane + block * bytes + offset) = v;
  };
  switch (a.dtype) {
    case DType::kQ8_0:
      return i == 0 ? put(a.scales, 2, 0) : put(a.quants, 32, i - 2);
    case DType::kQ4_0:
      return i == 0 ? put(a.scales, 2, 0) : put(a.quants, 16, i - 2);
    default:  // Q6_K
      if (i < 128) return put(a.quants, 128, i);
      if (i < 192) return put(a.high, 64, i - 128);
      if (i < 208) return put(a.sub_scales, 16, i - 192);
      put(a.scales, 2, 0);
  }
}

}  // namespace

bool is_repacked(DType type) {
  return type == DType::kQ8_0 || type == DType::kQ4_0 || type == DType::kQ6_K;
}

void repack(const RepackArgs& a, cudaStream_t stream) {
  launch_kernel(repack_kernel, blocks_for(a.blocks * (a.block_bytes / 2), 256), 256, 0, stream, a);
}

}  // namespace fathom::cuda
