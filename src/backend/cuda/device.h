// The CUDA device: which one, its memory, and errors.
//
// An error of the device ends the process: the context is lost with it. Who serves runs the engine
// in a process of its own (worker/).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/result.h"
#include "tensor/memory.h"

namespace fathom::cuda {

#define FATHOM_CUDA_CHECK(call)                                            \
  do {                                                                     \
    const cudaError_t error_ = (call);                                     \
    FATHOM_CHECK(error_ == cudaSuccess)                                    \
        << "CUDA: " << cudaGetErrorString(error_) << " (" << #call << ")"; \
  } while (false)

struct Device {
  int index = 0;
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;
  int multiprocessors = 0;
  int64_t memory_bytes = 0, free_bytes = 0;
};

// How many devices the program may use (CUDA_VISIBLE_DEVICES counts); 0 if there is no driver.
int device_count();
// Makes device `index` the one of this thread. An error says what there is instead.
Result<Device> open_device(int index);

// Bytes of memory of device `index`, without opening it.
Result<int64_t> total_memory(int index);

// Memory of the current device.
class DeviceMemory final : public Memory {
 public:
  std::byte* allocate(std::size_t bytes) override;
  void release(std::byte* p) override;
  void zero(std::byte* p, std::size_t bytes) override;
  bool on_host() const override { return false; }
};
DeviceMemory& device_memory();
// Memory of the host that the device copies to without a detour.
Memory& pinned_memory();

}  // namespace fathom::cuda
