// Log lines and metrics, by themselves and of requests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "server/http/observe.h"
#include "server/log.h"
#include "server/metrics.h"

namespace fathom::server {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kTime = 1795662000123;  // 2026-11-26T03:00:00.123Z

TEST(LogLine, Json) {
  EXPECT_EQ(format_log_line(LogFormat::kJson, kTime, LogLevel::kWarning, "a \"b\"\n",
                            {{"n", int64_t{5}}, {"s", "x"}, {"d", 1.5}, {"b", true}}),
            R"({"ts":"2026-11-26T03:00:00.123Z","level":"warning","msg":"a \"b\"\n",)"
            R"("n":5,"s":"x","d":1.5,"b":true})");
}

TEST(LogLine, TextStaysOneLine) {
  EXPECT_EQ(format_log_line(LogFormat::kText, kTime, LogLevel::kInfo, "ready", {{"n", int64_t{5}}}),
            "2026-11-26T03:00:00.123Z info    ready n=5");
  EXPECT_EQ(format_log_line(LogFormat::kText, kTime, LogLevel::kError, "a\nb", {{"s", "c\nd"}}),
            "2026-11-26T03:00:00.123Z error   \"a\\nb\" s=\"c\\nd\"");
}

TEST(LogLine, ForeignBytesAreReplaced) {
  EXPECT_THAT(format_log_line(LogFormat::kJson, kTime, LogLevel::kInfo, "\xff", {}),
              HasSubstr("\"msg\":\"\xEF\xBF\xBD\""));
}

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(LogTest, WritesWhatItsLevelAllowsBeforeItEnds) {
  const std::string path = testing::TempDir() + "/log-" + std::to_string(::getpid());
  ::unlink(path.c_str());
  {
    auto log = Log::open(LogFormat::kJson, LogLevel::kWarning, path);
    ASSERT_TRUE(log) << log.error().message;
    (*log)->write(LogLevel::kInfo, "not this");
    (*log)->write(LogLevel::kError, "this {} %v");
    (*log)->set_level(LogLevel::kDebug);
    (*log)->write(LogLevel::kDebug, "and this");
  }
  const auto lines = lines_of(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], HasSubstr("\"msg\":\"this {} %v\""));
  EXPECT_THAT(lines[1], HasSubstr("and this"));
  ::unlink(path.c_str());
  EXPECT_FALSE(Log::open(LogFormat::kJson, LogLevel::kInfo, "/proc/none/log"));
}

TEST(LogTest, AccessLinesNameTheRouteAndNoBody) {
  const std::string path = testing::TempDir() + "/access-" + std::to_string(::getpid());
  ::unlink(path.c_str());
  {
    auto log = Log::open(LogFormat::kJson, LogLevel::kInfo, path);
    ASSERT_TRUE(log);
    AccessRecord record;
    record.request_id = "r1";
    record.method = "POST";
    record.route = "/v1/chat/completions";
    record.principal = "alice";
    record.remote_address = "127.0.0.1:5";
    record.status = 503;
    record.response_bytes = 7;
    record.duration = std::chrono::microseconds(1500);
    record.client_gone = true;
    log_access(**log, record);
  }
  const auto lines = lines_of(path);
  ASSERT_EQ(lines.size(), 1u);
  const auto json = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(json["level"], "error");
  EXPECT_EQ(json["request_id"], "r1");
  EXPECT_EQ(json["route"], "/v1/chat/completions");
  EXPECT_EQ(json["status"], 503);
  EXPECT_EQ(json["duration_ms"], 1.5);
  EXPECT_EQ(json["bytes_out"], 7);
  EXPECT_EQ(json["principal"], "alice");
  EXPECT_EQ(json["client_gone"], true);
  ::unlink(path.c_str());
}

TEST(MetricsTest, RendersPrometheusText) {
  Metrics metrics;
  metrics.counter("fathom_a_total", "A.", {{"x", "1\"\n"}}).add(2);
  metrics.counter("fathom_a_total", "A.", {{"x", "1\"\n"}}).add();
  metrics.histogram("fathom_h_seconds", "H.", {0.1, 1}).observe(0.5);
  double shown = 0;
  metrics.on_render([&] { metrics.gauge("fathom_g", "G.").set(shown); });
  shown = 42;
  const std::string text = metrics.render();
  EXPECT_THAT(text, HasSubstr("# HELP fathom_a_total A.\n# TYPE fathom_a_total counter\n"));
  EXPECT_THAT(text, HasSubstr("fathom_a_total{x=\"1\\\"\\n\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("fathom_h_seconds_bucket{le=\"0.1\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("fathom_h_seconds_bucket{le=\"1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fathom_h_seconds_bucket{le=\"+Inf\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fathom_g 42\n"));
}

TEST(MetricsTest, LabelsAreBounded) {
  Metrics metrics;
  for (int i = 0; i < 3000; ++i)
    metrics.counter("fathom_a_total", "A.", {{"x", std::to_string(i)}}).add();
  const std::string text = metrics.render();
  EXPECT_THAT(text, HasSubstr("fathom_a_total{x=\"other\"} 2000\n"));
  EXPECT_THAT(text, Not(HasSubstr("x=\"1000\"")));
}

TEST(MetricsTest, ANameOfTwoKindsOrMalformedIsAProgrammerError) {
  Metrics metrics;
  metrics.counter("fathom_a_total", "A.");
  EXPECT_DEATH(metrics.gauge("fathom_a_total", "A."), "fathom_a_total");
  EXPECT_DEATH(metrics.gauge("no spaces", "A."), "no spaces");
}

TEST(HttpMetricsTest, CountsByRouteAndClassOfStatus) {
  Metrics metrics;
  HttpMetrics http(metrics);
  AccessRecord record;
  record.method = "BREW-AN-UNKNOWN-METHOD";
  record.route = "/models/{model}";
  record.status = 404;
  record.response_bytes = 10;
  http.count(record);
  record.route = "";
  record.status = 0;
  http.count(record);
  boost::asio::io_context io;
  Router router;
  Listener::Options options;
  options.pipeline.router = &router;
  Listener listener(io, std::move(options));
  http.show(listener);
  const std::string text = metrics.render();
  EXPECT_THAT(text,
              HasSubstr("fathom_http_requests_total{method=\"other\",route=\"/models/{model}\","
                        "status=\"4xx\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("route=\"none\",status=\"none\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fathom_http_response_bytes_total 20\n"));
  EXPECT_THAT(text, HasSubstr("fathom_http_connections 0\n"));
}

}  // namespace
}  // namespace fathom::server
