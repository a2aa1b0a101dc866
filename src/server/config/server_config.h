// What `fathom serve` is told: defaults, fathom.yaml, FATHOM_* and flags, merged (load_config.h).
//
// Owns the plain values with their defaults. Names, ranges and help texts stand in settings.cc.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "server/http/http_limits.h"

namespace fathom::server {

struct ModelConfig {
  std::string path;                  // directory, .gguf file or bundled name
  std::string id;                    // in the API; empty: from the path
  std::vector<std::string> aliases;  // other names that find it
  int64_t workers = 1;               // processes; 0: in the server's own
  int64_t standby = 0;               // loaded spares
  int64_t context_tokens = 0;        // 0: what the model was made for
  int64_t cache_tokens = 0;          // tokens that the KV cache holds; 0: from the memory there is
  int64_t max_running = 32;          // answers computed at a time
  int64_t max_waiting = 256;         // requests that wait; more are told 429
  int64_t speculate_up_to = 4;       // answers at a time with drafted tokens; 0: never
  int64_t threads = 0;               // 0: one per physical core
  std::string kv_type = "auto";
  std::string compute = "auto";
  std::string numa = "off";
  std::string device = "auto";
  int64_t tensor_parallel = 1;  // GPUs that share the weights
  double gpu_memory_utilization = 0.9;
  bool simulate_quantised_cache = false;  // ModelOptions

  bool operator==(const ModelConfig&) const = default;
};

// The second tier of the prefix cache, of all models together (kv_disk/).
struct KvDiskConfig {
  std::string directory;  // empty: none
  int64_t max_bytes = int64_t{16} << 30;
  std::string key_file;  // empty: in the user's state directory

  bool operator==(const KvDiskConfig&) const = default;
};

struct ServerConfig {
  std::vector<std::string> listen_hosts{"127.0.0.1"};
  int64_t listen_port = 8080;
  std::string unix_socket;

  std::string api_key_file;
  bool insecure = false;
  bool metrics_open = false;
  int64_t max_requests_per_key = 0;  // at a time; 0: no limit
  std::vector<std::string> cors_origins;
  std::vector<std::string>
      host_names;  // besides localhost and addresses, while no key is asked for

  HttpLimits http;
  std::vector<ModelConfig> models;
  KvDiskConfig kv_disk;

  std::string log_format = "json";
  std::string log_level = "info";
  bool log_prompts = false;
  std::chrono::milliseconds drain_timeout{30'000};

  bool operator==(const ServerConfig&) const = default;
};

}  // namespace fathom::server
