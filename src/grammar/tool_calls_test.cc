#include "grammar/tool_calls.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "grammar/constraint.h"
#include "grammar/grammar_test_support.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace {

using test::takes;

constexpr const char* kWeather =
    R"({"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false})";

ToolCallForm fenced() {
  return {.list_begin = "<｜tool▁calls▁begin｜>",
          .call_begin = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
          .name_end = "\n```json\n",
          .call_end = "\n```<｜tool▁call▁end｜>",
          .between_calls = "\n",
          .list_end = "<｜tool▁calls▁end｜>",
          .trigger = ""};
}

ToolCallForm plain() {
  return {.list_begin = "<｜tool▁calls▁begin｜>",
          .call_begin = "<｜tool▁call▁begin｜>",
          .name_end = "<｜tool▁sep｜>",
          .call_end = "<｜tool▁call▁end｜>",
          .between_calls = "",
          .list_end = "<｜tool▁calls▁end｜>",
          .trigger = ""};
}

ToolCallForm xml() {
  return {.list_begin = "",
          .call_begin = "<tool_call>\n{\"name\": \"",
          .name_end = "\", \"arguments\": ",
          .call_end = "}\n</tool_call>",
          .between_calls = "\n",
          .list_end = "",
          .trigger = ""};
}

ToolCallSpec spec_of(ToolCallForm form, ToolCallSpec::Choice choice, bool parallel = true) {
  return {.form = std::move(form),
          .tools = {{.name = "weather", .schema = kWeather, .strict = true},
                    {.name = "weather_map", .schema = kWeather, .strict = false},
                    {.name = "now", .schema = "", .strict = true}},
          .choice = choice,
          .named = choice == ToolCallSpec::Choice::kNamed ? "weather_map" : "",
          .parallel = parallel};
}

std::shared_ptr<const Grammar> compiled(const ToolCallSpec& spec) {
  // By way of the text, as the engine gets it.
  auto made = compile_constraint(ConstraintKind::kToolCalls, tool_calls_text(spec));
  FATHOM_CHECK(made.has_value()) << made.error().message;
  return std::move(made).value();
}

// nano's vocabulary has none of these tags as tokens, so they are spelled out.
TEST(ToolCalls, RequiredCallsInTheXmlForm) {
  const auto grammar = compiled(spec_of(xml(), ToolCallSpec::Choice::kRequired));
  const std::string call =
      "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";
  EXPECT_TRUE(takes(grammar, call));
  EXPECT_TRUE(takes(grammar, "\n\n" + call));
  EXPECT_TRUE(takes(grammar, call + "\n" + call));
  EXPECT_TRUE(takes(grammar, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"));
  EXPECT_TRUE(takes(
      grammar, "<tool_call>\n{\"name\": \"weather_map\", \"arguments\": {\"x\":1}}\n</tool_call>"));
  for (const std::string& bad :
       {std::string(""), std::string("Hello"), "I call " + call, call + call, call + "\n",
        std::string("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"x\":1}}\n</tool_call>"),
        std::string("<tool_call>\n{\"name\": \"other\", \"arguments\": {}}\n</tool_call>"),
        std::string("<tool_call>\n{\"name\": \"now\", \"arguments\": []}\n</tool_call>")}) {
    EXPECT_FALSE(takes(grammar, bad)) << bad;
  }
}

TEST(ToolCalls, NamedAndSingleCalls) {
  const auto named = compiled(spec_of(xml(), ToolCallSpec::Choice::kNamed));
  const std::string map =
      "<tool_call>\n{\"name\": \"weather_map\", \"arguments\": {}}\n</tool_call>";
  EXPECT_TRUE(takes(named, map));
  EXPECT_FALSE(takes(named, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"));
  const auto single = compiled(spec_of(xml(), ToolCallSpec::Choice::kRequired, false));
  EXPECT_TRUE(takes(single, map));
  EXPECT_FALSE(takes(single, map + "\n" + map));
}

TEST(ToolCalls, AutoIsFreeUntilTheOpener) {
  const auto grammar = compiled(spec_of(xml(), ToolCallSpec::Choice::kAuto));
  const std::string call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
  for (const std::string& good :
       {std::string(""), std::string("Hello {\"a\": <tool_cal"), "Let me see.\n" + call,
        "<<tool_call" + call, "<tool<tool_call>\n" + call.substr(12), call + "\n" + call}) {
    EXPECT_TRUE(takes(grammar, good)) << good;
  }
  for (const std::string& bad :
       {std::string("<tool_call>"), std::string("x <tool_call> y"), "text " + call + " more text",
        std::string("<tool_call>\n{\"name\": \"x")}) {
    EXPECT_FALSE(takes(grammar, bad)) << bad;
  }
  Matcher m = test::nano_matcher(grammar);
  test::expect_mask_is_what_accept_takes(m, *test::nano_masker());
  const auto think = test::nano_tokenizer().token_to_id("<think>");
  EXPECT_TRUE(m.accept(*think)) << "added tokens are part of free text";
  EXPECT_FALSE(m.must_end());
  ASSERT_TRUE(test::feed(m, "<tool_call"));
  test::expect_mask_is_what_accept_takes(m, *test::nano_masker());
  ASSERT_TRUE(test::feed(m, ">"));
  EXPECT_FALSE(m.complete());
  EXPECT_EQ(test::allowed(test::mask_of(m, *test::nano_masker())),
            std::vector<int32_t>{test::byte_token('\n')});
}

class V3 : public ::testing::Test {
 protected:
  static const Tokenizer& tokenizer() {
    static const auto t = test::golden_tokenizer("deepseek_v3");
    return *t;
  }
  static const std::shared_ptr<const TokenMasker>& masker() {
    static const auto m = test::masker_of(tokenizer());
    return m;
  }
  static Matcher matcher(const std::shared_ptr<const Grammar>& grammar) {
    const int32_t stop[] = {1};
    return {grammar, masker(), stop};
  }
  // How many of the text's tokens are taken, and whether the answer may end there.
  static std::pair<std::size_t, bool> follow(const std::shared_ptr<const Grammar>& grammar,
                                             std::string_view text) {
    Matcher m = matcher(grammar);
    std::size_t taken = 0;
    for (const int32_t id : test::ids_of(tokenizer(), text)) {
      const auto bits = test::mask_of(m, *masker());
      const bool accepted = m.accept(id);
      EXPECT_EQ(test::has(bits, id), accepted) << tokenizer().token_content(id);
      if (!accepted) return {taken, false};
      ++taken;
    }
    return {taken, m.complete()};
  }
};

TEST_F(V3, FencedAndPlainCallsAsTheModelsWriteThem) {
  const std::string fenced_text =
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"
      "\"city\": "
      "\"Zürich\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```"
      "json\n"
      "{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
  const std::string plain_text =
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Zürich\"}"
      "<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
      "｜tool▁calls▁end｜>";
  for (const auto choice : {ToolCallSpec::Choice::kAuto, ToolCallSpec::Choice::kRequired}) {
    EXPECT_TRUE(follow(compiled(spec_of(fenced(), choice)), fenced_text).second);
    EXPECT_TRUE(follow(compiled(spec_of(plain(), choice)), plain_text).second);
  }
  const auto automatic = compiled(spec_of(plain(), ToolCallSpec::Choice::kAuto));
  EXPECT_TRUE(follow(automatic, "I'll look that up." + plain_text).second);
  EXPECT_TRUE(follow(automatic, "Just an answer.").second);
}

TEST_F(V3, TagsAreTheirTokensAndNothingElseIs) {
  Matcher m = matcher(compiled(spec_of(plain(), ToolCallSpec::Choice::kRequired)));
  const auto only = [&](const char* tag) {
    const auto id = tokenizer().token_to_id(tag);
    EXPECT_EQ(test::allowed(test::mask_of(m, *masker())), std::vector<int32_t>{*id}) << tag;
    EXPECT_TRUE(m.accept(*id));
  };
  // A newline or two may come first; spelling the tag out is not a way to write it.
  const auto bits = test::mask_of(m, *masker());
  EXPECT_TRUE(test::has(bits, *tokenizer().token_to_id("<｜tool▁calls▁begin｜>")));
  EXPECT_FALSE(test::has(bits, *tokenizer().token_to_id("<")));
  EXPECT_TRUE(m.accept(*tokenizer().token_to_id("<｜tool▁calls▁begin｜>")));
  only("<｜tool▁call▁begin｜>");
  for (const int32_t id : test::ids_of(tokenizer(), "weather")) ASSERT_TRUE(m.accept(id));
  const auto choices = test::mask_of(m, *masker());
  EXPECT_TRUE(test::has(choices, *tokenizer().token_to_id("<｜tool▁sep｜>")));
  EXPECT_FALSE(test::has(choices, *tokenizer().token_to_id("<｜tool▁call▁end｜>")));
  ASSERT_TRUE(m.accept(*tokenizer().token_to_id("<｜tool▁sep｜>")));
  for (const int32_t id : test::ids_of(tokenizer(), "{\"city\": \"a")) ASSERT_TRUE(m.accept(id));
  const auto inside = test::mask_of(m, *masker());
  for (int32_t id = 0; id < tokenizer().vocab_size(); ++id) {
    if (!tokenizer().is_added(id)) continue;
    EXPECT_FALSE(test::has(inside, id)) << tokenizer().token_content(id);
  }
  for (const int32_t id : test::ids_of(tokenizer(), "\"}")) ASSERT_TRUE(m.accept(id));
  only("<｜tool▁call▁end｜>");
  EXPECT_TRUE(m.accept(*tokenizer().token_to_id("<｜tool▁calls▁end｜>")));
  EXPECT_TRUE(m.must_end());
}

TEST_F(V3, TheOpenerSpelledOutOpensAsWell) {
  Matcher m = matcher(compiled(spec_of(plain(), ToolCallSpec::Choice::kAuto)));
  for (const char byte : std::string_view("<｜tool▁calls▁begin｜>")) {
    int32_t id = 0;
    while (tokenizer().token_bytes(id) != std::string_view(&byte, 1)) ++id;
    ASSERT_TRUE(m.accept(id));
  }
  EXPECT_FALSE(m.complete());
  EXPECT_EQ(test::allowed(test::mask_of(m, *masker())),
            std::vector<int32_t>{*tokenizer().token_to_id("<｜tool▁call▁begin｜>")});
}

TEST(ToolCalls, DescriptionsThatAreWrongAreRefused) {
  const auto error_of = [](const ToolCallSpec& spec) {
    const auto made = compile_constraint(ConstraintKind::kToolCalls, tool_calls_text(spec));
    return made ? std::string() : made.error().message;
  };
  ToolCallSpec spec = spec_of(xml(), ToolCallSpec::Choice::kAuto);
  EXPECT_EQ(error_of(spec), "");
  spec.tools[0].name = "a b";
  EXPECT_NE(error_of(spec).find("a b"), std::string::npos);
  spec.tools[0].name = "now";
  EXPECT_NE(error_of(spec).find("two tools are named now"), std::string::npos);
  spec = spec_of(xml(), ToolCallSpec::Choice::kNamed);
  spec.named = "absent";
  EXPECT_NE(error_of(spec).find("absent"), std::string::npos);
  spec = spec_of(xml(), ToolCallSpec::Choice::kAuto);
  spec.form.trigger = "<other>";
  EXPECT_NE(error_of(spec).find("trigger"), std::string::npos);
  spec.form.trigger = "";
  spec.tools.clear();
  EXPECT_NE(error_of(spec).find("0 tools"), std::string::npos);
  spec.tools = {{.name = "t", .schema = R"({"type":"string"})", .strict = true}};
  EXPECT_NE(error_of(spec), "") << "arguments are objects";
  spec.tools = {{.name = "t", .schema = R"({"not":{}})", .strict = true}};
  EXPECT_NE(error_of(spec).find("tool t: $.not"), std::string::npos) << error_of(spec);
  for (const char* text : {"", "[]", "{}", R"({"form":{}})", R"({"form":{},"tools":[1]})",
                           R"({"form":{},"tools":[{"name":"a"}],"choice":"some"})"}) {
    EXPECT_FALSE(compile_constraint(ConstraintKind::kToolCalls, text)) << text;
  }
}

TEST(ToolCalls, TheDescriptionSurvivesItsText) {
  const ToolCallSpec spec = spec_of(fenced(), ToolCallSpec::Choice::kNamed, false);
  const auto again = parse_tool_calls(tool_calls_text(spec));
  ASSERT_TRUE(again);
  EXPECT_EQ(tool_calls_text(*again), tool_calls_text(spec));
  EXPECT_EQ(again->named, "weather_map");
  EXPECT_FALSE(again->parallel);
  EXPECT_EQ(again->tools[0].schema, kWeather);
}

TEST(GrammarCache, KeepsTheLastUsedWithinItsBounds) {
  GrammarCache cache(2, int64_t{1} << 20);
  const auto a = cache.get(ConstraintKind::kJsonSchema, R"({"type":"null"})");
  ASSERT_TRUE(a);
  EXPECT_EQ(*cache.get(ConstraintKind::kJsonSchema, R"({"type":"null"})"), *a);
  const auto object = cache.get(ConstraintKind::kJsonObject, "");
  EXPECT_EQ(*cache.get(ConstraintKind::kJsonObject, "is not looked at"), *object);
  EXPECT_EQ(cache.count(), 2U);
  ASSERT_TRUE(cache.get(ConstraintKind::kJsonSchema, R"({"type":"string"})"));
  EXPECT_EQ(cache.count(), 2U);
  EXPECT_EQ(*cache.get(ConstraintKind::kJsonObject, ""), *object);
  EXPECT_NE(*cache.get(ConstraintKind::kJsonSchema, R"({"type":"null"})"), *a)
      << "it was the oldest";
  EXPECT_FALSE(cache.get(ConstraintKind::kJsonSchema, "{"));
  EXPECT_EQ(cache.count(), 2U);
  GrammarCache small(10, 1000);
  ASSERT_TRUE(small.get(ConstraintKind::kJsonObject, ""));
  EXPECT_EQ(small.count(), 0U);
  EXPECT_EQ(small.memory_bytes(), 0);
}

}  // namespace
}  // namespace fathom
