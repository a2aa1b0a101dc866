// Chat and plain completions over a socket: whole, streamed, several answers, and all that can go
// wrong on the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/handlers/handlers_test_support.h"

namespace fathom::server::test {
namespace chat_handlers_test {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kChat = R"({"model":"nano","messages":[{"role":"user","content":"hi"}]})";
constexpr const char* kStream =
    R"({"model":"nano","stream":true,"messages":[{"role":"user","content":"hi"}]})";

std::string content_of(const std::vector<SseLine>& events, int choice = 0) {
  std::string text;
  for (const SseLine& e : events) {
    if (e.data == "[DONE]") continue;
    for (const json& c : e.json().value("choices", json::array()))
      if (c["index"] == choice && c["delta"].contains("content") &&
          c["delta"]["content"].is_string())
        text += c["delta"]["content"].get<std::string>();
  }
  return text;
}

TEST(ChatHandlerTest, AnswersWhole) {
  ApiServer server;
  server.play(script({say("Hello there"), one(finish())}));
  const TestResponse r = server.post("/v1/chat/completions", kChat);
  ASSERT_EQ(r.status, 200) << r.body;
  EXPECT_EQ(r.header("Content-Type"), "application/json");
  const json body = json::parse(r.body);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "nano");
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("chatcmpl-"));
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Hello there");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["prompt_cache_hit_tokens"], 2);
  EXPECT_EQ(server.cancelled(), 0);
}

TEST(ChatHandlerTest, EveryAliasAnswers) {
  ApiServer server;
  for (const char* path : {"/chat/completions", "/v1/chat/completions", "/beta/chat/completions"})
    EXPECT_EQ(server.post(path, kChat).status, 200) << path;
  EXPECT_EQ(server.submitted().size(), 3U);
}

TEST(ChatHandlerTest, ModelIsCalledAsTheClientCalledIt) {
  ApiServer server;
  const TestResponse r =
      server.post("/chat/completions",
                  R"({"model":"deepseek-chat","messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(json::parse(r.body)["model"], "deepseek-chat");
}

TEST(ChatHandlerTest, Streams) {
  ApiServer server;
  server.play(script({say("Hello there"), one(finish())}));
  const TestResponse r = server.post("/chat/completions", kStream, "X-Request-Id: abc\r\n");
  ASSERT_EQ(r.status, 200) << r.body;
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(r.header("Content-Type"), "text/event-stream");
  EXPECT_EQ(r.header("Cache-Control"), "no-cache");
  EXPECT_EQ(r.header("X-Accel-Buffering"), "no");
  const auto events = events_of(r.body);
  EXPECT_EQ(content_of(events), "Hello there");
  EXPECT_EQ(events.back().data, "[DONE]");
  for (std::size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].id, "abc/" + std::to_string(i));
  EXPECT_EQ(events[events.size() - 2].json()["choices"][0]["finish_reason"], "stop");
}

TEST(ChatHandlerTest, StreamEndsWithUsageIfAskedFor) {
  ApiServer server;
  const TestResponse r =
      server.post("/chat/completions",
                  R"({"model":"nano","stream":true,"stream_options":{"include_usage":true},
          "messages":[{"role":"user","content":"hi"}]})");
  const auto events = events_of(r.body);
  const json last = events[events.size() - 2].json();
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_GT(last["usage"]["completion_tokens"], 0);
}

TEST(ChatHandlerTest, LengthIsSaid) {
  ApiServer server;
  server.play(script({say("Hello"), one(finish(FinishReason::kLength))}));
  const json body = json::parse(server.post("/chat/completions", kChat).body);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
}

TEST(ChatHandlerTest, IdleStreamsSayThatTheyLive) {
  ApiServer server({.keep_alive = std::chrono::milliseconds(20)});
  server.play(
      script({one(wait_ms(70)), say("Hello"), one(wait_ms(70)), say(" you"), one(finish())}));
  const TestResponse r = server.post("/chat/completions", kStream);
  EXPECT_TRUE(r.body.starts_with(": keep-alive\n"));
  const std::size_t first = r.body.find("data: ");
  EXPECT_NE(r.body.find(": keep-alive\n", first), r.body.npos);
  // A blank line would end an event: some clients then see one without data.
  EXPECT_EQ(r.body.find(": keep-alive\n\n"), r.body.npos);
  EXPECT_EQ(content_of(events_of(r.body)), "Hello you");
}

TEST(ChatHandlerTest, SlowWholeAnswerBeginsWithBlankLines) {
  ApiServer server({.keep_alive = std::chrono::milliseconds(10),
                    .body_keep_alive = std::chrono::milliseconds(40)});
  server.play(script({one(wait_ms(120)), say("Hello"), one(finish())}));
  const TestResponse r = server.post("/chat/completions", kChat);
  ASSERT_EQ(r.status, 200);
  EXPECT_TRUE(r.body.starts_with("\n\n"));
  EXPECT_EQ(json::parse(r.body)["choices"][0]["message"]["content"], "Hello");
}

TEST(ChatHandlerTest, QuickWholeAnswerHasALength) {
  ApiServer server({.keep_alive = std::chrono::milliseconds(10)});
  server.play(script({one(wait_ms(50)), say("Hello"), one(finish())}));
  const TestResponse r = server.post("/chat/completions", kChat);
  EXPECT_NE(r.header("Content-Length"), "");
  EXPECT_TRUE(r.body.starts_with("{"));
}

TEST(ChatHandlerTest, FailureBeforeTheFirstTokenIsAStatus) {
  for (const char* body : {kChat, kStream}) {
    ApiServer server;
    server.play(script({one(fail({ErrorCode::kUnavailable, "the worker gave up"}))}));
    const TestResponse r = server.post("/chat/completions", body);
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.header("Retry-After"), "5");
    EXPECT_EQ(json::parse(r.body)["error"]["message"], "the worker gave up");
  }
}

TEST(ChatHandlerTest, FailureInAStreamIsAnEvent) {
  ApiServer server;
  server.play(script({say("Hello"), one(fail(internal_error("boom")))}));
  const TestResponse r = server.post("/chat/completions", kStream);
  EXPECT_EQ(r.status, 200);
  EXPECT_TRUE(r.complete);
  const auto events = events_of(r.body);
  EXPECT_EQ(events.back().json()["error"]["message"], "boom");
  EXPECT_THAT(r.body, Not(HasSubstr("[DONE]")));
}

TEST(ChatHandlerTest, FailureOfAWholeAnswerIsAStatus) {
  ApiServer server;
  server.play(script({say("Hello"), one(fail(internal_error("boom")))}));
  EXPECT_EQ(server.post("/chat/completions", kChat).status, 500);
}

TEST(ChatHandlerTest, FailureBehindBlankLinesIsABody) {
  ApiServer server({.keep_alive = std::chrono::milliseconds(5),
                    .body_keep_alive = std::chrono::milliseconds(10)});
  server.play(script({one(wait_ms(60)), one(fail(internal_error("boom")))}));
  const TestResponse r = server.post("/chat/completions", kChat);
  EXPECT_EQ(r.status, 200);
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(json::parse(r.body)["error"]["code"], "internal_error");
}

TEST(ChatHandlerTest, FullQueueIs429) {
  ApiServer server;
  server.refuse_next(resource_limit("the queue is full"));
  const TestResponse r = server.post("/chat/completions", kStream);
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.header("Retry-After"), "1");
  EXPECT_EQ(json::parse(r.body)["error"]["code"], "rate_limit_exceeded");
}

TEST(ChatHandlerTest, UnknownModelIs404AndNamesWhatThereIs) {
  ApiServer server;
  const TestResponse r = server.post(
      "/chat/completions", R"({"model":"gpt","messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(r.status, 404);
  EXPECT_EQ(json::parse(r.body)["error"]["code"], "model_not_found");
  EXPECT_THAT(r.body, HasSubstr("nano"));
}

TEST(ChatHandlerTest, BadRequestNamesTheField) {
  ApiServer server;
  const TestResponse r = server.post(
      "/chat/completions",
      R"({"model":"nano","temperature":9,"messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(json::parse(r.body)["error"]["param"], "temperature");
  EXPECT_TRUE(server.submitted().empty());
}

TEST(ChatHandlerTest, BrokenJsonIs400) {
  ApiServer server;
  EXPECT_EQ(server.post("/chat/completions", "{").status, 400);
}

TEST(ChatHandlerTest, LongPromptsAreParsedAndRefusedOffTheIoThread) {
  ApiServer server;
  const std::string text(200 << 10, 'a');
  const TestResponse r =
      server.post("/chat/completions",
                  R"({"model":"nano","messages":[{"role":"user","content":")" + text + R"("}]})");
  EXPECT_EQ(r.status, 400) << r.body;
  EXPECT_EQ(json::parse(r.body)["error"]["code"], "context_length_exceeded");
}

TEST(ChatHandlerTest, LongPromptsAreAnswered) {
  ApiServer server;
  const std::string spaces(100 << 10, ' ');
  const TestResponse r = server.post("/chat/completions", spaces + kChat);
  EXPECT_EQ(r.status, 200) << r.body;
}

TEST(ChatHandlerTest, StopStringEndsTheGeneration) {
  ApiServer server;
  server.play(script({say("one two STOP three"), one(hang())}));
  const TestResponse r = server.post(
      "/chat/completions",
      R"({"model":"nano","stop":["STOP"],"messages":[{"role":"user","content":"hi"}]})");
  ASSERT_EQ(r.status, 200) << r.body;
  const json body = json::parse(r.body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "one two ");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(server.cancelled(), 1);
}

TEST(ChatHandlerTest, StopStringEndsAStream) {
  ApiServer server;
  server.play(script({one(together("one STOP two")), one(hang())}));
  const TestResponse r = server.post(
      "/chat/completions",
      R"({"model":"nano","stream":true,"stop":"STOP","messages":[{"role":"user","content":"hi"}]})");
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(content_of(events_of(r.body)), "one ");
  EXPECT_EQ(server.cancelled(), 1);
}

TEST(ChatHandlerTest, ClientThatLeavesAStreamCancels) {
  ApiServer server;
  server.play(script({say("Hello"), one(hang())}));
  TestClient client = server.connect();
  client.send(ApiServer::post_bytes("/chat/completions", kStream));
  EXPECT_THAT(client.read_bytes(200), HasSubstr("200 OK"));
  EXPECT_EQ(server.alive(), 1);
  client.reset();
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
  EXPECT_EQ(server.cancelled(), 1);
}

TEST(ChatHandlerTest, ClientThatLeavesBeforeTheFirstTokenCancels) {
  ApiServer server;
  server.play(script({one(hang())}));
  {
    TestClient client = server.connect();
    client.send(ApiServer::post_bytes("/chat/completions", kChat));
    ASSERT_TRUE(server.eventually([&] { return server.alive() == 1; }));
  }
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
}

constexpr const char* kThree =
    R"({"model":"nano","n":3,"seed":7,"messages":[{"role":"user","content":"hi"}]})";

TEST(ChatHandlerTest, SeveralAnswers) {
  ApiServer server;
  for (const char* text : {"first", "second", "third"})
    server.play(script({say(text), one(finish())}));
  const json body = json::parse(server.post("/chat/completions", kThree).body);
  ASSERT_EQ(body["choices"].size(), 3U);
  EXPECT_EQ(body["choices"][1]["message"]["content"], "second");
  EXPECT_EQ(body["choices"][2]["index"], 2);
  const auto specs = server.submitted();
  EXPECT_EQ(specs[0].request.sampling.seed, 7U);
  EXPECT_EQ(specs[2].request.sampling.seed, 9U);
}

TEST(ChatHandlerTest, SeveralAnswersStreamSideBySide) {
  ApiServer server;
  // The first is stuck: the others must not wait for it.
  server.play(script({one(wait_ms(150)), say("first"), one(finish())}));
  server.play(script({say("second"), one(finish())}));
  server.play(script({say("third"), one(finish())}));
  const TestResponse r = server.post(
      "/chat/completions",
      R"({"model":"nano","n":3,"stream":true,"messages":[{"role":"user","content":"hi"}]})");
  const auto events = events_of(r.body);
  EXPECT_EQ(content_of(events, 0), "first");
  EXPECT_EQ(content_of(events, 1), "second");
  EXPECT_EQ(content_of(events, 2), "third");
  EXPECT_EQ(events.back().data, "[DONE]");
  EXPECT_NE(events.front().json()["choices"][0]["index"], 0);
  EXPECT_EQ(events[events.size() - 2].json()["choices"][0]["index"], 0);
}

TEST(ChatHandlerTest, OneFailedAnswerFailsAllAndCancelsTheRest) {
  ApiServer server;
  server.play(script({one(hang())}));
  server.play(script({one(wait_ms(20)), one(fail(internal_error("boom")))}));
  server.play(script({one(hang())}));
  EXPECT_EQ(server.post("/chat/completions", kThree).status, 500);
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
  EXPECT_EQ(server.cancelled(), 2);
}

TEST(ChatHandlerTest, ClientThatLeavesSeveralAnswersCancelsAll) {
  ApiServer server;
  for (int i = 0; i < 3; ++i) server.play(script({one(hang())}));
  TestClient client = server.connect();
  client.send(ApiServer::post_bytes("/chat/completions", kThree));
  ASSERT_TRUE(server.eventually([&] { return server.alive() == 3; }));
  client.reset();
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
  EXPECT_EQ(server.cancelled(), 3);
}

TEST(ChatHandlerTest, StopStringInOneOfSeveral) {
  ApiServer server;
  server.play(script({say("a STOP b"), one(hang())}));
  server.play(script({say("other"), one(finish())}));
  const json body =
      json::parse(server
                      .post("/chat/completions", R"({"model":"nano","n":2,"stop":"STOP",
          "messages":[{"role":"user","content":"hi"}]})")
                      .body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "a ");
  EXPECT_EQ(body["choices"][1]["message"]["content"], "other");
}

TEST(ChatHandlerTest, TokensOfOneEventComeInOneChunk) {
  ApiServer server;
  server.play(script({one(together("many tokens at once")), one(finish())}));
  const auto events = events_of(server.post("/chat/completions", kStream).body);
  EXPECT_EQ(events.size(), 4U);  // role, text, finish, [DONE]
}

TEST(ChatHandlerTest, ToolCallsStream) {
  ApiServer server({.tokenizer = "qwen3", .family = ChatFamily::kQwen3});
  server.play(
      script({say("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
              one(finish())}));
  const TestResponse r =
      server.post("/chat/completions",
                  R"({"model":"nano","stream":true,"thinking":{"type":"disabled"},
          "messages":[{"role":"user","content":"hi"}],
          "tools":[{"type":"function","function":{"name":"f"}}]})");
  ASSERT_EQ(r.status, 200) << r.body;
  std::string arguments, id;
  for (const SseLine& e : events_of(r.body)) {
    if (e.data == "[DONE]") continue;
    const json delta = e.json()["choices"][0]["delta"];
    if (!delta.contains("tool_calls")) continue;
    const json& call = delta["tool_calls"][0];
    if (call.contains("id")) id = call["id"];
    arguments += call["function"]["arguments"].get<std::string>();
  }
  EXPECT_TRUE(id.starts_with("call_")) << id;
  EXPECT_EQ(json::parse(arguments), json({{"a", 1}}));
  EXPECT_THAT(r.body, HasSubstr(R"("finish_reason":"tool_calls")"));
}

TEST(ChatHandlerTest, TokensThatSayNothingYetDoNotSilenceAStream) {
  ApiServer server({.keep_alive = std::chrono::milliseconds(100),
                    .tokenizer = "qwen3",
                    .family = ChatFamily::kQwen3});
  server.play(
      script({one(together("<tool_call>")), one(wait_ms(70)), one(together("\n")), one(wait_ms(70)),
              one(together("{\"")), one(wait_ms(70)),
              one(together("name\": \"f\", \"arguments\": {}}\n</tool_call>")), one(finish())}));
  const TestResponse r =
      server.post("/chat/completions",
                  R"({"model":"nano","stream":true,"thinking":{"type":"disabled"},
          "messages":[{"role":"user","content":"hi"}],
          "tools":[{"type":"function","function":{"name":"f"}}]})");
  EXPECT_TRUE(r.body.starts_with(": keep-alive\n")) << r.body;
  EXPECT_THAT(r.body, HasSubstr(R"("finish_reason":"tool_calls")"));
}

TEST(ChatHandlerTest, ReasoningStandsApart) {
  ApiServer server({.tokenizer = "qwen3", .family = ChatFamily::kQwen3});
  server.play(script({say("<think>\nhm\n</think>\n\nyes"), one(finish())}));
  const json body = json::parse(server.post("/chat/completions", kChat).body);
  EXPECT_EQ(body["choices"][0]["message"]["reasoning_content"], "hm");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "yes");
}

TEST(ChatHandlerTest, TenantIsKeyAndUser) {
  ApiServer server({.api_keys = "alice:sk-alice-123\nbob:sk-bobby-123\n"});
  const char* body =
      R"({"model":"nano","user_id":"u","messages":[{"role":"user","content":"hi"}]})";
  EXPECT_EQ(server.post("/chat/completions", body).status, 401);
  server.post("/chat/completions", body, "Authorization: Bearer sk-alice-123\r\n");
  server.post("/chat/completions", body, "Authorization: Bearer sk-bobby-123\r\n");
  const auto specs = server.submitted();
  ASSERT_EQ(specs.size(), 2U);
  EXPECT_NE(specs[0].request.tenant, specs[1].request.tenant);
  EXPECT_THAT(specs[0].request.tenant, HasSubstr("alice/u"));
}

TEST(CompletionHandlerTest, AnswersEveryPromptWithEcho) {
  ApiServer server;
  server.play(script({say(" one"), one(finish())}));
  server.play(script({say(" two"), one(finish())}));
  const TestResponse r =
      server.post("/v1/completions", R"({"model":"nano","prompt":["A","B"],"echo":true})");
  ASSERT_EQ(r.status, 200) << r.body;
  const json body = json::parse(r.body);
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["text"], "A one");
  EXPECT_EQ(body["choices"][1]["text"], "B two");
}

TEST(CompletionHandlerTest, Streams) {
  ApiServer server;
  server.play(script({say("and so on"), one(finish(FinishReason::kLength))}));
  const TestResponse r =
      server.post("/beta/completions", R"({"model":"nano","prompt":"A","stream":true})");
  std::string text;
  const auto events = events_of(r.body);
  for (const SseLine& e : events)
    if (e.data != "[DONE]") text += e.json()["choices"][0]["text"].get<std::string>();
  EXPECT_EQ(text, "and so on");
  EXPECT_EQ(events.back().data, "[DONE]");
}

TEST(CompletionHandlerTest, RefusesWhatIsWrong) {
  ApiServer server;
  EXPECT_EQ(server.post("/completions", R"({"model":"nano"})").status, 400);
  EXPECT_EQ(server.post("/completions", R"({"model":"x","prompt":"a"})").status, 404);
}

}  // namespace chat_handlers_test
}  // namespace fathom::server::test
