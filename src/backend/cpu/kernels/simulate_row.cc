// Values rounded to what a short type would hold. Plain loops that the compiler turns into vectors:
// a few thousand values a token, beside products of millions.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "backend/cpu/kernels/kernels.h"
#include "base/check.h"

namespace fathom::cpu {
namespace {

// Butterflies: step `width` adds and subtracts what stands `width` apart.
void hadamard(float* x, int64_t n) {
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * width) {
      float *low = x + begin, *high = low + width;
      for (int64_t i = 0; i < width; ++i) {
        const float a = low[i], b = high[i];
        low[i] = a + b;
        high[i] = a - b;
      }
    }
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
  for (int64_t i = 0; i < n; ++i) x[i] *= scale;
}

constexpr uint32_t kExponent = 0x7F800000u;

// The least power of two that is not below v, a positive normal number.
float power_of_two_from(float v) {
  const auto bits = std::bit_cast<uint32_t>(v);
  return std::bit_cast<float>((bits & kExponent) + ((bits & ~kExponent) != 0 ? 0x00800000u : 0u));
}

// `ulp_shift`: 2^23 over the codes between two powers of two, so that adding and subtracting
// 2^exponent · ulp_shift rounds to a code, as float32 rounds: to nearest even.
void round_block(float* x, int64_t n, float max, float least_amax, float least_normal,
                 float ulp_shift) {
  float amax = least_amax;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    finite &= (std::bit_cast<uint32_t>(x[i]) & kExponent) != kExponent;
    amax = std::max(amax, std::fabs(x[i]));
  }
  if (!finite) return;
  const float scale = power_of_two_from(amax * (1.0f / max)), inverse = 1.0f / scale;
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = std::fabs(x[i]) * inverse;
    const float power = std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) & kExponent);
    const float shift = std::max(power, least_normal) * ulp_shift;
    x[i] = std::copysign((magnitude + shift - shift) * scale, x[i]);
  }
}

}  // namespace

void simulate_row(float* x, int64_t n, const Simulation& s) {
  if (s.hadamard) {
    FATHOM_CHECK(std::has_single_bit(static_cast<uint64_t>(n))) << n;
    hadamard(x, n);
  }
  if (s.type == SimulatedType::kNone) return;
  // From a power of two to the next there are 8 codes in FP8, 2 in FP4.
  const bool fp8 = s.type == SimulatedType::kFp8;
  const float least_normal = fp8 ? 0x1p-6f : 1.0f, ulp_shift = fp8 ? 0x1p20f : 0x1p22f;
  for (int64_t i = 0; i < n; i += s.block)
    round_block(x + i, std::min(s.block, n - i), s.max(), s.least_amax(), least_normal, ulp_shift);
}

}  // namespace fathom::cpu
