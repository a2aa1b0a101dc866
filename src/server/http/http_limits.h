// What a connection may cost, as configured. Defaults and reasons: base/limits.h.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/limits.h"

namespace fathom::server {

struct HttpLimits {
  int64_t max_header_bytes = limits::kHttpMaxHeaderBytes;
  int64_t max_body_bytes = limits::kHttpMaxBodyBytes;
  int64_t max_body_bytes_total = limits::kHttpMaxBodyBytesTotal;
  std::chrono::milliseconds header_timeout{limits::kHttpHeaderTimeoutMs};
  std::chrono::milliseconds body_grace{limits::kHttpBodyGraceMs};
  int64_t min_body_bytes_per_s = limits::kHttpMinBodyBytesPerSecond;
  std::chrono::milliseconds idle_timeout{limits::kHttpIdleTimeoutMs};
  std::chrono::milliseconds send_timeout{limits::kHttpSendTimeoutMs};
  int64_t max_connections = limits::kHttpMaxConnections;
  int64_t max_requests_per_connection = limits::kHttpMaxRequestsPerConnection;

  bool operator==(const HttpLimits&) const = default;
};

}  // namespace fathom::server
