#include "server/api/responses_request.h"
#include "server/api/responses_response.h"
#include "server/api/test_support.h"

namespace fathom::server::api {
namespace responses_test {

using nlohmann::ordered_json;
using test::tokens_of;

std::string error_of(const std::string& patch) {
  ordered_json body = ordered_json::parse(R"({"model":"m","input":"Hi"})");
  body.merge_patch(ordered_json::parse(patch));
  auto r = parse_responses_request(body.dump());
  if (!r) return r.error().message;
  auto c = conversation(*r, {});
  return c ? "(no error)" : c.error().message;
}

ResponsesRequest parse(const std::string& patch) {
  ordered_json body = ordered_json::parse(R"({"model":"m","input":"Hi"})");
  body.merge_patch(ordered_json::parse(patch));
  auto r = parse_responses_request(body.dump());
  EXPECT_TRUE(r.has_value()) << r.error().message;
  return *r;
}

struct Refusal {
  const char* patch;
  const char* message;
};
void PrintTo(const Refusal& r, std::ostream* out) { *out << r.patch; }

class ResponsesRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(ResponsesRefusal, NamesFieldValueAndExpectation) {
  EXPECT_EQ(error_of(GetParam().patch), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ResponsesRefusal,
    ::testing::Values(
        Refusal{R"({"input":null})", "input is missing, expected a value"},
        Refusal{R"({"input":[]})",
                "input is a list of 0, expected a string or a list of 1 to 100000 items"},
        Refusal{R"({"input":[7]})", "input[0] is 7, expected an object"},
        Refusal{R"({"input":[{"type":"item_reference","id":"x"}]})",
                "input[0].type is \"item_reference\", expected one of: "
                "message,function_call,function_call_output,reasoning"},
        Refusal{R"({"input":[{"content":"a"}]})",
                "input[0].role is missing, expected one of: user,assistant,system,developer"},
        Refusal{R"({"input":[{"role":"bot","content":"a"}]})",
                "input[0].role is \"bot\", expected one of: user,assistant,system,developer"},
        Refusal{R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})",
                "input[0].content[0].type is \"input_image\", expected \"input_text\" or "
                "\"output_text\": the model reads text"},
        Refusal{R"({"input":[{"type":"function_call","call_id":"c","name":"f"}]})",
                "input[0].arguments is missing, expected a string"},
        Refusal{R"({"input":[{"type":"function_call_output","output":"x"}]})",
                "input[0].call_id is missing, expected a string"},
        Refusal{R"({"input":[{"type":"reasoning","content":"x"}]})",
                "input has no message, expected one"},
        Refusal{R"({"max_output_tokens":0})",
                "max_output_tokens is 0, expected an integer from 1 to 134217728"},
        Refusal{R"({"background":true,"store":false})",
                "background is true, but store is false: expected store to be true"},
        Refusal{R"({"metadata":{"a":1}})",
                "metadata.a is 1, expected a string of at most 512 bytes, under a key of at most "
                "64"},
        Refusal{R"({"text":{"format":{"type":"json_object"}}})",
                "text.format.type is \"json_object\", but no message contains the word \"json\": "
                "say in the prompt that you want JSON"},
        Refusal{R"({"text":{"format":{"type":"json_schema","name":"a"}}})",
                "text.format.schema is missing, expected an object"},
        Refusal{R"({"reasoning":{"effort":"x"}})",
                "reasoning.effort is \"x\", expected one of: "
                "none,minimal,low,medium,high,xhigh,max,ultra"},
        Refusal{R"({"tools":[{"type":"web_search"}]})",
                "tools[0].type is \"web_search\", expected one of: function"},
        Refusal{R"({"tool_choice":{"type":"function","name":"f"}})",
                "tool_choice names the function \"f\", expected one of tools"}));

TEST(ResponsesRequestTest, ItemsBecomeMessages) {
  const auto r = parse(R"({"instructions":"Be brief.","input":[
      {"role":"developer","content":"D"},
      {"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},
      {"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Looking"}]},
      {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
      {"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
      {"type":"function_call_output","call_id":"c1","output":"one"},
      {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"}]}]})");
  const std::vector<ChatMessage> history = {{.role = "user", .content = "earlier"}};
  auto c = conversation(r, history);
  ASSERT_TRUE(c.has_value()) << c.error().message;
  const auto& m = c->messages;
  ASSERT_EQ(m.size(), 7U);
  EXPECT_EQ(m[0].role + ":" + *m[0].content, "system:Be brief.");
  EXPECT_EQ(m[1].content, "earlier");
  EXPECT_EQ(m[2].role + ":" + *m[2].content, "system:D");
  EXPECT_EQ(m[3].content, "ab");
  EXPECT_EQ(m[4].reasoning_content, "hm");
  EXPECT_EQ(m[4].content, "Looking");
  ASSERT_EQ(m[4].tool_calls->size(), 2U);
  EXPECT_EQ((*m[4].tool_calls)[1].name, "g");
  EXPECT_EQ(m[5].tool_call_id + ":" + *m[5].content, "c1:one");
  EXPECT_EQ(m[6].tool_call_id + ":" + *m[6].content, "c2:two");
}

TEST(ResponsesRequestTest, ToolsAreTakenInTheirFlatForm) {
  const auto r = parse(R"({"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],
                           "tool_choice":{"type":"function","name":"f"}})");
  EXPECT_EQ(
      r.chat.tools_json,
      R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])");
  EXPECT_EQ(r.chat.tool_choice.name, "f");
}

TEST(ResponsesRequestTest, OtherFields) {
  const auto r = parse(R"({"max_output_tokens":5,"reasoning":{"effort":"none"},"background":true,
      "metadata":{"k":"v"},"previous_response_id":"resp_1","stream":true,"top_logprobs":2,
      "text":{"format":{"type":"json_schema","name":"s","schema":{"type":"object"}}}})");
  EXPECT_EQ(r.chat.max_tokens, 5);
  EXPECT_EQ(r.chat.thinking, false);
  EXPECT_TRUE(r.background && r.store && r.chat.stream);
  EXPECT_EQ(r.previous_response_id, "resp_1");
  EXPECT_EQ(r.chat.top_logprobs, 2);
  EXPECT_EQ(r.chat.format.schema, R"({"type": "object"})");
}

TEST(ResponsesRequestTest, AnAnswerInTheHistory) {
  Answer a;
  a.reasoning = "hm";
  a.calls = {{"c", "f", "{}"}};
  const ChatMessage m = message_of(a);
  EXPECT_EQ(m.content, std::nullopt);
  EXPECT_EQ(m.reasoning_content, "hm");
  EXPECT_EQ((*m.tool_calls)[0].id, "c");
}

ResponseMeta meta() { return {"resp_1", "r", 1700000000, "m", "fp_0"}; }

struct Streamed {
  std::vector<SseEvent> events;
  std::string body;
};

Streamed stream(const std::string& text, FinishReason reason, const std::string& patch = "{}") {
  const ResponsesRequest request = parse(patch);
  const AnswerSpec spec = {.tokenizer = test::tokenizer("qwen3"),
                           .family = ChatFamily::kQwen3,
                           .parse_tools = true,
                           .top_logprobs = request.chat.top_logprobs,
                           .prompt_tokens = 3};
  AnswerAssembler a(spec);
  ResponsesStream s(meta(), request, spec.tokenizer);
  Streamed out{s.begin(), ""};
  const auto add = [&](std::vector<SseEvent> events) {
    for (SseEvent& e : events) out.events.push_back(std::move(e));
  };
  for (const SampledToken& t : tokens_of(*spec.tokenizer, text)) add(s.deltas(a.push({&t, 1})));
  add(s.deltas(a.finish(reason)));
  add(s.finish(a.answer()));
  out.body = s.body();
  return out;
}

std::vector<std::string> names(const Streamed& s) {
  std::vector<std::string> out;
  for (const SseEvent& e : s.events) out.push_back(e.event.substr(9));
  return out;
}

TEST(ResponsesStreamTest, ThoughtTextAndCallInOrder) {
  const Streamed s = stream(
      "<think>\nhm\n</think>\n\nok\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
      "{}}\n</tool_call>",
      FinishReason::kStop);
  EXPECT_EQ(names(s), (std::vector<std::string>{
                          "created", "in_progress",  //
                          "output_item.added", "content_part.added", "reasoning_text.delta",
                          "reasoning_text.done", "content_part.done", "output_item.done",  //
                          "output_item.added", "content_part.added", "output_text.delta",
                          "output_text.done", "content_part.done", "output_item.done",  //
                          "output_item.added", "function_call_arguments.delta",
                          "function_call_arguments.done", "output_item.done",  //
                          "completed"}));
  for (std::size_t i = 0; i < s.events.size(); ++i) {
    const auto data = ordered_json::parse(s.events[i].data);
    EXPECT_EQ(data["sequence_number"], i);
    EXPECT_EQ(data["type"], s.events[i].event);
    EXPECT_EQ(s.events[i].id, "r/" + std::to_string(i));
  }
  EXPECT_EQ(
      s.events[4].data,
      R"({"type":"response.reasoning_text.delta","sequence_number":4,"item_id":"rs_resp_1_0","output_index":0,"content_index":0,"delta":"hm"})");
  EXPECT_EQ(
      s.events[10].data,
      R"({"type":"response.output_text.delta","sequence_number":10,"item_id":"msg_resp_1_1","output_index":1,"content_index":0,"delta":"ok","logprobs":[]})");
  EXPECT_EQ(
      s.events[16].data,
      R"({"type":"response.function_call_arguments.done","sequence_number":16,"item_id":"fc_resp_1_2","output_index":2,"name":"f","arguments":"{}"})");
  const auto last = ordered_json::parse(s.events.back().data)["response"];
  EXPECT_EQ(last.dump(), s.body);
  EXPECT_EQ(
      last["output"].dump(),
      R"([{"id":"rs_resp_1_0","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}],"status":"completed"},{"id":"msg_resp_1_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}],"status":"completed"},{"id":"fc_resp_1_2","type":"function_call","call_id":"call_0","name":"f","arguments":"{}","status":"completed"}])");
  EXPECT_EQ(last["status"], "completed");
  EXPECT_EQ(last["usage"]["input_tokens"], 3);
}

TEST(ResponsesStreamTest, CutByMaxTokens) {
  const Streamed s = stream("ok", FinishReason::kLength);
  EXPECT_EQ(s.events.back().event, "response.incomplete");
  const auto body = ordered_json::parse(s.body);
  EXPECT_EQ(body["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(body["output"][0]["status"], "incomplete");
}

TEST(ResponsesStreamTest, LogprobsIfAskedFor) {
  const Streamed s = stream("ok", FinishReason::kStop, R"({"top_logprobs":1})");
  const auto body = ordered_json::parse(s.body);
  EXPECT_EQ(body["output"][0]["content"][0]["logprobs"][0]["token"], "ok");
}

TEST(ResponsesStreamTest, AnEmptyAnswerIsAnEmptyMessage) {
  const auto body = ordered_json::parse(stream("", FinishReason::kStop).body);
  EXPECT_EQ(body["output"][0]["content"][0]["text"], "");
}

TEST(ResponsesStreamTest, InTheBackgroundItIsQueuedFirst) {
  const Streamed s = stream("ok", FinishReason::kStop, R"({"background":true})");
  EXPECT_EQ(s.events[1].event, "response.queued");
  EXPECT_EQ(ordered_json::parse(s.events[0].data)["response"]["status"], "queued");
}

TEST(ResponsesStreamTest, FailedAndCancelled) {
  ResponsesStream s(meta(), parse("{}"), test::tokenizer("qwen3"));
  s.begin();
  const auto events = s.fail(service_error(internal_error("gone")));
  EXPECT_EQ(events.back().event, "response.failed");
  const auto body = ordered_json::parse(s.body());
  EXPECT_EQ(body["status"], "failed");
  EXPECT_EQ(body["error"].dump(), R"({"code":"server_error","message":"gone"})");
  ResponsesStream other(meta(), parse("{}"), test::tokenizer("qwen3"));
  other.cancel();
  EXPECT_EQ(ordered_json::parse(other.body())["status"], "cancelled");
}

}  // namespace responses_test
}  // namespace fathom::server::api
