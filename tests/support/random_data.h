// Random matrices, weights and paged caches for op tests. Everything is a function of a seed.
#pragma once

#include <gtest/gtest.h>

#include <hwy/targets.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/kernels/kernels.h"
#include "ops/ops.h"
#include "tensor/float_formats.h"

namespace fathom::test {

// Runs f once for every instruction set this machine has and the kernels were built for.
template <typename F>
void for_each_target(const F& f) {
  int runs = 0;
  for (int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
    const int64_t target = left & -left;
    hwy::GetChosenTarget().Update(target);
    if (cpu::target_name() == hwy::TargetName(target)) {
      SCOPED_TRACE(cpu::target_name());
      f();
      ++runs;
    }
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  EXPECT_GE(runs, 1);
}

// A matrix with `pad` floats between its rows and its first element `pad` floats into its memory,
// so that rows are neither aligned nor adjacent.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t cols, int64_t pad = 0)
      : data_(static_cast<std::size_t>(pad + rows * (cols + pad)), 1e30f),
        view_{reinterpret_cast<std::byte*>(data_.data() + pad), DType::kF32, rows, cols,
              cols + pad} {}
  Matrix(const Matrix&) = delete;

  Matrix& fill(std::mt19937& rng, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    for (int64_t r = 0; r < view_.rows; ++r)
      for (int64_t c = 0; c < view_.cols; ++c) view_.f32(r)[c] = normal(rng);
    return *this;
  }
  Matrix& copy(const Matrix& other) {
    for (int64_t r = 0; r < view_.rows; ++r)
      std::memcpy(view_.f32(r), other.view_.f32(r), static_cast<std::size_t>(view_.cols) * 4);
    return *this;
  }
  const TensorView& view() const { return view_; }

 private:
  std::vector<float> data_;
  TensorView view_;
};

// A weight of any type, and the memory it needs.
class Weight {
 public:
  Weight(std::mt19937& rng, DType dtype, int64_t rows, int64_t cols, int64_t block = 0) {
    const std::size_t n = static_cast<std::size_t>(rows * cols);
    if (dtype == DType::kF4E2M1) {
      make_f4(rng, rows, cols);
      return;
    }
    bytes_.resize(n * dtype_bytes(dtype) + 64);
    view_ = {.data = bytes_.data(), .dtype = dtype, .rows = rows, .cols = cols};
    std::normal_distribution<float> normal(0, 1);
    for (std::size_t i = 0; i < n; ++i) {
      const float v = normal(rng);
      std::byte* p = bytes_.data() + i * dtype_bytes(dtype);
      switch (dtype) {
        case DType::kF32:
          std::memcpy(p, &v, 4);
          break;
        case DType::kBF16: {
          const uint16_t b = f32_to_bf16(v);
          std::memcpy(p, &b, 2);
          break;
        }
        case DType::kF16: {
          // Any finite pattern will do: sign, exponent up to 2^3, mantissa.
          const auto b = static_cast<uint16_t>((rng() & 0x83FF) | ((rng() % 18) << 10));
          std::memcpy(p, &b, 2);
          break;
        }
        default: {
          // Subnormals up to 3.75; the large codes have a test of their own.
          const auto b = static_cast<uint8_t>((rng() & 0x80) | (rng() % (9 << 3)));
          std::memcpy(p, &b, 1);
        }
      }
    }
    if (block == 0) return;
    const int64_t scale_rows = (rows + block - 1) / block, scale_cols = (cols + block - 1) / block;
    for (int64_t i = 0; i < scale_rows * scale_cols; ++i)
      scales_.push_back(0.01f * std::fabs(normal(rng)) + 1e-3f);
    view_.scales = scales_.data();
    view_.scale_stride = scale_cols;
    view_.scale_block_rows = view_.scale_block_cols = block;
  }
  Weight(const Weight&) = delete;
  const WeightView& view() const { return view_; }
  operator const WeightView&() const { return view_; }

 private:
  void make_f4(std::mt19937& rng, int64_t rows, int64_t cols) {
    bytes_.resize(static_cast<std::size_t>(rows * cols / 2 + 64));
    for (std::byte& b : bytes_) b = static_cast<std::byte>(rng());
    exponents_.resize(static_cast<std::size_t>(rows * cols / kF4Block));
    for (uint8_t& e : exponents_) e = static_cast<uint8_t>(118 + rng() % 5);  // 2^-9 … 2^-5
    view_ = {.data = bytes_.data() + 3,
             .dtype = DType::kF4E2M1,
             .rows = rows,
             .cols = cols,
             .exponents = exponents_.data()};
  }

  std::vector<std::byte> bytes_;
  std::vector<float> scales_;
  std::vector<uint8_t> exponents_;
  WeightView view_;
};

// Elements may differ by `tolerance` times the largest expected magnitude (sums in another order),
// or times `magnitude`, that of the summands, where the sums may have cancelled.
inline void expect_close(const TensorView& actual, const TensorView& expected, double tolerance,
                         const std::string& what, double magnitude = 1e-6) {
  double scale = magnitude;
  for (int64_t r = 0; r < expected.rows; ++r)
    for (int64_t c = 0; c < expected.cols; ++c)
      scale = std::max(scale, std::fabs(static_cast<double>(expected.f32(r)[c])));
  for (int64_t r = 0; r < expected.rows; ++r) {
    for (int64_t c = 0; c < expected.cols; ++c) {
      const double diff = std::fabs(static_cast<double>(actual.f32(r)[c]) - expected.f32(r)[c]);
      if (diff <= tolerance * scale) continue;
      ADD_FAILURE() << what << ": [" << r << ", " << c << "] is " << actual.f32(r)[c]
                    << ", expected " << expected.f32(r)[c] << " within " << tolerance * scale;
      return;
    }
  }
}

}  // namespace fathom::test
