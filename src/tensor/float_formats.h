// Scalar conversions between float32 and the short float formats. Obvious and exact: the reference
// that vector kernels are tested against.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace fathom {

inline float bf16_to_f32(uint16_t v) { return std::bit_cast<float>(uint32_t{v} << 16); }

// Round to nearest, ties to even; NaN stays NaN.
inline uint16_t f32_to_bf16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  if (std::isnan(v)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// IEEE 754 binary16.
inline float f16_to_f32(uint16_t v) {
  const uint32_t sign = uint32_t{v & 0x8000u} << 16;
  const uint32_t exponent = (v >> 10) & 31u;
  const uint32_t mantissa = v & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Round to nearest, ties to even; beyond the format's range: infinity. NaN stays NaN.
inline uint16_t f32_to_f16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return sign | 0x7E00u;
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;  // 65520 and above
  if (magnitude < 0x38800000u) {                        // subnormal: units of 2^-24
    const float units = std::bit_cast<float>(magnitude) * 16777216.0f;
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(units)));
  }
  const uint32_t rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

// E4M3, finite variant: S EEEE MMM, bias 7, no infinities, S.1111.111 is NaN.
inline float f8e4m3_to_f32(uint8_t v) {
  if ((v & 0x7F) == 0x7F) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = (v >> 3) & 15;
  const int mantissa = v & 7;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (v & 0x80) != 0 ? -magnitude : magnitude;
}

// E2M1: S EE M, bias 1, no infinities and no NaN; the low four bits of v.
inline float f4e2m1_to_f32(uint8_t v) {
  constexpr float kMagnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return (v & 8) != 0 ? -kMagnitudes[v & 7] : kMagnitudes[v & 7];
}

// E8M0: 2^(v − 127); 255 is NaN.
inline float f8e8m0_to_f32(uint8_t v) {
  if (v == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(v == 0 ? 0x00400000u : uint32_t{v} << 23);  // 2^−127 is subnormal
}

}  // namespace fathom
