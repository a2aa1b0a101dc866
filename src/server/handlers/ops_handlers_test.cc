// The small endpoints, what operators ask, the page, and the table of rows as a whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <set>

#include "server/api/openapi.h"
#include "server/api/prepare.h"
#include "server/handlers/handlers_test_support.h"
#include "server/web/embedded_assets.h"
#include "server/web/web_assets.h"

namespace fathom::server::test {
namespace ops_handlers_test {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kChat = R"({"model":"nano","messages":[{"role":"user","content":"hi"}]})";

TEST(RoutesTest, DocumentAndRowsAreTheSame) {
  ApiServer server;
  std::set<std::string> rows, documented, page{"GET /"};
  for (const EmbeddedAsset& file : embedded_assets()) page.insert("GET " + std::string(file.path));
  for (const Route& route : server.router().routes())
    rows.insert(route.method + " " + route.pattern);
  for (const api::ApiRoute& route : api::api_routes()) {
    std::string method(route.method);
    for (char& c : method) c = static_cast<char>(std::toupper(c));
    documented.insert(method + " " + std::string(route.path));
  }
  for (const std::string& row : page) EXPECT_EQ(rows.erase(row), 1U) << row;
  EXPECT_EQ(rows, documented);
}

TEST(RoutesTest, OnlyOpenRowsArePublic) {
  ApiServer server;
  std::set<std::string> open;
  for (const api::ApiRoute& route : api::api_routes())
    if (route.open) open.insert(std::string(route.path));
  for (const EmbeddedAsset& file : embedded_assets()) open.insert(std::string(file.path));
  open.insert("/");
  for (const Route& route : server.router().routes())
    EXPECT_EQ(route.permission == Permission::kPublic, open.count(route.pattern) == 1)
        << route.pattern;
}

TEST(RoutesTest, WhatGeneratesCountsAsInferenceAndIsAudited) {
  ApiServer server;
  int inference = 0;
  for (const Route& route : server.router().routes()) {
    if (route.quota != QuotaClass::kInference) continue;
    ++inference;
    EXPECT_FALSE(route.audit.empty()) << route.pattern;
    EXPECT_EQ(route.permission, Permission::kInfer) << route.pattern;
  }
  EXPECT_EQ(inference, 10);
}

TEST(RoutesTest, TheRestIs404) {
  ApiServer server;
  EXPECT_EQ(server.get("/nothing").status, 404);
  EXPECT_EQ(server.post("/v1/nothing", "{}").status, 404);
  EXPECT_EQ(server.get("/static/nothing.js").status, 404);
}

TEST(MiscHandlerTest, Models) {
  ApiServer server;
  for (const std::string prefix : {"", "/v1"}) {
    EXPECT_EQ(json::parse(server.get(prefix + "/models").body)["data"][0]["id"], "nano");
    EXPECT_EQ(json::parse(server.get(prefix + "/models/nano").body)["id"], "nano");
    EXPECT_EQ(server.get(prefix + "/models/x").status, 404);
  }
}

TEST(MiscHandlerTest, TokenizeAndBack) {
  ApiServer server;
  const TestResponse r =
      server.post("/tokenize", R"({"model":"nano","prompt":"Hello","add_special_tokens":false})");
  ASSERT_EQ(r.status, 200) << r.body;
  const json body = json::parse(r.body);
  const json back = {{"model", "nano"}, {"tokens", body["tokens"]}};
  EXPECT_EQ(json::parse(server.post("/v1/detokenize", back.dump()).body)["prompt"], "Hello");
  EXPECT_EQ(server.post("/tokenize", R"({"model":"x","prompt":"a"})").status, 404);
  EXPECT_EQ(server.post("/detokenize", "{").status, 400);
}

TEST(MiscHandlerTest, EmbeddingsAreRefused) {
  ApiServer server;
  EXPECT_EQ(server.post("/v1/embeddings", R"({"model":"nano","input":"a"})").status, 400);
  EXPECT_EQ(server.post("/embeddings", R"({"model":"x","input":"a"})").status, 404);
}

TEST(MiscHandlerTest, BalanceAndDocument) {
  ApiServer server;
  EXPECT_EQ(json::parse(server.get("/user/balance").body)["is_available"], true);
  EXPECT_EQ(json::parse(server.get("/openapi.json").body)["info"]["version"], "1.2.3");
}

TEST(OpsHandlerTest, HealthFollowsTheState) {
  ApiServer server;
  EXPECT_EQ(server.get("/health").body, R"({"status":"ok"})");
  server.set_status(
      json::parse(R"({"state":"unavailable","models":[{"id":"n","state":"starting"}]})"));
  TestResponse r = server.get("/health");
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.body, R"({"status":"loading"})");
  server.set_status(
      json::parse(R"({"state":"unavailable","models":[{"id":"n","state":"failed"}]})"));
  EXPECT_EQ(server.get("/health").body, R"({"status":"failed"})");
  server.set_status(json::parse(R"({"state":"degraded","models":[{"id":"n","state":"failed"}]})"));
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/ready").status, 503);
}

TEST(OpsHandlerTest, ReadyOnceAllModelsAre) {
  ApiServer server;
  EXPECT_EQ(server.get("/ready").status, 200);
  server.set_status(json::parse(
      R"({"state":"ok","models":[{"id":"a","state":"ready"},{"id":"b","state":"loading"}]})"));
  const TestResponse r = server.get("/ready");
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(json::parse(r.body)["models"]["b"], "loading");
  server.set_status(json::object());
  EXPECT_EQ(server.get("/ready").status, 503);
  server.set_status(json::parse(
      R"({"state":"ok","models":[{"id":"a","state":"ready"},{"id":"b","state":"unloaded"}]})"));
  EXPECT_EQ(server.get("/ready").status, 200);
  server.set_status(json::parse(R"({"state":"ok","models":[{"id":"b","state":"unloaded"}]})"));
  EXPECT_EQ(server.get("/ready").status, 503);
}

TEST(OpsHandlerTest, ModelsAreLoadedAndUnloadedByAdministrators) {
  ApiServer server;
  TestResponse r = server.post("/models/nano/unload", "");
  EXPECT_EQ(r.body, R"({"id":"nano","object":"model","state":"unloaded"})");
  r = server.post("/models/deepseek-chat/load", "");
  EXPECT_EQ(r.body, R"({"id":"nano","object":"model","state":"loading"})");
  EXPECT_EQ(server.post("/models/x/load", "").status, 404);
  for (const Route& route : server.router().routes()) {
    const bool changes =
        route.pattern == "/models/{model}/load" || route.pattern == "/models/{model}/unload";
    EXPECT_EQ(route.permission == Permission::kAdmin, changes) << route.pattern;
  }
}

TEST(OpsHandlerTest, StatusHasVersionAndUptime) {
  ApiServer server;
  const json body = json::parse(server.get("/status").body);
  EXPECT_EQ(body["version"], "1.2.3");
  EXPECT_GE(body["uptime_s"], 0);
  EXPECT_EQ(body["models"][0]["running"], 3);
}

TEST(OpsHandlerTest, MetricsTellOfRequests) {
  ApiServer server;
  server.play(script({say("Hello there"), one(finish())}));
  server.post("/chat/completions", kChat);
  const TestResponse r = server.get("/metrics");
  EXPECT_THAT(r.header("Content-Type"), HasSubstr("text/plain"));
  for (const char* line : {"fathom_request_success_total{finish_reason=\"stop\",model=\"nano\"} 1",
                           "fathom_time_to_first_token_seconds_count{model=\"nano\"} 1",
                           "fathom_e2e_request_latency_seconds_count{model=\"nano\"} 1",
                           "fathom_num_requests_running{model=\"nano\"} 3",
                           "fathom_num_requests_waiting{model=\"nano\"} 2",
                           "fathom_kv_cache_usage_perc{model=\"nano\"} 0.25",
                           "fathom_prefix_cache_queries_total{model=\"nano\"} 100",
                           "fathom_worker_restarts_total{model=\"nano\"} 2",
                           "fathom_workers{model=\"nano\",state=\"ready\"} 1"})
    EXPECT_THAT(r.body, HasSubstr(line));
  EXPECT_THAT(r.body, HasSubstr("fathom_generation_tokens_total{model=\"nano\"}"));
  EXPECT_THAT(r.body, HasSubstr("fathom_prompt_tokens_total{model=\"nano\"}"));
  EXPECT_THAT(r.body, HasSubstr("fathom_inter_token_latency_seconds_bucket"));
}

TEST(OpsHandlerTest, TotalsThatBeginAgainStillGrow) {
  ApiServer server;
  const auto hits = [&](int n) {
    json status = json::parse(R"({"state":"ok","models":[{"id":"nano","state":"ready"}]})");
    status["models"][0]["prefix_cache_hits_total"] = n;
    server.set_status(status);
    return server.get("/metrics").body;
  };
  hits(40);
  EXPECT_THAT(hits(50), HasSubstr("fathom_prefix_cache_hits_total{model=\"nano\"} 50"));
  EXPECT_THAT(hits(5), HasSubstr("fathom_prefix_cache_hits_total{model=\"nano\"} 55"));
}

TEST(OpsHandlerTest, MetricsTellOfAbortsAndFailures) {
  ApiServer server;
  server.play(script({one(fail(internal_error("boom")))}));
  server.post("/chat/completions", kChat);
  server.play(script({one(hang())}));
  {
    TestClient client = server.connect();
    client.send(ApiServer::post_bytes("/chat/completions", kChat));
    ASSERT_TRUE(server.eventually([&] { return server.alive() == 1; }));
  }
  ASSERT_TRUE(server.eventually([&] { return server.alive() == 0; }));
  EXPECT_TRUE(server.eventually([&] {
    return server.get("/metrics").body.find("finish_reason=\"abort\",model=\"nano\"} 1") !=
           std::string::npos;
  }));
  EXPECT_THAT(server.get("/metrics").body, HasSubstr("finish_reason=\"error\",model=\"nano\"} 1"));
}

TEST(OpsHandlerTest, MetricsAreOpenIfConfigured) {
  const std::string keys = "alice:sk-alice-123\n";
  EXPECT_EQ(ApiServer({.api_keys = keys}).get("/metrics").status, 401);
  EXPECT_EQ(ApiServer({.api_keys = keys, .metrics_open = true}).get("/metrics").status, 200);
}

TEST(PageTest, PageNeedsNoKeyAndIsConfined) {
  ApiServer server({.api_keys = "alice:sk-alice-123\n"});
  const TestResponse r = server.get("/");
  ASSERT_EQ(r.status, 200);
  EXPECT_THAT(r.header("Content-Type"), HasSubstr("text/html"));
  EXPECT_EQ(r.header("Content-Security-Policy"), kContentSecurityPolicy);
  EXPECT_EQ(r.header("X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(r.header("Referrer-Policy"), "no-referrer");
  EXPECT_EQ(r.header("Content-Encoding"), "");
  EXPECT_EQ(r.body, find_web_asset("/")->body);
}

TEST(PageTest, KnownFilesAreNotSentAgain) {
  ApiServer server;
  const std::string tag = server.get("/").header("ETag");
  ASSERT_NE(tag, "");
  const TestResponse r = server.get("/", "If-None-Match: \"x\", W/" + tag + "\r\n");
  EXPECT_EQ(r.status, 304);
  EXPECT_EQ(r.body, "");
  EXPECT_EQ(r.header("ETag"), tag);
  EXPECT_EQ(server.get("/", "If-None-Match: \"x\"\r\n").status, 200);
}

TEST(PageTest, CompressesForThoseWhoReadIt) {
  ApiServer server;
  const auto asset = find_web_asset("/licenses.txt");
  ASSERT_TRUE(asset.has_value() && !asset->gzip_body.empty());
  const TestResponse r = server.get("/licenses.txt", "Accept-Encoding: br, gzip;q=0.5\r\n");
  EXPECT_EQ(r.header("Content-Encoding"), "gzip");
  EXPECT_EQ(r.header("ETag"), asset->gzip_etag);
  EXPECT_EQ(r.header("Vary"), "Accept-Encoding");
  EXPECT_EQ(r.body, asset->gzip_body);
  EXPECT_EQ(server.get("/licenses.txt", "Accept-Encoding: gzip;q=0\r\n").body, asset->body);
}

TEST(OpsHandlers, ACallersCacheIsErasedAndNobodyElses) {
  ApiServer server({.api_keys = "anna:sk-anna-0123456789\n"});
  EXPECT_EQ(server.del("/v1/cache?user_id=u").status, 401);
  TestClient client = server.connect();
  const auto erase = [&](std::string_view target) {
    return client.request(fmt::format(
        "DELETE {} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-anna-0123456789\r\n\r\n",
        target));
  };
  EXPECT_EQ(erase("/v1/cache?user_id=u").status, 200);
  EXPECT_EQ(erase("/v1/cache").status, 200);
  EXPECT_THAT(server.erased(),
              ElementsAre(api::tenant_of("anna", "u"), api::tenant_of("anna", "")));
}

}  // namespace ops_handlers_test
}  // namespace fathom::server::test
