// V3.2 and V4 beyond their goldens (golden_test.cc): what the published encoders have no word for,
// continued answers and prompts without one, and what errors say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/chat.h"

namespace fathom {
namespace dsml_encoders_test {

using ::testing::HasSubstr;
using F = ChatFamily;

const std::string kBegin = "<｜begin▁of▁sentence｜>";
const std::string kEnd = "<｜end▁of▁sentence｜>";

std::vector<ChatMessage> parse(std::string_view json) {
  auto messages = parse_messages(json, "test.json");
  EXPECT_TRUE(messages.has_value()) << messages.error().message;
  return std::move(messages).value();
}

std::string render(F family, std::string_view messages, const RenderOptions& options = {}) {
  const Result<std::string> prompt = render_chat(family, parse(messages), options);
  return prompt.has_value() ? *prompt : "ERROR: " + prompt.error().message;
}

constexpr F kBoth[] = {F::kDeepseekV32, F::kDeepseekV4};

TEST(DsmlEncoders, WithoutAGenerationPromptNoAnswerIsOpened) {
  const RenderOptions none{.add_generation_prompt = false, .thinking = true};
  for (const F family : kBoth)
    EXPECT_EQ(render(family, R"([{"role":"user","content":"a"}])", none), kBegin + "<｜User｜>a");
  const std::string called =
      R"([{"role":"user","content":"a"},{"role":"assistant","reasoning_content":"r","tool_calls":
          [{"id":"1","function":{"name":"f","arguments":"{}"}}]},
          {"role":"tool","tool_call_id":"1","content":"x"}])";
  EXPECT_TRUE(render(F::kDeepseekV32, called, none)
                  .ends_with("<function_results>\n<result>x</result>\n</function_results>"));
  EXPECT_TRUE(render(F::kDeepseekV4, called, none).ends_with("<tool_result>x</tool_result>"));
  EXPECT_EQ(render(F::kDeepseekV4, R"([{"role":"user","content":"a","task":"query"}])", none),
            kBegin + "<｜User｜>a");
}

TEST(DsmlEncoders, AContinuedAnswerGoesOnWhereItStops) {
  const RenderOptions go_on{.thinking = true, .continue_final_message = true};
  for (const F family : kBoth) {
    SCOPED_TRACE(chat_family_name(family));
    EXPECT_EQ(render(family,
                     R"([{"role":"user","content":"a"},
                         {"role":"assistant","content":"b ","reasoning_content":"r"}])",
                     go_on),
              kBegin + "<｜User｜>a<｜Assistant｜><think>r</think>b ");
    // Without reasoning the thought is empty: what was given is content.
    EXPECT_EQ(
        render(family, R"([{"role":"user","content":"a"},{"role":"assistant","content":"```"}])",
               go_on),
        kBegin + "<｜User｜>a<｜Assistant｜><think></think>```");
    // With nothing but reasoning, that goes on.
    const auto thought = parse(
        R"([{"role":"user","content":"a"},
            {"role":"assistant","content":"","reasoning_content":"so"}])");
    const auto pieces = render_chat_pieces(family, thought, go_on);
    ASSERT_TRUE(pieces.has_value()) << pieces.error().message;
    EXPECT_EQ(render_chat(family, thought, go_on).value(),
              kBegin + "<｜User｜>a<｜Assistant｜><think>so");
    EXPECT_TRUE(prompt_opens_thinking(*pieces));
    RenderOptions plain = go_on;
    plain.thinking = false;
    EXPECT_EQ(render(family,
                     R"([{"role":"user","content":"a"},
                         {"role":"assistant","content":"b","reasoning_content":"r"}])",
                     plain),
              kBegin + "<｜User｜>a<｜Assistant｜></think>b");
  }
}

TEST(DsmlEncoders, AResultThatIsMovedCannotBeContinued) {
  const auto ends_in = [](const char* id) {
    return std::string(R"([{"role":"user","content":"a"},{"role":"assistant","tool_calls":[
        {"id":"1","function":{"name":"f","arguments":"{}"}},
        {"id":"2","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":")") +
           (*id == '1' ? "2" : "1") + R"(","content":"x"},{"role":"tool","tool_call_id":")" + id +
           R"(","content":"y"}])";
  };
  const RenderOptions go_on{.continue_final_message = true};
  EXPECT_TRUE(render(F::kDeepseekV4, ends_in("2"), go_on).ends_with("<tool_result>y"));
  EXPECT_THAT(render(F::kDeepseekV4, ends_in("1"), go_on),
              HasSubstr("ERROR: messages[3].role is \"tool\", expected another one"));
}

TEST(DsmlEncoders, OpenThoughtsAreSeenInThePrompt) {
  for (const F family : kBoth) {
    SCOPED_TRACE(chat_family_name(family));
    const auto messages = parse(R"([{"role":"user","content":"a"}])");
    for (const bool thinking : {false, true}) {
      const RenderOptions options{.thinking = thinking};
      EXPECT_EQ(prompt_opens_thinking(render_chat_pieces(family, messages, options).value()),
                thinking);
      EXPECT_EQ(prompt_opens_thinking(family, options), thinking);
    }
    EXPECT_FALSE(prompt_opens_thinking(render_chat_pieces(family, messages, {}).value()));
    EXPECT_EQ(can_think(family), ThinkingSupport::kSwitchable);
    EXPECT_TRUE(can_describe_tools(family));
  }
}

TEST(DsmlEncoders, OnlyV4HasWordsForAnEffort) {
  constexpr std::string_view kAsk = R"([{"role":"user","content":"a"}])";
  for (const F family : all_chat_families()) {
    if (can_think(family) == ThinkingSupport::kNever) continue;
    const RenderOptions thinks{.thinking = true};
    RenderOptions high = thinks, max = thinks;
    high.reasoning_effort = "high";
    max.reasoning_effort = "max";
    EXPECT_EQ(render(family, kAsk, high), render(family, kAsk, thinks));
    EXPECT_EQ(render(family, kAsk, max) == render(family, kAsk, thinks), family != F::kDeepseekV4);
  }
  EXPECT_EQ(render(F::kDeepseekV4, kAsk, {.reasoning_effort = "low"}),
            "ERROR: the reasoning effort is \"low\", expected \"high\" or \"max\"");
}

TEST(DsmlEncoders, ErrorsSayWhatIsWrong) {
  const auto error = [](F family, std::string_view messages, const RenderOptions& options = {}) {
    return render(family, messages, options);
  };
  const RenderOptions thinks{.thinking = true};
  EXPECT_EQ(error(F::kDeepseekV32,
                  R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])", thinks),
            "ERROR: messages[1].reasoning_content is missing, expected reasoning, as the answer "
            "stands behind the last user message and thinking is on");
  EXPECT_EQ(error(F::kDeepseekV32, R"([{"role":"tool","content":"x"}])"),
            "ERROR: messages[0].role is \"tool\", expected a result behind the assistant message "
            "that called the tool");
  EXPECT_EQ(error(F::kDeepseekV32, R"([{"role":"assistant","tool_calls":[
                {"function":{"name":"f","arguments":"{}"}}]},
                {"role":"tool","content":"x"},{"role":"tool","content":"y"}])"),
            "ERROR: messages[2].role is \"tool\", expected no more results than the assistant "
            "message before has calls, 1");
  EXPECT_EQ(
      error(F::kDeepseekV32,
            R"([{"role":"developer","content":"d"},{"role":"user","content":"u"}])", thinks),
      "ERROR: messages[0].role is \"developer\", expected system, user, assistant or tool before "
      "the last user message, where thinking is on and earlier thinking is dropped");
  EXPECT_EQ(error(F::kDeepseekV4, R"([{"role":"developer"}])"),
            "ERROR: messages[0].content is empty, expected a text");
  EXPECT_EQ(error(F::kDeepseekV4, R"([{"role":"a\nb","content":"x"}])"),
            "ERROR: messages[0].role is \"a\\nb\", expected system, developer, user, assistant, "
            "tool or latest_reminder");
  EXPECT_EQ(error(F::kDeepseekV4, R"([{"role":"user","content":"x","task":"sing"}])"),
            "ERROR: messages[0].task is \"sing\", expected one of: action, query, authority, "
            "domain, title, read_url");
  const std::string call_with =
      R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":%s}}]}])";
  const auto arguments = [&](const char* json) {
    std::string text = call_with;
    return text.replace(text.find("%s"), 2, json);
  };
  EXPECT_THAT(error(F::kDeepseekV32, arguments(R"("{]")")),
              HasSubstr("messages[0].tool_calls[0].function.arguments: not valid JSON"));
  EXPECT_EQ(error(F::kDeepseekV4, arguments(R"("[1]")")),
            "ERROR: messages[0].tool_calls[0].function.arguments is \"[1]\", expected a string "
            "that holds a JSON object");
  EXPECT_EQ(error(F::kDeepseekV32, arguments(R"({"a":1})")),
            "ERROR: messages[0].tool_calls[0].function.arguments is an object, expected a string "
            "that holds a JSON object");
  EXPECT_THAT(error(F::kDeepseekV4, arguments(R"("{\"a\":1,\"a\":2}")")),
              HasSubstr("messages[0].tool_calls[0].function.arguments: field \"a\": the key "
                        "stands twice"));
}

TEST(DsmlEncoders, ToolsAndSchemasAreGivenInOneWay) {
  const std::string tools = R"([{"type":"function","function":{"name":"f"}}])";
  const std::string own =
      R"([{"role":"system","content":"S","tools":)" + tools + R"(},{"role":"user","content":"a"}])";
  const std::string schema =
      R"([{"role":"system","content":"S","response_format":{"type":"object"}}])";
  for (const F family : kBoth) {
    SCOPED_TRACE(chat_family_name(family));
    EXPECT_THAT(render(family, own), HasSubstr("{\"name\": \"f\"}"));
    EXPECT_EQ(render(family, own),
              render(family, R"([{"role":"system","content":"S"},{"role":"user","content":"a"}])",
                     {.tools_json = tools}));
    EXPECT_EQ(render(family, own, {.tools_json = tools}),
              "ERROR: messages[0].tools is given, expected nothing, as the whole conversation has "
              "them");
    EXPECT_EQ(render(family, schema, {.response_schema_json = R"({"type":"array"})"}),
              "ERROR: messages[0].response_format is given, expected nothing, as the whole "
              "conversation has them");
    EXPECT_EQ(render(family, own, {.response_schema_json = "[]"}),
              "ERROR: response_format: the top is [], expected a JSON schema");
    EXPECT_EQ(render(family, own, {.response_schema_json = "{}"}), render(family, own));
    EXPECT_EQ(render(family, R"([{"role":"user","content":"a"}])",
                     {.tools_json = R"([{"type":"function"}])"}),
              "ERROR: tools[0].function is missing, expected an object");
    EXPECT_EQ(render(family, R"([{"role":"system","tools":[{"function":5}]}])"),
              "ERROR: messages[0].tools[0].function is 5, expected an object");
  }
  EXPECT_THAT(parse_messages(R"([{"role":"system","tools":{}, "content":""},
                                 {"role":"system","tools":"x"}])",
                             "m.json")
                  .error()
                  .message,
              HasSubstr("[1].tools is \"x\", expected a list or null"));
}

}  // namespace dsml_encoders_test
}  // namespace fathom
