// What attention ops see of the KV cache: the pages of one layer, and the page tables of a step.
//
// The cache itself (allocation, sharing, eviction) belongs to engine/; ops read and write rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace fathom {

// Every position of a sequence belongs to one of two arithmetic classes, and the class alone picks
// the kernels that compute it: never the batch, the chunk, the threads or what happened to the
// process (ARCHITECTURE.md, "Determinism").
enum class PositionClass : uint8_t { kPrompt, kGenerated };

// The rows of a step that belong to one sequence. Within a step, sequences of class kPrompt come
// first.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t start_position = 0;  // tokens in the cache before this step
  PositionClass position_class = PositionClass::kPrompt;
  std::span<const int32_t> pages;  // page ids, covering start_position + num_rows tokens
};

// One layer's rows in the paged cache. Row of token position p in a sequence with page table
// `pages`: data + pages[p / page_tokens] * page_stride_bytes + (p % page_tokens) * row_bytes.
struct KvPages {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t page_tokens = 0;
  int64_t page_stride_bytes = 0;
  int64_t row_elements = 0;

  int64_t row_bytes() const { return dtype_row_bytes(dtype, row_elements); }
  std::byte* row(std::span<const int32_t> pages, int64_t position) const {
    return data + pages[static_cast<std::size_t>(position / page_tokens)] * page_stride_bytes +
           (position % page_tokens) * row_bytes();
  }
};

}  // namespace fathom
