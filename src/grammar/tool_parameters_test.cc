// Calls whose arguments are parameters, in DSML's form. That every text such a grammar makes is
// read back as a valid call is tested in server/api/dsml_calls_test.cc.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "grammar/constraint.h"
#include "grammar/grammar_test_support.h"
#include "grammar/tool_calls.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace tool_parameters_test {

using nlohmann::json;
using test::takes;
using Choice = ToolCallSpec::Choice;

ToolCallForm dsml() {
  return {.list_begin = "<｜DSML｜tool_calls>\n",
          .call_begin = "<｜DSML｜invoke name=\"",
          .name_end = "\">\n",
          .call_end = "\n</｜DSML｜invoke>",
          .between_calls = "\n",
          .list_end = "\n</｜DSML｜tool_calls>",
          .trigger = "<｜DSML｜tool_calls>",
          .parameters = ToolParameterForm{.begin = "<｜DSML｜parameter name=\"",
                                          .name_end = "\" string=\"",
                                          .text = "true\">",
                                          .json = "false\">",
                                          .end = "</｜DSML｜parameter>",
                                          .between = "\n",
                                          .not_in_text = "</｜"}};
}

ToolCallSpec spec_of(std::string schema, bool strict = true) {
  return {.form = dsml(),
          .tools = {{.name = "f", .schema = std::move(schema), .strict = strict}},
          .choice = Choice::kRequired,
          .named = "",
          .parallel = true};
}

Result<std::shared_ptr<const Grammar>> compile(const ToolCallSpec& spec) {
  // By way of the text, as the engine gets it.
  return compile_constraint(ConstraintKind::kToolCalls, tool_calls_text(spec));
}

std::shared_ptr<const Grammar> compiled(const ToolCallSpec& spec) {
  auto made = compile(spec);
  FATHOM_CHECK(made.has_value()) << made.error().message;
  return std::move(made).value();
}

std::string error_of(const std::string& schema) {
  const auto made = compile(spec_of(schema));
  return made ? "(no error)" : made.error().message;
}

std::string parameter(const std::string& name, const std::string& value, bool text) {
  return "<｜DSML｜parameter name=\"" + name + "\" string=\"" + (text ? "true" : "false") + "\">" +
         value + "</｜DSML｜parameter>";
}
std::string t(const std::string& name, const std::string& value) {
  return parameter(name, value, true);
}
std::string j(const std::string& name, const std::string& value) {
  return parameter(name, value, false);
}

std::string call(const std::vector<std::string>& parameters, const std::string& tool = "f") {
  std::string out = "<｜DSML｜invoke name=\"" + tool + "\">\n";
  for (std::size_t i = 0; i < parameters.size(); ++i) out += (i > 0 ? "\n" : "") + parameters[i];
  return out + "\n</｜DSML｜invoke>";
}

std::string list(const std::string& calls) {
  return "<｜DSML｜tool_calls>\n" + calls + "\n</｜DSML｜tool_calls>";
}

// For one schema: which lists of parameters may be written.
class OfSchema {
 public:
  explicit OfSchema(const std::string& schema, bool strict = true)
      : grammar_(compiled(spec_of(schema, strict))) {}
  bool takes(const std::vector<std::string>& parameters) const {
    return test::takes(grammar_, list(call(parameters)));
  }
  // A schema of one required property x.
  static OfSchema x(const std::string& schema) {
    return OfSchema(R"({"type":"object","properties":{"x":)" + schema + R"(},"required":["x"]})");
  }

 private:
  std::shared_ptr<const Grammar> grammar_;
};

TEST(ToolParameters, ComeInTheSchemasOrderAndRequiredOnesMust) {
  const OfSchema f(R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},
                       "c":{"type":"boolean"}},"required":["b"],"additionalProperties":false})");
  const std::string a = j("a", "1"), b = t("b", "hi"), c = j("c", "true");
  EXPECT_TRUE(f.takes({b}));
  EXPECT_TRUE(f.takes({a, b}));
  EXPECT_TRUE(f.takes({b, c}));
  EXPECT_TRUE(f.takes({a, b, c}));
  EXPECT_FALSE(f.takes({}));
  EXPECT_FALSE(f.takes({a, c})) << "b is required";
  EXPECT_FALSE(f.takes({b, a}));
  EXPECT_FALSE(f.takes({b, b}));
  EXPECT_FALSE(f.takes({b, t("d", "x")}));
  EXPECT_FALSE(f.takes({a + b}));
  EXPECT_FALSE(f.takes({a, "", b}));
  const OfSchema none(R"({"type":"object","properties":{},"additionalProperties":false})");
  EXPECT_TRUE(none.takes({}));
  EXPECT_FALSE(none.takes({t("a", "")}));
}

TEST(ToolParameters, StringsAreTextAndOtherValuesJson) {
  const OfSchema text = OfSchema::x(R"({"type":"string"})");
  for (const char* value : {"", "Zürich \"quoted\" \\ \n\n{\"a\": 1}", "a < b </ </b> <｜DSML｜x>",
                            "<</p", "<", "</"}) {
    EXPECT_TRUE(text.takes({t("x", value)})) << value;
  }
  EXPECT_FALSE(text.takes({t("x", "a</｜b")}));
  EXPECT_FALSE(text.takes({t("x", "</｜DSML｜invoke>")}));
  EXPECT_FALSE(text.takes({t("x", "<</｜DSML｜parameter>")}));
  EXPECT_FALSE(text.takes({j("x", "\"a\"")}));
  EXPECT_FALSE(text.takes({t("x", "\xFF")})) << "not UTF-8";
  const OfSchema number = OfSchema::x(R"({"type":"integer","minimum":3})");
  EXPECT_TRUE(number.takes({j("x", "17")}));
  EXPECT_FALSE(number.takes({j("x", "2")}));
  EXPECT_FALSE(number.takes({t("x", "17")}));
  const OfSchema object =
      OfSchema::x(R"({"type":"object","properties":{"s":{"type":"string"}},"required":["s"]})");
  EXPECT_TRUE(object.takes({j("x", "{\"s\": \"v\"}")}));
  EXPECT_FALSE(object.takes({j("x", "{\"s\": 1}")}));
  EXPECT_FALSE(object.takes({t("x", "{\"s\": \"v\"}")}));
}

TEST(ToolParameters, TypesThatMayBeStringsHaveBothFlags) {
  for (const char* schema :
       {R"({"type":["string","integer"]})", R"({"anyOf":[{"type":"string"},{"type":"integer"}]})",
        R"({"oneOf":[{"type":"integer"},{"type":"string"}]})"}) {
    const OfSchema f = OfSchema::x(schema);
    EXPECT_TRUE(f.takes({t("x", "12")})) << schema;
    EXPECT_TRUE(f.takes({j("x", "12")})) << schema;
    EXPECT_FALSE(f.takes({j("x", "\"12\"")})) << schema;
    EXPECT_FALSE(f.takes({j("x", "true")})) << schema;
  }
  const OfSchema any = OfSchema::x("{}");
  EXPECT_TRUE(any.takes({t("x", "a")}));
  EXPECT_TRUE(any.takes({j("x", "[\"a\", {}]")}));
  EXPECT_FALSE(any.takes({j("x", "\"a\"")}));
  EXPECT_FALSE(any.takes({j("x", "a")}));
}

TEST(ToolParameters, FixedStringsPatternsFormatsAndLengths) {
  const OfSchema fixed = OfSchema::x(R"({"enum":["km/h","\"q\"","km",1,null]})");
  for (const char* value : {"km/h", "km", "\"q\""}) EXPECT_TRUE(fixed.takes({t("x", value)}));
  for (const char* value : {"1", "null"}) EXPECT_TRUE(fixed.takes({j("x", value)}));
  EXPECT_FALSE(fixed.takes({t("x", "k")}));
  EXPECT_FALSE(fixed.takes({t("x", "1")}));
  EXPECT_FALSE(fixed.takes({t("x", "\\\"q\\\"")}));
  EXPECT_FALSE(fixed.takes({j("x", "\"km\"")}));
  EXPECT_TRUE(OfSchema::x(R"({"const":"a\nb"})").takes({t("x", "a\nb")}));
  const OfSchema pattern = OfSchema::x(R"({"type":"string","pattern":"^[A-Z<]{2}\"$"})");
  EXPECT_TRUE(pattern.takes({t("x", "A<\"")}));
  EXPECT_FALSE(pattern.takes({t("x", "A<\\\"")}));
  EXPECT_FALSE(pattern.takes({t("x", "A\"")}));
  const OfSchema date = OfSchema::x(R"({"type":"string","format":"date"})");
  EXPECT_TRUE(date.takes({t("x", "2026-02-28")}));
  EXPECT_FALSE(date.takes({t("x", "2026-02-30")}));
  const OfSchema length = OfSchema::x(R"({"type":"string","minLength":2,"maxLength":3})");
  EXPECT_TRUE(length.takes({t("x", "äö")}));
  EXPECT_TRUE(length.takes({t("x", "a<\n")}));
  EXPECT_FALSE(length.takes({t("x", "a")}));
  EXPECT_FALSE(length.takes({t("x", "abcd")}));
  EXPECT_TRUE(OfSchema::x(R"({"type":"string","maxLength":0})").takes({t("x", "")}));
  EXPECT_TRUE(
      OfSchema::x(R"({"type":"string","maxLength":5000})").takes({t("x", std::string(5000, 'a'))}));
}

TEST(ToolParameters, ReferencesAndFurtherProperties) {
  const OfSchema refs(R"({"type":"object","properties":{"at":{"$ref":"#/$defs/place"},
      "unit":{"$ref":"#/$defs/unit"}},"required":["at","unit"],"additionalProperties":false,
      "$defs":{"place":{"type":"object","properties":{"up":{"$ref":"#/$defs/place"}},
      "additionalProperties":false},"unit":{"type":"string","enum":["C","F"]}}})");
  EXPECT_TRUE(refs.takes({j("at", "{\"up\": {\"up\": {}}}"), t("unit", "F")}));
  EXPECT_FALSE(refs.takes({j("at", "{\"up\": 1}"), t("unit", "F")}));
  EXPECT_FALSE(refs.takes({j("at", "{}"), t("unit", "K")}));
  const OfSchema root(R"({"$ref":"#/$defs/r","$defs":{"r":{"type":"object",
      "properties":{"a":{"type":"null"}},"required":["a"]}}})");
  EXPECT_TRUE(root.takes({j("a", "null")}));
  EXPECT_FALSE(root.takes({}));
  const OfSchema open(R"({"type":"object","properties":{"a":{"type":"integer"}},
      "patternProperties":{"^s_":{"type":"string"}},"additionalProperties":{"type":"boolean"}})");
  EXPECT_TRUE(open.takes({}));
  EXPECT_TRUE(open.takes({j("a", "1"), t("s_x", "y"), j("other", "true")}));
  EXPECT_TRUE(open.takes({j("other", "true")}));
  EXPECT_FALSE(open.takes({j("other", "true"), j("a", "1")}));
  EXPECT_FALSE(open.takes({j("other", "1")}));
  EXPECT_FALSE(open.takes({j("s_x", "true")}));
  EXPECT_FALSE(open.takes({j("a", "true")}));
  const OfSchema either(R"({"anyOf":[{"type":"object","properties":{"a":{"type":"integer"}},
      "required":["a"]},{"type":"object","properties":{"b":{"type":"string"}},"required":["b"]}]})");
  EXPECT_TRUE(either.takes({j("a", "1")}));
  EXPECT_TRUE(either.takes({t("b", "1")}));
  EXPECT_FALSE(either.takes({j("a", "1"), t("b", "1")}));
  EXPECT_FALSE(either.takes({}));
}

TEST(ToolParameters, ToolsThatAreNotStrictTakeAny) {
  // What their schema says is not looked at.
  for (const char* schema : {"", R"({"type":"object","required":["a"]})", R"({"not":{}})"}) {
    const OfSchema f(schema, false);
    EXPECT_TRUE(f.takes({}));
    EXPECT_TRUE(f.takes({t("x y", "</b>"), j("ö", "{\"a\": [\"b\"]}"), j("z", "-1.5e3")}));
    EXPECT_FALSE(f.takes({j("a", "b")}));
    EXPECT_FALSE(f.takes({j("a", "")}));
    EXPECT_FALSE(f.takes({t("", "no name")}));
    EXPECT_FALSE(f.takes({t("a\"b", "c")}));
    EXPECT_FALSE(f.takes({t("a<b", "c")}));
  }
}

TEST(ToolParameters, ChoicesAndSeveralCalls) {
  ToolCallSpec spec = spec_of("");
  spec.tools.push_back({.name = "g", .schema = "", .strict = false});
  const std::string f = call({}), g = call({t("a", "b")}, "g");
  auto grammar = compiled(spec);
  EXPECT_TRUE(takes(grammar, "\n\n" + list(f + "\n" + g)));
  EXPECT_FALSE(takes(grammar, ""));
  EXPECT_FALSE(takes(grammar, "Well, " + list(f)));
  EXPECT_FALSE(takes(grammar, list(f + g)));
  EXPECT_FALSE(takes(grammar, list("")));
  spec.parallel = false;
  grammar = compiled(spec);
  EXPECT_TRUE(takes(grammar, list(g)));
  EXPECT_FALSE(takes(grammar, list(f + "\n" + g)));
  spec.choice = Choice::kNamed;
  spec.named = "g";
  grammar = compiled(spec);
  EXPECT_TRUE(takes(grammar, list(g)));
  EXPECT_FALSE(takes(grammar, list(f)));
  spec.choice = Choice::kAuto;
  grammar = compiled(spec);
  EXPECT_TRUE(takes(grammar, "Just text, <｜DSML｜tool_call"));
  EXPECT_TRUE(takes(grammar, "Let me look.\n\n" + list(f)));
  EXPECT_FALSE(takes(grammar, "<｜DSML｜tool_calls>"));
  EXPECT_FALSE(takes(grammar, "Let me look.\n\n" + list(f) + " Done."));
}

// Bytes, the tag's token as V3.2 and V4 have it, another added token, and the end.
class WithTag : public ::testing::Test {
 protected:
  static constexpr int32_t kTag = 256, kUser = 257, kEnd = 258;
  static const std::shared_ptr<const TokenMasker>& masker() {
    static const auto made = [] {
      TokenizerSpec spec = test::byte_spec();
      spec.added_tokens = {{.id = kTag, .content = "｜DSML｜"},
                           {.id = kUser, .content = "<｜User｜>"},
                           {.id = kEnd, .content = "<end>", .special = true}};
      return test::masker_of(*test::tokenizer_of(std::move(spec)));
    }();
    return made;
  }
  static Matcher matcher(const ToolCallSpec& spec) {
    const int32_t stop[] = {kEnd};
    return {compiled(spec), masker(), stop};
  }
  static bool feed(Matcher& m, std::string_view text) {
    constexpr std::string_view kTagText = "｜DSML｜";
    while (!text.empty()) {
      const bool tag = text.starts_with(kTagText);
      test::expect_mask_is_what_accept_takes(m, *masker());
      if (!m.accept(tag ? kTag : static_cast<uint8_t>(text[0]))) return false;
      text.remove_prefix(tag ? kTagText.size() : 1);
    }
    return true;
  }
};

TEST_F(WithTag, TagsAreWrittenWithTheirTokenOnly) {
  Matcher m = matcher(spec_of(R"({"type":"object","properties":{"x":{"type":"string"}},
                                  "required":["x"],"additionalProperties":false})"));
  ASSERT_TRUE(feed(m, "<"));
  EXPECT_EQ(test::allowed(test::mask_of(m, *masker())), std::vector<int32_t>{kTag});
  ASSERT_TRUE(feed(m, "｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n<"));
  EXPECT_EQ(test::allowed(test::mask_of(m, *masker())), std::vector<int32_t>{kTag});
  ASSERT_TRUE(feed(m, "｜DSML｜parameter name=\"x\" string=\"true\">a <"));
  for (const int32_t token : {kTag, kUser, kEnd})
    EXPECT_FALSE(test::has(test::mask_of(m, *masker()), token)) << token;
  ASSERT_TRUE(feed(m, "/"));
  const auto bits = test::mask_of(m, *masker());
  EXPECT_TRUE(test::has(bits, kTag));
  EXPECT_TRUE(test::has(bits, 'b')) << "no tag yet";
  ASSERT_TRUE(feed(m, "b></｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>"));
  EXPECT_TRUE(m.must_end());
}

TEST_F(WithTag, FreeTextOpensAListWithTheToken) {
  ToolCallSpec spec = spec_of("");
  spec.choice = Choice::kAuto;
  Matcher m = matcher(spec);
  ASSERT_TRUE(feed(m, "I look.\n\n<｜DSML｜tool_calls"));
  EXPECT_TRUE(m.complete());
  ASSERT_TRUE(feed(m, ">"));
  EXPECT_FALSE(m.complete());
  EXPECT_EQ(test::allowed(test::mask_of(m, *masker())), std::vector<int32_t>{'\n'});
}

TEST(ToolParameters, WhatCannotBeEnforcedIsRefused) {
  const auto expect = [](const std::string& schema, const std::string& part) {
    EXPECT_NE(error_of(schema).find(part), std::string::npos) << error_of(schema);
  };
  expect(R"({"type":"object","properties":{"a\"b":{}}})", "tool f: $: the property \"a\\\"b\"");
  expect(R"({"type":"object","properties":{"a<b":{}}})", "cannot be written as a parameter");
  expect(R"({"type":"object","properties":{"":{}}})", "cannot be written as a parameter");
  expect(R"({"type":"object","properties":{"x":{"enum":["a","</｜DSML｜invoke>"]}}})",
         "tool f: $.properties.x: \"</｜DSML｜invoke>\" cannot be the value of a parameter");
  expect(R"({"const":{"a":1}})", "enum and const cannot be enforced for all arguments");
  expect(R"({"type":"object","properties":{"x":{"type":"string","pattern":"\\bx"}}})",
         "$.properties.x.pattern");
  expect(R"({"type":"object","properties":{"x":{"not":{}}}})", "$.properties.x.not");
  expect(R"({"type":"string"})", "whose arguments are an object");
  expect(R"({"type":"object","properties":{"x":{"enum":[]}},"required":["x"]})",
         "no finite text satisfies it");
  expect(R"({"type":"object","properties":{"x":{"type":"string","maxLength":16000}}})",
         "tool f: $.properties.x.maxLength");
}

TEST(ToolParameters, TheDescriptionSurvivesItsTextAndIsChecked) {
  const ToolCallSpec spec = spec_of("{}");
  const auto again = parse_tool_calls(tool_calls_text(spec));
  ASSERT_TRUE(again);
  ASSERT_TRUE(again->form.parameters);
  EXPECT_EQ(tool_calls_text(*again), tool_calls_text(spec));
  EXPECT_EQ(again->form.parameters->name_end, "\" string=\"");
  EXPECT_EQ(again->form.parameters->not_in_text, "</｜");
  const auto refused = [&](auto change) {
    ToolCallSpec wrong = spec;
    change(*wrong.form.parameters);
    const auto made = compile(wrong);
    return !made && made.error().message.find("the form's parameters") != std::string::npos;
  };
  EXPECT_TRUE(refused([](ToolParameterForm& p) { p.begin = ""; }));
  EXPECT_TRUE(refused([](ToolParameterForm& p) { p.name_end = ">"; }));
  EXPECT_TRUE(refused([](ToolParameterForm& p) { p.json = p.text; }));
  EXPECT_TRUE(refused([](ToolParameterForm& p) { p.not_in_text = ""; }));
  EXPECT_TRUE(refused([](ToolParameterForm& p) { p.not_in_text = "<b>"; }));
}

}  // namespace tool_parameters_test
}  // namespace fathom
