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
  // The same of the pages that only the last tokens need (KvPages::window); −1 where one has been
  // given back.
  std::span<const int32_t> window_pages;
};

// One kind of rows that a layer keeps in the paged cache: one for every token, or one for every
// tokens_per_row tokens. Row `index` (a position / tokens_per_row) of a sequence stands at
// data + table[index / page_rows] * page_stride_bytes + (index % page_rows) * row_bytes.
struct KvPages {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t page_rows = 0;
  int64_t page_stride_bytes = 0;
  int64_t row_elements = 0;
  int64_t tokens_per_row = 1;
  bool window = false;  // in the pages of the last tokens

  int64_t row_bytes() const { return dtype_row_bytes(dtype, row_elements); }
  std::span<const int32_t> table(const SequenceRows& s) const {
    return window ? s.window_pages : s.pages;
  }
  std::byte* row(std::span<const int32_t> table, int64_t index) const {
    return data + table[static_cast<std::size_t>(index / page_rows)] * page_stride_bytes +
           (index % page_rows) * row_bytes();
  }
  std::byte* row(const SequenceRows& s, int64_t index) const { return row(table(s), index); }
  // How many whole rows the token at `position` sees: those whose last token is not behind it.
  int64_t visible_rows(int64_t position) const { return (position + 1) / tokens_per_row; }
};

}  // namespace fathom
