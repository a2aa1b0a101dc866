// Requests and answers over real sockets: framing, routes, connections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http/http_test_support.h"

namespace fathom::server {
namespace {

using testing::HasSubstr;

constexpr std::string_view kHost = "Host: localhost\r\n";

std::string get(std::string_view target, std::string_view headers = "") {
  return "GET " + std::string(target) + " HTTP/1.1\r\n" + std::string(kHost) +
         std::string(headers) + "\r\n";
}

TEST(HttpServer, AnswersAGet) {
  TestServer server;
  const TestResponse r = server.request(get("/echo?a=1&b=x%20y"));
  EXPECT_EQ(r.status, 200);
  EXPECT_THAT(r.body, HasSubstr("GET /echo\nquery a=1\nquery b=x y\nprincipal=local\n"));
  EXPECT_EQ(r.header("content-type"), "text/plain");
  EXPECT_EQ(r.header("x-request-id").size(), 32u);
  EXPECT_EQ(r.header("x-request-id"), r.header("x-ds-trace-id"));
  EXPECT_FALSE(r.header("date").empty());
}

}  // namespace
}  // namespace fathom::server
