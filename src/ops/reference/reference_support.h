// What the files of ReferenceOps share. Internal to this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/kv_pages.h"
#include "ops/simulation.h"
#include "tensor/tensor_view.h"
#include "tensor/weight_view.h"

namespace fathom::reference {

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
// ln(1 + exp(x)), without overflow.
inline float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }

// Softmax in place.
void softmax(std::span<float> v);

// Indices of the k largest values, largest first, ties to the lower index.
std::vector<int64_t> top_k(const std::vector<float>& values, int64_t k);

// The rows that a token attends to: those of `selected` (ops.h: SelectRowsArgs), or all of the
// `visible` ones if nothing had to be left out.
std::vector<int64_t> attended(const TensorView& selected, int64_t token, int64_t visible);

// One row of ops.h: SimulateArgs.
void simulate_row(std::span<float> x, const Simulation& simulation);

// A float32 row of the cache.
inline const float* cached_row(const KvPages& kv, const SequenceRows& s, int64_t index) {
  return reinterpret_cast<const float*>(kv.row(s, index));
}

// Calls f(row, sequence, position) for every row of the step.
template <typename F>
void for_each_row(std::span<const SequenceRows> sequences, const F& f) {
  for (const SequenceRows& s : sequences)
    for (int64_t i = 0; i < s.num_rows; ++i) f(s.first_row + i, s, s.start_position + i);
}

}  // namespace fathom::reference
