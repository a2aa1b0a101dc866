#include "apps/synthetic_blocks.h"

#include <cstring>

#include "base/check.h"
#include "quant/blocks.h"

namespace fathom {
namespace {

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
class Random {
 public:
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_ = 1;
};

// Bits of the half-precision value 2^exponent · (1 + eighths / 8), exponent >= −14.
constexpr uint16_t half(int exponent, int eighths = 0) {
  return static_cast<uint16_t>((exponent + 15) << 10 | eighths << 7);
}
constexpr uint16_t kNegative = 0x8000;

// `block` holds random bytes; its scales become such that the weights are small and centred. What
// each scale has to be follows from the value formulas in quant/blocks.h. `finer` halves them.
void set_scales(quant::BlockQ4_0& b, int finer) { b.d = half(-8 - finer); }
void set_scales(quant::BlockQ4_1& b, int finer) {
  b.d = half(-8 - finer);
  b.m = kNegative | half(-6 - finer, 7);  // −7.5 d
}
void set_scales(quant::BlockQ5_0& b, int finer) { b.d = half(-9 - finer); }
void set_scales(quant::BlockQ5_1& b, int finer) {
  b.d = half(-9 - finer);
  b.m = kNegative | half(-6 - finer, 7);  // −15 d
}
void set_scales(quant::BlockQ8_0& b, int finer) { b.d = half(-11 - finer); }
void set_scales(quant::BlockQ2_K& b, int finer) {
  b.d = half(-8 - finer);
  b.dmin = half(-8 - finer, 4);  // 1.5 d: the mean of q is 1.5, those of s and m are equal
}
void set_scales(quant::BlockQ3_K& b, int finer) { b.d = half(-11 - finer); }
void set_scales(quant::BlockQ4_K& b, int finer) {
  b.d = half(-13 - finer);
  b.dmin = half(-11 - finer, 7);  // 7.5 d
}
void set_scales(quant::BlockQ5_K& b, int finer) {
  b.d = half(-13 - finer);
  b.dmin = half(-10 - finer, 7);  // 15 d
}
void set_scales(quant::BlockQ6_K& b, int finer) {
  for (int8_t& s : b.scales) s = static_cast<int8_t>(40 + (static_cast<uint8_t>(s) & 31));
  b.d = static_cast<uint16_t>(0x0100 >> finer);  // 2^−16, below the normal numbers
}

void set_scales(quant::BlockMXFP4& b, int finer) { b.e = static_cast<uint8_t>(120 - finer); }

template <typename Block>
void fill_blocks(std::vector<std::byte>& out, Random& random) {
  for (std::size_t at = 0; at < out.size(); at += sizeof(Block)) {
    Block block;
    std::memcpy(&block, out.data() + at, sizeof(Block));
    set_scales(block, static_cast<int>(random.next() & 1));
    std::memcpy(out.data() + at, &block, sizeof(Block));
  }
}

// Single floats of random sign and mantissa and a fixed exponent: magnitudes 2^−7 to 2^−6.
template <typename Word>
void fill_floats(std::vector<std::byte>& out, Word keep, Word exponent) {
  for (std::size_t at = 0; at < out.size(); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, out.data() + at, sizeof(Word));
    word = static_cast<Word>((word & keep) | exponent);
    std::memcpy(out.data() + at, &word, sizeof(Word));
  }
}

}  // namespace

bool has_random_blocks(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 ||
         is_block_quantized(type);
}

bool has_random_codes(DType type) {
  return type == DType::kF8E4M3 || type == DType::kI8 || type == DType::kF8E8M0;
}

std::vector<std::byte> random_blocks(DType type, int64_t blocks) {
  FATHOM_CHECK(has_random_blocks(type) || has_random_codes(type)) << dtype_name(type);
  Random random;
  std::vector<std::byte> out(static_cast<std::size_t>(blocks * dtype_block(type).bytes));
  for (std::size_t at = 0; at < out.size(); at += sizeof(uint64_t)) {
    const uint64_t word = random.next();
    std::memcpy(out.data() + at, &word, std::min(sizeof(word), out.size() - at));
  }
  switch (type) {
    case DType::kF32:
      fill_floats<uint32_t>(out, 0x807FFFFF, 120u << 23);
      break;
    case DType::kF16:
      fill_floats<uint16_t>(out, 0x83FF, 8u << 10);
      break;
    case DType::kF8E4M3:  // 1 to 2
      fill_floats<uint8_t>(out, 0x87, 7u << 3);
      break;
    case DType::kI8:  // any two codes
      break;
    case DType::kF8E8M0:  // 2^−8 and 2^−7
      fill_floats<uint8_t>(out, 1, 118);
      break;
    case DType::kBF16:
      fill_floats<uint16_t>(out, 0x807F, 120u << 7);
      break;
    case DType::kQ4_0:
      fill_blocks<quant::BlockQ4_0>(out, random);
      break;
    case DType::kQ4_1:
      fill_blocks<quant::BlockQ4_1>(out, random);
      break;
    case DType::kQ5_0:
      fill_blocks<quant::BlockQ5_0>(out, random);
      break;
    case DType::kQ5_1:
      fill_blocks<quant::BlockQ5_1>(out, random);
      break;
    case DType::kQ8_0:
      fill_blocks<quant::BlockQ8_0>(out, random);
      break;
    case DType::kQ2_K:
      fill_blocks<quant::BlockQ2_K>(out, random);
      break;
    case DType::kQ3_K:
      fill_blocks<quant::BlockQ3_K>(out, random);
      break;
    case DType::kQ4_K:
      fill_blocks<quant::BlockQ4_K>(out, random);
      break;
    case DType::kQ5_K:
      fill_blocks<quant::BlockQ5_K>(out, random);
      break;
    case DType::kQ6_K:
      fill_blocks<quant::BlockQ6_K>(out, random);
      break;
    case DType::kMXFP4:
      fill_blocks<quant::BlockMXFP4>(out, random);
      break;
    default:
      break;
  }
  return out;
}

}  // namespace fathom
