// Requests that are wrong, or that two parsers might read differently: each gets one answer with a
// JSON body, and what must not be taken for a second request is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/http/http_test_support.h"

namespace fathom::server {
namespace malformed_test {

using std::chrono::milliseconds;

struct Case {
  const char* name;
  std::string request;
  int status;
};

std::string with(std::string_view headers, std::string_view body = "") {
  return "POST /echo HTTP/1.1\r\nHost: localhost\r\n" + std::string(headers) + "\r\n" +
         std::string(body);
}
std::string line(std::string_view request_line) {
  return std::string(request_line) + "\r\nHost: localhost\r\n\r\n";
}
std::string chunked(std::string_view body) { return with("Transfer-Encoding: chunked\r\n", body); }

std::vector<Case> cases() {
  using std::string_literals::operator""s;
  return {
      // Request lines.
      {"Words", "hello world\r\n\r\n", 400},
      {"NoTarget", line("GET HTTP/1.1"), 400},
      {"NoVersion", line("GET /echo"), 400},
      {"LowercaseVersion", line("GET /echo http/1.1"), 505},
      {"Version2", line("GET /echo HTTP/2.0"), 505},
      {"Version09", line("GET /echo HTTP/0.9"), 505},
      {"Version12", line("GET /echo HTTP/1.2"), 505},
      {"Http2Preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"TwoSpaces", line("GET  /echo HTTP/1.1"), 400},
      {"SpaceInTarget", line("GET /ec ho HTTP/1.1"), 505},
      {"TrailingSpace", line("GET /echo HTTP/1.1 "), 505},
      {"BadMethodCharacter", line("G(T /echo HTTP/1.1"), 400},
      {"LeadingSpace", line(" GET /echo HTTP/1.1"), 400},
      {"TlsClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"s, 400},
      {"Fragment", line("GET /echo#x HTTP/1.1"), 400},
      {"RelativeTarget", line("GET echo HTTP/1.1"), 400},
      {"OtherScheme", line("GET ftp://localhost/echo HTTP/1.1"), 400},
      {"AuthorityWithUser", line("GET http://u@localhost/echo HTTP/1.1"), 400},
      {"AsteriskGet", line("GET * HTTP/1.1"), 400},
      {"Connect", line("CONNECT localhost:80 HTTP/1.1"), 400},
      {"Trace", line("TRACE /echo HTTP/1.1"), 405},
      // Paths.
      {"BadEscape", line("GET /ec%zz HTTP/1.1"), 400},
      {"ShortEscape", line("GET /echo%4 HTTP/1.1"), 400},
      {"EncodedNul", line("GET /echo%00 HTTP/1.1"), 400},
      {"EncodedSlash", line("GET /models/a%2fb HTTP/1.1"), 400},
      {"Backslash", line("GET /models/a%5cb HTTP/1.1"), 400},
      {"DotDot", line("GET /files/../health HTTP/1.1"), 400},
      {"EncodedDotDot", line("GET /files/%2e%2e/health HTTP/1.1"), 400},
      {"Dot", line("GET /./echo HTTP/1.1"), 400},
      {"NotUtf8", line("GET /models/%ff HTTP/1.1"), 400},
      {"OverlongUtf8", line("GET /models/%c0%af HTTP/1.1"), 400},
      {"RawUtf8", line("GET /models/\xE4\xB8\xAD HTTP/1.1"), 400},
      {"BadQueryEscape", line("GET /echo?a=%g1 HTTP/1.1"), 400},
      {"DoubleSlash", line("GET //echo HTTP/1.1"), 404},
      {"LongTarget", line("GET /" + std::string(9000, 'a') + " HTTP/1.1"), 414},
      // Headers.
      {"NoHost", "GET /echo HTTP/1.1\r\n\r\n", 400},
      {"TwoHosts", "GET /echo HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400},
      {"NoColon", with("X-A\r\n"), 400},
      {"EmptyName", with(": x\r\n"), 400},
      {"SpaceBeforeColon", with("Content-Length : 0\r\n"), 400},
      {"SpaceInName", with("X A: b\r\n"), 400},
      {"ObsFold", with("X-A: b\r\n c\r\n"), 400},
      {"ObsFoldTab", with("X-A: b\r\n\tc\r\n"), 400},
      {"FoldedFirstLine", "GET /echo HTTP/1.1\r\n Host: localhost\r\n\r\n", 400},
      {"BareLf", "GET /echo HTTP/1.1\nHost: localhost\n\n", 400},
      {"OneBareLf", with("X-A: b\nX-B: c\r\n"), 400},
      {"BareCr", with("X-A: b\rX-B: c\r\n"), 400},
      {"Nul", with("X-A: b\0c\r\n"s), 400},
      {"ControlInValue", with("X-A: b\x01\r\n"), 400},
      {"LongHeader", with("X-A: " + std::string(40'000, 'a') + "\r\n"), 431},
      {"EndlessHeader", "GET /echo HTTP/1.1\r\nX-A: " + std::string(40'000, 'a'), 431},
      {"ManyHeaders",
       [] {
         std::string headers;
         for (int i = 0; i < 200; ++i) headers += "X-" + std::to_string(i) + ": v\r\n";
         return with(headers);
       }(),
       431},
      // Lengths.
      {"NegativeLength", with("Content-Length: -1\r\n"), 400},
      {"SignedLength", with("Content-Length: +5\r\n", "hello"), 400},
      {"HexLength", with("Content-Length: 0x5\r\n", "hello"), 400},
      {"WordLength", with("Content-Length: five\r\n"), 400},
      {"EmptyLength", with("Content-Length:\r\n"), 400},
      {"HugeLength", with("Content-Length: 99999999999999999999999\r\n"), 400},
      {"LargeLength", with("Content-Length: 9223372036854775807\r\n"), 413},
      {"LengthList", with("Content-Length: 5, 5\r\n", "hello"), 400},
      {"TwoLengths", with("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), 400},
      {"TwoEqualLengths", with("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400},
      {"LengthAndCoding", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
       400},
      {"CodingAndLength", with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
       400},
      {"Gzip", with("Transfer-Encoding: gzip\r\n"), 501},
      {"GzipChunked", with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
      {"ChunkedIdentity", with("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501},
      {"ChunkedTwice",
       with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"VerticalTabChunked",
       with("Transfer-Encoding: \x0b"
            "chunked\r\n",
            "0\r\n\r\n"),
       400},
      {"CodingInHttp10", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      // Chunks.
      {"ChunkSizeWord", chunked("xyz\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeEmpty", chunked("\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeNegative", chunked("-5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeHexPrefix", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeOverflow", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeHuge", chunked("7fffffffffffffff\r\nhello"), 413},
      {"ChunkTooLong", chunked("4\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkTooShort", chunked("6\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkBareLf", chunked("5\nhello\n0\n\n"), 400},
      {"ChunkSpace", chunked("5 \r\nhello\r\n0\r\n\r\n"), 400},
      {"EndlessChunkExtension", chunked("5;" + std::string(100'000, 'e')), 400},
      {"EndlessTrailer", chunked("0\r\nX-A: " + std::string(100'000, 'e')), 400},
      // Others.
      {"UnknownExpectation", with("Expect: something\r\nContent-Length: 1\r\n", "x"), 417},
  };
}

class Malformed : public testing::TestWithParam<Case> {};

TEST_P(Malformed, GetsOneAnswerAndNoSecondRequest) {
  TestServer server;
  TestClient client = server.connect();
  // What follows must not be answered as a request unless the first was well framed (404, 405).
  client.send(GetParam().request);
  const TestResponse r = client.read_response();
  EXPECT_EQ(r.status, GetParam().status) << r.body;
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(r.header("content-type"), "application/json");
  const auto json = nlohmann::json::parse(r.body, nullptr, false);
  ASSERT_TRUE(json.is_object()) << r.body;
  EXPECT_FALSE(json["error"]["message"].get<std::string>().empty());
  EXPECT_EQ(json["error"]["type"], "invalid_request_error");
  if (r.header("connection") == "close") {
    client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_EQ(client.read_response().status, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(HttpServer, Malformed, testing::ValuesIn(cases()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Smuggling, TheBodyOfARefusedRequestIsNoRequest) {
  const std::string inner = "GET /models/special HTTP/1.1\r\nHost: localhost\r\n\r\n";
  TestServer server;
  for (const std::string& head :
       {std::string("POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: "),
        std::string("DELETE /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: "),
        std::string("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: ")}) {
    TestClient client = server.connect();
    client.send(head + std::to_string(inner.size()) + "\r\n\r\n" + inner);
    client.send("GET /echo?last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_NE(client.read_response().body, "special");
    EXPECT_THAT(client.read_response().body, testing::HasSubstr("query last=1"));
  }
}

TEST(Smuggling, BytesBehindAChunkedBodyAreTheNextRequest) {
  TestServer server;
  TestClient client = server.connect();
  client.send(
      chunked("5\r\nhello\r\n0\r\n\r\nGET /echo?second=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_THAT(client.read_response().body, testing::HasSubstr("body=hello"));
  EXPECT_THAT(client.read_response().body, testing::HasSubstr("query second=1"));
}

}  // namespace malformed_test
}  // namespace fathom::server
