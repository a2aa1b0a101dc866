// Encoders of the formats with one scale (and one minimum) a block of 32: Q4_0, Q4_1, Q5_0, Q5_1,
// Q8_0.
#include <array>
#include <cstdint>
#include <cstring>

#include "quant/encode.h"
#include "quant/fit.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

// One more round: the integers that `code` gives, and the best scale for those.
float refit_scale(const Group& g, float scale, IntRange range) {
  const RoundedSums<1> s = rounded_sums<1>(g, {0.0f}, {inverse(scale)}, range);
  return s.wqq[0] > 0 ? s.wxq[0] / s.wqq[0] : scale;
}

// The best of some scales as the file can hold them. `plain` is what rounding to nearest takes.
Affine choose_scale(const Group& g, float plain, IntRange range) {
  const float fitted = fit_scale(g, range);
  const float again = refit_scale(g, fitted, range);
  const std::array<Affine, 4> codes = {{{stored(plain), 0},
                                        {stored(fitted), 0},
                                        {stored(again), 0},
                                        {stored(refit_scale(g, again, range)), 0}}};
  return codes[least(rounding_errors(g, codes, range))];
}

Affine refit_affine(const Group& g, const Affine& code, IntRange range) {
  const RoundedSums<1> s = rounded_sums<1>(g, {code.offset}, {inverse(code.scale)}, range);
  float w = 0, wx = 0;
  for (int i = 0; i < g.n; ++i) {
    w += g.w[i];
    wx += g.w[i] * g.x[i];
  }
  const float det = w * s.wqq[0] - s.wq[0] * s.wq[0];
  if (!(det > 0)) return code;
  return {(w * s.wxq[0] - wx * s.wq[0]) / det, (s.wqq[0] * wx - s.wq[0] * s.wxq[0]) / det};
}

Affine choose_affine(const Group& g, IntRange range) {
  const Affine fitted = fit_affine(g, range, false);
  const Affine again = refit_affine(g, fitted, range);
  std::array<Affine, 4> codes = {
      {plain_affine(g, range, false), fitted, again, refit_affine(g, again, range)}};
  for (Affine& c : codes) c = {stored(c.scale), stored(c.offset)};
  return codes[least(rounding_errors(g, codes, range))];
}

using Integers = std::array<int, kBlock>;

Integers integers(const Group& g, const Affine& code, IntRange range) {
  Integers q;
  const float inv = inverse(code.scale);
  for (std::size_t i = 0; i < q.size(); ++i)
    q[i] = static_cast<int>(round_into((g.x[i] - code.offset) * inv, range));
  return q;
}

void pack_low(const Integers& q, uint8_t (&qs)[16]) {
  for (std::size_t i = 0; i < 16; ++i)
    qs[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
}

void pack_fifth(const Integers& q, uint8_t (&qh)[4]) {
  uint32_t bits = 0;
  for (std::size_t i = 0; i < q.size(); ++i) bits |= static_cast<uint32_t>(q[i] >> 4 & 1) << i;
  std::memcpy(qh, &bits, sizeof(bits));
}

Integers shifted(Integers q, int by) {
  for (int& v : q) v += by;
  return q;
}

}  // namespace

void encode_block(const float* x, const float* w, BlockQ4_0& out) {
  const Group g{x, w, kBlock};
  const IntRange range{-8, 7};
  const Affine code = choose_scale(g, plain_scale(g, 8), range);
  out.d = f32_to_f16(code.scale);
  pack_low(shifted(integers(g, code, range), 8), out.qs);
}

void encode_block(const float* x, const float* w, BlockQ4_1& out) {
  const Group g{x, w, kBlock};
  const IntRange range{0, 15};
  const Affine code = choose_affine(g, range);
  out.d = f32_to_f16(code.scale);
  out.m = f32_to_f16(code.offset);
  pack_low(integers(g, code, range), out.qs);
}

void encode_block(const float* x, const float* w, BlockQ5_0& out) {
  const Group g{x, w, kBlock};
  const IntRange range{-16, 15};
  const Affine code = choose_scale(g, plain_scale(g, 16), range);
  const Integers q = shifted(integers(g, code, range), 16);
  out.d = f32_to_f16(code.scale);
  pack_low(q, out.qs);
  pack_fifth(q, out.qh);
}

void encode_block(const float* x, const float* w, BlockQ5_1& out) {
  const Group g{x, w, kBlock};
  const IntRange range{0, 31};
  const Affine code = choose_affine(g, range);
  const Integers q = integers(g, code, range);
  out.d = f32_to_f16(code.scale);
  out.m = f32_to_f16(code.offset);
  pack_low(q, out.qs);
  pack_fifth(q, out.qh);
}

// Not −128: kernels may rely on −q fitting a byte.
void encode_block(const float* x, const float* w, BlockQ8_0& out) {
  const Group g{x, w, kBlock};
  const IntRange range{-127, 127};
  const Affine code = choose_scale(g, plain_scale(g, -127), range);
  const Integers q = integers(g, code, range);
  out.d = f32_to_f16(code.scale);
  for (std::size_t i = 0; i < q.size(); ++i) out.qs[i] = static_cast<int8_t>(q[i]);
}

}  // namespace fathom::quant
