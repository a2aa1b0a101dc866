// StepRecorder: steps of generated rows as CUDA graphs. The first step of a shape runs as asked
// for, the second is recorded while it is asked for, and from then on the graph is launched alone.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <functional>
#include <map>
#include <memory>

#include "backend/cuda/step_uploads.h"
#include "ops/ops.h"

namespace fathom::cuda {

class StepRecorder {
 public:
  StepRecorder(cudaStream_t stream, StepUploads& uploads) : stream_(stream), uploads_(uploads) {}
  ~StepRecorder() { clear(); }
  StepRecorder(const StepRecorder&) = delete;
  StepRecorder& operator=(const StepRecorder&) = delete;

  // Where CudaOps's own memory stands: a graph holds addresses.
  using Addresses = std::array<const std::byte*, 3>;
  // Ops::begin_step. `prepare` is called before recording begins: nothing may be allocated then.
  StepStart begin(const StepShape& step, const std::function<Addresses()>& prepare);
  void end();
  // The last position that kernels have to reckon with in this step; −1: the step's own.
  int64_t last_position() const { return last_position_; }

 private:
  struct Recording {
    int64_t id = 0;
    int seen = 0;
    cudaGraphExec_t graph = nullptr;
    std::unique_ptr<RecordedUploads> uploads;  // once it is recorded
  };
  void clear();

  cudaStream_t stream_;
  StepUploads& uploads_;
  std::map<std::array<int64_t, 13>, std::unique_ptr<Recording>> recordings_;
  Recording* active_ = nullptr;
  int64_t next_id_ = 0, next_owner_ = 1, last_position_ = -1;
};

}  // namespace fathom::cuda
