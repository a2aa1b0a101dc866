// The Communicator of GPUs: NCCL, one rank a GPU, all in one process.
//
// NCCL moves the data, the sums are computed here: NCCL's own all-reduce adds in an order that
// depends on where an element stands and on the size of the message, and then a row's bits would
// depend on its neighbours.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <memory>

#include "base/result.h"
#include "ops/communicator.h"

namespace fathom::cuda {

// Names one group of ranks. Its layout is nccl.h's ncclUniqueId.
struct NcclId {
  std::array<char, 128> bytes{};
};

// A new id. The library (libnccl.so.2) is loaded when this is first called; an error says what is
// missing.
Result<NcclId> make_nccl_id();

// Rank `rank` of `size`, on this thread's device. Waits until all ranks have called it, each from a
// thread of its own. Operations are queued on `stream`, which must outlive the communicator.
Result<std::unique_ptr<Communicator>> make_nccl_communicator(const NcclId& id, int rank, int size,
                                                             cudaStream_t stream);

}  // namespace fathom::cuda
