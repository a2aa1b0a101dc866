// Strict JSON: what is refused and how the message names it; the typed getters at their edges.
#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/utf8.h"

namespace fathom {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// The message with which `text` is refused, "" if it is accepted.
std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  const auto r = parse_json(text, "config.json", limits);
  if (r) return "";
  EXPECT_THAT(r.error().message, StartsWith("config.json: "));
  EXPECT_TRUE(utf8_is_valid(r.error().message)) << r.error().message;
  EXPECT_LT(r.error().message.size(), 600u) << r.error().message;
  return r.error().message;
}

json parsed(std::string_view text) {
  auto r = parse_json(text, "config.json");
  EXPECT_TRUE(r) << r.error().message;
  return r ? *std::move(r) : json();
}

TEST(Json, ReadsEveryKindOfValue) {
  const json v = parsed(R"( {"n":null,"b":[true,false],"i":-3,"u":18446744073709551615,
                             "f":1.5e3,"s":"é😀","o":{"x":{}},"a":[]} )");
  EXPECT_TRUE(v["n"].is_null());
  EXPECT_EQ(v["b"], json::array({true, false}));
  EXPECT_EQ(v["i"], -3);
  EXPECT_EQ(v["u"].get<uint64_t>(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(v["f"], 1500.0);
  EXPECT_EQ(v["s"], "\xC3\xA9\xF0\x9F\x98\x80");
  EXPECT_TRUE(v["o"]["x"].is_object());
  EXPECT_TRUE(v["a"].is_array());
  EXPECT_EQ(parsed("7"), 7);
  EXPECT_EQ(parsed("\"top\""), "top");
}

TEST(Json, AKeyMayStandOnceOnEveryLevel) {
  EXPECT_THAT(refusal(R"({"a":1,"a":2})"), AllOf(HasSubstr("field \"a\""), HasSubstr("twice")));
  EXPECT_THAT(refusal(R"({"x":{"y":[0,{"b":1,"c":2,"b":1}]}})"),
              AllOf(HasSubstr("field \"x.y[1].b\""), HasSubstr("twice")));
  EXPECT_THAT(refusal(R"([[{"k":{}},{"k":{},"k":[]}]])"), HasSubstr("field \"[0][1].k\""));
  EXPECT_THAT(refusal("{\"\\u0061\":1,\"a\":2}"), HasSubstr("twice"));  // an escaped spelling
  EXPECT_EQ(refusal(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]})"), "");
}

TEST(Json, OnlyFiniteNumbersAreNumbers) {
  for (const char* text : {"NaN", "Infinity", "-Infinity", "[nan]", "{\"a\":inf}", "+1", "01", "1.",
                           ".5", "0x10", "1e", "--1"})
    EXPECT_THAT(refusal(text), HasSubstr("not valid JSON")) << text;
  EXPECT_THAT(refusal(R"({"rope":{"theta":1e999}})"),
              AllOf(HasSubstr("field \"rope.theta\""), HasSubstr("1e999"),
                    HasSubstr("a number that fits a double")));
  EXPECT_THAT(refusal("[-1e999]"), HasSubstr("-1e999"));
  EXPECT_THAT(refusal(std::string(400, '9')), HasSubstr("fits a double"));
  EXPECT_EQ(parsed("1e308"), 1e308);
  EXPECT_EQ(parsed("1e-999"), 0.0);
}

TEST(Json, TextThatEndsTooEarlyOrTooLateNamesWhere) {
  const std::string whole = R"({"a":{"b":[1,"two",{"c":true}]}})";
  for (std::size_t cut = 0; cut < whole.size(); ++cut)
    EXPECT_THAT(refusal(whole.substr(0, cut)), HasSubstr("not valid JSON")) << cut;
  EXPECT_EQ(refusal(whole), "");
  EXPECT_THAT(refusal(R"({"a":{"b":[1,)"), AllOf(HasSubstr("field \"a.b[1]\""), HasSubstr("byte")));
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("not valid JSON at byte 33"));
  EXPECT_THAT(refusal("{} {}"), HasSubstr("not valid JSON"));
}

TEST(Json, RelaxedDialectsAreRefused) {
  for (const char* text : {"{'a':1}", "{a:1}", "[1,]", "{\"a\":1,}", "// c\n1", "/* c */ 1", "True",
                           "[1 2]", "{\"a\" 1}", "\"tab\there\"", "\"line\nbreak\""})
    EXPECT_THAT(refusal(text), HasSubstr("not valid JSON")) << text;
}

TEST(Json, OnlyUtf8IsText) {
  for (const char* text : {"\"\xFF\"", "\"\xC3\"", "\"\xC0\xAF\"", "\"\xED\xA0\x80\"",
                           "\"\xF4\x90\x80\x80\"", "{\"\x80\":1}"})
    EXPECT_THAT(refusal(text), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("\"\\ud800\""), HasSubstr("not valid JSON"));  // half of a pair
  EXPECT_THAT(refusal(std::string_view("[\0]", 3)), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(std::string_view("1\0", 2)), HasSubstr("not valid JSON"));
}

TEST(Json, AByteOrderMarkIsSkippedButNotHalfOfOne) {
  EXPECT_EQ(parsed("\xEF\xBB\xBF{\"a\":1}")["a"], 1);
  EXPECT_THAT(refusal("\xEF\xBB{}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(std::string_view("\xFF\xFE{\0}\0", 6)), HasSubstr("not valid JSON"));
}

std::string nested(std::size_t depth, std::string_view open, std::string_view close) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open;
  text += "1";
  for (std::size_t i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(Json, DepthIsLimitedExactly) {
  const JsonLimits limits{.max_depth = 5};
  EXPECT_EQ(refusal(nested(5, "[", "]"), limits), "");
  EXPECT_THAT(refusal(nested(6, "[", "]"), limits), HasSubstr("deeper than 5 levels"));
  EXPECT_EQ(refusal(nested(5, "{\"k\":", "}"), limits), "");
  EXPECT_THAT(refusal(nested(6, "{\"k\":", "}"), limits),
              AllOf(HasSubstr("field \"k.k.k.k.k\""), HasSubstr("deeper than 5 levels")));
}

TEST(Json, HundredsOfThousandsOfLevelsDoNotUseTheStack) {
  EXPECT_THAT(refusal(std::string(300'000, '[')), HasSubstr("deeper than"));
  EXPECT_THAT(refusal(nested(300'000, "{\"k\":", "}")), HasSubstr("deeper than"));
  const JsonLimits deep{.max_depth = 400'000};
  EXPECT_EQ(refusal(nested(300'000, "[", "]"), deep), "");
  EXPECT_THAT(refusal(std::string(300'000, '['), deep), HasSubstr("not valid JSON"));
}

TEST(Json, SizeIsLimitedExactly) {
  EXPECT_EQ(refusal("[1,2]", {.max_bytes = 5}), "");
  EXPECT_THAT(refusal("[1,23]", {.max_bytes = 5}),
              AllOf(HasSubstr("6 bytes"), HasSubstr("limit is 5")));
}

TEST(Json, AHostileKeyCannotBreakTheMessage) {
  const std::string odd = refusal("{\"line\\nbreak\\u001b[31m\":{\"a\":tru}}");
  EXPECT_THAT(odd, Not(HasSubstr("\n")));
  EXPECT_THAT(odd, Not(HasSubstr("\x1b")));
  const std::string expert = "model.layers.60.mlp.experts.255.down_proj.weight_scale_inv";
  EXPECT_THAT(refusal("{\"" + expert + "\":{\"data_offsets\":[0,x]}}"),
              HasSubstr(expert + ".data_offsets[1]"));
  EXPECT_THAT(refusal("{\"" + std::string(100'000, 'k') + "\":{\"last\":x}}"),
              HasSubstr("k.last\""));
}

TEST(Json, FilesAreNamedInTheirErrors) {
  EXPECT_EQ(read_json_file("/nonexistent/config.json").error().code, ErrorCode::kNotFound);
  const std::string path = ::testing::TempDir() + "fathom_json_test.json";
  std::ofstream(path) << "{\"a\":[1,2}";
  const auto broken = read_json_file(path);
  ASSERT_FALSE(broken);
  EXPECT_THAT(broken.error().message, AllOf(StartsWith(path), HasSubstr("a[2]")));
  EXPECT_EQ(read_json_file(path, {.max_bytes = 3}).error().code, ErrorCode::kResourceLimit);
  std::ofstream(path) << "{\"a\":[1,2]}";
  const auto good = read_json_file(path);
  EXPECT_TRUE(good);
  std::remove(path.c_str());
}

TEST(Json, OrderedObjectsKeepTheirOrderAndTheSameStrictness) {
  const auto r = parse_ordered_json(R"({"z":1,"a":{"y":2,"b":3}})", "tools");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->dump(), R"({"z":1,"a":{"y":2,"b":3}})");
  const auto twice = parse_ordered_json(R"({"z":1,"a":{"y":2,"y":3}})", "tools");
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().message, AllOf(StartsWith("tools: "), HasSubstr("field \"a.y\"")));
  EXPECT_FALSE(parse_ordered_json("[NaN]", "tools"));
  EXPECT_FALSE(parse_ordered_json(std::string(100, '['), "tools"));
}

TEST(Json, OrderedIntegersBeyond64BitsKeepTheirDigits) {
  const auto r = parse_ordered_json("[18446744073709551616,-9223372036854775809,1e3]", "tools");
  ASSERT_TRUE(r) << r.error().message;
  const auto digits = [&](std::size_t i) {
    const auto& bytes = (*r)[i].get_binary();
    return std::string(bytes.begin(), bytes.end());
  };
  EXPECT_EQ(digits(0), "18446744073709551616");
  EXPECT_EQ(digits(1), "-9223372036854775809");
  EXPECT_TRUE((*r)[2].is_number_float());
}

TEST(JsonPreview, IsShortAndValid) {
  EXPECT_EQ(json_preview(json("x")), "\"x\"");
  const std::string shown = json_preview(json(std::string(19, 'a') + std::string(100, 'b')));
  EXPECT_LE(shown.size(), 63u);
  EXPECT_THAT(shown, HasSubstr("…"));
  for (std::size_t pad = 0; pad < 4; ++pad) {
    std::string text(pad, 'a');
    for (int i = 0; i < 40; ++i) text += "\xE4\xB8\xAD";
    EXPECT_TRUE(utf8_is_valid(json_preview(json(text)))) << pad;
  }
  EXPECT_TRUE(utf8_is_valid(json_preview(json("\xFF\xC3"))));
}

// The getters.

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(JsonReader, IntegersAtTheEdgesOfTheirRange) {
  const json v = parsed(R"({"a":10,"b":-10,"max":9223372036854775807,"min":-9223372036854775808,
      "over":9223372036854775808,"umax":18446744073709551615,"huge":18446744073709551616,
      "f":64.0,"half":64.5,"neg_zero":-0.0,"e":1e3,"big_f":1e18,"s":"10","t":true,"n":null})");
  const JsonReader r(v, "config.json");
  EXPECT_EQ(*r.integer("a", 10, 10), 10);
  EXPECT_FALSE(r.integer("a", 11, 20));
  EXPECT_FALSE(r.integer("a", 0, 9));
  EXPECT_FALSE(r.integer("a", -20, -1));
  EXPECT_EQ(*r.integer("b", -10, -10), -10);
  EXPECT_FALSE(r.integer("b", -9, 0));
  EXPECT_FALSE(r.integer("b", 1, kMax));
  EXPECT_EQ(*r.integer("max", kMin, kMax), kMax);
  EXPECT_EQ(*r.integer("min", kMin, kMax), kMin);
  for (const char* field : {"over", "umax", "huge", "half", "big_f", "s", "t", "n", "absent"})
    EXPECT_FALSE(r.integer(field, kMin, kMax)) << field;
  EXPECT_EQ(*r.integer("f", 0, 64), 64);
  EXPECT_FALSE(r.integer("f", 0, 63));
  EXPECT_EQ(*r.integer("neg_zero", 0, 0), 0);
  EXPECT_EQ(*r.integer("e", 0, 1000), 1000);
}

TEST(JsonReader, AFailedGetterNamesFileFieldValueAndRange) {
  const json v = parsed(R"({"layers":61,"rope":{"factor":"forty"}})");
  const JsonReader r(v, "config.json");
  EXPECT_EQ(r.integer("layers", 1, 60).error().message,
            "config.json: layers is 61, expected an integer from 1 to 60");
  EXPECT_EQ(r.integer("heads", 1, 60).error().message,
            "config.json: heads is missing, expected an integer from 1 to 60");
  const auto rope = r.object("rope");
  ASSERT_TRUE(rope);
  ASSERT_TRUE(rope->has_value());
  const Error error = (*rope)->number("factor", 0, 100).error();
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.message,
            "config.json: rope.factor is \"forty\", expected a number from 0 to 100");
}

TEST(JsonReader, FallbacksAreForMissingFieldsOnly) {
  const json v = parsed(R"({"null":null,"i":3,"s":"x","b":true,"f":0.5})");
  const JsonReader r(v, "config.json");
  for (const char* field : {"null", "absent"}) {
    EXPECT_FALSE(r.has(field));
    EXPECT_EQ(*r.integer_or(field, 8, 0, 9), 8);
    EXPECT_EQ(*r.number_or(field, 2.5, 0, 9), 2.5);
    EXPECT_EQ(*r.boolean_or(field, true), true);
    EXPECT_EQ(*r.string_or(field, "fallback"), "fallback");
    EXPECT_FALSE(r.string(field));
    EXPECT_FALSE(r.number(field, 0, 1));
    EXPECT_TRUE(r.integer_list(field, 0, 9)->empty());
    EXPECT_FALSE(r.object(field)->has_value());
  }
  EXPECT_EQ(*r.integer_or("i", 8, 0, 9), 3);
  EXPECT_FALSE(r.integer_or("i", 1, 0, 2));
  EXPECT_FALSE(r.integer_or("s", 1, 0, 2));
  EXPECT_EQ(*r.boolean_or("b", false), true);
  EXPECT_FALSE(r.boolean_or("i", false));
  EXPECT_EQ(*r.string_or("s", "fallback"), "x");
  EXPECT_FALSE(r.string_or("i", "fallback"));
  EXPECT_EQ(*r.number_or("f", 9, 0, 1), 0.5);
  EXPECT_FALSE(r.number_or("f", 9, 0.6, 1));
  EXPECT_FALSE(r.object("s"));
}

TEST(JsonReader, NumbersIncludeTheirBounds) {
  const json v = parsed(R"({"f":0.25,"i":7,"u":18446744073709551615,"b":false})");
  const JsonReader r(v, "config.json");
  EXPECT_EQ(*r.number("f", 0.25, 0.25), 0.25);
  EXPECT_FALSE(r.number("f", 0.26, 1));
  EXPECT_FALSE(r.number("f", 0, 0.24));
  EXPECT_EQ(*r.number("i", 0, 7), 7.0);
  EXPECT_EQ(*r.number("u", 0, 1e20), 18446744073709551616.0);
  EXPECT_FALSE(r.number("b", 0, 1));
}

TEST(JsonReader, IntegerListsComeAsOneOrMany) {
  const json v = parsed(R"({"one":1,"many":[1,2,3],"none":[],"mixed":[1,"2"],"f":[1.5],
      "over":[18446744073709551615],"neg":[-1]})");
  const JsonReader r(v, "config.json");
  EXPECT_EQ(*r.integer_list("one", 0, 9), std::vector<int64_t>{1});
  EXPECT_EQ(*r.integer_list("many", 1, 3), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_TRUE(r.integer_list("none", 0, 9)->empty());
  EXPECT_FALSE(r.integer_list("many", 1, 2));
  EXPECT_FALSE(r.integer_list("many", 2, 3));
  EXPECT_FALSE(r.integer_list("one", 2, 3));
  for (const char* field : {"mixed", "f", "over"})
    EXPECT_FALSE(r.integer_list(field, kMin, kMax)) << field;
  EXPECT_FALSE(r.integer_list("neg", 0, 9));
  EXPECT_THAT(r.integer_list("mixed", 0, 9).error().message, HasSubstr("config.json: mixed is ["));
}

TEST(JsonReaderDeathTest, OverSomethingElseThanAnObjectIsAProgrammerError) {
  const json v = json::array({1});
  EXPECT_DEATH(JsonReader(v, "config.json"), "JsonReader over \\[1\\]");
}

}  // namespace
}  // namespace fathom
