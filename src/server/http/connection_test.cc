// Clients that leave, stall, send too little or too much; draining; the limit of connections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <fstream>
#include <thread>

#include "server/http/http_test_support.h"

namespace fathom::server {
namespace connection_test {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

std::string get(std::string_view target) {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
}

bool handled(TestServer& server, int count) {
  return server.eventually([&] { return server.counters().handled == count; });
}
bool cancelled(TestServer& server, int count) {
  return server.eventually([&] { return server.counters().cancelled == count; });
}

TEST(HttpDisconnect, ACloseCancelsTheHandler) {
  TestServer server;
  {
    TestClient client = server.connect();
    client.send(get("/wait"));
    ASSERT_TRUE(handled(server, 1));
  }
  EXPECT_TRUE(cancelled(server, 1));
  EXPECT_TRUE(server.eventually([&] { return server.stats().connections == 0; }));
}

TEST(HttpDisconnect, AResetCancelsTheHandler) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/wait"));
  ASSERT_TRUE(handled(server, 1));
  client.reset();
  EXPECT_TRUE(cancelled(server, 1));
}

TEST(HttpDisconnect, AHalfCloseCountsAsLeaving) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/wait"));
  ASSERT_TRUE(handled(server, 1));
  client.half_close();
  EXPECT_TRUE(cancelled(server, 1));
}

TEST(HttpDisconnect, ACloseBehindAPipelinedRequestCancelsToo) {
  TestServer server;
  {
    TestClient client = server.connect();
    client.send(get("/wait") + get("/echo") + get("/echo"));
    ASSERT_TRUE(handled(server, 1));
  }
  EXPECT_TRUE(cancelled(server, 1));
}

TEST(HttpDisconnect, AResetIsSeenBehindMoreThanIsReadAhead) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/wait"));
  ASSERT_TRUE(handled(server, 1));
  client.send(std::string(100'000, 'x'));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(server.counters().cancelled, 0);
  client.reset();
  EXPECT_TRUE(cancelled(server, 1));
}

TEST(HttpDisconnect, WritingToAClientThatLeftEnds) {
  TestServer server;
  TestClient client = server.connect();
  client.send(get("/flood"));
  EXPECT_EQ(client.read_bytes(1000).size(), 1000u);
  client.reset();
  EXPECT_TRUE(server.eventually([&] {
    const TestCounters c = server.counters();
    return c.cancelled + c.writes_refused == 1 && server.stats().connections == 0;
  }));
}

TEST(HttpDisconnect, ASlowReaderIsCutAtTheSendDeadline) {
  TestServer::Options options;
  options.limits.send_timeout = milliseconds(200);
  TestServer server(options);
  TestClient client(server.port(), 4096);
  const auto begin = steady_clock::now();
  client.send(get("/flood"));
  ASSERT_TRUE(handled(server, 1));
  EXPECT_TRUE(server.eventually([&] { return server.stats().connections == 0; }));
  EXPECT_GE(steady_clock::now() - begin, milliseconds(200));
  const TestCounters c = server.counters();
  EXPECT_EQ(c.cancelled + c.writes_refused, 1);
}

TEST(HttpDisconnect, AReaderThatKeepsReadingIsNotCut) {
  TestServer::Options options;
  options.limits.send_timeout = milliseconds(300);
  TestServer server(options);
  TestClient client(server.port(), 65536);
  client.send(get("/flood"));
  for (int i = 0; i < 60; ++i) {  // a second, in which the kernel's buffers are full
    ASSERT_EQ(client.read_bytes(200'000).size(), 200'000u) << i;
    std::this_thread::sleep_for(milliseconds(15));
  }
}

TEST(HttpDisconnect, AThousandLeaveNothingBehind) {
  TestServer server;
  for (int i = 0; i < 1000; ++i) {
    TestClient client = server.connect();
    client.send(get(i % 2 == 0 ? "/wait" : "/flood"));
    if (i % 6 == 1) client.read_bytes(1);
    if (i % 5 == 0) client.reset();
  }
  EXPECT_TRUE(server.eventually([&] {
    const Listener::Stats stats = server.stats();
    return stats.connections == 0 && stats.requests_in_flight == 0;
  }));
  EXPECT_EQ(server.request(get("/echo")).status, 200);
}

TEST(HttpDeadlines, AHeaderThatDoesNotEndIsTold408) {
  TestServer::Options options;
  options.limits.header_timeout = milliseconds(150);
  TestServer server(options);
  TestClient client = server.connect();
  client.send("GET /echo HTTP/1.1\r\n");
  for (int i = 0; i < 20 && client.send("X-A: b\r\n"); ++i)
    std::this_thread::sleep_for(milliseconds(20));
  const TestResponse r = client.read_response();
  EXPECT_EQ(r.status, 408);
  EXPECT_TRUE(server.eventually([&] { return server.stats().requests_in_flight == 0; }));
}

TEST(HttpDeadlines, IdleConnectionsAreClosed) {
  TestServer::Options options;
  options.limits.idle_timeout = milliseconds(100);
  TestServer server(options);
  TestClient silent = server.connect();
  TestClient used = server.connect();
  EXPECT_EQ(used.request(get("/echo")).status, 200);
  EXPECT_TRUE(silent.closed_within(milliseconds(2000)));
  EXPECT_TRUE(used.closed_within(milliseconds(2000)));
}

TEST(HttpDeadlines, ABodyBelowTheMinimumRateIsTold408) {
  TestServer::Options options;
  options.limits.body_grace = milliseconds(100);
  options.limits.min_body_bytes_per_s = 1'000'000;
  TestServer server(options);
  TestClient client = server.connect();
  client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n");
  for (int i = 0; i < 8; ++i) {
    client.send("x");
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(client.read_response().status, 408);
}

TEST(HttpDeadlines, OneByteChunksDoNotCountAsProgressButForTheirBytes) {
  TestServer::Options options;
  options.limits.body_grace = milliseconds(100);
  options.limits.min_body_bytes_per_s = 1'000'000;
  TestServer server(options);
  TestClient client = server.connect();
  client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 8; ++i) {
    client.send("1;" + std::string(1000, 'e') + "\r\nx\r\n");
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(client.read_response().status, 408);
}

TEST(HttpDeadlines, ALongHandlerHasNoDeadline) {
  TestServer::Options options;
  options.limits.idle_timeout = milliseconds(50);
  options.limits.header_timeout = milliseconds(50);
  options.limits.send_timeout = milliseconds(50);
  TestServer server(options);
  EXPECT_EQ(server.request(get("/wait?ms=400")).body, "waited");
}

TEST(HttpLimits, RequestsPerConnection) {
  TestServer::Options options;
  options.limits.max_requests_per_connection = 2;
  TestServer server(options);
  TestClient client = server.connect();
  EXPECT_EQ(client.request(get("/echo")).header("connection"), "");
  EXPECT_EQ(client.request(get("/echo")).header("connection"), "close");
  EXPECT_TRUE(client.closed_within(milliseconds(2000)));
}

TEST(HttpLimits, AnIdleConnectionMakesRoomForANewcomer) {
  TestServer::Options options;
  options.limits.max_connections = 3;
  TestServer server(options);
  TestClient oldest = server.connect();
  TestClient second = server.connect();
  TestClient third = server.connect();
  ASSERT_TRUE(server.eventually([&] { return server.stats().idle_connections == 3; }));
  TestClient newcomer = server.connect();
  EXPECT_EQ(newcomer.request(get("/echo")).status, 200);
  EXPECT_TRUE(oldest.closed_within(milliseconds(2000)));
  EXPECT_EQ(second.request(get("/echo")).status, 200);
  EXPECT_EQ(third.request(get("/echo")).status, 200);
  EXPECT_EQ(server.stats().evicted_total, 1);
}

TEST(HttpLimits, WhenAllAreBusyANewcomerIsTold503) {
  TestServer::Options options;
  options.limits.max_connections = 2;
  TestServer server(options);
  TestClient a = server.connect();
  TestClient b = server.connect();
  a.send(get("/wait"));
  b.send(get("/wait"));
  ASSERT_TRUE(handled(server, 2));
  TestClient c = server.connect();
  const TestResponse r = c.request(get("/echo"));
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.header("retry-after"), "1");
  EXPECT_TRUE(c.closed_within(milliseconds(3000)));
  EXPECT_EQ(server.stats().refused_total, 1);
  EXPECT_EQ(server.counters().cancelled, 0);
}

TEST(HttpDrain, FinishesWhatRunsAndClosesWhatIsIdle) {
  TestServer server;
  TestClient idle = server.connect();
  TestClient busy = server.connect();
  EXPECT_EQ(idle.request(get("/echo")).status, 200);
  busy.send(get("/wait?ms=300"));
  ASSERT_TRUE(handled(server, 1));
  server.begin_drain(milliseconds(5000));
  EXPECT_TRUE(idle.closed_within(milliseconds(1000)));
  EXPECT_EQ(busy.read_response().body, "waited");
  EXPECT_TRUE(busy.closed_within(milliseconds(1000)));
  EXPECT_TRUE(server.eventually([&] { return server.drained(); }));
  EXPECT_EQ(server.counters().cancelled, 0);
}

TEST(HttpDrain, CutsWhatIsNotDoneInTime) {
  TestServer server;
  TestClient busy = server.connect();
  busy.send(get("/wait"));
  ASSERT_TRUE(handled(server, 1));
  const auto begin = steady_clock::now();
  server.begin_drain(milliseconds(150));
  EXPECT_TRUE(server.eventually([&] { return server.drained(); }));
  EXPECT_GE(steady_clock::now() - begin, milliseconds(150));
  EXPECT_EQ(server.counters().cancelled, 1);
  EXPECT_TRUE(busy.closed_within(milliseconds(1000)));
}

class ListenerTest : public testing::Test {
 protected:
  std::unique_ptr<Listener> make(const Authenticator* authenticator, bool insecure = false) {
    Listener::Options options;
    options.pipeline.router = &router_;
    options.pipeline.authenticator = authenticator;
    options.insecure = insecure;
    return std::make_unique<Listener>(io_, std::move(options));
  }
  boost::asio::io_context io_{1};
  Router router_;
  OpenAuthenticator open_;
};

TEST_F(ListenerTest, RefusesToListenBeyondThisMachineWithoutKeys) {
  const auto listener = make(&open_);
  const Status refused = listener->listen("0.0.0.0", 0);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--api-key-file"));
  EXPECT_FALSE(listener->listen("::", 0));
  EXPECT_TRUE(listener->listen("127.0.0.1", 0));
  EXPECT_TRUE(make(&open_, true)->listen("0.0.0.0", 0));
}

TEST_F(ListenerTest, ListensOnSeveralAddresses) {
  const auto listener = make(&open_);
  ASSERT_TRUE(listener->listen("127.0.0.1", 0));
  if (!listener->listen("::1", 0)) GTEST_SKIP() << "no IPv6 here";
  ASSERT_EQ(listener->addresses().size(), 2u);
  EXPECT_THAT(listener->addresses()[1], HasSubstr("[::1]:"));
  EXPECT_NE(listener->port(), 0);
}

TEST_F(ListenerTest, SaysThatAPortIsTaken) {
  const auto first = make(&open_);
  ASSERT_TRUE(first->listen("127.0.0.1", 0));
  const auto second = make(&open_);
  const Status taken = second->listen("127.0.0.1", first->port());
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(taken.error().message, HasSubstr("127.0.0.1:" + std::to_string(first->port()) +
                                               ": another program listens"));
}

TEST_F(ListenerTest, NamesABadHostOrPort) {
  const auto listener = make(&open_);
  EXPECT_THAT(listener->listen("300.1.2.3", 0).error().message, HasSubstr("'300.1.2.3'"));
  EXPECT_THAT(listener->listen("127.0.0.1", 70000).error().message, HasSubstr("70000"));
}

TEST_F(ListenerTest, AUnixSocketIsForThisUserAndReplacesAStaleOne) {
  const std::string path = testing::TempDir() + "/fathom-" + std::to_string(::getpid()) + ".sock";
  {
    const auto first = make(&open_);
    ASSERT_TRUE(first->listen_unix(path));
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    EXPECT_FALSE(make(&open_)->listen_unix(path)) << "somebody listens there";
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "removed at the end";
  std::ofstream(path) << "a file";
  EXPECT_FALSE(make(&open_)->listen_unix(path));
  ::unlink(path.c_str());
}

TEST_F(ListenerTest, RaisesTheLimitOfFiles) { EXPECT_GT(raise_file_limit(), 100); }

}  // namespace connection_test
}  // namespace fathom::server
