// StepUploads: what the host knows of a step, copied to the device: indices, and where the rows of
// a step stand in the cache. Valid until reset(), which the next step begins with.
#pragma once

#include <cuda_runtime_api.h>

#include <span>
#include <vector>

#include "backend/cuda/kernels/kernels.h"
#include "ops/ops.h"
#include "tensor/tensor_view.h"

namespace fathom::cuda {

// What a recorded step copies to the device: from pinned memory, which refill() fills anew.
struct RecordedUploads {
  // page_entries: room of the page tables.
  explicit RecordedUploads(std::size_t page_entries);
  ~RecordedUploads();
  RecordedUploads(const RecordedUploads&) = delete;
  RecordedUploads& operator=(const RecordedUploads&) = delete;

  std::size_t page_entries, bytes;
  std::byte* memory;
  std::size_t used = 0;
  enum class What : uint8_t { kConstant, kTokens, kPositions, kRows, kPages };
  struct Copy {
    What what;
    std::byte* to;
    std::size_t bytes;
  };
  std::vector<Copy> copies;
  const void *tokens = nullptr, *positions = nullptr;  // while it is recorded
};

class StepUploads {
 public:
  StepUploads(cudaStream_t stream, Memory& memory) : stream_(stream), memory_(memory) {}

  void reset();
  // From now on what is put goes through `recording`; null: no more.
  void record(RecordedUploads* recording) { recording_ = recording; }
  // Fills a recording for another step. The device must have taken what was there.
  void refill(RecordedUploads& recording, const StepShape& step);
  // Where the next copy will stand on the device.
  const std::byte* next() const { return memory_.next(); }
  // Entries of the page tables of these sequences.
  static std::size_t page_entries(std::span<const SequenceRows> sequences);
  template <typename T>
  const T* put(std::span<const T> values) {
    return reinterpret_cast<const T*>(put_bytes(values.data(), values.size_bytes()));
  }
  // The rows and page tables of a step's sequences; the same sequences again get the same copy.
  StepTables tables(std::span<const SequenceRows> sequences);

 private:
  using What = RecordedUploads::What;
  const std::byte* put_bytes(const void* data, std::size_t bytes, What what = What::kConstant);
  void list(std::span<const SequenceRows> sequences);  // into rows_ and pages_

  cudaStream_t stream_;
  Workspace memory_;
  RecordedUploads* recording_ = nullptr;
  std::vector<RowInfo> rows_;
  std::vector<int32_t> pages_;
  std::span<const SequenceRows> known_;
  StepTables tables_;
};

}  // namespace fathom::cuda
