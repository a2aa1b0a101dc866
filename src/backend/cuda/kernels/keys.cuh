// Which cached rows a row of the step attends to. Internal to kernels/.
#pragma once

#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {

// The keys of a row: how many, and where each stands.
struct KeyList {
  int32_t window = 0, window_start = 0, count = 0;
  bool chosen = false;
};
__device__ inline KeyList key_list(const AttendArgs& a, int64_t r, const RowInfo& info) {
  KeyList k;
  if (a.window.data != nullptr) {
    k.window_start = max(info.position + 1 - a.window_tokens, 0);
    k.window = info.position + 1 - k.window_start;
  }
  k.count = k.window;
  if (a.keys.data == nullptr) return k;
  const int32_t visible = (info.position + 1) / a.keys.tokens_per_row;
  const auto most = static_cast<int32_t>(a.selected.cols);
  k.chosen = a.selected.data != nullptr && visible > most;
  if (!k.chosen) {
    k.count += visible;
    return k;
  }
  // Written in ascending order, then −1.
  int32_t low = 0, high = most;
  while (low < high) {
    const int32_t mid = (low + high) / 2;
    if (a.selected.row(r)[mid] >= 0)
      low = mid + 1;
    else
      high = mid;
  }
  k.count += low;
  return k;
}
__device__ inline const uint8_t* key_row(const AttendArgs& a, const KeyList& k, int64_t r,
                                         const RowInfo& info, int32_t i) {
  if (i < k.window) return cached_row(a.window, a.tables, info, k.window_start + i);
  i -= k.window;
  return cached_row(a.keys, a.tables, info, k.chosen ? a.selected.row(r)[i] : i);
}

}  // namespace fathom::cuda
