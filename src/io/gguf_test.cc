// GGUF: every value type, shapes, alignment and versions; and every lie that a count, a length, an
// offset or a type can tell.
#include "io/gguf.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/limits.h"
#include "io/gguf_test_support.h"

namespace fathom {
namespace {

using test::bytes_of_number;
using test::f32_tensor;
using test::GgufBytes;
using test::GgufTestFile;
using test::key;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Result<GgufFile> parse(const std::string& bytes) {
  return parse_gguf(std::as_bytes(std::span(bytes)), "m.gguf");
}

std::string refusal_of(const std::string& bytes) {
  const auto file = parse(bytes);
  return file ? "" : file.error().message;
}

// One key whose value stands there as given.
std::string with_value(GgufType type, std::string value) {
  return GgufTestFile{.keys = {{"k", type, std::move(value)}}}.bytes();
}

// One tensor, described as given behind its name.
std::string with_tensor(const GgufBytes& description, std::size_t data = 4096) {
  GgufBytes out;
  out.bytes = "GGUF";
  out.u32(3).u64(1).u64(0).string("t");
  out.bytes += description.bytes;
  out.bytes.append((32 - out.bytes.size() % 32) % 32, '\0');
  return out.bytes + std::string(data, 'x');
}

TEST(Gguf, ScalarsOfEveryType) {
  const auto integer = [](GgufType type, const std::string& raw) {
    const std::string bytes = with_value(type, raw);
    const auto file = parse(bytes);
    if (!file) ADD_FAILURE() << file.error().message;
    return file->metadata.find("k")->integer();
  };
  EXPECT_EQ(integer(GgufType::kU8, "\xFF"), 255);
  EXPECT_EQ(integer(GgufType::kI8, "\xFF"), -1);
  EXPECT_EQ(integer(GgufType::kU16, bytes_of_number<uint16_t>(65535)), 65535);
  EXPECT_EQ(integer(GgufType::kI16, bytes_of_number<int16_t>(-2)), -2);
  EXPECT_EQ(integer(GgufType::kU32, bytes_of_number<uint32_t>(UINT32_MAX)), UINT32_MAX);
  EXPECT_EQ(integer(GgufType::kI32, bytes_of_number<int32_t>(-3)), -3);
  EXPECT_EQ(integer(GgufType::kI64, bytes_of_number<int64_t>(INT64_MIN)), INT64_MIN);
  EXPECT_EQ(integer(GgufType::kU64, bytes_of_number<uint64_t>(INT64_MAX)), INT64_MAX);
  EXPECT_EQ(integer(GgufType::kU64, bytes_of_number<uint64_t>(UINT64_MAX)), std::nullopt);
  EXPECT_EQ(integer(GgufType::kF32, bytes_of_number(1.0f)), std::nullopt);
  const std::string f32 = with_value(GgufType::kF32, bytes_of_number(1.5f));
  EXPECT_EQ(parse(f32)->metadata.find("k")->number(), 1.5);
  const std::string f64 = with_value(GgufType::kF64, bytes_of_number(0.1));
  EXPECT_EQ(parse(f64)->metadata.find("k")->number(), 0.1);
  const std::string yes = with_value(GgufType::kBool, "\1");
  EXPECT_EQ(parse(yes)->metadata.find("k")->boolean(), true);
  EXPECT_EQ(parse(yes)->metadata.find("k")->integer(), std::nullopt);
  EXPECT_THAT(refusal_of(with_value(GgufType::kBool, "\2")),
              AllOf(StartsWith("m.gguf: key \"k\""), HasSubstr("the value is 2, expected 0")));
}

TEST(Gguf, StringsAndLists) {
  const std::string bytes =
      GgufTestFile{.keys = {key("s", "héllo"), key("empty", ""),
                            key("words", std::vector<std::string>{"a", "", "c d"}),
                            key("numbers", std::vector<int32_t>{-1, 7})}}
          .bytes();
  const auto file = parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->version, 3u);
  EXPECT_EQ(file->metadata.size(), 4u);
  EXPECT_EQ(*file->metadata.string("s"), "héllo");
  EXPECT_EQ(*file->metadata.string("empty"), "");
  EXPECT_EQ(file->metadata.find("words")->strings(),
            (std::vector<std::string_view>{"a", "", "c d"}));
  EXPECT_EQ(file->metadata.find("words")->integers(), std::nullopt);
  EXPECT_EQ(file->metadata.find("numbers")->integers(), (std::vector<int64_t>{-1, 7}));
  EXPECT_EQ(file->metadata.find("numbers")->strings(), std::nullopt);
  EXPECT_EQ(file->metadata.find("none"), nullptr);
}

TEST(Gguf, ListsOfListsAreBounded) {
  const auto nested = [](int depth) {
    GgufBytes value;
    for (int i = 1; i < depth; ++i) value.type(GgufType::kArray).u64(1);
    value.type(GgufType::kU8).u64(0);
    return with_value(GgufType::kArray, value.bytes);
  };
  EXPECT_EQ(refusal_of(nested(limits::kMaxGgufArrayDepth)), "");
  EXPECT_THAT(refusal_of(nested(limits::kMaxGgufArrayDepth + 1)),
              HasSubstr(fmt::format("the limit is {}", limits::kMaxGgufArrayDepth)));
}

TEST(Gguf, TypedGettersNameKeySeenAndExpected) {
  const std::string bytes =
      GgufTestFile{.keys = {key("n", uint32_t{7}), key("s", "text"), key("x", 0.5f),
                            key("same", std::vector<int32_t>{4, 4, 4}),
                            key("other", std::vector<int32_t>{4, 5}), key("bad", "\xFF"),
                            key("inf", std::numeric_limits<float>::infinity())}}
          .bytes();
  const auto file = parse(bytes);
  ASSERT_TRUE(file);
  const GgufMetadata& m = file->metadata;
  EXPECT_EQ(*m.integer("n", 0, 7), 7);
  EXPECT_EQ(m.integer("n", 8, 9).error().message,
            "m.gguf: n is 7, expected an integer from 8 to 9");
  EXPECT_EQ(m.integer("z", 0, 9).error().message,
            "m.gguf: z is missing, expected an integer from 0 to 9");
  EXPECT_THAT(m.integer("s", 0, 9).error().message, HasSubstr("s is \"text\", expected"));
  EXPECT_EQ(*m.integer("same", 0, 9), 4);
  EXPECT_THAT(m.integer("other", 0, 9).error().message, HasSubstr("a list of equal ones"));
  EXPECT_EQ(*m.integer_or("z", 3, 0, 9), 3);
  EXPECT_EQ(*m.number("x", 0, 1), 0.5);
  EXPECT_EQ(*m.number("n", 0, 10), 7);
  EXPECT_FALSE(m.number("inf", 0, 1e300));
  EXPECT_FALSE(m.number("s", 0, 1));
  EXPECT_EQ(*m.number_or("z", 2, 0, 9), 2);
  EXPECT_EQ(*m.boolean_or("z", true), true);
  EXPECT_FALSE(m.boolean_or("n", true));
  EXPECT_EQ(*m.string_or("z", "d"), "d");
  EXPECT_FALSE(m.label_or("bad", ""));
  EXPECT_EQ(*m.label_or("s", ""), "text");
  EXPECT_EQ(*m.label_or("z", "a\x1B[31m\xC2\x9B\x7Fé\xFF"), "a\uFFFD[31m\uFFFD\uFFFDé\uFFFD");
  EXPECT_EQ(m.label_or("z", std::string(300, 'x'))->size(), 200u);
  EXPECT_THAT(m.string("bad").error().message,
              HasSubstr("bad is \"\xEF\xBF\xBD\", expected a string of UTF-8"));
}

TEST(Gguf, TensorsWithTheirShapesAndBytes) {
  const GgufTestFile made{.keys = {key("general.alignment", uint32_t{64})},
                          .tensors = {{"a", 0, {3, 2}, std::string(24, 'a')},
                                      {"q", 12, {256, 2, 5}, std::string(1440, 'q')},
                                      {"none", 0, {0, 4}, ""},
                                      {"h", 30, {1, 1, 1, 4}, std::string(8, 'h')}},
                          .alignment = 64};
  for (const uint32_t version : {2u, 3u}) {
    GgufTestFile f = made;
    f.version = version;
    const std::string bytes = f.bytes();
    const auto file = parse(bytes);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->version, version);
    EXPECT_EQ(file->alignment, 64u);
    ASSERT_EQ(file->tensors.size(), 4u);
    const StoredTensor& q = file->tensors.at("q");
    EXPECT_EQ(q.dtype, DType::kQ4_K);
    EXPECT_EQ(q.shape, (std::vector<int64_t>{5, 2, 256}));
    EXPECT_EQ(q.data.size(), 1440u);
    EXPECT_EQ(q.data.front(), std::byte{'q'});
    EXPECT_EQ((q.data.data() - std::as_bytes(std::span(bytes)).data()) % 64, 0);
    EXPECT_EQ(file->tensors.at("h").shape, (std::vector<int64_t>{4, 1, 1, 1}));
    EXPECT_EQ(file->tensors.at("a").data.back(), std::byte{'a'});
    EXPECT_EQ(file->tensors.at("none").data.size(), 0u);
  }
}

TEST(Gguf, NumbersOfTypesGoBothWays) {
  int known = 0;
  for (uint32_t n = 0; n < 100; ++n) {
    const auto type = dtype_from_ggml_type(n);
    if (!type) continue;
    ++known;
    EXPECT_EQ(ggml_type_number(*type), n);
  }
  EXPECT_EQ(known, 19);
  EXPECT_EQ(dtype_from_ggml_type(39), DType::kMXFP4);
  EXPECT_EQ(ggml_type_number(DType::kF8E4M3), std::nullopt);
}

TEST(Gguf, OtherFilesVersionsAndByteOrders) {
  EXPECT_THAT(refusal_of(""), AllOf(StartsWith("m.gguf: "), HasSubstr("truncated")));
  EXPECT_THAT(refusal_of("GGML1234"), HasSubstr("begins with \"GGML\", expected \"GGUF\""));
  const auto version = [](uint32_t v) { return refusal_of(GgufTestFile{.version = v}.bytes()); };
  EXPECT_THAT(version(1), HasSubstr("GGUF version 1, expected 2 or 3"));
  EXPECT_THAT(version(4), HasSubstr("GGUF version 4, expected 2 or 3"));
  EXPECT_THAT(version(0), HasSubstr("GGUF version 0, expected 2 or 3"));
  EXPECT_THAT(version(0x03000000), HasSubstr("big-endian"));
}

TEST(Gguf, EveryPrefixOfAFileIsRefused) {
  const std::string bytes = GgufTestFile{
      .keys = {key("s", "text"), key("l", std::vector<std::string>{"a", "b"})},
      .tensors = {f32_tensor(
          "t", {8, 2})}}.bytes();
  ASSERT_EQ(refusal_of(bytes), "");
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const std::string part = bytes.substr(0, n);
    EXPECT_THAT(refusal_of(part), StartsWith("m.gguf: ")) << n;
  }
}

TEST(Gguf, CountsThatLie) {
  const auto counts = [](uint64_t tensors, uint64_t keys) {
    GgufBytes out;
    out.bytes = "GGUF";
    return refusal_of(out.u32(3).u64(tensors).u64(keys).bytes);
  };
  EXPECT_EQ(counts(0, 0), "");
  EXPECT_THAT(counts(uint64_t{1} << 63, 0), HasSubstr("9223372036854775808 tensors, the limit"));
  EXPECT_THAT(counts(0, UINT64_MAX), HasSubstr("18446744073709551615 keys, the limit"));
  EXPECT_THAT(counts(1, 0), AllOf(HasSubstr("tensor 1 of 1"), HasSubstr("truncated")));
  EXPECT_THAT(counts(0, 1), HasSubstr("key 1 of 1"));
}

TEST(Gguf, LengthsThatLie) {
  for (const uint64_t n : {uint64_t{64}, uint64_t{1} << 62, uint64_t{1} << 63, UINT64_MAX}) {
    EXPECT_THAT(refusal_of(with_value(GgufType::kString, GgufBytes().u64(n).bytes + "1234")),
                AllOf(HasSubstr("key \"k\""), HasSubstr(fmt::format("{} bytes are needed", n))));
    for (const GgufType type : {GgufType::kU8, GgufType::kF64, GgufType::kString, GgufType::kArray})
      EXPECT_THAT(
          refusal_of(with_value(GgufType::kArray, GgufBytes().type(type).u64(n).bytes)),
          HasSubstr(fmt::format("a list of {} values of type {}", n, gguf_type_name(type))));
  }
  EXPECT_THAT(refusal_of(with_value(GgufType{13}, "")),
              HasSubstr("the value's type is 13, expected 0 to 12"));
  EXPECT_THAT(refusal_of(with_value(GgufType::kArray, GgufBytes().u32(13).u64(0).bytes)),
              HasSubstr("the value's type is 13"));
}

TEST(Gguf, NamesAreNotEmptyNotEndlessAndUtf8) {
  const auto named = [](const std::string& name) {
    return refusal_of(GgufTestFile{.keys = {key(name, true)}}.bytes());
  };
  EXPECT_THAT(named(""), HasSubstr("the name is \"\" (0 bytes)"));
  EXPECT_THAT(named("\xC3"), HasSubstr("expected 1 to 65535 bytes of UTF-8"));
  EXPECT_EQ(named(std::string(65535, 'n')), "");
  EXPECT_THAT(named(std::string(65536, 'n')), HasSubstr("(65536 bytes)"));
}

TEST(Gguf, DuplicatesAreRefused) {
  EXPECT_THAT(refusal_of(GgufTestFile{.keys = {key("k", true), key("k", false)}}.bytes()),
              AllOf(HasSubstr("key \"k\""), HasSubstr("twice")));
  EXPECT_THAT(
      refusal_of(GgufTestFile{.tensors = {f32_tensor("t", {1}), f32_tensor("t", {1})}}.bytes()),
      AllOf(HasSubstr("tensor \"t\""), HasSubstr("second")));
}

TEST(Gguf, AlignmentsThatAreNone) {
  for (const uint32_t n : {0u, 1u, 4u, 24u, 33u, 1u << 31}) {
    EXPECT_THAT(refusal_of(GgufTestFile{.keys = {key("general.alignment", n)}}.bytes()),
                HasSubstr(fmt::format("general.alignment is {}, expected a power of two", n)));
  }
  EXPECT_THAT(refusal_of(GgufTestFile{.keys = {key("general.alignment", "32")}}.bytes()),
              HasSubstr("general.alignment is \"32\""));
}

TEST(Gguf, ShapesThatLie) {
  const auto shape = [](std::vector<uint64_t> dims, uint32_t type) {
    GgufBytes d;
    d.u32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t n : dims) d.u64(n);
    return refusal_of(with_tensor(d.u32(type).u64(0)));
  };
  EXPECT_EQ(shape({8, 2}, 0), "");
  EXPECT_THAT(shape({}, 0), HasSubstr("0 dimensions, expected 1 to 4"));
  EXPECT_THAT(shape({1, 1, 1, 1, 1}, 0), HasSubstr("5 dimensions"));
  EXPECT_THAT(shape({uint64_t{1} << 63}, 0), HasSubstr("dimension 0 is 9223372036854775808"));
  EXPECT_THAT(shape({uint64_t{1} << 32, uint64_t{1} << 31}, 24), HasSubstr("fits 63 bits"));
  EXPECT_THAT(shape({0, uint64_t{1} << 40, uint64_t{1} << 40}, 24), HasSubstr("fits 63 bits"));
  EXPECT_THAT(shape({uint64_t{1} << 62}, 0), HasSubstr("is too large"));
  EXPECT_THAT(shape({33}, 2), HasSubstr("33 elements in a row, expected a multiple of 32"));
  EXPECT_THAT(shape({128, 2}, 12), HasSubstr("multiple of 256, a block of Q4_K"));
  EXPECT_THAT(shape({32}, 16),
              AllOf(HasSubstr("tensor \"t\""), HasSubstr("its type is 16 (IQ2_XXS)"),
                    HasSubstr("expected one of F32, F16, Q4_0")));
  EXPECT_THAT(shape({32}, 5), HasSubstr("its type is 5 (unknown)"));
  EXPECT_THAT(shape({1025}, 0),
              AllOf(HasSubstr("4100 bytes, but the file has only 4096"), HasSubstr("truncated")));
}

TEST(Gguf, OffsetsThatLie) {
  const auto offset = [](uint64_t at) {
    return refusal_of(with_tensor(GgufBytes().u32(1).u64(8).u32(0).u64(at)));
  };
  EXPECT_EQ(offset(4064), "");
  EXPECT_THAT(offset(4096), HasSubstr("the file has only 4096 bytes of data"));
  EXPECT_THAT(offset(16), HasSubstr("offset 16, expected a multiple of 32 (general.alignment)"));
  EXPECT_THAT(offset(UINT64_MAX - 31), HasSubstr("truncated"));
  EXPECT_THAT(offset(uint64_t{1} << 63), HasSubstr("truncated"));
}

TEST(Gguf, OverlapsAreRefusedAndHolesAreNot) {
  const auto two = [](uint64_t first, uint64_t second) {
    GgufBytes out;
    out.bytes = "GGUF";
    out.u32(3).u64(2).u64(0);
    out.string("a").u32(1).u64(16).u32(0).u64(first);
    out.string("b").u32(1).u64(8).u32(0).u64(second);
    out.bytes.append((32 - out.bytes.size() % 32) % 32, '\0');
    return refusal_of(out.bytes + std::string(4096, 'x'));
  };
  EXPECT_EQ(two(0, 64), "");
  EXPECT_EQ(two(32, 0), "");
  EXPECT_EQ(two(0, 1024), "");
  EXPECT_THAT(two(0, 32), HasSubstr("the data of tensor \"b\" (at 32) overlap those of tensor "
                                    "\"a\" (at 0, 64 bytes)"));
  EXPECT_THAT(two(64, 64), HasSubstr("overlap"));
}

}  // namespace
}  // namespace fathom
