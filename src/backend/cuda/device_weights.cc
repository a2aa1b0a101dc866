#include "backend/cuda/device_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "backend/cuda/matmul.h"

namespace fathom::cuda {
namespace {

// Pages of a mapped file go through two pinned buffers: one is filled while the other is copied.
constexpr std::size_t kStagingBytes = std::size_t{32} << 20;
constexpr std::size_t kSlabBytes = std::size_t{64} << 20;
// What is smaller goes at once.
constexpr std::size_t kSmallBytes = std::size_t{64} << 10;

}  // namespace

DeviceWeights::~DeviceWeights() {
  clear();
  for (int i = 0; i < 2; ++i) {
    if (staging_[i] == nullptr) continue;
    cudaFreeHost(staging_[i]);
    cudaEventDestroy(copied_[i]);
  }
}

void DeviceWeights::clear() {
  cudaStreamSynchronize(stream_);
  for (uint8_t* p : allocated_) cudaFree(p);
  cudaFree(raw_);
  allocated_.clear();
  copies_.clear();
  experts_.clear();
  slab_ = raw_ = nullptr;
  slab_left_ = raw_bytes_ = 0;
  bytes_ = 0;
}

const uint8_t* DeviceWeights::copy(const std::byte* data, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (const auto found = copies_.find(data); found != copies_.end()) {
    // A copy of its beginning alone stays: kernels under way may read it.
    if (found->second.bytes >= bytes) return found->second.data;
  }
  uint8_t* const p = allocate(bytes);
  send(data, bytes, p);
  copies_[data] = {p, bytes};
  return p;
}

uint8_t* DeviceWeights::allocate(std::size_t bytes) {
  bytes = (bytes + 511) / 256 * 256;  // kernels may read past the last row
  if (bytes <= slab_left_) {
    uint8_t* const p = slab_;
    slab_ += bytes;
    slab_left_ -= bytes;
    return p;
  }
  const bool own = bytes > kSlabBytes / 4;
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, own ? bytes : kSlabBytes);
  FATHOM_CHECK(error == cudaSuccess)
      << "no room on the device: " << static_cast<double>(bytes_) * 1e-9
      << " GB of weights are there, the next one takes " << static_cast<double>(bytes) * 1e-9
      << " GB (" << cudaGetErrorString(error)
      << "); expected a smaller model or cache, a quantised file, or another device";
  allocated_.push_back(static_cast<uint8_t*>(p));
  if (own) return allocated_.back();
  slab_ = allocated_.back() + bytes;
  slab_left_ = kSlabBytes - bytes;
  return allocated_.back();
}

void DeviceWeights::send(const std::byte* from, std::size_t bytes, uint8_t* to) {
  if (bytes <= kSmallBytes) {
    FATHOM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_));
  } else {
    for (std::size_t done = 0, turn = 0; done < bytes; done += kStagingBytes, turn ^= 1) {
      if (staging_[turn] == nullptr) {
        FATHOM_CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&staging_[turn]), kStagingBytes));
        FATHOM_CUDA_CHECK(cudaEventCreateWithFlags(&copied_[turn], cudaEventDisableTiming));
      }
      FATHOM_CUDA_CHECK(cudaEventSynchronize(copied_[turn]));
      const std::size_t some = std::min(kStagingBytes, bytes - done);
      std::memcpy(staging_[turn], from + done, some);
      FATHOM_CUDA_CHECK(
          cudaMemcpyAsync(to + done, staging_[turn], some, cudaMemcpyHostToDevice, stream_));
      FATHOM_CUDA_CHECK(cudaEventRecord(copied_[turn], stream_));
    }
  }
  bytes_ += static_cast<int64_t>(bytes);
  if (progress_) progress_(bytes_);
}

void DeviceWeights::get_planes(const WeightView& w, DeviceWeight& out) {
  const DTypeBlock block = dtype_block(w.dtype);
  const bool six = w.dtype == DType::kQ6_K;
  const auto blocks = static_cast<std::size_t>(w.rows * w.cols / block.elements);
  const std::size_t quants = blocks * static_cast<std::size_t>(six ? 128 : block.bytes - 2);
  const auto align = [](std::size_t n) { return (n + 255) / 256 * 256; };
  // Quants, high bits, scales of 16, scales of blocks: one after another.
  const std::size_t high = six ? align(blocks * 64) : 0, sub = six ? align(blocks * 16) : 0;
  const std::size_t bytes = align(quants) + high + sub + blocks * 2;
  uint8_t* p = nullptr;
  if (const auto found = copies_.find(w.data);
      found != copies_.end() && found->second.bytes == bytes) {
    p = found->second.data;
  } else {
    p = allocate(bytes);
    const auto raw_bytes = static_cast<std::size_t>(w.bytes());
    if (raw_bytes > raw_bytes_) {
      FATHOM_CUDA_CHECK(cudaFree(raw_));  // waits for its users
      void* raw = nullptr;
      const cudaError_t error = cudaMalloc(&raw, raw_bytes);
      FATHOM_CHECK(error == cudaSuccess) << "no room on the device to copy weights through";
      raw_ = static_cast<uint8_t*>(raw);
      raw_bytes_ = raw_bytes;
    }
    send(w.data, raw_bytes, raw_);
    cuda::repack({.dtype = w.dtype,
                  .from = raw_,
                  .blocks = static_cast<int64_t>(blocks),
                  .block_bytes = static_cast<int>(block.bytes),
                  .quants = p,
                  .scales = p + align(quants) + high + sub,
                  .high = p + align(quants),
                  .sub_scales = p + align(quants) + high},
                 stream_);
    copies_[w.data] = {p, bytes};
  }
  out.data = p;
  out.row_bytes = w.cols / block.elements * (six ? 128 : block.bytes - 2);
  out.high = p + align(quants);
  out.sub_scales = out.high + high;
  out.block_scales = out.sub_scales + sub;
  out.block_cols = block.elements;
}

const float* DeviceWeights::vector(const WeightView& weight) {
  if (!weight.defined()) return nullptr;
  FATHOM_CHECK(weight.dtype == DType::kF32) << dtype_name(weight.dtype);
  return reinterpret_cast<const float*>(
      copy(weight.data, static_cast<std::size_t>(weight.bytes())));
}

const float* DeviceWeights::scales(const WeightView& w, int64_t rows, int64_t stride) {
  if (stride == w.scale_stride)
    return array(std::span(w.scales, static_cast<std::size_t>(rows * stride)));
  const std::size_t bytes = static_cast<std::size_t>(rows * stride) * sizeof(float);
  if (const auto found = copies_.find(w.scales);
      found != copies_.end() && found->second.bytes >= bytes)
    return reinterpret_cast<const float*>(found->second.data);
  std::vector<float> spread(static_cast<std::size_t>(rows * stride));
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(w.scales + r * w.scale_stride, w.scale_stride, spread.data() + r * stride);
  uint8_t* const p = allocate(bytes);
  send(reinterpret_cast<const std::byte*>(spread.data()), bytes, p);
  FATHOM_CUDA_CHECK(cudaStreamSynchronize(stream_));  // `spread` ends here
  copies_[w.scales] = {p, bytes};
  return reinterpret_cast<const float*>(p);
}

DeviceWeight DeviceWeights::get(const WeightView& w) {
  DeviceWeight out;
  out.dtype = w.dtype;
  out.rows = w.rows;
  out.cols = w.cols;
  if (is_repacked(w.dtype)) {
    get_planes(w, out);
    return out;
  }
  out.row_bytes = w.row_bytes();
  out.data = copy(w.data, static_cast<std::size_t>(w.bytes()));
  out.aligned =
      reinterpret_cast<uintptr_t>(out.data) % 16 == 0 && out.row_bytes % 16 == 0 && w.cols % 8 == 0;
  if (w.scales != nullptr) {
    // The stored matrix's, from its first row on.
    const int64_t last = (w.scale_row0 + w.rows - 1) / w.scale_block_rows;
    // Of DeepSeek's blocks as the tensor cores take them.
    out.scale_stride = w.scale_block_rows == 128 && w.scale_block_cols == 128
                           ? fp8_scale_stride(w.cols)
                           : w.scale_stride;
    out.scales = scales(w, last + 1, out.scale_stride);
    out.scale_block_rows = w.scale_block_rows;
    out.scale_block_cols = w.scale_block_cols;
    out.scale_row0 = w.scale_row0;
  }
  if (w.exponents != nullptr) {
    const auto count = static_cast<std::size_t>(w.rows * (w.cols / kF4Block));
    out.exponents = array(std::span(w.exponents, count));
  }
  return out;
}

DeviceWeights::Experts DeviceWeights::experts(std::span<const SwigluWeights> weights) {
  if (const auto found = experts_.find(weights.data()); found != experts_.end())
    return found->second;
  std::vector<DeviceExpert> all;
  for (const SwigluWeights& w : weights) {
    FATHOM_CHECK(!w.gate_bias.defined() && !w.up_bias.defined() && !w.down_bias.defined());
    all.push_back({.gate = get(w.gate), .up = get(w.up), .down = get(w.down)});
    FATHOM_CHECK(w.gate.dtype == w.up.dtype && w.gate.dtype == weights.front().gate.dtype &&
                 w.down.dtype == weights.front().down.dtype)
        << dtype_name(w.gate.dtype) << " " << dtype_name(w.up.dtype);
  }
  const std::size_t bytes = all.size() * sizeof(DeviceExpert);
  uint8_t* const p = allocate(bytes);
  FATHOM_CUDA_CHECK(cudaMemcpyAsync(p, all.data(), bytes, cudaMemcpyHostToDevice, stream_));
  FATHOM_CUDA_CHECK(cudaStreamSynchronize(stream_));  // `all` ends here
  const Experts out{reinterpret_cast<const DeviceExpert*>(p), all.front().gate, all.front().down};
  experts_[weights.data()] = out;
  return out;
}

}  // namespace fathom::cuda
