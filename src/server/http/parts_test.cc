// The parts that need no socket: parser, target, router, keys, error bodies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "server/http/authenticator.h"
#include "server/http/request_parser.h"
#include "server/http/router.h"
#include "server/http/target.h"

namespace fathom::server {
namespace parts_test {

using testing::HasSubstr;
using testing::Not;

TEST(RequestParser, TakesAHeadOnlyWhenItIsWhole) {
  const std::string head = "GET /a HTTP/1.1\r\nHost: h\r\nX-A:  b c \r\n\r\n";
  RequestParser parser{RequestParser::Limits()};
  for (std::size_t n = 0; n < head.size(); ++n) {
    const auto progress = parser.parse_head(head.substr(0, n));
    ASSERT_EQ(progress.consumed, 0u) << n;
    ASSERT_FALSE(progress.error) << n << ": " << progress.error->message;
    ASSERT_FALSE(parser.head_complete());
  }
  EXPECT_EQ(parser.parse_head(head + "rest").consumed, head.size());
  ASSERT_TRUE(parser.head_complete());
  EXPECT_TRUE(parser.complete());
  EXPECT_EQ(parser.head().method, "GET");
  EXPECT_EQ(parser.head().target, "/a");
  EXPECT_EQ(parser.head().headers.get("x-a"), "b c");
  EXPECT_TRUE(parser.head().keep_alive);
}

TEST(RequestParser, CountsADroppedBodyWithoutKeepingIt) {
  RequestParser parser{RequestParser::Limits()};
  parser.parse_head("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(parser.parse_body("hello and more", false).consumed, 5u);
  EXPECT_TRUE(parser.complete());
  EXPECT_EQ(parser.body_bytes(), 5);
  EXPECT_EQ(parser.take_body(), "");
}

TEST(Target, TakesPathAndQueryApart) {
  const auto t = parse_target("/v1/a%2Db/?x=1&y&=z&&q=a+b%2B");
  ASSERT_TRUE(t);
  EXPECT_EQ(t->path, "/v1/a-b/");
  EXPECT_EQ(t->segments, (std::vector<std::string>{"v1", "a-b", ""}));
  const std::vector<std::pair<std::string, std::string>> expected{
      {"x", "1"}, {"y", ""}, {"", "z"}, {"q", "a b+"}};
  EXPECT_EQ(t->queries, expected);
  EXPECT_EQ(parse_target("http://h:1?x=1")->path, "/");
  EXPECT_EQ(parse_target("HTTPS://h/a")->authority, "h");
  EXPECT_FALSE(parse_target(""));
  EXPECT_FALSE(parse_target("http:///a"));
}

class RouterTest : public testing::Test {
 protected:
  void add(std::string method, std::string pattern) {
    Route route;
    route.method = std::move(method);
    route.pattern = std::move(pattern);
    route.handler = [](RequestContext&, Responder&) -> boost::asio::awaitable<void> { co_return; };
    router_.add(std::move(route));
  }
  std::string match(std::string_view method, std::string_view path) {
    const auto m = router_.match(method, parse_target(path)->segments);
    return m.route == nullptr ? "" : m.route->method + " " + m.route->pattern;
  }
  Router router_;
};

TEST_F(RouterTest, LiteralsWinOverParametersAndThoseOverTheRest) {
  add("GET", "/{all*}");
  add("GET", "/a/{x}");
  add("GET", "/a/b");
  add("GET", "/a/{x}/c");
  EXPECT_EQ(match("GET", "/a/b"), "GET /a/b");
  EXPECT_EQ(match("GET", "/a/z"), "GET /a/{x}");
  EXPECT_EQ(match("GET", "/a/b/c"), "GET /a/{x}/c");
  EXPECT_EQ(match("GET", "/a/b/d"), "GET /{all*}");
  EXPECT_EQ(match("GET", "/"), "GET /{all*}");
  EXPECT_EQ(match("POST", "/a/b"), "");
}

TEST_F(RouterTest, AHeadRowWinsOverTheGetRow) {
  add("GET", "/a");
  EXPECT_EQ(match("HEAD", "/a"), "GET /a");
  add("HEAD", "/a");
  EXPECT_EQ(match("HEAD", "/a"), "HEAD /a");
  EXPECT_EQ(match("GET", "/a"), "GET /a");
}

TEST_F(RouterTest, CaseAndTrailingSlashMatter) {
  add("GET", "/a");
  EXPECT_EQ(match("GET", "/A"), "");
  EXPECT_EQ(match("GET", "/a/"), "");
  EXPECT_EQ(match("get", "/a"), "");
}

TEST_F(RouterTest, ASecondRowOfTheSameKindIsAProgrammerError) {
  add("GET", "/a");
  EXPECT_DEATH(add("GET", "/a"), "/a");
  EXPECT_DEATH(add("GET", "/{a*}/b"), "b");
  EXPECT_DEATH(add("GET", "a"), "a");
}

TEST(HttpErrorTest, BodiesOfTheTwoApis) {
  const HttpError error = http_error(resource_limit("the queue is \"full\" \xff"));
  EXPECT_EQ(error.status, 429);
  EXPECT_EQ(deepseek_error_body(error, "r"),
            "{\"error\":{\"message\":\"the queue is \\\"full\\\" \xEF\xBF\xBD\",\"type\":"
            "\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}");
  EXPECT_THAT(anthropic_error_body(error, "r"), HasSubstr(R"("error":{"type":"rate_limit_error")"));
  EXPECT_EQ(http_error(not_found("x")).status, 404);
  EXPECT_EQ(http_error(Error{ErrorCode::kUnavailable, "x"}).status, 503);
  EXPECT_EQ(http_error(internal_error("x")).status, 500);
  EXPECT_EQ(http_error(299, "x").type, "server_error");
}

class ApiKeys : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/keys-" + std::to_string(::getpid());
    ::unlink(path_.c_str());
  }
  void TearDown() override { ::unlink(path_.c_str()); }
  void write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path_) << text;
    ::chmod(path_.c_str(), mode);
  }
  // The principal's name, or the message of the refusal.
  static std::string who(const ApiKeyAuthenticator& keys, std::string name, std::string value) {
    Headers headers;
    headers.add(std::move(name), std::move(value));
    const auto result = keys.authenticate(headers);
    if (const auto* refused = std::get_if<HttpError>(&result)) {
      EXPECT_EQ(refused->status, 401);
      EXPECT_EQ(refused->type, "authentication_error");
      EXPECT_EQ(refused->code, "invalid_request_error");
      return refused->message;
    }
    return std::get<Principal>(result).name;
  }
  std::string path_;
};

TEST_F(ApiKeys, KeysNamesHashesAndComments) {
  write(
      "# keys\n\nsk-first-key\r\n  alice: sk-alice-key  \nbob:sha256:"
      "b3f3c1d54f0ab5f2f2bcf1d6ac1b4dc3c1e5c0b5e3c5d0a7c7a0f4cf3fb0a111\n"
      "sha256:f1c2cf1e5a5a2a8bb1c76f9d1f9e7e9a4c6a7c9be3f5a2e4d5b6c7d8e9f0a1b2\n"
      "with:colon:inside-key\n");
  const auto keys = ApiKeyAuthenticator::open(path_);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_EQ(keys->size(), 5u);
  EXPECT_TRUE(keys->warnings().empty());
  EXPECT_FALSE(keys->is_open());
  EXPECT_EQ(who(*keys, "Authorization", "Bearer sk-first-key"), "key3");
  EXPECT_EQ(who(*keys, "authorization", "bearer   sk-alice-key"), "alice");
  EXPECT_EQ(who(*keys, "X-Api-Key", "sk-alice-key"), "alice");
  EXPECT_EQ(who(*keys, "X-Api-Key", "colon:inside-key"), "with");
}

TEST_F(ApiKeys, AHashStandsForItsKey) {
  // printf sk-hashed-key | sha256sum
  write("carol:sha256:DC9BD087B73F2CB27D1429EAAB83AB5AEB14E53A395CBC0077BF9DFEFF6AE699\n");
  const auto keys = ApiKeyAuthenticator::open(path_);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_EQ(who(*keys, "X-Api-Key", "sk-hashed-key"), "carol");
}

TEST_F(ApiKeys, RefusalsAreDeepSeeksAndShowOnlyTheEnd) {
  write("sk-first-key\n");
  const auto keys = ApiKeyAuthenticator::open(path_);
  ASSERT_TRUE(keys);
  EXPECT_EQ(who(*keys, "Authorization", "Bearer sk-0123456789abcd"),
            "Authentication Fails, Your api key: ****abcd is invalid");
  EXPECT_EQ(who(*keys, "Authorization", "Bearer short"),
            "Authentication Fails, Your api key: **** is invalid");
  const std::string missing = "Authentication Fails (auth header format should be Bearer sk-...)";
  EXPECT_EQ(who(*keys, "X-Other", "sk-first-key"), missing);
  EXPECT_EQ(who(*keys, "Authorization", "Basic c2stZmlyc3Qta2V5"), missing);
  EXPECT_EQ(who(*keys, "Authorization", "sk-first-key"), missing);
  EXPECT_EQ(who(*keys, "Authorization", "Bearer "), missing);
  EXPECT_THAT(who(*keys, "Authorization", "Bearer sk-first-key-and-more"), HasSubstr("****more"));
  EXPECT_THAT(who(*keys, "Authorization", "Bearer sk-first-ke"), HasSubstr("invalid"));
}

TEST_F(ApiKeys, BadFilesNameTheLineAndNeverTheKey) {
  const auto message = [&](const std::string& text) {
    write(text);
    const auto keys = ApiKeyAuthenticator::open(path_);
    return keys ? "" : keys.error().message;
  };
  EXPECT_THAT(message("sk-first-key\nshort\n"), HasSubstr(path_ + ":2: a key of 5 bytes"));
  EXPECT_THAT(message("sha256:1234\n"), HasSubstr(":1: expected 64 hexadecimal digits"));
  EXPECT_THAT(message("bad name:sk-secret-key\n"), HasSubstr("is no name"));
  EXPECT_THAT(message("bad name:sk-secret-key\n"), Not(HasSubstr("secret")));
  EXPECT_THAT(message("a:sk secret key\n"), HasSubstr("visible ASCII"));
  EXPECT_THAT(message("# nothing\n"), HasSubstr("holds no key"));
  ::unlink(path_.c_str());
  EXPECT_FALSE(ApiKeyAuthenticator::open(path_));
}

TEST_F(ApiKeys, WarnsOfAFileThatOthersCanRead) {
  write("sk-first-key\n", 0644);
  const auto keys = ApiKeyAuthenticator::open(path_);
  ASSERT_TRUE(keys);
  ASSERT_EQ(keys->warnings().size(), 1u);
  EXPECT_THAT(keys->warnings()[0], HasSubstr("chmod 600"));
}

TEST_F(ApiKeys, ReloadTakesNewKeysAndKeepsTheOldOnesOnAnError) {
  write("one:sk-first-key\n");
  auto keys = ApiKeyAuthenticator::open(path_);
  ASSERT_TRUE(keys);
  write("x\n");
  EXPECT_FALSE(keys->reload());
  EXPECT_EQ(who(*keys, "X-Api-Key", "sk-first-key"), "one");
  write("two:sk-second-key\n");
  EXPECT_TRUE(keys->reload());
  EXPECT_EQ(who(*keys, "X-Api-Key", "sk-second-key"), "two");
  EXPECT_THAT(who(*keys, "X-Api-Key", "sk-first-key"), HasSubstr("invalid"));
}

}  // namespace parts_test
}  // namespace fathom::server
