#include "server/api/prepare.h"

#include "server/api/test_support.h"

namespace fathom::server::api {
namespace prepare_test {

using nlohmann::ordered_json;
using test::message_of;
using test::served;
using ::testing::HasSubstr;
using Kind = ConstraintSpec::Kind;

ApiResult<Prepared> prepare(std::shared_ptr<const ServedModel> model, const std::string& patch) {
  ordered_json body =
      ordered_json::parse(R"({"model":"m","messages":[{"role":"user","content":"Hi json"}]})");
  body.merge_patch(ordered_json::parse(patch));
  auto request = parse_chat_request(body.dump());
  if (!request) return request.error();
  return prepare_chat(*request, {.model = std::move(model),
                                 .random_seed = 77,
                                 .identity = "key1",
                                 .call_id_prefix = "call_a_"});
}

std::string prompt_of(const Prepared& p) {
  return p.spec.tokenizer->decode(p.request.prompt).value();
}

std::shared_ptr<ServedModel> nano() { return served("nano", ChatFamily::kNano); }
std::shared_ptr<ServedModel> hybrid() { return served("deepseek_v3", ChatFamily::kDeepseekV31); }
std::shared_ptr<ServedModel> qwen() { return served("qwen3", ChatFamily::kQwen3); }

constexpr const char* kTools =
    R"("tools":[{"type":"function","function":{"name":"get","parameters":{"type":"object"}}},
                {"type":"function","function":{"name":"put"}}])";

TEST(PrepareTest, DefaultsComeFromTheModel) {
  auto p = prepare(nano(), "{}");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  EXPECT_EQ(prompt_of(*p), "<｜begin▁of▁sentence｜><｜User｜>Hi json<｜Assistant｜><think>\n");
  const auto tokens = static_cast<int64_t>(p->request.prompt.size());
  EXPECT_EQ(p->request.max_tokens, 2048 - tokens);
  EXPECT_EQ(p->request.stop_tokens, std::vector<int32_t>{1});
  EXPECT_FLOAT_EQ(p->request.sampling.temperature, 0.6F);
  EXPECT_EQ(p->request.sampling.seed, 77U);
  EXPECT_EQ(p->request.top_logprobs, -1);
  EXPECT_EQ(p->request.constraint.kind, Kind::kNone);
  EXPECT_EQ(p->request.tenant, "4:key1/");
  EXPECT_TRUE(p->spec.starts_in_thinking);
  EXPECT_FALSE(p->spec.parse_tools);
  EXPECT_EQ(p->spec.prompt_tokens, tokens);
  EXPECT_EQ(p->spec.call_id_prefix, "call_a_");
}

TEST(PrepareTest, WhatTheRequestSaysGoesFirst) {
  auto p = prepare(nano(), R"({"temperature":1.5,"top_p":0.5,"top_k":3,"min_p":0.1,"seed":5,
      "repetition_penalty":1.1,"presence_penalty":1,"frequency_penalty":-1,"max_tokens":9,
      "logit_bias":{"4":2},"logprobs":true,"top_logprobs":3,"stop":"x","user_id":"u",
      "stop_token_ids":[7]})");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  const SamplingParams& s = p->request.sampling;
  EXPECT_FLOAT_EQ(s.temperature, 1.5F);
  EXPECT_FLOAT_EQ(s.top_p, 0.5F);
  EXPECT_EQ(s.top_k, 3);
  EXPECT_FLOAT_EQ(s.min_p, 0.1F);
  EXPECT_FLOAT_EQ(s.repetition_penalty, 1.1F);
  EXPECT_FLOAT_EQ(s.presence_penalty, 1);
  EXPECT_FLOAT_EQ(s.frequency_penalty, -1);
  EXPECT_EQ(s.seed, 5U);
  EXPECT_EQ(s.logit_bias.size(), 1U);
  EXPECT_EQ(p->request.max_tokens, 9);
  EXPECT_EQ(p->request.top_logprobs, 3);
  EXPECT_EQ(p->spec.top_logprobs, 3);
  EXPECT_EQ(p->spec.stops, std::vector<std::string>{"x"});
  EXPECT_EQ(p->request.stop_tokens, (std::vector<int32_t>{1, 7}));
  EXPECT_EQ(p->request.tenant, "4:key1/u");
}

TEST(PrepareTest, TenantsDoNotMeet) {
  EXPECT_NE(tenant_of("a", "b/c"), tenant_of("a/b", "c"));
  EXPECT_NE(tenant_of("", "a"), tenant_of("a", ""));
}

TEST(PrepareTest, IgnoreEos) {
  auto p = prepare(nano(), R"({"ignore_eos":true})");
  EXPECT_TRUE(p->request.stop_tokens.empty());
}

TEST(PrepareTest, MaxTokensIsCutToTheContext) {
  auto p = prepare(nano(), R"({"max_tokens":100000})");
  EXPECT_EQ(p->request.max_tokens, 2048 - p->spec.prompt_tokens);
}

TEST(PrepareTest, APromptThatFillsTheContext) {
  auto model = nano();
  model->context_tokens = 5;
  const auto p = prepare(model, "{}");
  EXPECT_EQ(p.error().code, "context_length_exceeded");
  EXPECT_EQ(p.error().status, 400);
  EXPECT_THAT(message_of(p), HasSubstr("tokens, expected fewer than 5, the context of nano"));
}

TEST(PrepareTest, ClientsCannotWriteControlTokens) {
  auto p = prepare(nano(), R"({"messages":[{"role":"user","content":"<｜Assistant｜>"}]})");
  const int32_t assistant = *test::tokenizer("nano")->token_to_id("<｜Assistant｜>");
  EXPECT_EQ(std::count(p->request.prompt.begin(), p->request.prompt.end(), assistant), 1);
}

TEST(PrepareTest, ThinkingIsSwitched) {
  EXPECT_FALSE(prepare(hybrid(), "{}")->spec.starts_in_thinking);
  EXPECT_TRUE(prepare(hybrid(), R"({"thinking":{"type":"enabled"}})")->spec.starts_in_thinking);
  EXPECT_TRUE(prepare(hybrid(), R"({"model":"deepseek-reasoner"})")->spec.starts_in_thinking);
  EXPECT_FALSE(prepare(hybrid(), R"({"model":"deepseek-chat"})")->spec.starts_in_thinking);
  EXPECT_FALSE(prepare(hybrid(), R"({"model":"deepseek-reasoner","thinking":{"type":"disabled"}})")
                   ->spec.starts_in_thinking);
  auto off = prepare(nano(), R"({"thinking":{"type":"disabled"}})");
  EXPECT_FALSE(off->spec.starts_in_thinking);
  EXPECT_THAT(prompt_of(*off), HasSubstr("<think>\n\n</think>\n\n"));
}

TEST(PrepareTest, ModelsThatCannotThink) {
  const auto model = served("nano", ChatFamily::kChatMl);
  EXPECT_EQ(message_of(prepare(model, R"({"thinking":{"type":"enabled"}})")),
            "thinking is asked for, but the model nano does not think: expected {\"type\": "
            "\"disabled\"} or nothing");
  EXPECT_TRUE(prepare(model, R"({"thinking":{"type":"disabled"}})").has_value());
  EXPECT_TRUE(prepare(model, R"({"reasoning_effort":"high"})").has_value());
  EXPECT_TRUE(prepare(model, R"({"model":"deepseek-reasoner"})").has_value());
}

TEST(PrepareTest, HybridsIgnoreTheTemperatureWhileTheyThink) {
  const std::string hot = R"({"temperature":2,"presence_penalty":1,"top_p":0.5,"thinking":)";
  auto on = prepare(hybrid(), hot + R"({"type":"enabled"}})");
  EXPECT_FLOAT_EQ(on->request.sampling.temperature, 0.6F);
  EXPECT_FLOAT_EQ(on->request.sampling.presence_penalty, 0);
  EXPECT_FLOAT_EQ(on->request.sampling.top_p, 0.5F);
  auto off = prepare(hybrid(), hot + R"({"type":"disabled"}})");
  EXPECT_FLOAT_EQ(off->request.sampling.temperature, 2);
  auto other = prepare(nano(), hot + R"({"type":"enabled"}})");
  EXPECT_FLOAT_EQ(other->request.sampling.temperature, 2);
}

TEST(PrepareTest, PrefixCompletion) {
  auto p = prepare(hybrid(), R"({"messages":[{"role":"user","content":"a"},
      {"role":"assistant","content":"```py\n","prefix":true}]})");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  EXPECT_EQ(prompt_of(*p), "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>```py\n");
  EXPECT_FALSE(p->spec.starts_in_thinking);
}

TEST(PrepareTest, ToolsAreInThePromptUnlessChoiceIsNone) {
  auto p = prepare(qwen(), std::string("{") + kTools + "}");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  EXPECT_THAT(prompt_of(*p), HasSubstr("\"name\": \"get\""));
  EXPECT_TRUE(p->spec.parse_tools);
  EXPECT_EQ(p->request.constraint.kind, Kind::kNone);
  auto none = prepare(qwen(), std::string("{") + kTools + R"(,"tool_choice":"none"})");
  EXPECT_THAT(prompt_of(*none), ::testing::Not(HasSubstr("\"name\": \"get\"")));
  EXPECT_FALSE(none->spec.parse_tools);
}

TEST(PrepareTest, ToolsNeedAFamilyThatKnowsThem) {
  EXPECT_THAT(message_of(prepare(nano(), std::string("{") + kTools + "}")),
              HasSubstr("nano has no published form to describe them"));
}

TEST(PrepareTest, WhichToolsBindTheAnswer) {
  const auto kind = [](const std::string& rest) {
    auto p = prepare(qwen(), std::string("{") + kTools + rest + "}");
    EXPECT_TRUE(p.has_value()) << message_of(p);
    return p->request.constraint;
  };
  EXPECT_EQ(kind("").kind, Kind::kNone);
  EXPECT_EQ(kind(R"(,"tool_choice":"none")").kind, Kind::kNone);
  EXPECT_EQ(kind(R"(,"tool_choice":"required")").kind, Kind::kToolCalls);
  EXPECT_EQ(kind(R"(,"parallel_tool_calls":false)").kind, Kind::kToolCalls);
  const ConstraintSpec named =
      kind(R"(,"tool_choice":{"type":"function","function":{"name":"put"}})");
  EXPECT_EQ(named.kind, Kind::kToolCalls);
  const auto description = ordered_json::parse(named.text);
  EXPECT_EQ(description["choice"].dump(), R"({"name":"put"})");
  EXPECT_EQ(description["parallel"], true);
  EXPECT_EQ(
      description["tools"].dump(),
      R"([{"name":"get","schema":"{\"type\": \"object\"}","strict":false},{"name":"put","schema":"","strict":false}])");
  EXPECT_EQ(description["form"]["call_begin"], "<tool_call>\n{\"name\": \"");
  EXPECT_FALSE(description["form"].contains("parameters"));
}

TEST(PrepareTest, DsmlCallsAreBoundAsParametersBehindTheThought) {
  const std::string strict = R"({"tools":[{"type":"function","function":{"name":"get","strict":true,
      "parameters":{"type":"object","properties":{"x":{"type":"string"}},"required":["x"],
      "additionalProperties":false}}}],)";
  for (const auto& [family, tag] : {std::pair(ChatFamily::kDeepseekV32, "<｜DSML｜function_calls>"),
                                    std::pair(ChatFamily::kDeepseekV4, "<｜DSML｜tool_calls>")}) {
    SCOPED_TRACE(tag);
    const auto model = served("nano", family);
    auto p = prepare(model, strict + R"("thinking":{"type":"enabled"}})");
    ASSERT_TRUE(p.has_value()) << message_of(p);
    EXPECT_TRUE(prompt_of(*p).ends_with("<think>"));
    EXPECT_EQ(p->request.constraint.kind, Kind::kToolCalls);
    EXPECT_EQ(p->request.constraint.starts_after,
              std::vector<int32_t>{*test::tokenizer("nano")->token_to_id("</think>")});
    const auto form = ordered_json::parse(p->request.constraint.text)["form"];
    EXPECT_EQ(form["trigger"], tag);
    EXPECT_EQ(form["call_end"], "\n</｜DSML｜invoke>");
    EXPECT_EQ(form["parameters"]["json"], "false\">");
    for (const char* rest : {R"("tool_choice":"required"})", R"("parallel_tool_calls":false})",
                             R"("tool_choice":{"type":"function","function":{"name":"get"}}})"}) {
      auto bound = prepare(model, strict + R"("thinking":{"type":"disabled"},)" + rest);
      ASSERT_TRUE(bound.has_value()) << message_of(bound);
      EXPECT_EQ(bound->request.constraint.kind, Kind::kToolCalls) << rest;
      EXPECT_TRUE(bound->request.constraint.starts_after.empty());
      EXPECT_TRUE(bound->spec.parse_tools);
    }
  }
}

TEST(PrepareTest, ConstraintsWaitForTheEndOfTheThought) {
  const std::string json = R"({"response_format":{"type":"json_object"}})";
  auto always = prepare(nano(), json);
  ASSERT_TRUE(always.has_value()) << message_of(always);
  EXPECT_EQ(always->request.constraint.kind, Kind::kJsonObject);
  EXPECT_EQ(always->request.constraint.starts_after,
            std::vector<int32_t>{*test::tokenizer("nano")->token_to_id("</think>")});
  auto off = prepare(hybrid(), json);
  EXPECT_TRUE(off->request.constraint.starts_after.empty());
}

TEST(PrepareTest, AConstrainedModelCannotSkipItsThought) {
  auto p = prepare(qwen(), R"({"response_format":{"type":"json_object"}})");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  EXPECT_TRUE(prompt_of(*p).ends_with("<|im_start|>assistant\n<think>\n")) << prompt_of(*p);
  EXPECT_TRUE(p->spec.starts_in_thinking);
  EXPECT_EQ(p->request.constraint.starts_after, std::vector<int32_t>{151668});
  auto free = prepare(qwen(), "{}");
  EXPECT_TRUE(prompt_of(*free).ends_with("<|im_start|>assistant\n"));
}

TEST(PrepareTest, SchemaIsHandedOn) {
  auto p = prepare(hybrid(), R"({"response_format":{"type":"json_schema","json_schema":
                                  {"name":"s","schema":{"type":"object"}}}})");
  EXPECT_EQ(p->request.constraint.kind, Kind::kJsonSchema);
  EXPECT_EQ(p->request.constraint.text, R"({"type": "object"})");
}

constexpr const char* kCallConversation =
    R"("messages":[{"role":"user","content":"a"},
      {"role":"assistant"%s,"tool_calls":[{"id":"c1","function":{"name":"get","arguments":"{}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"ok"}])";

std::string with_content(const char* content) {
  std::string text = kCallConversation;
  return text.replace(text.find("%s"), 2, content);
}

TEST(PrepareTest, CallsArePrintedHoweverTheirContentIsLeftOut) {
  for (const ChatFamily family :
       {ChatFamily::kQwen3, ChatFamily::kDeepseekV25, ChatFamily::kDeepseekV3,
        ChatFamily::kDeepseekV3_0324, ChatFamily::kDeepseekR1, ChatFamily::kDeepseekR1_0528,
        ChatFamily::kR1Distill, ChatFamily::kDeepseekV31, ChatFamily::kDeepseekV31Terminus}) {
    const auto model = served(family == ChatFamily::kQwen3 ? "qwen3" : "deepseek_v3", family);
    SCOPED_TRACE(chat_family_name(family));
    std::string first;
    for (const char* content : {"", R"(,"content":null)", R"(,"content":"")"}) {
      // Null in a merge patch removes, so the body is written out.
      auto request = parse_chat_request(R"({"model":"m",)" + with_content(content) + "}");
      ASSERT_TRUE(request.has_value()) << message_of(request);
      auto p = prepare_chat(*request, {.model = model});
      ASSERT_TRUE(p.has_value()) << message_of(p);
      EXPECT_THAT(prompt_of(*p), HasSubstr("get"));
      if (first.empty()) first = prompt_of(*p);
      EXPECT_EQ(prompt_of(*p), first) << content;
    }
    auto beside = prepare(model, "{" + with_content(R"(,"content":"Looking")") + "}");
    ASSERT_TRUE(beside.has_value()) << message_of(beside);
    EXPECT_THAT(prompt_of(*beside), HasSubstr("get"));
  }
}

TEST(PrepareTest, FamiliesWithoutCallsRefuseThem) {
  EXPECT_EQ(message_of(prepare(nano(), "{" + with_content("") + "}")),
            "messages[1] is a call, for which nano has no form");
  EXPECT_EQ(message_of(prepare(nano(), R"({"messages":[{"role":"tool","content":"x"}]})")),
            "messages[0] is a tool's result, for which nano has no form");
  EXPECT_EQ(
      message_of(prepare(nano(), R"({"messages":[{"role":"latest_reminder","content":"x"}]})")),
      "messages[0] is a latest_reminder, for which nano has no form");
}

TEST(PrepareTest, LogitBiasMustBeInTheVocabulary) {
  EXPECT_THAT(message_of(prepare(nano(), R"({"logit_bias":{"999999":1}})")), HasSubstr("999999"));
}

TEST(PrepareTest, ModelsWithoutChatOrTokenizer) {
  EXPECT_THAT(message_of(prepare(served("nano", std::nullopt), "{}")),
              HasSubstr("has no chat form"));
  auto model = nano();
  model->tokenizer = nullptr;
  EXPECT_EQ(message_of(prepare(model, "{}")), "the model nano has no tokenizer");
}

TEST(PrepareTest, ChoicesDifferInSeedAndCallIds) {
  auto p = prepare(nano(), R"({"n":2,"seed":9})");
  const Prepared first = choice_of(*p, 0), second = choice_of(*p, 1);
  EXPECT_EQ(first.request.sampling.seed, 9U);
  EXPECT_EQ(second.request.sampling.seed, 10U);
  EXPECT_NE(first.spec.call_id_prefix, second.spec.call_id_prefix);
  EXPECT_EQ(first.request.prompt, second.request.prompt);
}

}  // namespace prepare_test
}  // namespace fathom::server::api
