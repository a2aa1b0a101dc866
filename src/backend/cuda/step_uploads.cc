#include "backend/cuda/step_uploads.h"

#include "backend/cuda/device.h"

namespace fathom::cuda {

void StepUploads::reset() {
  memory_.reset();
  known_ = {};
}

const std::byte* StepUploads::put_bytes(const void* data, std::size_t bytes) {
  auto* const to = memory_.array<std::byte>(static_cast<int64_t>(bytes));
  // From memory that is not pinned: the call has taken the bytes when it returns.
  if (bytes > 0)
    FATHOM_CUDA_CHECK(cudaMemcpyAsync(to, data, bytes, cudaMemcpyHostToDevice, stream_));
  return to;
}

StepTables StepUploads::tables(std::span<const SequenceRows> sequences) {
  if (known_.data() == sequences.data() && known_.size() == sequences.size() && !known_.empty())
    return tables_;
  rows_.clear();
  pages_.clear();
  for (const SequenceRows& s : sequences) {
    RowInfo row;
    row.table = static_cast<int32_t>(pages_.size());
    pages_.insert(pages_.end(), s.pages.begin(), s.pages.end());
    row.window_table = static_cast<int32_t>(pages_.size());
    pages_.insert(pages_.end(), s.window_pages.begin(), s.window_pages.end());
    FATHOM_CHECK(s.first_row == static_cast<int64_t>(rows_.size())) << s.first_row;
    for (int64_t i = 0; i < s.num_rows; ++i) {
      row.position = static_cast<int32_t>(s.start_position + i);
      rows_.push_back(row);
    }
  }
  tables_ = {put(std::span<const RowInfo>(rows_)), put(std::span<const int32_t>(pages_))};
  known_ = sequences;
  return tables_;
}

}  // namespace fathom::cuda
