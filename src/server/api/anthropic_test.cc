#include "server/api/anthropic_request.h"
#include "server/api/anthropic_response.h"
#include "server/api/test_support.h"

namespace fathom::server::api {
namespace anthropic_test {

using nlohmann::ordered_json;
using test::message_of;
using test::tokens_of;

std::string body_with(const std::string& patch) {
  ordered_json body = ordered_json::parse(
      R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]})");
  body.merge_patch(ordered_json::parse(patch));
  return body.dump();
}

ChatRequest parse(const std::string& patch) {
  auto r = parse_anthropic_request(body_with(patch));
  EXPECT_TRUE(r.has_value()) << message_of(r);
  return *r;
}

struct Refusal {
  const char* patch;
  const char* message;
};
void PrintTo(const Refusal& r, std::ostream* out) { *out << r.patch; }

class AnthropicRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(AnthropicRefusal, NamesFieldValueAndExpectation) {
  EXPECT_EQ(message_of(parse_anthropic_request(body_with(GetParam().patch))), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, AnthropicRefusal,
    ::testing::Values(
        Refusal{R"({"max_tokens":null})",
                "max_tokens is missing, expected an integer of at least 1"},
        Refusal{R"({"messages":[{"role":"system","content":"a"}]})",
                "messages[0].role is \"system\", expected one of: user,assistant"},
        Refusal{R"({"messages":[{"role":"user"}]})",
                "messages[0].content is missing, expected a value"},
        Refusal{R"({"messages":[{"role":"user","content":7}]})",
                "messages[0].content is 7, expected a string or a list of blocks"},
        Refusal{R"({"messages":[{"role":"user","content":[{"type":"image"}]}]})",
                "messages[0].content[0].type is \"image\", expected one of: text,tool_result (the "
                "model reads text)"},
        Refusal{R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
                "messages[0].content[0].text is missing, expected a string"},
        Refusal{R"({"messages":[{"role":"user","content":[{"type":"tool_result"}]}]})",
                "messages[0].content[0].tool_use_id is missing, expected a string"},
        Refusal{R"({"messages":[{"role":"user","content":[{"type":"tool_result",
                   "tool_use_id":"t","content":[{"type":"image"}]}]}]})",
                "messages[0].content[0].content[0].type is \"image\", expected \"text\": the model "
                "reads text"},
        Refusal{R"({"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a",
                   "name":"f"}]}]})",
                "messages[0].content[0].input is missing, expected an object"},
        Refusal{R"({"system":7})", "system is 7, expected a string or a list of text blocks"},
        Refusal{R"({"thinking":{"type":"on"}})",
                "thinking.type is \"on\", expected one of: enabled,disabled,adaptive"},
        Refusal{R"({"stop_sequences":[""]})",
                "stop_sequences[0] is \"\", expected a string of 1 to 1024 bytes"},
        Refusal{R"({"tools":[{"type":"web_search_20250305","name":"w"}]})",
                "tools[0].type is \"web_search_20250305\", expected one of: custom"},
        Refusal{R"({"tools":[{"name":"f"}]})",
                "tools[0].input_schema is missing, expected an object"},
        Refusal{R"({"tool_choice":{"type":"tool"}})",
                "tool_choice.name is missing, expected the name of a tool"},
        Refusal{R"({"tool_choice":{"type":"any"}})",
                "tool_choice is \"required\", but there are no tools, expected at least one"},
        Refusal{R"({"output_config":{"effort":"x"}})",
                "output_config.effort is \"x\", expected one of: "
                "none,minimal,low,medium,high,xhigh,max,ultra"}));

TEST(AnthropicRequestTest, BlocksBecomeMessages) {
  const ChatRequest r = parse(R"({"system":[{"type":"text","text":"S","cache_control":{}}],
    "messages":[{"role":"user","content":[{"type":"text","text":"a"}]},
     {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"x"},
       {"type":"text","text":"Looking"},{"type":"tool_use","id":"t1","name":"f","input":{"q":1}}]},
     {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"one"},
       {"type":"text","text":"and?"}]}]})");
  ASSERT_EQ(r.messages.size(), 5U);
  EXPECT_EQ(r.messages[0].role + ":" + *r.messages[0].content, "system:S");
  EXPECT_EQ(r.messages[1].role + ":" + *r.messages[1].content, "user:a");
  EXPECT_EQ(r.messages[2].reasoning_content, "hm");
  EXPECT_EQ(r.messages[2].content, "Looking");
  EXPECT_EQ((*r.messages[2].tool_calls)[0].arguments, R"({"q": 1})");
  EXPECT_EQ(r.messages[3].role + ":" + *r.messages[3].content, "tool:one");
  EXPECT_EQ(r.messages[3].tool_call_id, "t1");
  EXPECT_EQ(r.messages[4].role + ":" + *r.messages[4].content, "user:and?");
  EXPECT_FALSE(r.continue_final_message);
}

TEST(AnthropicRequestTest, AFinalAnswerIsContinued) {
  EXPECT_TRUE(parse(R"({"messages":[{"role":"user","content":"a"},
                        {"role":"assistant","content":"The"}]})")
                  .continue_final_message);
}

TEST(AnthropicRequestTest, OtherFields) {
  const ChatRequest r = parse(R"({"thinking":{"type":"enabled","budget_tokens":1024},
      "output_config":{"effort":"max"},"metadata":{"user_id":"u"},"temperature":1,"top_k":5,
      "stop_sequences":["X"],"stream":true,"container":"c","mcp_servers":[],
      "tools":[{"name":"f","input_schema":{"type":"object"}}],
      "tool_choice":{"type":"any","disable_parallel_tool_use":true}})");
  EXPECT_EQ(r.thinking, true);
  EXPECT_EQ(r.effort, Effort::kMax);
  EXPECT_EQ(r.user_id, "u");
  EXPECT_EQ(r.stops, std::vector<std::string>{"X"});
  EXPECT_EQ(r.tool_choice.kind, ToolChoice::Kind::kRequired);
  EXPECT_FALSE(r.parallel_tool_calls);
  EXPECT_EQ(r.max_tokens, 9);
  EXPECT_EQ(parse(R"({"thinking":{"type":"adaptive"}})").thinking, std::nullopt);
}

TEST(AnthropicRequestTest, CountingNeedsNoMaxTokens) {
  EXPECT_TRUE(parse_count_tokens_request(body_with(R"({"max_tokens":null})")).has_value());
}

struct Streamed {
  std::vector<SseEvent> events;
  std::string body;
};

Streamed stream(const std::string& text, FinishReason reason, std::vector<std::string> stops = {}) {
  const AnswerSpec spec = {.tokenizer = test::tokenizer("qwen3"),
                           .family = ChatFamily::kQwen3,
                           .parse_tools = true,
                           .stops = std::move(stops),
                           .prompt_tokens = 10};
  AnswerAssembler a(spec);
  a.set_cached_prompt_tokens(4);
  AnthropicStream s({"msg_1", "r", 1700000000, "m", "fp_0"});
  Streamed out{s.begin(a.answer().usage), ""};
  const auto add = [&](std::vector<SseEvent> events) {
    for (SseEvent& e : events) out.events.push_back(std::move(e));
  };
  for (const SampledToken& t : tokens_of(*spec.tokenizer, text)) add(s.deltas(a.push({&t, 1})));
  add(s.deltas(a.finish(reason)));
  add(s.finish(a.answer()));
  out.body = s.body();
  return out;
}

TEST(AnthropicStreamTest, ThoughtTextAndCall) {
  const Streamed s = stream(
      "<think>\nhm\n</think>\n\nok\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"q\": "
      "1}}\n</tool_call>",
      FinishReason::kStop);
  const std::vector<std::string> expected = {
      R"({"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":0}}})",
      R"({"type":"ping"})",
      R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})",
      R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}})",
      R"({"type":"content_block_stop","index":0})",
      R"({"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}})",
      R"({"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"ok"}})",
      R"({"type":"content_block_stop","index":1})",
      R"({"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"call_0","name":"f","input":{}}})",
      R"({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"q\": 1}"}})",
      R"({"type":"content_block_stop","index":2})"};
  ASSERT_EQ(s.events.size(), expected.size() + 2);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(s.events[i].data, expected[i]);
    EXPECT_EQ(s.events[i].event, ordered_json::parse(expected[i])["type"]);
  }
  const auto delta = ordered_json::parse(s.events[expected.size()].data);
  EXPECT_EQ(delta["delta"].dump(), R"({"stop_reason":"tool_use","stop_sequence":null})");
  EXPECT_EQ(s.events.back().data, R"({"type":"message_stop"})");
  EXPECT_EQ(
      ordered_json::parse(s.body)["content"].dump(),
      R"([{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"ok"},{"type":"tool_use","id":"call_0","name":"f","input":{"q":1}}])");
}

TEST(AnthropicStreamTest, WhyItStopped) {
  const auto reason = [](const Streamed& s) {
    const auto body = ordered_json::parse(s.body);
    return body["stop_reason"].get<std::string>() + ":" + body["stop_sequence"].dump();
  };
  EXPECT_EQ(reason(stream("ok", FinishReason::kStop)), "end_turn:null");
  EXPECT_EQ(reason(stream("ok", FinishReason::kLength)), "max_tokens:null");
  EXPECT_EQ(reason(stream("ok END more", FinishReason::kStop, {"END"})), "stop_sequence:\"END\"");
}

TEST(AnthropicStreamTest, AnErrorIsAnEvent) {
  AnthropicStream s({"msg_1", "r", 0, "m", ""});
  const SseEvent e = s.error(service_error({ErrorCode::kUnavailable, "no worker"}));
  EXPECT_EQ(e.event, "error");
  EXPECT_EQ(
      e.data,
      R"({"type":"error","error":{"type":"overloaded_error","message":"no worker"},"request_id":"r"})");
}

}  // namespace anthropic_test
}  // namespace fathom::server::api
