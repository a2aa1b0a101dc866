#include "backend/cuda/probes.h"

#include <algorithm>
#include <random>
#include <vector>

#include "backend/cuda/device.h"
#include "backend/cuda/matmul.h"

namespace fathom::cuda {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 30;
constexpr int64_t kMatrix = 8192;
constexpr std::size_t kMatrixBytes = static_cast<std::size_t>(kMatrix * kMatrix) * 2;

}  // namespace

struct Probes::State {
  std::byte* memory = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  Matmul matmul;

  // Seconds of the fastest of some runs, the first left out.
  template <typename F>
  double fastest(const F& run) {
    float best = 1e9f;
    for (int i = 0; i < 6; ++i) {
      FATHOM_CUDA_CHECK(cudaEventRecord(begin, stream));
      run();
      FATHOM_CUDA_CHECK(cudaEventRecord(end, stream));
      FATHOM_CUDA_CHECK(cudaEventSynchronize(end));
      float ms = 0;
      FATHOM_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
      if (i > 0) best = std::min(best, ms);
    }
    return static_cast<double>(best) * 1e-3;
  }
};

Result<std::unique_ptr<Probes>> Probes::create() {
  std::unique_ptr<Probes> probes(new Probes());
  probes->state_ = std::make_unique<State>();
  State& s = *probes->state_;
  s.memory = device_memory().allocate(2 * kCopyBytes);
  if (s.memory == nullptr) return resource_limit("no room on the GPU to measure it in: 2 GiB");
  FATHOM_CUDA_CHECK(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking));
  FATHOM_CUDA_CHECK(cudaEventCreate(&s.begin));
  FATHOM_CUDA_CHECK(cudaEventCreate(&s.end));
  // Numbers near 1 with random signs and mantissas: zeroes would draw less power and run faster.
  std::vector<uint16_t> numbers(static_cast<std::size_t>(kMatrix * kMatrix));
  std::mt19937 rng(1);
  for (uint16_t& n : numbers) n = static_cast<uint16_t>(0x3F00 | (rng() & 0x80FF));
  for (std::size_t i = 0; i < 2; ++i)
    FATHOM_CUDA_CHECK(cudaMemcpy(s.memory + i * kMatrixBytes, numbers.data(), kMatrixBytes,
                                 cudaMemcpyHostToDevice));
  return probes;
}

Probes::~Probes() {
  if (state_ == nullptr || state_->memory == nullptr) return;
  cudaStreamSynchronize(state_->stream);
  cudaEventDestroy(state_->begin);
  cudaEventDestroy(state_->end);
  cudaStreamDestroy(state_->stream);
  device_memory().release(state_->memory);
}

int64_t Probes::buffer_bytes() const { return static_cast<int64_t>(kCopyBytes); }

double Probes::copy_bytes_per_second() {
  State& s = *state_;
  // The matrices stand in the first half, which is only read.
  const double seconds = s.fastest([&] {
    FATHOM_CUDA_CHECK(cudaMemcpyAsync(s.memory + kCopyBytes, s.memory, kCopyBytes,
                                      cudaMemcpyDeviceToDevice, s.stream));
  });
  return 2.0 * static_cast<double>(kCopyBytes) / seconds;
}

double Probes::matrix_operations() {
  State& s = *state_;
  const double seconds = s.fastest([&] {
    s.matmul.run({.x = s.memory,
                  .weight = s.memory + kMatrixBytes,
                  .out = reinterpret_cast<float*>(s.memory + kCopyBytes),
                  .rows = kMatrix,
                  .in = kMatrix,
                  .columns = kMatrix,
                  .out_stride = kMatrix},
                 s.stream);
  });
  return 2.0 * static_cast<double>(kMatrix * kMatrix * kMatrix) / seconds;
}

}  // namespace fathom::cuda
