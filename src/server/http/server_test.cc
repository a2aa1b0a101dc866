// Requests and answers over real sockets: framing, routes, identities, what a handler can do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "server/http/http_test_support.h"

namespace fathom::server {
namespace server_test {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string get(std::string_view target, std::string_view headers = "",
                std::string_view method = "GET") {
  return std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n" +
         std::string(headers) + "\r\n";
}

std::string post(std::string_view target, std::string_view body, std::string_view headers = "") {
  return "POST " + std::string(target) +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(headers) + "\r\n" + std::string(body);
}

TEST(HttpServer, AnswersAGet) {
  TestServer server;
  const TestResponse r = server.request(get("/echo?a=1&b=x%20y"));
  EXPECT_EQ(r.status, 200);
  EXPECT_THAT(r.body, HasSubstr("GET /echo\nquery a=1\nquery b=x y\nprincipal=local\n"));
  EXPECT_EQ(r.header("content-type"), "text/plain");
  EXPECT_EQ(r.header("x-content-type-options"), "nosniff");
  EXPECT_FALSE(r.header("date").empty());
}

TEST(HttpServer, ReadsABodyOfKnownLength) {
  TestServer server;
  EXPECT_THAT(server.request(post("/echo", "hello")).body, HasSubstr("body=hello"));
}

TEST(HttpServer, ReadsALargeBodyInPieces) {
  TestServer server;
  const std::string body(3 << 20, 'b');
  TestClient client = server.connect();
  const std::string request = post("/echo", body);
  client.send(request.substr(0, 1000));
  client.send(request.substr(1000, 1));
  client.send(request.substr(1001));
  const TestResponse r = client.read_response();
  EXPECT_EQ(r.header("x-body-bytes"), std::to_string(body.size()));
}

TEST(HttpServer, ReadsAChunkedBodyByteByByte) {
  TestServer server;
  TestClient client = server.connect();
  const std::string request =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: ignored\r\n\r\n";
  for (const char c : request) client.send(std::string(1, c));
  EXPECT_THAT(client.read_response().body, HasSubstr("body=hello world"));
}

TEST(HttpServer, KeepsTheConnectionAndAnswersPipelinedRequestsInOrder) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/echo?n=1") + post("/echo?n=2", "two") + get("/echo?n=3"));
  EXPECT_THAT(client.read_response().body, HasSubstr("query n=1"));
  EXPECT_THAT(client.read_response().body, AllOf(HasSubstr("query n=2"), HasSubstr("body=two")));
  EXPECT_THAT(client.read_response().body, HasSubstr("query n=3"));
  EXPECT_EQ(server.stats().connections, 1);
}

TEST(HttpServer, BytesSentWhileAHandlerRunsAreTheNextRequest) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/wait?ms=50"));
  std::this_thread::sleep_for(milliseconds(10));
  client.send(get("/echo?n=2"));
  EXPECT_EQ(client.read_response().body, "waited");
  EXPECT_THAT(client.read_response().body, HasSubstr("query n=2"));
}

TEST(HttpServer, SkipsBlankLinesBeforeARequest) {
  TestServer server;
  TestClient client = server.connect();
  EXPECT_EQ(client.request("\r\n\r\n" + get("/echo")).status, 200);
  EXPECT_EQ(client.request("\r\n" + get("/echo")).status, 200);
}

TEST(HttpServer, ClosesWhenTheClientSaysSo) {
  TestServer server;
  TestClient client = server.connect();
  const TestResponse r = client.request(get("/echo", "Connection: close\r\n"));
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.header("connection"), "close");
  EXPECT_TRUE(client.closed_within(milliseconds(2000)));
}

TEST(HttpServer, Http10ClosesUnlessKeptAlive) {
  TestServer server;
  TestClient client = server.connect();
  EXPECT_EQ(client.request("GET /echo HTTP/1.0\r\n\r\n").status, 200);
  EXPECT_TRUE(client.closed_within(milliseconds(2000)));
  TestClient kept = server.connect();
  const std::string request = "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  EXPECT_EQ(kept.request(request).header("connection"), "keep-alive");
  EXPECT_EQ(kept.request(request).status, 200);
}

TEST(HttpServer, StreamsInChunks) {
  TestServer server;
  TestClient client = server.connect();
  const TestResponse r = client.request(get("/stream?chunks=4"));
  EXPECT_EQ(r.header("transfer-encoding"), "chunked");
  EXPECT_EQ(r.header("content-type"), "text/event-stream");
  EXPECT_EQ(r.body, "chunk0000\nchunk0001\nchunk0002\nchunk0003\n");
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(client.request(get("/echo")).status, 200);
}

TEST(HttpServer, StreamsToHttp10UntilClose) {
  TestServer server;
  const TestResponse r = server.request("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(r.header("transfer-encoding"), "");
  EXPECT_EQ(r.header("connection"), "close");
  EXPECT_EQ(r.body, "chunk0000\nchunk0001\nchunk0002\n");
}

TEST(HttpServer, AStreamThatFailsIsCutSoThatTheClientSeesIt) {
  std::vector<std::string> errors;
  TestServer::Options options;
  options.on_handler_error = [&](const std::string& error) { errors.push_back(error); };
  TestServer server(options);
  const TestResponse r = server.request(get("/stream?chunks=4&fail=1"));
  EXPECT_EQ(r.status, 200);
  EXPECT_FALSE(r.complete);
  EXPECT_FALSE(server.request(get("/stream?chunks=2&unfinished=1")).complete);
  server.on_io([&] {
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_THAT(errors[0], AllOf(HasSubstr("GET /stream"), HasSubstr("half-way")));
  });
}

TEST(HttpServer, AHandlerThatThrowsOrSaysNothingIsA500) {
  TestServer server;
  TestClient client = server.connect();
  for (const char* path : {"/throws", "/silent"}) {
    const TestResponse r = client.request(get(path));
    EXPECT_EQ(r.status, 500);
    EXPECT_THAT(r.body, AllOf(HasSubstr("\"type\":\"server_error\""), Not(HasSubstr("boom"))));
  }
}

TEST(HttpServer, NoContentHasNoBodyAndNoLength) {
  TestServer server;
  TestClient client = server.connect();
  const TestResponse r = client.request(get("/empty"));
  EXPECT_EQ(r.status, 204);
  EXPECT_EQ(r.header("content-length"), "");
  EXPECT_EQ(client.request(get("/echo")).status, 200);
}

TEST(HttpServer, HeadIsAGetWithoutItsBody) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/models/special", "", "HEAD"));
  const TestResponse r = client.read_response(true);
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.header("content-length"), "7");
  client.send(get("/stream", "", "HEAD"));
  EXPECT_EQ(client.read_response(true).status, 200);
  client.send(get("/absent", "", "HEAD"));
  EXPECT_EQ(client.read_response(true).status, 404);
  EXPECT_EQ(client.request(get("/echo")).status, 200);
}

TEST(HttpServer, OptionsNamesTheMethods) {
  TestServer server;
  const TestResponse r = server.request(get("/echo", "", "OPTIONS"));
  EXPECT_EQ(r.status, 204);
  EXPECT_EQ(r.header("allow"), "GET, HEAD, OPTIONS, POST");
  EXPECT_EQ(r.header("access-control-allow-origin"), "");
  EXPECT_EQ(server.request(get("*", "", "OPTIONS")).status, 204);
  EXPECT_EQ(server.request(get("/absent", "", "OPTIONS")).status, 404);
}

TEST(HttpServer, UnknownPathsAndMethods) {
  TestServer server;
  const TestResponse missing = server.request(get("/nothing"));
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body,
            R"({"error":{"message":"No such path: /nothing","type":"invalid_request_error",)"
            R"("param":null,"code":"not_found"}})");
  const TestResponse method = server.request(get("/echo", "", "DELETE"));
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.header("allow"), "GET, HEAD, OPTIONS, POST");
  EXPECT_EQ(server.request(get("/echo", "", "BREW")).status, 405);
}

TEST(HttpServer, AnthropicPathsWordTheirErrorsTheirWay) {
  TestServer server;
  const TestResponse r = server.request(get("/anthropic/v1/nothing", "X-Request-Id: r1\r\n"));
  EXPECT_EQ(r.body, R"({"type":"error","error":{"type":"not_found_error","message":)"
                    R"("No such path: /anthropic/v1/nothing"},"request_id":"r1"})");
  EXPECT_THAT(server.request(get("/anthropic/v1/messages")).body, HasSubstr(R"("type":"error")"));
}

TEST(HttpServer, RequestIdsComeBack) {
  TestServer server;
  const TestResponse given = server.request(get("/echo", "X-Request-Id: abc-1.2_3\r\n"));
  EXPECT_EQ(given.header("x-request-id"), "abc-1.2_3");
  EXPECT_EQ(given.header("x-ds-trace-id"), "abc-1.2_3");
  EXPECT_THAT(given.body, HasSubstr("id=abc-1.2_3\n"));
  for (const std::string& bad : {std::string("a b"), std::string("<x>"), std::string(129, 'a')}) {
    const TestResponse made = server.request(get("/echo", "X-Request-Id: " + bad + "\r\n"));
    EXPECT_EQ(made.header("x-request-id").size(), 32u) << bad;
  }
  EXPECT_EQ(server.request("garbage\r\n\r\n").header("x-request-id").size(), 32u);
}

TEST(HttpServer, AHeaderFromAClientCannotAddAnother) {
  TestServer server;
  const TestResponse r = server.request(get("/header?value=a%0d%0aX-Evil:%201"));
  EXPECT_EQ(r.header("x-given"), "a  X-Evil: 1");
  EXPECT_EQ(r.header("x-evil"), "");
}

TEST(HttpServer, ExpectContinueIsAnsweredBeforeTheBody) {
  TestServer server;
  TestClient client = server.connect();
  client.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nHost2: b\r\nContent-Length: 5\r\n"
      "Expect: 100-continue\r\n\r\n");
  // "a" is no name of this server: refused, and the body is never asked for.
  EXPECT_EQ(client.read_response().status, 403);
  TestClient good = server.connect();
  good.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(good.read_bytes(25), "HTTP/1.1 100 Continue\r\n\r\n");
  good.send("hello");
  EXPECT_THAT(good.read_response().body, HasSubstr("body=hello"));
  EXPECT_EQ(server.request(post("/echo", "x", "Expect: 200-ok\r\n")).status, 417);
}

TEST(HttpServer, CorsIsOffUnlessAnOriginIsListed) {
  TestServer::Options options;
  options.cors_origins = {"https://app.example"};
  OpenAuthenticator open(options.cors_origins);
  options.authenticator = &open;
  TestServer server(options);
  const TestResponse r = server.request(get("/echo", "Origin: https://app.example\r\n"));
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.header("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(r.header("vary"), "Origin");
  const TestResponse preflight =
      server.request(get("/echo",
                         "Origin: https://app.example\r\nAccess-Control-Request-Method: "
                         "POST\r\n",
                         "OPTIONS"));
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.header("access-control-allow-methods"), "GET, HEAD, OPTIONS, POST");
  EXPECT_THAT(preflight.header("access-control-allow-headers"), HasSubstr("Authorization"));
  const TestResponse other = server.request(get("/echo", "Origin: https://evil.example\r\n"));
  EXPECT_EQ(other.status, 403);
  EXPECT_EQ(other.header("access-control-allow-origin"), "");
}

TEST(HttpServer, AnOpenServerRefusesWebPagesOfOthers) {
  TestServer server;
  const auto status = [&](std::string_view host, std::string_view origin) {
    std::string request = "GET /echo HTTP/1.1\r\nHost: " + std::string(host) + "\r\n";
    if (!origin.empty()) request += "Origin: " + std::string(origin) + "\r\n";
    return server.request(request + "\r\n").status;
  };
  EXPECT_EQ(status("127.0.0.1:8080", ""), 200);
  EXPECT_EQ(status("[::1]:8080", ""), 200);
  EXPECT_EQ(status("LOCALHOST", ""), 200);
  EXPECT_EQ(status("127.0.0.1:8080", "http://127.0.0.1:8080"), 200);
  EXPECT_EQ(status("rebound.example:8080", ""), 403);
  EXPECT_EQ(status("127.0.0.1:8080", "http://evil.example"), 403);
  EXPECT_EQ(status("127.0.0.1:8080", "null"), 403);
}

TEST(HttpServer, AbsoluteTargetsAreTaken) {
  TestServer server;
  EXPECT_THAT(server.request(get("http://localhost:1/echo?x=1")).body,
              HasSubstr("GET /echo\nquery x=1"));
  // The authority of the target is the Host, whatever the header says (RFC 9112, section 3.2.2).
  EXPECT_EQ(server.request(get("http://evil.example/echo")).status, 403);
}

TEST(HttpServer, RouteParametersAreDecoded) {
  TestServer server;
  EXPECT_THAT(server.request(get("/models/a%20b%E4%B8%AD")).body,
              HasSubstr("param model=a b\xE4\xB8\xAD\n"));
  EXPECT_EQ(server.request(get("/models/special")).body, "special");
  EXPECT_THAT(server.request(get("/files/a/b.txt")).body, HasSubstr("param path=a/b.txt\n"));
  EXPECT_EQ(server.request(get("/models/")).status, 404);
}

TEST(HttpServer, BodyLimits) {
  TestServer::Options options;
  options.limits.max_body_bytes = 1000;
  TestServer server(options);
  EXPECT_EQ(server.request(post("/echo", std::string(1000, 'x'))).status, 200);
  EXPECT_EQ(server.request(post("/echo", std::string(1001, 'x'))).status, 413);
  EXPECT_EQ(server.request(post("/small", std::string(10, 'x'))).status, 200);
  TestClient client = server.connect();
  EXPECT_EQ(client.request(post("/small", std::string(11, 'x'))).status, 413);
  EXPECT_EQ(client.request(get("/echo")).status, 200) << "a small body is skipped";
  std::string chunked =
      "POST /small HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(server.request(chunked + "5\r\nabcde\r\n6\r\nabcdef\r\n0\r\n\r\n").status, 413);
  EXPECT_EQ(server.request(chunked + "5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n").status, 200);
  EXPECT_EQ(server.request(chunked + "fffffffffffffff\r\n").status, 413);
}

TEST(HttpServer, ALargeRefusedBodyStillGetsItsAnswer) {
  TestServer::Options options;
  options.limits.max_body_bytes = 1000;
  TestServer server(options);
  TestClient client = server.connect();
  const TestResponse r = client.request(post("/echo", std::string(900'000, 'x')));
  EXPECT_EQ(r.status, 413);
  EXPECT_EQ(r.header("connection"), "close");
}

TEST(HttpServer, BodiesOfAllRequestsAreBoundedTogether) {
  TestServer::Options options;
  options.limits.max_body_bytes_total = 1000;
  TestServer server(options);
  TestClient holder = server.connect();
  holder.send(post("/wait?ms=60000", std::string(900, 'x')));
  ASSERT_TRUE(server.eventually([&] { return server.stats().body_bytes == 900; }));
  const TestResponse r = server.request(post("/echo", std::string(200, 'x')));
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.header("retry-after"), "1");
  EXPECT_EQ(server.request(post("/echo", std::string(50, 'x'))).status, 200);
  holder.reset();
  EXPECT_TRUE(server.eventually([&] { return server.stats().body_bytes == 0; }));
}

TEST(HttpServer, CompressedBodiesAreRefused) {
  TestServer server;
  EXPECT_EQ(server.request(post("/echo", "x", "Content-Encoding: gzip\r\n")).status, 415);
}

TEST(HttpServer, ConcurrencyQuota) {
  ConcurrencyQuota quota(1);
  TestServer::Options options;
  options.quota = &quota;
  TestServer server(options);
  TestClient first = server.connect();
  first.send(get("/wait?ms=60000"));
  ASSERT_TRUE(server.eventually([&] { return server.counters().handled == 1; }));
  const TestResponse r = server.request(get("/echo"));
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.header("retry-after"), "1");
  EXPECT_THAT(r.body, HasSubstr("rate_limit_exceeded"));
  first.reset();
  ASSERT_TRUE(server.eventually([&] { return server.stats().requests_in_flight == 0; }));
  EXPECT_EQ(server.request(get("/echo")).status, 200);
}

TEST(HttpServer, OffloadRunsElsewhereAndComesBack) {
  TestServer server;
  EXPECT_EQ(server.request(get("/offload")).body, "ok, from the pool");
}

TEST(HttpServer, AccessRecordsSayWhatHappened) {
  struct Row {
    std::string method, route, principal;
    int status;
    int64_t request_bytes, response_bytes;
    bool gone;
  };
  std::vector<Row> rows;
  TestServer::Options options;
  options.on_access = [&](const AccessRecord& r) {
    rows.push_back({std::string(r.method), std::string(r.route), std::string(r.principal), r.status,
                    r.request_bytes, r.response_bytes, r.client_gone});
  };
  TestServer server(options);
  server.request(get("/models/special"));
  server.request(post("/small", "0123456789a"));
  server.request("nonsense\r\n\r\n");
  server.connect().send(get("/wait"));
  ASSERT_TRUE(server.eventually([&] {
    std::size_t size = 0;
    server.on_io([&] { size = rows.size(); });
    return size == 4;
  }));
  EXPECT_EQ(rows[0].route, "/models/special");
  EXPECT_EQ(rows[0].principal, "local");
  EXPECT_EQ(rows[0].status, 200);
  EXPECT_EQ(rows[0].response_bytes, 7);
  EXPECT_EQ(rows[1].status, 413);
  EXPECT_EQ(rows[1].request_bytes, 11);
  EXPECT_EQ(rows[2].status, 400);
  EXPECT_EQ(rows[2].route, "");
  EXPECT_EQ(rows[3].status, 0);
  EXPECT_TRUE(rows[3].gone);
}

}  // namespace server_test
}  // namespace fathom::server
