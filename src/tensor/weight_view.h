// WeightView: a stored weight matrix in whatever format its file has. Never copied, never owned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "tensor/dtype.h"

namespace fathom {

// How the bytes are laid out, beyond the dtype. Repacked layouts of a backend get ids of their own.
enum class WeightLayout : uint8_t { kRowMajor };

// Elements of a row of F4_E2M1 that share a scale.
inline constexpr int64_t kF4Block = 32;

// A matrix [rows, cols] = [out, in], used as y = x · Wᵀ; a vector has rows 1.
//
// FP8 weights carry one float32 scale per block of scale_block_rows x scale_block_cols elements:
// value(r, c) = data(r, c) * scales[(scale_row0 + r) / scale_block_rows][c / scale_block_cols],
// the blocks at the right and lower edges being smaller (tests/golden/data/NOTES.md §6).
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  WeightLayout layout = WeightLayout::kRowMajor;
  int64_t rows = 0;
  int64_t cols = 0;
  const float* scales = nullptr;  // row-major, scale_stride per block row; nullptr = none
  int64_t scale_block_rows = 0;
  int64_t scale_block_cols = 0;
  int64_t scale_stride = 0;
  int64_t scale_row0 = 0;  // rows of the stored matrix before this view's first
  // Of F4_E2M1: [rows, cols / kF4Block] scales of type F8_E8M0.
  const uint8_t* exponents = nullptr;

  bool defined() const { return data != nullptr; }
  // The values of a float32 weight.
  const float* f32() const {
    FATHOM_CHECK(dtype == DType::kF32) << dtype_name(dtype);
    return reinterpret_cast<const float*>(data);
  }
  int64_t row_bytes() const { return dtype_row_bytes(dtype, cols); }
  int64_t bytes() const { return rows * row_bytes(); }

  // Rows [begin, begin + count): an expert's, a head's or a shard's part.
  WeightView row_range(int64_t begin, int64_t count) const {
    FATHOM_CHECK(begin >= 0 && count >= 0 && begin + count <= rows)
        << begin << "+" << count << " of " << rows;
    WeightView v = *this;
    v.data += begin * row_bytes();
    v.rows = count;
    v.scale_row0 += begin;
    if (exponents != nullptr) v.exponents += begin * (cols / kF4Block);
    return v;
  }
};

}  // namespace fathom
