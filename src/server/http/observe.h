// What finished requests leave behind: a line of the access log, and the fathom_http_ metrics.
//
// Owns their names and labels. Bodies, paths and query strings appear in neither: a route's pattern
// says enough, and has few values.
#pragma once

#include "server/http/connection.h"
#include "server/http/listener.h"
#include "server/log.h"
#include "server/metrics.h"

namespace fathom::server {

// One line: ts, level (error for 5xx), request_id, method, route, status, duration_ms, bytes_in,
// bytes_out, principal, remote; client_gone if it left before the answer was complete.
void log_access(Log& log, const AccessRecord& record);

class HttpMetrics {
 public:
  // `metrics` must outlive this.
  explicit HttpMetrics(Metrics& metrics) : metrics_(metrics) {}
  void count(const AccessRecord& record);
  // Shows the listener's numbers at every rendering; `listener` must outlive `metrics`' last one.
  void show(const Listener& listener);

 private:
  Metrics& metrics_;
};

}  // namespace fathom::server
