#include "server/api/chat_response.h"

#include "server/api/test_support.h"

namespace fathom::server::api {
namespace chat_response_test {

using nlohmann::ordered_json;
using test::data_of;
using test::tokens_of;

ResponseMeta meta() {
  return {.id = "chatcmpl-1",
          .request_id = "req-1",
          .created_unix_s = 1700000000,
          .model = "nano",
          .fingerprint = "fp_0123456789"};
}

// All events of one answer, its tokens pushed one by one.
std::vector<SseEvent> stream(const AnswerSpec& spec, const std::string& text, FinishReason reason,
                             const ChatStreamOptions& options) {
  AnswerAssembler a(spec);
  a.set_cached_prompt_tokens(4);
  ChatStream s(meta(), options, spec.tokenizer);
  std::vector<SseEvent> out;
  const auto add = [&](const std::vector<SseEvent>& events) {
    out.insert(out.end(), events.begin(), events.end());
  };
  for (const SampledToken& t : tokens_of(*spec.tokenizer, text)) add(s.deltas(0, a.push({&t, 1})));
  add(s.deltas(0, a.finish(reason)));
  add(s.finish(0, a.answer()));
  add(s.end());
  return out;
}

AnswerSpec nano_spec(bool thinks) {
  return {.tokenizer = test::tokenizer("nano"),
          .family = ChatFamily::kNano,
          .starts_in_thinking = thinks,
          .stop_tokens = {1},
          .prompt_tokens = 10};
}

// A chunk around one delta.
ordered_json chunk(const std::string& delta, const std::string& finish = "null") {
  return ordered_json::parse(
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"nano",)"
      R"("system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":)" +
      delta + R"(,"logprobs":null,"finish_reason":)" + finish + "}]}");
}

TEST(ChatStreamTest, TextWithoutAThought) {
  const auto events = stream(nano_spec(false), "Hi!", FinishReason::kStop, {});
  std::vector<ordered_json> expected = {chunk(R"({"role":"assistant","content":""})"),
                                        chunk(R"({"content":"H"})"),
                                        chunk(R"({"content":"i"})"),
                                        chunk(R"({"content":"!"})"),
                                        chunk(R"({"content":""})", "\"stop\""),
                                        "[DONE]"};
  expected[4]["usage"] = ordered_json::parse(
      R"({"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,
          "prompt_tokens_details":{"cached_tokens":4},
          "completion_tokens_details":{"reasoning_tokens":0},
          "prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6})");
  EXPECT_EQ(data_of(events), expected);
}

TEST(ChatStreamTest, AThoughtBeginsWithEmptyReasoning) {
  AnswerSpec spec = nano_spec(true);
  const auto data =
      data_of(stream(spec, "\na</think>\n\nb", FinishReason::kLength, {.include_usage = true}));
  ASSERT_EQ(data.size(), 6U);
  std::vector<ordered_json> expected = {
      chunk(R"({"role":"assistant","content":null,"reasoning_content":""})"),
      chunk(R"({"content":null,"reasoning_content":"a"})"),
      chunk(R"({"content":"b","reasoning_content":null})"),
      chunk(R"({"content":"","reasoning_content":null})", "\"length\"")};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    expected[i]["usage"] = nullptr;
    EXPECT_EQ(data[i], expected[i]) << i;
  }
  EXPECT_EQ(data[4]["choices"], ordered_json::array());
  EXPECT_EQ(data[4]["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
  EXPECT_EQ(data[5], "[DONE]");
}

TEST(ChatStreamTest, CallsComeAsNameThenArguments) {
  AnswerSpec spec = {.tokenizer = test::tokenizer("qwen3"),
                     .family = ChatFamily::kQwen3,
                     .parse_tools = true,
                     .call_id_prefix = "call_x_"};
  const auto data = data_of(
      stream(spec, "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"q\": 1}}\n</tool_call>",
             FinishReason::kStop, {}));
  ASSERT_EQ(data.size(), 5U);
  EXPECT_EQ(data[0]["choices"][0]["delta"].dump(), R"({"role":"assistant","content":""})");
  EXPECT_EQ(
      data[1]["choices"][0]["delta"].dump(),
      R"({"tool_calls":[{"index":0,"id":"call_x_0","type":"function","function":{"name":"get","arguments":""}}]})");
  EXPECT_EQ(data[2]["choices"][0]["delta"].dump(),
            R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"q\": 1}"}}]})");
  EXPECT_EQ(data[3]["choices"][0]["finish_reason"], "tool_calls");
}

TEST(ChatStreamTest, EveryEventHasItsNumber) {
  const auto events = stream(nano_spec(false), "abc", FinishReason::kStop, {.include_usage = true});
  for (std::size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].id, "req-1/" + std::to_string(i));
  EXPECT_EQ(sse_text(events.back()),
            "id: req-1/" + std::to_string(events.size() - 1) + "\ndata: [DONE]\n\n");
}

TEST(ChatStreamTest, LogprobsStandWithTheirText) {
  AnswerSpec spec = nano_spec(true);
  spec.top_logprobs = 1;
  const auto data =
      data_of(stream(spec, "\na</think>\n\nb", FinishReason::kStop, {.logprobs = true}));
  ASSERT_EQ(data.size(), 5U);
  const auto expected = [](const std::string& token, int byte) {
    return ordered_json::array(
        {{{"token", token},
          {"logprob", -0.5},
          {"bytes", {byte}},
          {"top_logprobs", {{{"token", token}, {"logprob", -0.5}, {"bytes", {byte}}}}}}});
  };
  EXPECT_EQ(data[0]["choices"][0]["logprobs"], nullptr);
  EXPECT_EQ(data[1]["choices"][0]["logprobs"]["reasoning_content"], expected("a", 'a'));
  EXPECT_EQ(data[1]["choices"][0]["logprobs"]["content"], nullptr);
  EXPECT_EQ(data[2]["choices"][0]["logprobs"]["content"], expected("b", 'b'));
  EXPECT_FALSE(data[2]["choices"][0]["logprobs"].contains("reasoning_content"));
}

TEST(ChatStreamTest, AnEmptyAnswerStillHasARole) {
  const auto data = data_of(stream(nano_spec(false), "", FinishReason::kStop, {}));
  ASSERT_EQ(data.size(), 3U);
  EXPECT_EQ(data[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(data[1]["choices"][0]["finish_reason"], "stop");
}

TEST(ChatStreamTest, SeveralChoicesShareOneUsage) {
  const AnswerSpec spec = nano_spec(false);
  ChatStream s(meta(), {.choices = 2}, spec.tokenizer);
  AnswerAssembler a(spec), b(spec);
  s.deltas(1, b.push(tokens_of(*spec.tokenizer, "b")));
  const auto first = data_of(s.deltas(0, a.push(tokens_of(*spec.tokenizer, "a"))));
  ASSERT_EQ(first.size(), 2U) << "each choice has a role of its own";
  EXPECT_EQ(first[1]["choices"][0]["index"], 0);
  b.finish(FinishReason::kStop);
  a.finish(FinishReason::kStop);
  EXPECT_FALSE(data_of(s.finish(1, b.answer()))[0].contains("usage"));
  const auto last = data_of(s.finish(0, a.answer()));
  EXPECT_EQ(last[0]["usage"]["completion_tokens"], 2);
  EXPECT_EQ(last[0]["usage"]["prompt_tokens"], 10);
}

TEST(ChatStreamTest, AnErrorIsAnEvent) {
  ChatStream s(meta(), {}, test::tokenizer("nano"));
  const SseEvent e = s.error(service_error(internal_error("the worker is gone")));
  EXPECT_EQ(
      e.data,
      R"({"error":{"message":"the worker is gone","type":"server_error","param":null,"code":"internal_error"}})");
}

TEST(ChatBodyTest, WholeAnswerWithThoughtAndCalls) {
  AnswerSpec spec = {.tokenizer = test::tokenizer("qwen3"),
                     .family = ChatFamily::kQwen3,
                     .parse_tools = true,
                     .prompt_tokens = 5};
  AnswerAssembler a(spec);
  a.push(tokens_of(*spec.tokenizer,
                   "<think>\nhm\n</think>\n\n<tool_call>\n{\"name\": \"get\", \"arguments\": "
                   "{}}\n</tool_call>"));
  a.finish(FinishReason::kStop);
  const Answer* answers[] = {&a.answer()};
  const auto body = ordered_json::parse(chat_body(meta(), answers, nullptr));
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(
      body["choices"][0].dump(),
      R"({"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"call_0","type":"function","function":{"name":"get","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"})");
  EXPECT_EQ(body["system_fingerprint"], "fp_0123456789");
  EXPECT_EQ(body["usage"]["prompt_tokens"], 5);
}

TEST(ChatBodyTest, ImpossibleLogprobsAreNumbers) {
  const SampledToken token{.token = 65, .logprob = -INFINITY, .top = {{66, -INFINITY}}};
  const auto json = logprob_json(*test::tokenizer("nano"), token);
  EXPECT_EQ(json["logprob"], -9999);
  EXPECT_EQ(json["top_logprobs"][0]["logprob"], -9999);
}

TEST(ApiErrorTest, StatusesOfWhatTheEnginesSay) {
  EXPECT_EQ(service_error(invalid_argument("a")).status, 400);
  EXPECT_EQ(service_error(resource_limit("a")).status, 429);
  EXPECT_EQ(service_error(resource_limit("a")).code, "rate_limit_exceeded");
  EXPECT_EQ(service_error({ErrorCode::kUnavailable, "a"}).status, 503);
  EXPECT_EQ(service_error(internal_error("a")).status, 500);
  EXPECT_EQ(bad_request(resource_limit("a")).status, 400);
  EXPECT_EQ(bad_request(internal_error("a")).status, 500);
}

TEST(ApiErrorTest, BodiesOfBothForms) {
  const ApiError e = model_not_found("gpt-5", "nano");
  EXPECT_EQ(
      openai_error_body(e),
      R"({"error":{"message":"model is \"gpt-5\", which is not served here; expected one of: nano","type":"invalid_request_error","param":"model","code":"model_not_found"}})");
  EXPECT_EQ(
      anthropic_error_body(e, "req-1"),
      R"({"type":"error","error":{"type":"not_found_error","message":"model is \"gpt-5\", which is not served here; expected one of: nano"},"request_id":"req-1"})");
}

}  // namespace chat_response_test
}  // namespace fathom::server::api
