#include "server/api/answer.h"

#include "server/api/test_support.h"

namespace fathom::server::api {
namespace answer_test {

using test::push_in_lots;
using test::tokens_of;
using Kind = OutputEvent::Kind;
using ::testing::ElementsAre;

AnswerSpec spec_of(const std::string& tokenizer, std::optional<ChatFamily> family) {
  return {.tokenizer = test::tokenizer(tokenizer),
          .family = family,
          .stop_tokens = {1},
          .top_logprobs = 1,
          .prompt_tokens = 10};
}

// "kind:text" of all deltas, neighbours of one kind joined.
std::vector<std::string> readable(const std::vector<std::vector<Delta>>& lots) {
  std::vector<OutputEvent> events;
  for (const auto& lot : lots)
    for (const Delta& d : lot) events.push_back(d.event);
  std::vector<std::string> out;
  constexpr const char* kNames[] = {"think", "text", "call", "args", "end"};
  for (const OutputEvent& e : merge_events(std::move(events))) {
    std::string line = kNames[static_cast<int>(e.kind)];
    if (e.kind == Kind::kToolCallBegin) line += " " + e.id + " " + e.name;
    if (!e.text.empty()) line += ":" + e.text;
    out.push_back(line);
  }
  return out;
}

std::string text_of(const Tokenizer& t, const std::vector<SampledToken>& tokens) {
  std::string out;
  for (const SampledToken& token : tokens) out += t.token_bytes(token.token);
  return out;
}

// A written answer and what must come of it, however its tokens are grouped.
struct Case {
  const char* name;
  const char* tokenizer;
  std::optional<ChatFamily> family;
  bool starts_in_thinking;
  bool parse_tools;
  std::string text;
  std::vector<std::string> expected;
  bool no_token_crosses;  // the border of a part
};

const Case kCases[] = {
    {"Thought",
     "nano",
     ChatFamily::kNano,
     true,
     false,
     "\n2 + 2\n</think>\n\nIt is 4.",
     {"think:2 + 2", "text:It is 4."},
     true},
    {"ThoughtOfItsOwn",
     "nano",
     ChatFamily::kNano,
     false,
     false,
     "<think>\nsum</think>\nfour",
     {"think:sum", "text:four"},
     true},
    {"NoThought",
     "nano",
     ChatFamily::kNano,
     false,
     false,
     "four <b> < </b>",
     {"text:four <b> < </b>"},
     true},
    {"SplitCharacters",
     "nano",
     ChatFamily::kNano,
     true,
     false,
     "\n问题😀\n</think>\n\n答案是 🧠‍♂️ é。",
     {"think:问题😀", "text:答案是 🧠‍♂️ é。"},
     true},
    {"TagsLookAlike",
     "nano",
     ChatFamily::kNano,
     true,
     false,
     "a </thin> b</think>c </think> d",
     {"think:a </thin> b", "text:c </think> d"},
     true},
    {"TextBeginsLikeATag",
     "nano",
     ChatFamily::kNano,
     true,
     false,
     "a</think><b>",
     {"think:a", "text:<b>"},
     true},
    {"UnfinishedThought",
     "nano",
     ChatFamily::kNano,
     true,
     false,
     "and then\n\n",
     {"think:and then\n\n"},
     true},
    {"PlainText",
     "nano",
     std::nullopt,
     false,
     false,
     "<think>x</think>\n\n<tool_call>",
     {"text:<think>x</think>\n\n<tool_call>"},
     true},
    {"HybridCalls",
     "deepseek_v3",
     ChatFamily::kDeepseekV31,
     false,
     true,
     "Let me look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
     "{\"city\": \"北京\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}"
     "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     {"text:Let me look.", "call call_0 get_weather", "args:{\"city\": \"北京\"}", "end",
      "call call_1 now", "args:{}", "end"},
     false},
    {"FencedCalls",
     "deepseek_v3",
     ChatFamily::kDeepseekR1,
     true,
     true,
     "I need it.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
     "get\n```json\n{\"a\": [1, 2]}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     {"think:I need it.", "call call_0 get", "args:{\"a\": [1, 2]}", "end"},
     false},
    {"XmlCalls",
     "qwen3",
     ChatFamily::kQwen3,
     false,
     true,
     "<think>\nhm\n</think>\n\nLooking.\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"q\": "
     "\"é\"}}\n</tool_call>",
     {"think:hm", "text:Looking.", "call call_0 get", "args:{\"q\": \"é\"}", "end"},
     false},
    {"CallsAreTextUnlessAskedFor",
     "qwen3",
     ChatFamily::kQwen3,
     false,
     false,
     "<tool_call>\n{}\n</tool_call>",
     {"text:<tool_call>\n{}\n</tool_call>"},
     true},
    {"BrokenCallIsText",
     "qwen3",
     ChatFamily::kQwen3,
     false,
     true,
     "<tool_call>{\"name\":",
     {"text:<tool_call>{\"name\":"},
     true},
};

class AnswerSplit : public ::testing::TestWithParam<Case> {};

TEST_P(AnswerSplit, IsTheSameCutBehindAnyToken) {
  const Case& c = GetParam();
  AnswerSpec spec = spec_of(c.tokenizer, c.family);
  spec.starts_in_thinking = c.starts_in_thinking;
  spec.parse_tools = c.parse_tools;
  std::vector<SampledToken> tokens = tokens_of(*spec.tokenizer, c.text);
  const auto written = tokens.size();
  tokens.push_back({.token = 1});
  for (std::size_t first = 0; first <= tokens.size(); ++first) {
    SCOPED_TRACE(first);
    AnswerAssembler a(spec);
    const auto lots = push_in_lots(a, tokens, first, FinishReason::kStop);
    EXPECT_EQ(readable(lots), c.expected);
    const Answer& answer = a.answer();
    EXPECT_EQ(answer.usage.completion_tokens, static_cast<int64_t>(written) + 1);
    EXPECT_EQ(answer.usage.prompt_tokens, 10);
    EXPECT_EQ(answer.finish, answer.calls.empty() ? Finish::kStop : Finish::kToolCalls);
    // The deltas together are the whole.
    std::string reasoning, content;
    for (const auto& lot : lots) {
      for (const Delta& d : lot) {
        if (d.event.kind == Kind::kReasoning) reasoning += d.event.text;
        if (d.event.kind == Kind::kContent) content += d.event.text;
      }
    }
    EXPECT_EQ(answer.reasoning, reasoning);
    EXPECT_EQ(answer.content, content);
    // Every part's tokens spell it, up to what a token has beyond its border.
    EXPECT_THAT(text_of(*spec.tokenizer, answer.content_tokens), ::testing::HasSubstr(content));
    EXPECT_THAT(text_of(*spec.tokenizer, answer.reasoning_tokens), ::testing::HasSubstr(reasoning));
    if (c.no_token_crosses) {
      EXPECT_EQ(text_of(*spec.tokenizer, answer.content_tokens), content);
      EXPECT_EQ(text_of(*spec.tokenizer, answer.reasoning_tokens), reasoning);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, AnswerSplit, ::testing::ValuesIn(kCases),
                         [](const auto& c) { return c.param.name; });

TEST(AnswerTest, ReasoningTokensEndWithTheTag) {
  AnswerSpec spec = spec_of("nano", ChatFamily::kNano);
  spec.starts_in_thinking = true;
  const auto thought = tokens_of(*spec.tokenizer, "\nsum it</think>");
  const auto rest = tokens_of(*spec.tokenizer, "\n\nfour");
  for (std::size_t i = 0; i < 3; ++i) {
    AnswerAssembler a(spec);
    a.push(thought);
    EXPECT_EQ(a.answer().usage.reasoning_tokens, static_cast<int64_t>(thought.size()));
    a.push(std::span(rest).first(i));
    a.push(std::span(rest).subspan(i));
    a.finish(FinishReason::kStop);
    EXPECT_EQ(a.answer().usage.reasoning_tokens, static_cast<int64_t>(thought.size()));
    EXPECT_EQ(a.answer().usage.completion_tokens,
              static_cast<int64_t>(thought.size() + rest.size()));
  }
}

TEST(AnswerTest, ReasoningTokensWhereTheTagIsNoToken) {
  AnswerSpec spec = spec_of("deepseek_v3", ChatFamily::kDeepseekR1);
  spec.starts_in_thinking = true;
  ASSERT_EQ(spec.tokenizer->token_to_id("</think>"), std::nullopt);
  const auto thought = tokens_of(*spec.tokenizer, "sum it</think>");
  const auto rest = tokens_of(*spec.tokenizer, "four");
  AnswerAssembler a(spec);
  for (const auto& t : thought) a.push({&t, 1});
  for (const auto& t : rest) a.push({&t, 1});
  a.finish(FinishReason::kStop);
  EXPECT_EQ(a.answer().usage.reasoning_tokens, static_cast<int64_t>(thought.size()));
}

TEST(AnswerTest, NoThoughtNoReasoningTokens) {
  AnswerAssembler a(spec_of("nano", ChatFamily::kNano));
  a.push(tokens_of(*test::tokenizer("nano"), "four"));
  a.finish(FinishReason::kStop);
  EXPECT_EQ(a.answer().usage.reasoning_tokens, 0);
}

TEST(AnswerTest, StopStringEndsTheAnswerAndIsLeftOut) {
  AnswerSpec spec = spec_of("nano", std::nullopt);
  spec.stops = {"STOP", "###"};
  const auto tokens = tokens_of(*spec.tokenizer, "one two ### three");
  AnswerAssembler a(spec);
  std::size_t used = 0;
  while (!a.stopped()) {
    ASSERT_LT(used, tokens.size());
    a.push({&tokens[used++], 1});
  }
  EXPECT_TRUE(a.push(std::span(tokens).subspan(used)).empty());
  EXPECT_TRUE(a.finish(FinishReason::kStop).empty());
  EXPECT_EQ(a.answer().content, "one two ");
  EXPECT_EQ(a.answer().stop_string, "###");
  EXPECT_EQ(a.answer().finish, Finish::kStop);
  EXPECT_EQ(a.answer().usage.completion_tokens, static_cast<int64_t>(used));
}

TEST(AnswerTest, StopStringInTheLastTokenBeatsLength) {
  AnswerSpec spec = spec_of("nano", std::nullopt);
  spec.stops = {"two"};
  AnswerAssembler a(spec);
  a.push(tokens_of(*spec.tokenizer, "one two"));
  a.finish(FinishReason::kLength);
  EXPECT_EQ(a.answer().finish, Finish::kStop);
  EXPECT_EQ(a.answer().content, "one ");
}

TEST(AnswerTest, WhatMayBeAStopStringIsGivenOutAtTheEnd) {
  AnswerSpec spec = spec_of("nano", std::nullopt);
  spec.stops = {"two three"};
  AnswerAssembler a(spec);
  EXPECT_EQ(readable({a.push(tokens_of(*spec.tokenizer, "one two"))}),
            std::vector<std::string>{"text:one "});
  EXPECT_EQ(readable({a.finish(FinishReason::kLength)}), std::vector<std::string>{"text:two"});
  EXPECT_EQ(a.answer().finish, Finish::kLength);
  EXPECT_EQ(a.answer().stop_string, "");
}

TEST(AnswerTest, StopTokensAddNothing) {
  AnswerSpec spec = spec_of("nano", std::nullopt);
  const auto word = tokens_of(*spec.tokenizer, "x");
  spec.stop_tokens = {word[0].token};
  AnswerAssembler a(spec);
  EXPECT_TRUE(a.push(word).empty());
  EXPECT_EQ(a.answer().usage.completion_tokens, 1);
}

TEST(AnswerTest, HalfACharacterAtTheEndIsReplaced) {
  const auto tokens = tokens_of(*test::tokenizer("nano"), "a😀");
  ASSERT_GT(tokens.size(), 2U) << "the character is one token here, the test needs another";
  AnswerAssembler a(spec_of("nano", std::nullopt));
  a.push(std::span(tokens).first(tokens.size() - 1));
  a.finish(FinishReason::kLength);
  EXPECT_EQ(a.answer().content, "a\uFFFD");
  EXPECT_EQ(a.answer().content_tokens.size(), tokens.size() - 1);
}

TEST(AnswerTest, UsageOfSeveralAnswersCountsThePromptOnce) {
  const Usage usages[] = {{10, 4, 7, 1}, {10, 10, 5, 0}};
  const Usage sum = sum_usage(usages);
  EXPECT_EQ(sum.prompt_tokens, 10);
  EXPECT_EQ(sum.cached_prompt_tokens, 10);
  EXPECT_EQ(sum.completion_tokens, 12);
  EXPECT_EQ(sum.reasoning_tokens, 1);
}

}  // namespace answer_test
}  // namespace fathom::server::api
