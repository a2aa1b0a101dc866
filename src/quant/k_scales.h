// The packed 6-bit scales of the K formats (blocks.h says where the bits are).
#pragma once

#include <cstdint>

namespace fathom::quant {

struct ScaleMin {
  int scale = 0, min = 0;  // 0 … 63
};

// Group 0 … 7 of a Q4_K or Q5_K block.
inline ScaleMin q4_k_scale_min(const uint8_t (&s)[12], int group) {
  if (group < 4) return {s[group] & 63, s[4 + group] & 63};
  return {(s[4 + group] & 15) | (s[group - 4] >> 6) << 4, s[4 + group] >> 4 | (s[group] >> 6) << 4};
}

// Group 0 … 15 of a Q3_K block: −32 … 31.
inline int q3_k_scale(const uint8_t (&s)[12], int group) {
  const int low = group < 8 ? s[group] & 15 : s[group - 8] >> 4;
  return (low | (s[8 + group % 4] >> (2 * (group / 4)) & 3) << 4) - 32;
}

}  // namespace fathom::quant
