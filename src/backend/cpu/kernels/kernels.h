// The CPU kernels: functions on rows of floats, compiled for every instruction set and picked at
// run time.
//
// Every result depends only on its own row and its own column: never on how many rows or columns a
// call covers. That makes logits independent of batch, chunk and threads (ARCHITECTURE.md,
// "Determinism").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ops/simulation.h"
#include "tensor/weight_view.h"

namespace fathom::cpu {

// The instruction set in use, e.g. "AVX3".
std::string_view target_name();

// y[i][n] = Σ_k x[i][k] · w(n, k) for i < m, n in [n0, n1). x[i]: [w.cols]; y[i]: [w.rows].
void dot_rows(const float* const* x, int64_t m, const WeightView& w, int64_t n0, int64_t n1,
              float* const* y);

// Row `row` of a weight as float32, scales applied.
void decode_row(const WeightView& w, int64_t row, float* out);

// out = weight · x / sqrt(mean(x²) + eps); out may be x. A null weight is 1.
void rms_norm_row(const float* x, const float* weight, int64_t n, float eps, float* out);
// x += delta
void add_row(float* x, const float* delta, int64_t n);
// y += a · x
void axpy_row(float a, const float* x, int64_t n, float* y);
// gate = silu(gate) · up
void silu_mul_row(float* gate, const float* up, int64_t n);
// Rotates dims channels of one head (ops.h: RopeArgs). cos, sin: [dims / 2].
void rope_half_row(float* x, const float* cos, const float* sin, int64_t dims);
void rope_pairs_row(float* x, const float* cos, const float* sin, int64_t dims);

// Rounds a row to what another type would hold (ops/simulation.h).
void simulate_row(float* x, int64_t n, const Simulation& simulation);

// A cache row in the cache's type: F16 and BF16 rounded to nearest even; Q8_0 as blocks of 32 of
// the row (quant/blocks.h).
void encode_kv_row(DType type, const float* row, int64_t elements, std::byte* out);
// Elements [offset, offset + elements) of a cache row as float32.
void decode_kv_slice(DType type, const std::byte* row, int64_t offset, int64_t elements,
                     float* out);

}  // namespace fathom::cpu
