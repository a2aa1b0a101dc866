// The scalar conversions, checked over all of their inputs against the definitions of the formats.
#include "tensor/float_formats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace fathom {
namespace {

// The value of sign, exponent and mantissa fields by the formats' common definition.
double value_of(int sign, int exponent, int mantissa, int mantissa_bits, int bias) {
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return sign != 0 ? -magnitude : magnitude;
}

TEST(FloatFormats, EveryF16) {
  for (int v = 0; v < 65536; ++v) {
    const int sign = v >> 15, exponent = (v >> 10) & 31, mantissa = v & 1023;
    const float f = f16_to_f32(static_cast<uint16_t>(v));
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(f), mantissa != 0) << v;
      EXPECT_EQ(std::isinf(f), mantissa == 0) << v;
    } else {
      EXPECT_EQ(f, value_of(sign, exponent, mantissa, 10, 15)) << v;
    }
    EXPECT_EQ(std::signbit(f), sign != 0) << v;
  }
}

TEST(FloatFormats, RoundingToF16) {
  for (int v = 0; v < 0x7C00; ++v) {
    const auto bits = static_cast<uint16_t>(v);
    const float f = f16_to_f32(bits);
    ASSERT_EQ(f32_to_f16(f), bits);
    ASSERT_EQ(f32_to_f16(-f), bits | 0x8000);
    // The middle to the next value goes to the even one, what lies beside it to the nearer one.
    const auto middle = static_cast<float>(
        v == 0x7BFF ? 65520.0 : (f + static_cast<double>(f16_to_f32(bits + 1))) / 2);
    ASSERT_EQ(f32_to_f16(middle), bits + (bits & 1)) << v;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), bits) << v;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9f)), bits + 1) << v;
  }
  EXPECT_EQ(f32_to_f16(1e9f), 0x7C00);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::infinity()), 0xFC00);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(0x7F800001)))));
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(0xFFFFFFFF)))));
}

TEST(FloatFormats, EveryF8E4M3) {
  for (int v = 0; v < 256; ++v) {
    const int sign = v >> 7, exponent = (v >> 3) & 15, mantissa = v & 7;
    const float f = f8e4m3_to_f32(static_cast<uint8_t>(v));
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(f)) << v;
    } else {
      EXPECT_EQ(f, value_of(sign, exponent, mantissa, 3, 7)) << v;
      EXPECT_EQ(std::signbit(f), sign != 0) << v;
    }
  }
  EXPECT_EQ(f8e4m3_to_f32(0x7E), 448);
  EXPECT_EQ(f8e4m3_to_f32(0x38), 1);
  EXPECT_EQ(f8e4m3_to_f32(0x01), std::ldexp(1.f, -9));
}

// Sign and the magnitudes of the OCP Microscaling Formats 1.0 specification, table 5.
TEST(FloatFormats, EveryF4E2M1) {
  constexpr float kMagnitudes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (int v = 0; v < 16; ++v) {
    for (const int above : {0, 0x50, 0xF0}) {  // the neighbour in the byte does not matter
      const float f = f4e2m1_to_f32(static_cast<uint8_t>(v | above));
      EXPECT_EQ(f, v < 8 ? kMagnitudes[v] : -kMagnitudes[v - 8]) << v;
      EXPECT_EQ(std::signbit(f), v >= 8) << v;
    }
    EXPECT_EQ(f4e2m1_to_f32(static_cast<uint8_t>(v)), value_of(v >> 3, v >> 1 & 3, v & 1, 1, 1));
  }
}

TEST(FloatFormats, EveryF8E8M0) {
  for (int v = 0; v < 255; ++v)
    EXPECT_EQ(f8e8m0_to_f32(static_cast<uint8_t>(v)), std::ldexp(1.0f, v - 127)) << v;
  EXPECT_EQ(f8e8m0_to_f32(0), std::ldexp(1.0f, -127));
  EXPECT_EQ(f8e8m0_to_f32(254), std::ldexp(1.0f, 127));
  EXPECT_TRUE(std::isnan(f8e8m0_to_f32(255)));
}

TEST(FloatFormats, EveryBf16ComesBack) {
  for (int v = 0; v < 65536; ++v) {
    const auto bits = static_cast<uint16_t>(v);
    const float f = bf16_to_f32(bits);
    EXPECT_EQ(std::bit_cast<uint32_t>(f) >> 16, bits);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(f)))) << v;
    } else {
      EXPECT_EQ(f32_to_bf16(f), bits) << v;
    }
  }
}

TEST(FloatFormats, RoundingToBf16GoesToTheNearestAndToEven) {
  const auto rounded = [](uint32_t bits) { return f32_to_bf16(std::bit_cast<float>(bits)); };
  EXPECT_EQ(rounded(0x3F807FFF), 0x3F80);  // below the middle
  EXPECT_EQ(rounded(0x3F808000), 0x3F80);  // the middle, to even
  EXPECT_EQ(rounded(0x3F808001), 0x3F81);  // above
  EXPECT_EQ(rounded(0x3F818000), 0x3F82);  // the middle, to even
  EXPECT_EQ(rounded(0xBF818000), 0xBF82);
  EXPECT_EQ(rounded(0x3FFFFFFF), 0x4000);  // the carry reaches the exponent
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);  // and infinity
  EXPECT_EQ(f32_to_bf16(-std::numeric_limits<float>::infinity()), 0xFF80);
  EXPECT_EQ(rounded(0x00008001), 0x0001);  // denormal
  EXPECT_EQ(rounded(0x80000000), 0x8000);
  // A NaN whose payload lies only in the lower half would otherwise become infinity.
  EXPECT_TRUE(std::isnan(bf16_to_f32(rounded(0x7F800001))));
  EXPECT_TRUE(std::isnan(bf16_to_f32(rounded(0xFFFFFFFF))));
}

}  // namespace
}  // namespace fathom
