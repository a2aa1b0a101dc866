// WeightSource: values at every alignment, FP8 with its scales, lifetimes, and the messages for
// tensors that are not what a model asks for.
#include "io/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/test_support.h"
#include "quant/codec.h"

namespace fathom {
namespace {

using test::bytes_of;
using test::safetensors_file;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class MemoryWeights : public WeightSource {
 public:
  // `pad`: extra bytes of header, which move the data's alignment.
  MemoryWeights(const std::vector<test::TestTensor>& tensors, std::size_t pad) {
    const std::string text = safetensors_file(tensors, pad);
    file_.assign(text.begin(), text.end());
    auto parsed = parse_safetensors(std::as_bytes(std::span(file_)), "m.safetensors");
    if (!parsed) ADD_FAILURE() << parsed.error().message;
    tensors_ = *std::move(parsed);
  }
  const StoredTensor* find(std::string_view name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }
  void for_each(
      const std::function<void(const std::string&, const StoredTensor&)>&) const override {}
  std::string description() const override { return "m.safetensors"; }

 private:
  std::vector<char> file_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

std::vector<float> values(const WeightView& w) {
  EXPECT_EQ(w.dtype, DType::kF32);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(w.data) % alignof(float), 0u);
  const auto* p = reinterpret_cast<const float*>(w.data);
  return {p, p + w.rows * w.cols};
}

std::string error_of(const Result<WeightView>& r) { return r ? "" : r.error().message; }

TEST(WeightSource, ReadsTheSameAtEveryAlignment) {
  const std::vector<test::TestTensor> tensors = {
      {"byte", "U8", {1}, "x"},
      {"f32", "F32", {2, 3}, bytes_of<float>({1, -2, 3.5f, 4, 5, 1e30f})},
      {"f16", "F16", {3}, bytes_of<uint16_t>({0x3C00, 0xC000, 0x0001})},
      {"bf16", "BF16", {1, 3}, bytes_of<uint16_t>({0x3F80, 0xC000, 0x4049})},
      {"fp8", "F8_E4M3", {3, 2}, std::string("\x38\xB8\x40\x01\x7E\x00", 6)},
      {"fp8_scale_inv", "F32", {2, 1}, bytes_of<float>({2, 0.5f})},
      {"scalar", "F32", {}, bytes_of<float>({7})}};
  for (std::size_t pad = 0; pad < 8; ++pad) {
    SCOPED_TRACE(pad);
    MemoryWeights w(tensors, pad);
    w.set_scale_block(2, 2);
    const auto f32 = w.matrix("f32", 2, 3);
    ASSERT_TRUE(f32) << f32.error().message;
    EXPECT_EQ(values(*f32), (std::vector<float>{1, -2, 3.5f, 4, 5, 1e30f}));
    EXPECT_EQ(values(*w.vector("f32", 6)), (std::vector<float>{1, -2, 3.5f, 4, 5, 1e30f}));
    EXPECT_EQ(values(*w.vector("f16", 3)), (std::vector<float>{1, -2, std::ldexp(1.f, -24)}));
    EXPECT_EQ(values(*w.vector("bf16", 3)), (std::vector<float>{1, -2, 3.140625f}));
    EXPECT_EQ(values(*w.vector("scalar", 1)), (std::vector<float>{7}));
    const auto bf16 = w.matrix("bf16", 1, 3);
    ASSERT_TRUE(bf16);
    EXPECT_EQ(bf16->dtype, DType::kBF16);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bf16->data) % 2, 0u);
    EXPECT_EQ(reinterpret_cast<const uint16_t*>(bf16->data)[2], 0x4049);
    const auto fp8 = w.matrix("fp8", 3, 2);
    ASSERT_TRUE(fp8) << fp8.error().message;
    EXPECT_EQ(fp8->dtype, DType::kF8E4M3);
    EXPECT_EQ(fp8->scale_stride, 1);
    EXPECT_EQ(fp8->scales[0], 2);
    EXPECT_EQ(fp8->scales[1], 0.5f);
  }
}

TEST(WeightSource, ViewsStayValidWhenATensorIsAskedForAgain) {
  const MemoryWeights w({{"v", "BF16", {2}, bytes_of<uint16_t>({0x3F80, 0x4000})},
                         {"u", "F32", {1}, bytes_of<float>({3})}},
                        1);
  const WeightView first = *w.vector("v", 2);
  const WeightView unaligned = *w.vector("u", 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(w.vector("v", 2)->data, first.data);
    EXPECT_EQ(w.vector("u", 1)->data, unaligned.data);
  }
  EXPECT_EQ(values(first), (std::vector<float>{1, 2}));
  EXPECT_EQ(values(unaligned), (std::vector<float>{3}));
}

TEST(WeightSource, AnEmptyTensorDoesNotDisturbTheOneAtItsAddress) {
  for (std::size_t pad = 0; pad < 4; ++pad) {
    const MemoryWeights w({{"none", "BF16", {0}, ""},
                           {"none32", "F32", {0, 4}, ""},
                           {"v", "BF16", {2}, bytes_of<uint16_t>({0x3F80, 0x4000})}},
                          pad);
    EXPECT_TRUE(w.vector("none", 0));
    const WeightView v = *w.vector("v", 2);
    EXPECT_EQ(w.vector("none", 0)->cols, 0);
    EXPECT_TRUE(w.matrix("none32", 0, 4));
    EXPECT_EQ(values(v), (std::vector<float>{1, 2}));
  }
}

TEST(WeightSource, ErrorsNameTensorSeenAndExpected) {
  const MemoryWeights w({{"a", "F32", {2, 3}, std::string(24, '\0')},
                         {"i", "I64", {2, 1}, std::string(16, '\0')},
                         {"fp8", "F8_E4M3", {2, 2}, "1234"}},
                        0);
  EXPECT_THAT(error_of(w.matrix("b", 4, 5)),
              AllOf(StartsWith("m.safetensors: tensor 'b' is missing"), HasSubstr("[4, 5]")));
  EXPECT_THAT(error_of(w.vector("b", 4)), AllOf(HasSubstr("'b' is missing"), HasSubstr("[4]")));
  EXPECT_THAT(error_of(w.matrix("a", 3, 2)), HasSubstr("'a' has shape [2, 3], expected [3, 2]"));
  EXPECT_THAT(error_of(w.vector("a", 5)), HasSubstr("'a' has shape [2, 3], expected [5]"));
  EXPECT_THAT(
      error_of(w.matrix("i", 2, 1)),
      AllOf(HasSubstr("'i' has type I64"), HasSubstr("expected F32, F16, BF16, F8_E4M3, I8 (two")));
  EXPECT_THAT(error_of(w.vector("i", 2)),
              AllOf(HasSubstr("'i' has type I64"), HasSubstr("expected F32, F16 or BF16")));
  EXPECT_THAT(error_of(w.vector("fp8", 4)), HasSubstr("'fp8' has type F8_E4M3, expected"));
}

TEST(WeightSource, Fp8NeedsScalesOfTheRightShape) {
  const auto with_scales = [](std::string dtype, std::vector<int64_t> shape, std::string data) {
    return std::vector<test::TestTensor>{
        {"w", "F8_E4M3", {3, 5}, std::string(15, '\x38')},
        {"w_scale_inv", std::move(dtype), std::move(shape), std::move(data)}};
  };
  const auto error = [](const std::vector<test::TestTensor>& tensors, bool block = true) {
    MemoryWeights w(tensors, 0);
    if (block) w.set_scale_block(2, 2);
    return error_of(w.matrix("w", 3, 5));
  };
  const std::string six = bytes_of<float>({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(error(with_scales("F32", {2, 3}, six)), "");
  EXPECT_EQ(error(with_scales("BF16", {2, 3}, six.substr(0, 12))), "");
  EXPECT_THAT(error(with_scales("F32", {2, 3}, six), false),
              AllOf(HasSubstr("'w' is F8_E4M3"), HasSubstr("no quantization_config")));
  EXPECT_THAT(error(with_scales("F32", {3, 2}, six)),
              HasSubstr("'w_scale_inv' has shape [3, 2], expected [2, 3]"));
  EXPECT_THAT(error(with_scales("F32", {6}, six)), HasSubstr("has shape [6], expected [2, 3]"));
  EXPECT_THAT(error(with_scales("U8", {2, 3}, "123456")),
              HasSubstr("'w_scale_inv' has type U8, expected F32, F16 or BF16"));
  EXPECT_THAT(error({{"w", "F8_E4M3", {3, 5}, std::string(15, '\x38')}}),
              HasSubstr("'w' is F8_E4M3, but neither 'w_scale_inv' nor 'w.scale' is there"));
}

// V4's names and types of scales.
TEST(WeightSource, Fp8TakesExponentsUnderV4sName) {
  MemoryWeights w({{"a.weight", "F8_E4M3", {3, 5}, std::string(15, '\x38')},
                   {"a.scale", "F8_E8M0", {2, 3}, std::string("\x7F\x80\x7E\x01\x00\xFE", 6)},
                   {"b.weight", "F8_E4M3", {1, 1}, "\x38"},
                   {"b.scale", "F32", {1, 1}, bytes_of<float>({0.25f})}},
                  1);
  w.set_scale_block(2, 2);
  const auto a = w.matrix("a.weight", 3, 5);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(std::vector<float>(a->scales, a->scales + 6),
            (std::vector<float>{1, 2, 0.5f, std::ldexp(1.f, -126), std::ldexp(1.f, -127),
                                std::ldexp(1.f, 127)}));
  const auto b = w.matrix("b.weight", 1, 1);
  ASSERT_TRUE(b) << b.error().message;
  EXPECT_EQ(b->scales[0], 0.25f);
}

TEST(WeightSource, PackedFp4) {
  std::string codes(32, '\0');
  for (int i = 0; i < 32; ++i)
    codes[static_cast<std::size_t>(i)] = static_cast<char>(0x10 * (i % 16) + (15 - i % 16));
  MemoryWeights w({{"a.weight", "I8", {2, 16}, codes},
                   {"a.scale", "F8_E8M0", {2, 1}, std::string("\x80\x7E", 2)}},
                  3);
  const auto a = w.matrix("a.weight", 2, 32);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->dtype, DType::kF4E2M1);
  EXPECT_EQ(a->row_bytes(), 16);
  std::vector<float> row(32);
  quant::decode_row(*a, 0, row.data());
  // Byte 0 is 0x0F: −6, then 0; byte 1 is 0x1E: −4, then 0.5. The scale is 2.
  EXPECT_EQ(row[0], -12);
  EXPECT_EQ(row[1], 0);
  EXPECT_EQ(row[2], -8);
  EXPECT_EQ(row[3], 1);
  quant::decode_row(a->row_range(1, 1), 0, row.data());
  EXPECT_EQ(row[2], -2);  // of scale 0.5

  const auto error = [](std::vector<test::TestTensor> tensors, int64_t cols = 32) {
    return error_of(MemoryWeights(std::move(tensors), 0).matrix("a.weight", 2, cols));
  };
  const test::TestTensor weight{"a.weight", "I8", {2, 16}, codes};
  EXPECT_THAT(error({weight}), HasSubstr("'a.scale' is missing"));
  EXPECT_THAT(error({weight, {"a.scale", "F8_E8M0", {1, 2}, "ab"}}),
              HasSubstr("'a.scale' has shape [1, 2], expected [2, 1]"));
  EXPECT_THAT(error({weight, {"a.scale", "U8", {2, 1}, "ab"}}),
              HasSubstr("'a.scale' has type U8, expected F8_E8M0"));
  EXPECT_THAT(error({weight}, 64), HasSubstr("has shape [2, 16], expected [2, 32]"));
  EXPECT_THAT(error({weight}, 33), HasSubstr("expected a multiple of 32"));
}

TEST(WeightSource, BlocksOfOneElementAndBlocksWiderThanTheMatrix) {
  const std::string fp8(6, '\x38');
  MemoryWeights each({{"w", "F8_E4M3", {2, 3}, fp8},
                      {"w_scale_inv", "F32", {2, 3}, bytes_of<float>({1, 2, 3, 4, 5, 6})}},
                     0);
  each.set_scale_block(1, 1);
  const auto a = each.matrix("w", 2, 3);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->scale_stride, 3);
  MemoryWeights whole(
      {{"w", "F8_E4M3", {2, 3}, fp8}, {"w_scale_inv", "F32", {1, 1}, bytes_of<float>({1})}}, 0);
  whole.set_scale_block(1 << 20, 1 << 20);
  const auto b = whole.matrix("w", 2, 3);
  ASSERT_TRUE(b) << b.error().message;
  EXPECT_EQ(b->scale_stride, 1);
}

}  // namespace
}  // namespace fathom
