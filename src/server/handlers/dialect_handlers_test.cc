// The dialects of OpenAI's Responses and Anthropic's Messages over a socket, and stored responses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/handlers/handlers_test_support.h"
#include "server/handlers/response_store.h"

namespace fathom::server::test {
namespace dialect_handlers_test {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kInput = R"({"model":"nano","input":"hi"})";
constexpr const char* kBackground = R"({"model":"nano","input":"hi","background":true})";

std::string delta_text(const std::vector<SseLine>& events) {
  std::string text;
  for (const SseLine& e : events)
    if (e.event == "response.output_text.delta") text += e.json()["delta"].get<std::string>();
  return text;
}

TEST(ResponsesHandlerTest, AnswersAndStores) {
  ApiServer server;
  server.play(script({say("Hello"), one(finish())}));
  const TestResponse r = server.post("/v1/responses", kInput);
  ASSERT_EQ(r.status, 200) << r.body;
  const json body = json::parse(r.body);
  EXPECT_EQ(body["status"], "completed");
  EXPECT_EQ(body["output"][0]["content"][0]["text"], "Hello");
  const std::string path = "/v1/responses/" + body["id"].get<std::string>();
  EXPECT_EQ(json::parse(server.get(path).body), body);
  EXPECT_EQ(server.get(path + "?stream=true").status, 400);
  EXPECT_EQ(server.post(path + "/cancel", "").status, 400);
  EXPECT_EQ(json::parse(server.del(path).body)["deleted"], true);
  EXPECT_EQ(server.get(path).status, 404);
}

TEST(ResponsesHandlerTest, StoreFalseKeepsNothing) {
  ApiServer server;
  const json body =
      json::parse(server.post("/responses", R"({"model":"nano","input":"hi","store":false})").body);
  EXPECT_EQ(server.get("/responses/" + body["id"].get<std::string>()).status, 404);
}

TEST(ResponsesHandlerTest, Streams) {
  ApiServer server;
  server.play(script({say("Hello you"), one(finish())}));
  const TestResponse r =
      server.post("/v1/responses", R"({"model":"nano","input":"hi","stream":true})");
  const auto events = events_of(r.body);
  ASSERT_GT(events.size(), 4U) << r.body;
  EXPECT_EQ(events.front().event, "response.created");
  EXPECT_EQ(events.back().event, "response.completed");
  EXPECT_EQ(delta_text(events), "Hello you");
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].json()["sequence_number"], i);
}

TEST(ResponsesHandlerTest, ConversationGoesOn) {
  ApiServer server;
  server.play(script({say("Hello"), one(finish())}));
  const json first = json::parse(server.post("/responses", kInput).body);
  const TestResponse r =
      server.post("/responses", R"({"model":"nano","input":"more","previous_response_id":")" +
                                    first["id"].get<std::string>() + R"("})");
  ASSERT_EQ(r.status, 200) << r.body;
  const auto specs = server.submitted();
  EXPECT_GT(specs[1].request.prompt.size(), specs[0].request.prompt.size() + 1);
  EXPECT_EQ(
      server.post("/responses", R"({"model":"nano","input":"a","previous_response_id":"resp_x"})")
          .status,
      404);
}

TEST(ResponsesHandlerTest, FailureInAStreamIsResponseFailed) {
  ApiServer server;
  server.play(script({say("Hel"), one(fail(internal_error("boom")))}));
  const auto events =
      events_of(server.post("/responses", R"({"model":"nano","input":"hi","stream":true})").body);
  EXPECT_EQ(events.back().event, "response.failed");
  EXPECT_EQ(events.back().json()["response"]["status"], "failed");
}

TEST(ResponsesHandlerTest, BackgroundIsQueuedThenCompletes) {
  ApiServer server;
  server.play(script({one(wait_ms(50)), say("Hello"), one(finish())}));
  const json queued = json::parse(server.post("/responses", kBackground).body);
  EXPECT_EQ(queued["status"], "queued");
  const std::string path = "/responses/" + queued["id"].get<std::string>();
  EXPECT_EQ(json::parse(server.get(path).body)["status"], "in_progress");
  EXPECT_TRUE(server.eventually(
      [&] { return json::parse(server.get(path).body)["status"] == "completed"; }));
  EXPECT_EQ(json::parse(server.get(path).body)["output"][0]["content"][0]["text"], "Hello");
  EXPECT_EQ(server.alive(), 0);
}

TEST(ResponsesHandlerTest, BackgroundCanBeFollowedFromAnyEvent) {
  ApiServer server;
  server.play(script({say("Hello"), one(wait_ms(100)), say(" you"), one(finish())}));
  const json queued = json::parse(server.post("/responses", kBackground).body);
  const std::string path = "/responses/" + queued["id"].get<std::string>();
  const auto all = events_of(server.get(path + "?stream=true").body);
  EXPECT_EQ(delta_text(all), "Hello you");
  EXPECT_EQ(all.back().event, "response.completed");
  const auto rest = events_of(server.get(path + "?stream=true&starting_after=3").body);
  ASSERT_EQ(rest.size() + 4, all.size());
  EXPECT_EQ(rest.front().id, all[4].id);
  EXPECT_EQ(server.get(path + "?stream=true&starting_after=x").status, 400);
  EXPECT_TRUE(events_of(server.get(path + "?stream=true&starting_after=9999").body).empty());
}

TEST(ResponsesHandlerTest, BackgroundSurvivesItsClient) {
  ApiServer server;
  server.play(script({say("He"), one(wait_ms(80)), say("llo"), one(finish())}));
  std::string id;
  {
    TestClient client = server.connect();
    client.send(ApiServer::post_bytes(
        "/responses", R"({"model":"nano","input":"hi","background":true,"stream":true})"));
    const std::string head = client.read_bytes(900);
    id = head.substr(head.find("resp_"), 37);
    client.reset();
  }
  EXPECT_TRUE(server.eventually([&] {
    const TestResponse r = server.get("/responses/" + id);
    return r.status == 200 && json::parse(r.body)["status"] == "completed";
  })) << id;
  EXPECT_EQ(server.cancelled(), 0);
}

TEST(ResponsesHandlerTest, TokensWithoutTextSendNothing) {
  ApiServer server;
  // The bytes of one character, a token each: text comes with the last of them.
  server.play(script({one(wait_ms(30)), say("😀😀"), one(finish())}));
  const TestResponse r =
      server.post("/responses", R"({"model":"nano","input":"hi","background":true,"stream":true})");
  EXPECT_EQ(events_of(r.body).back().event, "response.completed");
  EXPECT_EQ(r.body.find("keep-alive"), r.body.npos);
}

TEST(ResponsesHandlerTest, BackgroundCanBeCancelled) {
  ApiServer server;
  server.play(script({say("Hello"), one(hang())}));
  const json queued = json::parse(server.post("/responses", kBackground).body);
  const std::string path = "/responses/" + queued["id"].get<std::string>();
  const json cancelled = json::parse(server.post(path + "/cancel", "").body);
  EXPECT_EQ(cancelled["status"], "cancelled");
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
  EXPECT_EQ(server.cancelled(), 1);
  EXPECT_EQ(json::parse(server.get(path).body)["status"], "cancelled");
  EXPECT_EQ(json::parse(server.post(path + "/cancel", "").body)["status"], "cancelled");
}

TEST(ResponsesHandlerTest, DeletingCancels) {
  ApiServer server;
  server.play(script({one(hang())}));
  const json queued = json::parse(server.post("/responses", kBackground).body);
  server.del("/responses/" + queued["id"].get<std::string>());
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
}

TEST(ResponsesHandlerTest, BackgroundFailureIsKept) {
  ApiServer server;
  server.play(script({one(fail(internal_error("boom")))}));
  const json queued = json::parse(server.post("/responses", kBackground).body);
  const std::string path = "/responses/" + queued["id"].get<std::string>();
  EXPECT_TRUE(
      server.eventually([&] { return json::parse(server.get(path).body)["status"] == "failed"; }));
}

TEST(ResponsesHandlerTest, StoppingCancelsTheBackground) {
  ApiServer server;
  server.play(script({one(hang())}));
  server.post("/responses", kBackground);
  server.stop_background();
  EXPECT_TRUE(server.eventually([&] { return server.alive() == 0; }));
}

TEST(ResponsesHandlerTest, OthersDoNotSeeIt) {
  ApiServer server({.api_keys = "alice:sk-alice-123\nbob:sk-bobby-123\n"});
  const json body =
      json::parse(server.post("/responses", kInput, "Authorization: Bearer sk-alice-123\r\n").body);
  const std::string path = "/responses/" + body["id"].get<std::string>();
  EXPECT_EQ(server.get(path, "Authorization: Bearer sk-alice-123\r\n").status, 200);
  EXPECT_EQ(server.get(path, "Authorization: Bearer sk-bobby-123\r\n").status, 404);
}

std::shared_ptr<StoredResponse> stored(const std::string& id, std::size_t bytes = 10) {
  auto r = std::make_shared<StoredResponse>();
  r->id = id;
  r->body = std::string(bytes, 'x');
  r->created = std::chrono::steady_clock::now();
  return r;
}

TEST(ResponseStoreTest, OldestMakesRoomByCount) {
  ResponseStore store({.entries = 2});
  for (const char* id : {"a", "b", "c"}) store.put(stored(id));
  EXPECT_EQ(store.find("a", ""), nullptr);
  EXPECT_NE(store.find("c", ""), nullptr);
  EXPECT_EQ(store.size(), 2U);
}

TEST(ResponseStoreTest, OldestMakesRoomByBytesAndRunningOnesStay) {
  ResponseStore store({.bytes = 5000});
  auto running = stored("a", 2000);
  running->running = true;
  store.put(running);
  store.put(stored("b", 2000));
  store.put(stored("c", 2000));
  EXPECT_NE(store.find("a", ""), nullptr);
  EXPECT_EQ(store.find("b", ""), nullptr);
  store.erase(*running);
  store.erase(*store.find("c", ""));
  EXPECT_EQ(store.bytes(), 0);
}

TEST(ResponseStoreTest, OldOnesGo) {
  ResponseStore store({.age = std::chrono::milliseconds(1000)});
  auto old = stored("a");
  old->created -= std::chrono::seconds(2);
  store.put(old);
  EXPECT_EQ(store.find("a", ""), nullptr);
}

TEST(ResponseStoreTest, RunningIsLimitedPerOwner) {
  ResponseStore store({.running = 2, .running_of_owner = 1});
  auto a = stored("a");
  a->running = true;
  store.put(a);
  EXPECT_FALSE(store.may_run(""));
  EXPECT_TRUE(store.may_run("bob"));
  a->running = false;
  EXPECT_TRUE(store.may_run(""));
}

constexpr const char* kMessages =
    R"({"model":"nano","max_tokens":50,"messages":[{"role":"user","content":"hi"}]})";

TEST(AnthropicHandlerTest, AnswersWhole) {
  ApiServer server;
  server.play(script({say("Hello"), one(finish())}));
  for (const char* path : {"/anthropic/v1/messages", "/v1/messages"}) {
    const TestResponse r = server.post(path, kMessages);
    ASSERT_EQ(r.status, 200) << r.body;
    const json body = json::parse(r.body);
    EXPECT_EQ(body["type"], "message");
    EXPECT_EQ(body["content"][0]["type"], "text");
    EXPECT_EQ(body["usage"]["cache_read_input_tokens"], 2);
  }
}

TEST(AnthropicHandlerTest, Streams) {
  ApiServer server({.keep_alive = std::chrono::milliseconds(20)});
  server.play(script({one(wait_ms(50)), say("Hello"), one(wait_ms(50)), one(finish())}));
  const TestResponse r = server.post(
      "/anthropic/v1/messages",
      R"({"model":"nano","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hi"}]})");
  EXPECT_TRUE(r.body.starts_with(": keep-alive"));
  const auto events = events_of(r.body);
  EXPECT_EQ(events.front().event, "message_start");
  EXPECT_EQ(events.back().event, "message_stop");
  int pings = 0;
  for (const SseLine& e : events) pings += e.event == "ping" ? 1 : 0;
  EXPECT_GE(pings, 2);
}

TEST(AnthropicHandlerTest, ErrorsHaveItsForm) {
  ApiServer server;
  for (const char* body :
       {"{", R"({"model":"x","max_tokens":5,"messages":[{"role":"user","content":"hi"}]})"}) {
    const TestResponse r = server.post("/anthropic/v1/messages", body, "X-Request-Id: abc\r\n");
    EXPECT_EQ(json::parse(r.body)["type"], "error");
    EXPECT_EQ(json::parse(r.body)["request_id"], "abc");
  }
  EXPECT_EQ(json::parse(server.get("/v1/messages").body)["type"], "error");
  EXPECT_EQ(json::parse(server.get("/anthropic/v1/x").body)["error"]["type"], "not_found_error");
  server.play(script({say("He"), one(fail(internal_error("boom")))}));
  const auto events = events_of(server
                                    .post("/v1/messages",
                                          R"({"model":"nano","stream":true,"max_tokens":5,
                                              "messages":[{"role":"user","content":"hi"}]})")
                                    .body);
  EXPECT_EQ(events.back().event, "error");
}

TEST(AnthropicHandlerTest, CountsTokens) {
  ApiServer server;
  const TestResponse r = server.post("/anthropic/v1/messages/count_tokens", kMessages);
  ASSERT_EQ(r.status, 200) << r.body;
  EXPECT_GT(json::parse(r.body)["input_tokens"], 0);
  EXPECT_TRUE(server.submitted().empty());
}

}  // namespace dialect_handlers_test
}  // namespace fathom::server::test
