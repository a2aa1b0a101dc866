// The block formats of GGUF files: how a block of weights is laid out in memory. Layouts and value
// formulas after the GGUF documentation (github.com/ggml-org/ggml, docs/gguf.md) and the Python
// package `gguf` (gguf.quants). All integers little-endian; F16 is IEEE half precision; blocks have
// no padding and no alignment.
//
// Decoding and encoding are in codec.h; the CPU's kernels read these structs in place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fathom::quant {

inline constexpr int kBlock = 32;        // elements of a Q4_0 … Q8_0 and MXFP4 block
inline constexpr int kSuperBlock = 256;  // elements of a Q2_K … Q6_K block

// w[i] = d · (q[i] − 8); q[i] for i < 16 in the low halves of qs[i], i >= 16 in the high halves of
// qs[i − 16].
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];
};
// w[i] = d · q[i] + m, q as in Q4_0.
struct BlockQ4_1 {
  uint16_t d, m;
  uint8_t qs[16];
};
// w[i] = d · (q[i] − 16); bits 0–3 of q as in Q4_0, bit 4 is bit i of qh (32 bits, little-endian).
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};
// w[i] = d · q[i] + m, q as in Q5_0.
struct BlockQ5_1 {
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};
// w[i] = d · qs[i].
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};
// 16 groups of 16: w = d · (scales[g] & 15) · q − dmin · (scales[g] >> 4). Half h (128 elements)
// takes qs[32h, 32h + 32); element 32j + l of it is bits 2j, 2j + 1 of qs[32h + l].
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d, dmin;
};
// 16 groups of 16: w = d · (s[g] − 32) · (q − 4), q: low two bits as in Q2_K, bit 2 of element
// 128h + 32j + l is bit 4h + j of hmask[l]. s[g], 6 bits: low four in scales[g] (g < 8, low half)
// or scales[g − 8] (high half); high two: bits 2(g / 4), 2(g / 4) + 1 of scales[8 + g % 4].
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;
};
// 8 groups of 32: w = d · s[g] · q − dmin · m[g]. Elements 64j + l are the low halves of
// qs[32j + l], elements 64j + 32 + l the high ones. s and m, 6 bits each: for g < 4 the low six of
// scales[g] and scales[4 + g]; for g >= 4 their low four are the low and high half of
// scales[4 + g], their high two the high two of scales[g − 4] and scales[g].
struct BlockQ4_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
// As Q4_K with a fifth bit: bit g of qh[l] for element l of group g.
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
// 16 groups of 16: w = d · scales[g] · (q − 32). Half h (128 elements) takes ql[64h, +64) and
// qh[32h, +32); with l < 32: elements l, 32 + l, 64 + l, 96 + l have as low four bits the low
// halves of ql[l], ql[32 + l], then the high halves of ql[l], ql[32 + l], and as high two bits 0–1,
// 2–3, 4–5, 6–7 of qh[l].
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};
// w[i] = 2^(e − 127) · the E2M1 code q[i] (tensor/float_formats.h), q as in Q4_0. e = 255 is NaN,
// as in the specification of the element (OCP Microscaling Formats 1.0); ggml takes it as 2^128.
struct BlockMXFP4 {
  uint8_t e;
  uint8_t qs[16];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && sizeof(BlockMXFP4) == 17);

}  // namespace fathom::quant
