// Encoders of one block each. Internal to quant/: codec.h has the public function.
//
// x and w: the block's weights and how much each matters (w > 0 somewhere in every group).
#pragma once

#include "quant/blocks.h"

namespace fathom::quant {

// encode_simple.cc: 32 weights.
void encode_block(const float* x, const float* w, BlockQ4_0& out);
void encode_block(const float* x, const float* w, BlockQ4_1& out);
void encode_block(const float* x, const float* w, BlockQ5_0& out);
void encode_block(const float* x, const float* w, BlockQ5_1& out);
void encode_block(const float* x, const float* w, BlockQ8_0& out);

// encode_mxfp4.cc: 32 weights.
void encode_block(const float* x, const float* w, BlockMXFP4& out);

// encode_k.cc: 256 weights.
void encode_block(const float* x, const float* w, BlockQ2_K& out);
void encode_block(const float* x, const float* w, BlockQ3_K& out);
void encode_block(const float* x, const float* w, BlockQ4_K& out);
void encode_block(const float* x, const float* w, BlockQ5_K& out);
void encode_block(const float* x, const float* w, BlockQ6_K& out);

}  // namespace fathom::quant
