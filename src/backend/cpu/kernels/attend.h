// Attention of up to 16 queries at once over the same rows of the cache (flash attention,
// arXiv:2205.14135, on pages): the heads of one token that share keys, or neighbouring tokens of a
// prompt.
//
// Keys are taken in chunks of kAttendChunk, each with a state of its own, and the states are merged
// in the order of the chunks; a query's result depends on neither the other queries nor on which
// thread took which chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "tensor/dtype.h"

namespace fathom::cpu {

inline constexpr int kAttendQueries = 16;
inline constexpr int64_t kAttendChunk = 512;

// Where the keys and values are.
struct AttendRows {
  const uint8_t* data = nullptr;  // of the layer
  const int32_t* pages = nullptr;
  DType dtype = DType::kF32;
  int64_t page_tokens = 0, page_stride_bytes = 0, row_bytes = 0;
  int64_t key_offset = 0, key_dim = 0;  // elements of a row
  int64_t value_offset = 0, value_dim = 0;
};

struct AttendQuery {
  const float* q = nullptr;  // [key_dim]
  int64_t num_keys = 0;      // the query sees keys [0, num_keys)
  float* out = nullptr;      // [value_dim]
  // A logit that adds to the denominator alone.
  float sink = -std::numeric_limits<float>::infinity();
};

// Softmax so far: weights relative to `max`, their sum, and the weighted sum of values.
struct AttendState {
  float* max = nullptr;  // [16]
  float* sum = nullptr;  // [16]
  float* acc = nullptr;  // [16][value_dim rounded up to 16], in an order of its own
};

struct AttendKernel {
  // Queries, times `scale`, as the kernel takes them. panel: [key_dim * 16] floats, 64-byte
  // aligned.
  void (*pack)(const AttendQuery* queries, int count, int64_t key_dim, float scale,
               std::byte* panel);
  // The state of keys [begin, end), within one chunk.
  void (*chunk)(const AttendRows& rows, const AttendQuery* queries, int count,
                const std::byte* panel, int64_t begin, int64_t end, const AttendState& state);
  // total = total merged with the state of the chunk that follows.
  void (*merge)(int count, int64_t value_dim, const AttendState& total, const AttendState& next);
  void (*finish)(const AttendQuery* queries, int count, int64_t value_dim,
                 const AttendState& total);
};

// What a kernel has to be able to take.
struct AttendNeeds {
  DType dtype = DType::kF32;
  int64_t page_tokens = 0, key_dim = 0, value_dim = 0;
};
// The fastest that this machine and these needs allow.
const AttendKernel& attend_kernel(const AttendNeeds& needs);

}  // namespace fathom::cpu
