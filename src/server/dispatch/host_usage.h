// How busy the machine is, for /status.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace fathom::server {

// {"cpu_percent": of all processors since the last call (0 at the first), "memory_used_bytes",
// "memory_total_bytes", "gpus": []}. From /proc; what cannot be read is 0. One thread.
nlohmann::json host_usage();

}  // namespace fathom::server
