// StepUploads: what the host knows of a step, copied to the device: indices, and where the rows of
// a step stand in the cache. Valid until reset(), which the next step begins with.
#pragma once

#include <cuda_runtime_api.h>

#include <span>
#include <vector>

#include "backend/cuda/kernels/kernels.h"
#include "ops/kv_pages.h"
#include "tensor/tensor_view.h"

namespace fathom::cuda {

class StepUploads {
 public:
  StepUploads(cudaStream_t stream, Memory& memory) : stream_(stream), memory_(memory) {}

  void reset();
  template <typename T>
  const T* put(std::span<const T> values) {
    return reinterpret_cast<const T*>(put_bytes(values.data(), values.size_bytes()));
  }
  // The rows and page tables of a step's sequences; the same sequences again get the same copy.
  StepTables tables(std::span<const SequenceRows> sequences);

 private:
  const std::byte* put_bytes(const void* data, std::size_t bytes);

  cudaStream_t stream_;
  Workspace memory_;
  std::vector<RowInfo> rows_;
  std::vector<int32_t> pages_;
  std::span<const SequenceRows> known_;
  StepTables tables_;
};

}  // namespace fathom::cuda
