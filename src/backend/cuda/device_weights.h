// DeviceWeights: copies of the model's weights in the device's memory, made when first used.
//
// A weight is known by its address on the host: the views of a model stay for its life.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/cuda/device.h"
#include "backend/cuda/kernels/kernels.h"
#include "ops/ops.h"

namespace fathom::cuda {

class DeviceWeights {
 public:
  explicit DeviceWeights(cudaStream_t stream) : stream_(stream) {}
  ~DeviceWeights();
  DeviceWeights(const DeviceWeights&) = delete;
  DeviceWeights& operator=(const DeviceWeights&) = delete;

  DeviceWeight get(const WeightView& weight);
  // A float32 vector; null if it is undefined.
  const float* vector(const WeightView& weight);
  // Any array of the host's that stays.
  template <typename T>
  const T* array(std::span<const T> values) {
    return reinterpret_cast<const T*>(
        copy(reinterpret_cast<const std::byte*>(values.data()), values.size_bytes()));
  }
  // The experts of a layer, as an array on the device.
  struct Experts {
    const DeviceExpert* data = nullptr;
    DeviceWeight gate, down;  // the first one's
  };
  Experts experts(std::span<const SwigluWeights> weights);

  int64_t bytes() const { return bytes_; }
  // Told of every copy: the bytes copied so far.
  void on_progress(std::function<void(int64_t bytes)> f) { progress_ = std::move(f); }
  // Forgets all copies. For tests, whose weights come and go.
  void clear();

 private:
  const uint8_t* copy(const std::byte* data, std::size_t bytes);
  void send(const std::byte* from, std::size_t bytes, uint8_t* to);
  uint8_t* allocate(std::size_t bytes);
  // Of a type that is_repacked(): into planes.
  void get_planes(const WeightView& weight, DeviceWeight& out);
  // The first `rows` rows of a weight's scales, `stride` floats apart.
  const float* scales(const WeightView& weight, int64_t rows, int64_t stride);
  struct Copy {
    uint8_t* data;
    std::size_t bytes;
  };
  cudaStream_t stream_;
  std::unordered_map<const void*, Copy> copies_;
  std::unordered_map<const void*, Experts> experts_;
  // All that was allocated. Small copies share slabs: a model may have tens of thousands.
  std::vector<uint8_t*> allocated_;
  uint8_t* slab_ = nullptr;
  std::size_t slab_left_ = 0;
  uint8_t* raw_ = nullptr;  // blocks on their way into planes
  std::size_t raw_bytes_ = 0;
  std::byte* staging_[2] = {nullptr, nullptr};
  cudaEvent_t copied_[2] = {nullptr, nullptr};
  int64_t bytes_ = 0;
  std::function<void(int64_t)> progress_;
};

}  // namespace fathom::cuda
