// What kernels take for the arguments of Ops. Internal to this folder.
#pragma once

#include <algorithm>

#include "backend/cuda/kernels/kernels.h"
#include "ops/ops.h"

namespace fathom::cuda {

// An undefined tensor gives no rows, with data null.
inline F32Rows f32_rows(const TensorView& x) {
  if (x.data == nullptr) return {};
  return {x.f32(0), x.rows, x.cols, x.row_stride};
}
inline I32Rows i32_rows(const TensorView& x) {
  if (x.data == nullptr) return {};
  return {x.i32(0), x.rows, x.cols, x.row_stride};
}

inline DevicePages device_pages(const KvPages& kv) {
  if (kv.data == nullptr) return {};
  return {.data = reinterpret_cast<uint8_t*>(kv.data),
          .dtype = kv.dtype,
          .window = kv.window,
          .page_rows = static_cast<int32_t>(kv.page_rows),
          .row_elements = static_cast<int32_t>(kv.row_elements),
          .tokens_per_row = static_cast<int32_t>(kv.tokens_per_row),
          .page_stride_bytes = kv.page_stride_bytes,
          .row_bytes = kv.row_bytes()};
}

// The last position of a step's rows, and how many rows there are.
struct Extent {
  int64_t rows = 0, last_position = 0;
};
inline Extent extent_of(std::span<const SequenceRows> sequences) {
  Extent e;
  for (const SequenceRows& s : sequences) {
    e.rows += s.num_rows;
    e.last_position = std::max(e.last_position, s.start_position + s.num_rows - 1);
  }
  return e;
}

}  // namespace fathom::cuda
