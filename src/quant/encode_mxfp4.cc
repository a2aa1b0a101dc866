// Encoder of MXFP4: 32 E2M1 codes that share a power of two.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "quant/encode.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

// Where a magnitude in units of the scale goes to the next code: the middles between two codes,
// with ties to the even one, as IEEE formats round.
constexpr std::array<float, 7> kMiddles = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};

uint8_t nearest_code(float v) {
  const float magnitude = std::fabs(v);
  uint8_t code = 0;
  for (uint8_t i = 0; i < kMiddles.size(); ++i) {
    const bool beyond = i % 2 == 0 ? magnitude > kMiddles[i] : magnitude >= kMiddles[i];
    code = static_cast<uint8_t>(code + (beyond ? 1 : 0));
  }
  return static_cast<uint8_t>(code | (std::signbit(v) ? 8 : 0));
}

using Codes = std::array<uint8_t, kBlock>;

// Σ w · error² of the nearest codes with scale 2^(e − 127), which go to `codes`.
double round_with(const float* x, const float* w, int e, Codes& codes) {
  const float scale = f8e8m0_to_f32(static_cast<uint8_t>(e));
  double error = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = nearest_code(x[i] / scale);
    const double d = double{x[i]} - double{f4e2m1_to_f32(codes[i])} * double{scale};
    error += double{w[i]} * d * d;
  }
  return error;
}

}  // namespace

// The specification's scale takes the largest magnitude to 4 … 8 and cuts off what is above 6. The
// scale below cuts off more, for blocks of one large weight that does not matter; the scale above
// cuts off nothing.
void encode_block(const float* x, const float* w, BlockMXFP4& out) {
  float largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const int plain = largest > 0 ? std::ilogb(largest) - 2 + 127 : 0;
  Codes best{};
  double least = INFINITY;
  for (int e = plain - 1; e <= plain + 1; ++e) {
    Codes codes;
    const int within = std::clamp(e, 0, 254);
    const double error = round_with(x, w, within, codes);
    if (!(error < least)) continue;
    least = error;
    best = codes;
    out.e = static_cast<uint8_t>(within);
  }
  for (std::size_t i = 0; i < 16; ++i)
    out.qs[i] = static_cast<uint8_t>(best[i] | best[i + 16] << 4);
}

}  // namespace fathom::quant
