// The decoders against an independent source (testdata/decoded_blocks.py) and against blocks made
// by hand, one field at a time.
#include "quant/codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "quant/blocks.h"
#include "tensor/float_formats.h"

namespace fathom::quant {
namespace {

constexpr uint16_t kOne = 0x3C00, kTwo = 0x4000, kHalf = 0x3800;  // F16

template <class Block>
std::vector<float> decoded(DType type, const Block& block) {
  std::vector<float> out(static_cast<std::size_t>(dtype_block(type).elements));
  decode(type, reinterpret_cast<const std::byte*>(&block), dtype_block(type).elements, out.data());
  return out;
}

// Bit by bit: the formulas have one order of operations, and both sides follow it. Only the sign of
// MXFP4's negative zero is lost there.
TEST(Codec, DecodesAsThePythonPackageDoes) {
  const std::string path = FATHOM_SOURCE_DIR "/src/quant/testdata/decoded_blocks.bin";
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << path;
  const std::string data((std::istreambuf_iterator<char>(file)), {});
  int types = 0;
  for (std::size_t at = 0; at < data.size(); ++types) {
    ASSERT_LE(at + 16, data.size());
    const std::string name(data.c_str() + at);
    uint32_t bytes = 0, count = 0;
    std::memcpy(&bytes, data.data() + at + 8, 4);
    std::memcpy(&count, data.data() + at + 12, 4);
    at += 16;
    ASSERT_LE(at + bytes + 4 * count, data.size());
    const auto type = dtype_from_name(name);
    ASSERT_TRUE(type.has_value()) << name;
    ASSERT_EQ(dtype_row_bytes(*type, count), bytes) << name;
    std::vector<float> expected(count), actual(count);
    std::memcpy(expected.data(), data.data() + at + bytes, 4 * count);
    decode(*type, reinterpret_cast<const std::byte*>(data.data() + at), count, actual.data());
    for (uint32_t i = 0; i < count; ++i) {
      ASSERT_TRUE(std::bit_cast<uint32_t>(actual[i]) == std::bit_cast<uint32_t>(expected[i]) ||
                  (actual[i] == 0 && expected[i] == 0 && name == "MXFP4"))
          << name << " element " << i << ": " << actual[i] << ", expected " << expected[i];
    }
    at += bytes + 4 * count;
  }
  EXPECT_EQ(types, 11);
}

TEST(Codec, Q4HasTheSecondHalfInTheHighBits) {
  BlockQ4_0 b{.d = kHalf, .qs = {}};
  b.qs[3] = 0xF1;
  const auto v = decoded(DType::kQ4_0, b);
  EXPECT_EQ(v[3], 0.5f * (1 - 8));
  EXPECT_EQ(v[19], 0.5f * (15 - 8));
  EXPECT_EQ(v[0], 0.5f * -8);
  BlockQ4_1 c{.d = kTwo, .m = kHalf, .qs = {}};
  c.qs[15] = 0x2D;
  const auto u = decoded(DType::kQ4_1, c);
  EXPECT_EQ(u[15], 2.0f * 13 + 0.5f);
  EXPECT_EQ(u[31], 2.0f * 2 + 0.5f);
  EXPECT_EQ(u[14], 0.5f);
}

TEST(Codec, Q5HasTheFifthBitsApart) {
  BlockQ5_0 b{.d = kOne, .qh = {0x02, 0, 0, 0x80}, .qs = {}};
  b.qs[1] = 0x03;
  b.qs[15] = 0x40;
  const auto v = decoded(DType::kQ5_0, b);
  EXPECT_EQ(v[1], 3 + 16 - 16);
  EXPECT_EQ(v[31], 4 + 16 - 16);
  EXPECT_EQ(v[15], -16);
  BlockQ5_1 c{.d = kOne, .m = kTwo, .qh = {0, 1, 1, 0}, .qs = {}};
  const auto u = decoded(DType::kQ5_1, c);
  EXPECT_EQ(u[8], 18);
  EXPECT_EQ(u[16], 18);
  EXPECT_EQ(u[0], 2);
}

TEST(Codec, Q8HasSignedBytes) {
  BlockQ8_0 b{.d = kHalf, .qs = {}};
  b.qs[0] = -128;
  b.qs[31] = 127;
  const auto v = decoded(DType::kQ8_0, b);
  EXPECT_EQ(v[0], -64.0f);
  EXPECT_EQ(v[31], 63.5f);
}

TEST(Codec, Q2KFields) {
  BlockQ2_K b{.scales = {}, .qs = {}, .d = kTwo, .dmin = kOne};
  b.scales[5] = 0x37;        // group 5: elements 80 … 95: scale 7, minimum 3
  b.qs[16] = 0b11'10'01'00;  // elements 16, 48, 80, 112
  b.scales[15] = 0x01;       // the last group
  b.qs[63] = 0b10'00'00'00;  // element 255
  const auto v = decoded(DType::kQ2_K, b);
  EXPECT_EQ(v[80], 2.0f * 7 * 2 - 3);
  EXPECT_EQ(v[81], -3);
  EXPECT_EQ(v[255], 2.0f * 1 * 2);
  EXPECT_EQ(v[112], 0);
}

TEST(Codec, Q3KFields) {
  BlockQ3_K b{.hmask = {}, .qs = {}, .scales = {}, .d = kOne};
  // Scales are stored plus 32: group 0 is 0b10'0011 = 35 (3), group 9 is 0b01'0101 = 21 (−11).
  b.scales[0] = 0x03;
  b.scales[1] = 0x50;
  b.scales[8] = 0b00'00'00'10;
  b.scales[9] = 0b00'01'00'00;
  b.hmask[2] = 0b0001'0001;  // elements 2 and 130
  b.qs[2] = 0b01;            // element 2
  b.qs[32 + 16] = 0b10;      // element 144, group 9, without its high bit
  const auto v = decoded(DType::kQ3_K, b);
  EXPECT_EQ(v[2], 3 * (5 - 4));
  EXPECT_EQ(v[3], 3 * (0 - 4));
  EXPECT_EQ(v[144], -11 * (2 - 4));
  EXPECT_EQ(v[130], -32 * (4 - 4));
  EXPECT_EQ(v[131], -32 * (0 - 4));
}

TEST(Codec, Q4KAndQ5KFields) {
  BlockQ4_K b{.d = kOne, .dmin = kTwo, .scales = {}, .qs = {}};
  b.scales[1] = 63 | 0b10 << 6;  // scale of group 1, high bits of group 5's scale
  b.scales[5] = 9 | 0b11 << 6;   // minimum of group 1, high bits of group 5's minimum
  b.scales[9] = 0x4A;            // low bits of group 5: scale 10, minimum 4
  b.qs[0] = 0xB0;                // element 32 (group 1)
  b.qs[64 + 31] = 0x70;          // element 191 (group 5)
  const auto v = decoded(DType::kQ4_K, b);
  EXPECT_EQ(v[32], 63 * 11 - 2 * 9);
  EXPECT_EQ(v[33], -2 * 9);
  EXPECT_EQ(v[191], (10 + 32) * 7 - 2 * (4 + 48));
  EXPECT_EQ(v[0], 0);
  BlockQ5_K c{.d = b.d, .dmin = b.dmin, .scales = {}, .qh = {}, .qs = {}};
  std::memcpy(c.scales, b.scales, sizeof(c.scales));
  std::memcpy(c.qs, b.qs, sizeof(c.qs));
  c.qh[31] = 1 << 5;
  const auto u = decoded(DType::kQ5_K, c);
  EXPECT_EQ(u[32], 63 * 11 - 2 * 9);
  EXPECT_EQ(u[191], (10 + 32) * (7 + 16) - 2 * (4 + 48));
}

TEST(Codec, Q6KFields) {
  BlockQ6_K b{.ql = {}, .qh = {}, .scales = {}, .d = kHalf};
  b.scales[10] = -5;         // elements 160 … 175
  b.ql[64 + 32] = 0x0C;      // elements 160 (low) and 224 (high)
  b.qh[32] = 0b00'00'11'00;  // element 160
  b.scales[15] = 127;
  b.ql[127] = 0x90;  // element 255
  const auto v = decoded(DType::kQ6_K, b);
  EXPECT_EQ(v[160], 0.5f * -5 * (12 + 48 - 32));
  EXPECT_EQ(v[161], 0.5f * -5 * -32);
  EXPECT_EQ(v[255], 0.5f * 127 * (9 - 32));
}

TEST(Codec, Mxfp4Fields) {
  BlockMXFP4 b{.e = 128, .qs = {}};  // scale 2
  b.qs[0] = 0x7F;                    // −6, and 6 in element 16
  b.qs[3] = 0x19;                    // −0.5, and 0.5 in element 19
  b.qs[15] = 0x28;                   // −0, and 1 in element 31
  const auto v = decoded(DType::kMXFP4, b);
  EXPECT_EQ(v[0], -12);
  EXPECT_EQ(v[16], 12);
  EXPECT_EQ(v[3], -1);
  EXPECT_EQ(v[19], 1);
  EXPECT_EQ(v[15], 0);
  EXPECT_EQ(v[31], 2);
  b.e = 0;  // 2^−127, below the normal numbers
  EXPECT_EQ(decoded(DType::kMXFP4, b)[0], -6 * std::ldexp(1.0f, -127));
  EXPECT_EQ(decoded(DType::kMXFP4, b)[19], std::ldexp(1.0f, -128));
  b.e = 254;
  EXPECT_EQ(decoded(DType::kMXFP4, b)[31], std::ldexp(1.0f, 127));
  b.e = 255;
  for (const float each : decoded(DType::kMXFP4, b)) EXPECT_TRUE(std::isnan(each));
}

TEST(Codec, PlainFloatsAndUnalignedBlocks) {
  std::vector<std::byte> bytes(1 + sizeof(BlockQ8_0));
  BlockQ8_0 b{.d = kOne, .qs = {}};
  b.qs[7] = 42;
  std::memcpy(bytes.data() + 1, &b, sizeof(b));
  float out[32];
  decode(DType::kQ8_0, bytes.data() + 1, 32, out);
  EXPECT_EQ(out[7], 42);
  const uint16_t half = kTwo, brain = f32_to_bf16(-3.0f);
  decode(DType::kF16, reinterpret_cast<const std::byte*>(&half), 1, out);
  EXPECT_EQ(out[0], 2.0f);
  decode(DType::kBF16, reinterpret_cast<const std::byte*>(&brain), 1, out);
  EXPECT_EQ(out[0], -3.0f);
}

}  // namespace
}  // namespace fathom::quant
