// Names and labels of the access log and the HTTP metrics. See observe.h.
#include "server/http/observe.h"

#include <fmt/format.h>

#include <string>

namespace fathom::server {
namespace {

constexpr std::string_view kMethods[] = {"GET",   "HEAD",   "POST",   "PUT",
                                         "PATCH", "DELETE", "OPTIONS"};

std::string method_label(std::string_view method) {
  for (const std::string_view known : kMethods)
    if (method == known) return std::string(method);
  return "other";
}

// "2xx"; "none" if the client left before there was a status.
std::string status_class(int status) {
  return status == 0 ? "none" : fmt::format("{}xx", status / 100);
}

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

void log_access(Log& log, const AccessRecord& record) {
  const LogLevel level = record.status >= 500 ? LogLevel::kError : LogLevel::kInfo;
  if (!log.enabled(level)) return;
  LogFields fields{
      {"request_id", std::string(record.request_id)},
      {"method", std::string(record.method.substr(0, 16))},
      {"route", std::string(record.route)},
      {"status", static_cast<int64_t>(record.status)},
      {"duration_ms",
       static_cast<double>(static_cast<int64_t>(seconds(record.duration) * 1e6)) / 1e3},
      {"bytes_in", record.request_bytes},
      {"bytes_out", record.response_bytes},
      {"principal", std::string(record.principal)},
      {"remote", std::string(record.remote_address)},
  };
  if (record.client_gone) fields.emplace_back("client_gone", true);
  log.write(level, "request", fields);
}

void HttpMetrics::count(const AccessRecord& record) {
  const std::string route = record.route.empty() ? "none" : std::string(record.route);
  metrics_
      .counter("fathom_http_requests_total", "Requests answered or abandoned.",
               {{"method", method_label(record.method)},
                {"route", route},
                {"status", status_class(record.status)}})
      .add();
  static const std::vector<double> bounds{0.001, 0.005, 0.025, 0.1, 0.5, 1,   2.5,
                                          5,     10,    30,    60,  120, 300, 600};
  metrics_
      .histogram("fathom_http_request_duration_seconds",
                 "From a request's first byte to the last of its answer.", bounds,
                 {{"route", route}})
      .observe(seconds(record.duration));
  metrics_.counter("fathom_http_request_bytes_total", "Bytes of request bodies.")
      .add(static_cast<double>(record.request_bytes));
  metrics_.counter("fathom_http_response_bytes_total", "Bytes of response bodies.")
      .add(static_cast<double>(record.response_bytes));
}

void HttpMetrics::show(const Listener& listener) {
  metrics_.on_render([this, &listener] {
    const Listener::Stats stats = listener.stats();
    const auto gauge = [this](const char* name, const char* help, int64_t value) {
      metrics_.gauge(name, help).set(static_cast<double>(value));
    };
    gauge("fathom_http_connections", "Open connections.", stats.connections);
    gauge("fathom_http_connections_idle", "Connections that wait for a request.",
          stats.idle_connections);
    gauge("fathom_http_requests_in_flight", "Requests being read or answered.",
          stats.requests_in_flight);
    gauge("fathom_http_body_bytes_held", "Bytes of request bodies in memory.", stats.body_bytes);
    gauge("fathom_http_connections_refused", "Connections told 503 at the limit, since the start.",
          stats.refused_total);
    gauge("fathom_http_connections_evicted",
          "Idle connections closed for newcomers at the limit, since the start.",
          stats.evicted_total);
  });
}

}  // namespace fathom::server
