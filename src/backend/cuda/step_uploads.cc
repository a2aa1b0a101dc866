#include "backend/cuda/step_uploads.h"

#include <cstring>

#include "backend/cuda/device.h"

namespace fathom::cuda {

void StepUploads::reset() {
  memory_.reset();
  known_ = {};
}

namespace {

// Of one recorded step beside its page tables: tokens of at most 64 rows, rope's frequencies.
constexpr std::size_t kRecordedBytes = std::size_t{512} << 10;

}  // namespace

RecordedUploads::RecordedUploads(std::size_t entries)
    : page_entries(entries),
      bytes(kRecordedBytes + entries * sizeof(int32_t)),
      memory(pinned_memory().allocate(bytes)) {
  FATHOM_CHECK(memory != nullptr) << "no pinned memory for a recorded step";
}
RecordedUploads::~RecordedUploads() { pinned_memory().release(memory); }

const std::byte* StepUploads::put_bytes(const void* data, std::size_t bytes, What what) {
  std::size_t room = bytes;
  if (recording_ != nullptr) {
    if (what == What::kPages) room = recording_->page_entries * sizeof(int32_t);
    if (data == recording_->tokens) what = What::kTokens;
    if (data == recording_->positions) what = What::kPositions;
  }
  auto* const to = memory_.array<std::byte>(static_cast<int64_t>(room));
  if (room == 0) return to;
  if (recording_ != nullptr) {
    std::byte* const pinned = recording_->memory + recording_->used;
    recording_->used += (room + 63) / 64 * 64;
    FATHOM_CHECK(bytes <= room && recording_->used <= recording_->bytes) << bytes << " " << room;
    std::memcpy(pinned, data, bytes);
    recording_->copies.push_back({what, pinned, room});
    data = pinned;
  }
  // From memory that is not pinned: the call has taken the bytes when it returns.
  FATHOM_CUDA_CHECK(cudaMemcpyAsync(to, data, room, cudaMemcpyHostToDevice, stream_));
  return to;
}

std::size_t StepUploads::page_entries(std::span<const SequenceRows> sequences) {
  std::size_t entries = 0;
  for (const SequenceRows& s : sequences) entries += s.pages.size() + s.window_pages.size();
  return entries;
}

void StepUploads::list(std::span<const SequenceRows> sequences) {
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
}

StepTables StepUploads::tables(std::span<const SequenceRows> sequences) {
  if (known_.data() == sequences.data() && known_.size() == sequences.size() && !known_.empty())
    return tables_;
  list(sequences);
  const auto* const rows = put_bytes(rows_.data(), rows_.size() * sizeof(RowInfo), What::kRows);
  const auto* const pages = put_bytes(pages_.data(), pages_.size() * sizeof(int32_t), What::kPages);
  tables_ = {reinterpret_cast<const RowInfo*>(rows), reinterpret_cast<const int32_t*>(pages)};
  known_ = sequences;
  return tables_;
}

void StepUploads::refill(RecordedUploads& recording, const StepShape& step) {
  list(step.sequences);
  for (const RecordedUploads::Copy& c : recording.copies) {
    const auto fill = [&](const void* data, std::size_t bytes) {
      FATHOM_CHECK(bytes <= c.bytes) << bytes << " " << c.bytes;
      std::memcpy(c.to, data, bytes);
    };
    switch (c.what) {
      case What::kConstant:
        break;
      case What::kTokens:
        fill(step.token_ids.data(), step.token_ids.size_bytes());
        break;
      case What::kPositions:
        fill(step.positions.data(), step.positions.size_bytes());
        break;
      case What::kRows:
        fill(rows_.data(), rows_.size() * sizeof(RowInfo));
        break;
      case What::kPages:
        fill(pages_.data(), pages_.size() * sizeof(int32_t));
        break;
    }
  }
}

}  // namespace fathom::cuda
