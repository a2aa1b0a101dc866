#include "backend/cuda/step_recorder.h"

#include <algorithm>

#include "backend/cuda/device.h"

namespace fathom::cuda {
namespace {

constexpr std::size_t kMostRows = 64;
constexpr std::size_t kMostRecordings = 128;
// Graphs are for so many positions and page numbers more than a step has.
constexpr int64_t kPositions = 512;
constexpr std::size_t kPageEntries = 256;

int64_t number(const void* address) { return reinterpret_cast<int64_t>(address); }

}  // namespace

void StepRecorder::clear() {
  for (const auto& [key, r] : recordings_)
    if (r->graph != nullptr) cudaGraphExecDestroy(r->graph);
  recordings_.clear();
}

StepStart StepRecorder::begin(const StepShape& step, const std::function<Addresses()>& prepare) {
  active_ = nullptr;
  last_position_ = -1;
  const int64_t owner = step.owner != 0 ? step.owner : next_owner_++;
  const bool generated = std::all_of(
      step.sequences.begin(), step.sequences.end(),
      [](const SequenceRows& s) { return s.position_class == PositionClass::kGenerated; });
  if (!generated || step.token_ids.empty() || step.token_ids.size() > kMostRows ||
      step.memory == nullptr || step.kv.empty())
    return {.owner = owner};
  int64_t last = 0;
  for (const SequenceRows& s : step.sequences)
    last = std::max(last, s.start_position + s.num_rows - 1);
  last = (last / kPositions + 1) * kPositions - 1;
  const std::size_t entries =
      (StepUploads::page_entries(step.sequences) / kPageEntries + 1) * kPageEntries;
  last_position_ = last;
  const Addresses own = prepare();
  const KvPages& kv = step.kv.front();
  const std::array<int64_t, 13> key = {static_cast<int64_t>(step.token_ids.size()),
                                       static_cast<int64_t>(step.sequences.size()),
                                       last,
                                       static_cast<int64_t>(entries),
                                       number(step.memory),
                                       number(kv.data),
                                       number(step.kv.back().data),
                                       kv.page_stride_bytes,
                                       kv.page_rows,
                                       number(own[0]),
                                       number(own[1]),
                                       number(own[2]),
                                       owner};
  if (recordings_.size() > kMostRecordings && !recordings_.contains(key)) clear();
  auto& r = recordings_[key];
  if (r == nullptr) {
    r = std::make_unique<Recording>();
    r->id = next_id_++;
  }
  if (r->graph != nullptr) {
    // The step before has been read, so that its copies are done.
    FATHOM_CUDA_CHECK(cudaStreamSynchronize(stream_));
    uploads_.refill(*r->uploads, step);
    FATHOM_CUDA_CHECK(cudaGraphLaunch(r->graph, stream_));
    last_position_ = -1;
    return {.done = true, .recording = r->id, .owner = owner};
  }
  if (++r->seen < 2) return {.owner = owner};
  r->uploads = std::make_unique<RecordedUploads>(entries);
  r->uploads->tokens = step.token_ids.data();
  r->uploads->positions = step.positions.data();
  uploads_.record(r->uploads.get());
  active_ = r.get();
  FATHOM_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  return {.done = false, .recording = r->id, .owner = owner};
}

void StepRecorder::end() {
  last_position_ = -1;
  if (active_ == nullptr) return;
  uploads_.record(nullptr);
  cudaGraph_t graph = nullptr;
  FATHOM_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
  FATHOM_CUDA_CHECK(cudaGraphInstantiate(&active_->graph, graph, 0));
  FATHOM_CUDA_CHECK(cudaGraphDestroy(graph));
  FATHOM_CUDA_CHECK(cudaGraphLaunch(active_->graph, stream_));
  active_ = nullptr;
}

}  // namespace fathom::cuda
