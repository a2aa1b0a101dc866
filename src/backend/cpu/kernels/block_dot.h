// Products with block-quantised weights (quant/blocks.h) or F4_E2M1, and int8 inputs: one function
// per instruction set, picked at run time. Knows raw rows only; CpuOps cuts matrices into tasks.
//
// THE ARITHMETIC. Every instruction set, batch and tile gives the same bits, because sums within a
// group are integers and the float operations are these, in this order, for every output:
//   a weight of group g is  s_g · (u − offset) + m_g,  u an unsigned byte (groups are 32 or 16
//   elements, as the format has them; s_g = d · scale rounded to float32);
//   for each input block b of 128 elements (the last may have 32, 64 or 96):
//     part = 0
//     for each group g in b:   part = fma(Σ (u − offset)·q, s_g, part)
//                              part = fma(Σ q, m_g, part)          only Q4_1, Q5_1
//     part = fma(Σ_g min_g · Σ q, −dmin, part)                      only Q2_K, Q4_K, Q5_K
//     acc  = fma(part, scale_b, acc)
// q being the int8 inputs of the block and scale_b their scale. E2M1 codes are integers once they
// are doubled: u = 2 · code + 12, offset 12, s_g = 2^(e − 128). block_dot_portable is that, written
// down; the others are tested to equal it bit by bit.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace fathom::cpu {

// Elements that share one scale of the int8 inputs: as in DeepSeek-V3's own FP8 recipe
// (arXiv:2412.19437, §3.3.2).
inline constexpr int64_t kInputBlock = 128;

// The order of 32 inputs in memory: that in which the weights stand in their bytes, so that both
// are read side by side. F4_E2M1 has two neighbours in a byte, so the 16 even inputs come before
// the 16 odd ones; everywhere else the order is the natural one.
enum class InputOrder : uint8_t { kNatural, kEvenThenOdd };
inline InputOrder input_order(DType weights) {
  return weights == DType::kF4E2M1 ? InputOrder::kEvenThenOdd : InputOrder::kNatural;
}

// A row of inputs as int8: x[k] ≈ q[k] · scales[k / 128] in the natural order. The length is a
// multiple of 32.
struct Int8Row {
  const int8_t* q = nullptr;        // −127 … 127, in input_order() of the weights
  const float* scales = nullptr;    // [cols / 128 rounded up]
  const int16_t* sums32 = nullptr;  // Σ q of each 32
  const int16_t* sums16 = nullptr;  // Σ q of each 16
};

// y[i][n] = x[i] · row n for i < m, n in [n0, n1).
struct BlockDotArgs {
  DType type = DType::kQ8_0;
  const uint8_t* weights = nullptr;    // row 0; the rows stand one behind another
  const uint8_t* exponents = nullptr;  // of F4_E2M1: [rows, cols / 32], F8_E8M0
  int64_t row_bytes = 0;
  int64_t cols = 0;
  int64_t rows = 0;  // of the whole matrix; n1 <= rows. Beyond n1 they are only prefetched
  int64_t n0 = 0, n1 = 0;
  const Int8Row* x = nullptr;  // [m]
  int64_t m = 0;
  float* const* y = nullptr;  // [m][n]
};
using BlockDot = void (*)(const BlockDotArgs&);

void block_dot_portable(const BlockDotArgs& args);
#if defined(__x86_64__)
void block_dot_avx2(const BlockDotArgs& args);     // AVX2, FMA, F16C
void block_dot_avxvnni(const BlockDotArgs& args);  // AVX2 with AVX-VNNI
void block_dot_avx512(const BlockDotArgs& args);   // AVX-512 F, BW, VL, DQ, VNNI
#elif defined(__aarch64__)
void block_dot_neon(const BlockDotArgs& args);  // dot product extension
#endif

// Those that this machine can run, the best first. Names: "avx512-vnni", "avx-vnni", "avx2",
// "neon-dotprod", "portable".
struct BlockDotKernel {
  BlockDot function;
  const char* name;
};
std::span<const BlockDotKernel> block_dot_kernels();

// Bytes between what is read of a stream of weights and what is asked for: hardware follows streams
// too, but stops at the end of a page. On a Xeon of 2023 1 KiB is best; on a Zen 4 4 KiB (Q8_0 +22
// %, Q6_K +17 %).
int64_t bytes_asked_ahead();

// x as an Int8Row whose arrays are given: q [cols] in `order`, scales [cols / 128 rounded up],
// sums32 [cols / 32], sums16 [cols / 16] (of the natural order). scale = max|x| / 127; q = x · (127
// / max|x|) rounded to nearest even. A NaN makes the scale of its block NaN. `rest` [cols], if
// given: x − q · scale, in the natural order.
void quantize_row(const float* x, int64_t cols, InputOrder order, int8_t* q, float* scales,
                  int16_t* sums32, int16_t* sums16, float* rest = nullptr);

}  // namespace fathom::cpu
