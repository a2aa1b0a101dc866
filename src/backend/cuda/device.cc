#include "backend/cuda/device.h"

#include <fmt/format.h>

#include <cstring>

namespace fathom::cuda {

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

namespace {

Result<cudaDeviceProp> properties_of(int index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return unavailable(fmt::format(
        "no CUDA device can be used: {} (expected an NVIDIA driver for CUDA 13 or newer; --device "
        "cpu does without)",
        cudaGetErrorString(error)));
  }
  if (index < 0 || index >= count) {
    return invalid_argument(
        fmt::format("device cuda:{} is asked for, expected cuda:0 to cuda:{}", index, count - 1));
  }
  cudaDeviceProp properties{};
  FATHOM_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  return properties;
}

}  // namespace

Result<int64_t> total_memory(int index) {
  FATHOM_TRY(const cudaDeviceProp properties, properties_of(index));
  return static_cast<int64_t>(properties.totalGlobalMem);
}

Result<Device> open_device(int index) {
  FATHOM_TRY(const cudaDeviceProp properties, properties_of(index));
  FATHOM_CUDA_CHECK(cudaSetDevice(index));
  std::size_t free = 0, total = 0;
  if (const cudaError_t e = cudaMemGetInfo(&free, &total); e != cudaSuccess) {
    return unavailable(fmt::format("device cuda:{} ({}) cannot be used: {}", index, properties.name,
                                   cudaGetErrorString(e)));
  }
  return Device{.index = index,
                .name = properties.name,
                .major = properties.major,
                .minor = properties.minor,
                .multiprocessors = properties.multiProcessorCount,
                .memory_bytes = static_cast<int64_t>(total),
                .free_bytes = static_cast<int64_t>(free)};
}

std::byte* DeviceMemory::allocate(std::size_t bytes) {
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  FATHOM_CUDA_CHECK(error);
  return static_cast<std::byte*>(p);
}

void DeviceMemory::release(std::byte* p) { FATHOM_CUDA_CHECK(cudaFree(p)); }

void DeviceMemory::zero(std::byte* p, std::size_t bytes) {
  FATHOM_CUDA_CHECK(cudaMemset(p, 0, bytes));
}

namespace {

class PinnedMemory final : public Memory {
 public:
  std::byte* allocate(std::size_t bytes) override {
    void* p = nullptr;
    return cudaMallocHost(&p, bytes) == cudaSuccess ? static_cast<std::byte*>(p) : nullptr;
  }
  void release(std::byte* p) override { FATHOM_CUDA_CHECK(cudaFreeHost(p)); }
  void zero(std::byte* p, std::size_t bytes) override { std::memset(p, 0, bytes); }
  bool on_host() const override { return true; }
};

}  // namespace

Memory& pinned_memory() {
  static PinnedMemory memory;
  return memory;
}

DeviceMemory& device_memory() {
  static DeviceMemory memory;
  return memory;
}

}  // namespace fathom::cuda
