// block_dot.h in plain C++: for machines without any of the vector kernels, and what those are
// tested against.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/block_dot.h"
#include "base/check.h"
#include "quant/blocks.h"
#include "quant/k_scales.h"
#include "tensor/float_formats.h"

namespace fathom::cpu {
namespace {

// 128 weights of one row as block_dot.h decomposes them.
struct Groups {
  int size = 32;  // elements of a group
  int offset = 0;
  uint8_t u[kInputBlock] = {};
  float scales[8] = {};
  float mins[4] = {};  // m_g; all zero where the format has none
  bool has_mins = false;
  int k_mins[8] = {};
  bool has_k_mins = false;
  float dmin = 0;
};

template <class Block>
Block load(const uint8_t* p) {
  Block b;
  std::memcpy(&b, p, sizeof(b));
  return b;
}

// `blocks` blocks of 32 elements. `set` fills group g of `out` from a block.
template <class Block, class Set>
Groups small_groups(const uint8_t* row, int64_t index, int blocks, const Set& set) {
  Groups out;
  for (int g = 0; g < blocks; ++g)
    set(load<Block>(row + (4 * index + g) * static_cast<int64_t>(sizeof(Block))), g, out);
  return out;
}

uint8_t nibble(const uint8_t* qs, int i) {
  return static_cast<uint8_t>(i < 16 ? qs[i] & 15 : qs[i - 16] >> 4);
}
uint8_t five_bits(const uint8_t* qs, const uint8_t* qh, int i) {
  return static_cast<uint8_t>(nibble(qs, i) | (qh[i / 8] >> (i % 8) & 1) << 4);
}

template <class Block>
Groups k_groups(const uint8_t* row, int64_t index) {
  const auto b = load<Block>(row + index / 2 * static_cast<int64_t>(sizeof(Block)));
  Groups out;
  const int first = static_cast<int>(index % 2) * 4;
  const float d = f16_to_f32(b.d);
  out.has_k_mins = true;
  out.dmin = f16_to_f32(b.dmin);
  for (int g = 0; g < 4; ++g) {
    const quant::ScaleMin s = quant::q4_k_scale_min(b.scales, first + g);
    out.scales[g] = d * static_cast<float>(s.scale);
    out.k_mins[g] = s.min;
    for (int l = 0; l < 32; ++l) {
      int u = b.qs[(first + g) / 2 * 32 + l] >> (g % 2 * 4) & 15;
      if constexpr (sizeof(Block) == sizeof(quant::BlockQ5_K))
        u |= (b.qh[l] >> (first + g) & 1) << 4;
      out.u[32 * g + l] = static_cast<uint8_t>(u);
    }
  }
  return out;
}

Groups q6_k_groups(const uint8_t* row, int64_t index) {
  const auto b = load<quant::BlockQ6_K>(row + index / 2 * 210);
  Groups out{.size = 16, .offset = 32};
  const int half = static_cast<int>(index % 2);
  for (int g = 0; g < 8; ++g)
    out.scales[g] = f16_to_f32(b.d) * static_cast<float>(b.scales[8 * half + g]);
  for (int i = 0; i < kInputBlock; ++i) {
    const int j = i / 32, l = i % 32;
    const int low = b.ql[64 * half + 32 * (j % 2) + l] >> (j / 2 * 4) & 15;
    out.u[i] = static_cast<uint8_t>(low | (b.qh[32 * half + l] >> (2 * j) & 3) << 4);
  }
  return out;
}

Groups q2_k_groups(const uint8_t* row, int64_t index) {
  const auto b = load<quant::BlockQ2_K>(row + index / 2 * 84);
  Groups out{.size = 16};
  const int half = static_cast<int>(index % 2);
  out.has_k_mins = true;
  out.dmin = f16_to_f32(b.dmin);
  for (int g = 0; g < 8; ++g) {
    out.scales[g] = f16_to_f32(b.d) * static_cast<float>(b.scales[8 * half + g] & 15);
    out.k_mins[g] = b.scales[8 * half + g] >> 4;
  }
  for (int i = 0; i < kInputBlock; ++i)
    out.u[i] = static_cast<uint8_t>(b.qs[32 * half + i % 32] >> (i / 32 * 2) & 3);
  return out;
}

Groups q3_k_groups(const uint8_t* row, int64_t index) {
  const auto b = load<quant::BlockQ3_K>(row + index / 2 * 110);
  Groups out{.size = 16, .offset = 4};
  const int half = static_cast<int>(index % 2);
  for (int g = 0; g < 8; ++g)
    out.scales[g] = f16_to_f32(b.d) * static_cast<float>(quant::q3_k_scale(b.scales, 8 * half + g));
  for (int i = 0; i < kInputBlock; ++i) {
    const int j = i / 32, l = i % 32;
    const int low = b.qs[32 * half + l] >> (2 * j) & 3;
    out.u[i] = static_cast<uint8_t>(low | (b.hmask[l] >> (4 * half + j) & 1) << 2);
  }
  return out;
}

// Group g of 16 bytes with E2M1 codes.
void set_f4_group(const uint8_t* qs, uint8_t e, int g, Groups& out) {
  out.offset = 12;
  out.scales[g] = 0.5f * f8e8m0_to_f32(e);
  for (int i = 0; i < 32; ++i)
    out.u[32 * g + i] = static_cast<uint8_t>(2.0f * f4e2m1_to_f32(nibble(qs, i)) + 12.0f);
}

// Of F4_E2M1: in the order of the inputs (InputOrder::kEvenThenOdd), which is that of the bits.
Groups f4_groups(const uint8_t* row, const uint8_t* exponents, int64_t index, int blocks) {
  Groups out;
  for (int g = 0; g < blocks; ++g)
    set_f4_group(row + (4 * index + g) * 16, exponents[4 * index + g], g, out);
  return out;
}

Groups groups(DType type, const uint8_t* row, const uint8_t* exponents, int64_t index, int blocks) {
  switch (type) {
    case DType::kF4E2M1:
      return f4_groups(row, exponents, index, blocks);
    case DType::kMXFP4:
      return small_groups<quant::BlockMXFP4>(
          row, index, blocks, [](auto b, int g, Groups& out) { set_f4_group(b.qs, b.e, g, out); });
    case DType::kQ4_0:
      return small_groups<quant::BlockQ4_0>(row, index, blocks, [](auto b, int g, Groups& out) {
        out.offset = 8;
        out.scales[g] = f16_to_f32(b.d);
        for (int i = 0; i < 32; ++i) out.u[32 * g + i] = nibble(b.qs, i);
      });
    case DType::kQ4_1:
      return small_groups<quant::BlockQ4_1>(row, index, blocks, [](auto b, int g, Groups& out) {
        out.has_mins = true;
        out.scales[g] = f16_to_f32(b.d);
        out.mins[g] = f16_to_f32(b.m);
        for (int i = 0; i < 32; ++i) out.u[32 * g + i] = nibble(b.qs, i);
      });
    case DType::kQ5_0:
      return small_groups<quant::BlockQ5_0>(row, index, blocks, [](auto b, int g, Groups& out) {
        out.offset = 16;
        out.scales[g] = f16_to_f32(b.d);
        for (int i = 0; i < 32; ++i) out.u[32 * g + i] = five_bits(b.qs, b.qh, i);
      });
    case DType::kQ5_1:
      return small_groups<quant::BlockQ5_1>(row, index, blocks, [](auto b, int g, Groups& out) {
        out.has_mins = true;
        out.scales[g] = f16_to_f32(b.d);
        out.mins[g] = f16_to_f32(b.m);
        for (int i = 0; i < 32; ++i) out.u[32 * g + i] = five_bits(b.qs, b.qh, i);
      });
    case DType::kQ8_0:
      return small_groups<quant::BlockQ8_0>(row, index, blocks, [](auto b, int g, Groups& out) {
        out.offset = 128;
        out.scales[g] = f16_to_f32(b.d);
        for (int i = 0; i < 32; ++i) out.u[32 * g + i] = static_cast<uint8_t>(b.qs[i] + 128);
      });
    case DType::kQ2_K:
      return q2_k_groups(row, index);
    case DType::kQ3_K:
      return q3_k_groups(row, index);
    case DType::kQ4_K:
      return k_groups<quant::BlockQ4_K>(row, index);
    case DType::kQ5_K:
      return k_groups<quant::BlockQ5_K>(row, index);
    case DType::kQ6_K:
      return q6_k_groups(row, index);
    default:
      FATHOM_CHECK(false) << "no kernel for " << dtype_name(type);
      return {};
  }
}

// One input block times one row's groups: `part` of block_dot.h.
float dot_block(const Groups& w, const int8_t* q, int64_t elements) {
  float part = 0;
  int min_sum = 0;
  for (int g = 0; g * w.size < elements; ++g) {
    int product = 0, sum = 0;
    for (int i = g * w.size; i < (g + 1) * w.size; ++i) {
      product += (w.u[i] - w.offset) * q[i];
      sum += q[i];
    }
    part = std::fma(static_cast<float>(product), w.scales[g], part);
    if (w.has_mins) part = std::fma(static_cast<float>(sum), w.mins[g], part);
    min_sum += w.k_mins[g] * sum;
  }
  return w.has_k_mins ? std::fma(static_cast<float>(min_sum), -w.dmin, part) : part;
}

}  // namespace

void block_dot_portable(const BlockDotArgs& a) {
  for (int64_t n = a.n0; n < a.n1; ++n) {
    const uint8_t* row = a.weights + n * a.row_bytes;
    const uint8_t* exponents =
        a.exponents == nullptr ? nullptr : a.exponents + n * (a.cols / quant::kBlock);
    for (int64_t i = 0; i < a.m; ++i) a.y[i][n] = 0;
    for (int64_t k = 0; k < a.cols; k += kInputBlock) {
      const int64_t elements = std::min(kInputBlock, a.cols - k);
      const Groups w = groups(a.type, row, exponents, k / kInputBlock,
                              static_cast<int>(elements / quant::kBlock));
      for (int64_t i = 0; i < a.m; ++i)
        a.y[i][n] = std::fma(dot_block(w, a.x[i].q + k, elements), a.x[i].scales[k / kInputBlock],
                             a.y[i][n]);
    }
  }
}

}  // namespace fathom::cpu
