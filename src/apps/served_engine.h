// A model and all that computes it for a server: what `fathom serve` runs in itself and `fathom
// worker` in its process.
#pragma once

#include <memory>
#include <string>

#include "apps/app.h"
#include "engine/engine.h"
#include "worker/progress_ops.h"
#include "worker/worker_server.h"

namespace fathom {

// The second tier of the prefix cache (kv_disk/disk_tier.h).
struct KvDiskOptions {
  std::string directory;  // empty: none
  int64_t max_bytes = 0;
  std::string key_file;
};

struct ServedEngineOptions {
  std::string model;
  int64_t context_tokens = 0;  // 0: the model's
  int64_t cache_tokens = 0;    // 0: from the memory there is
  double gpu_memory_utilization = 0.9;
  int64_t max_running = 32;
  int64_t speculate_up_to = 4;  // see EngineOptions
  ComputeFlags compute;
  KvDiskOptions kv_disk;
};

// What an engine points into.
struct ServedEngine {
  LoadedModel loaded;
  std::unique_ptr<Ops> ops;
  std::unique_ptr<worker::ProgressOps> progress;
  worker::Fingerprint fingerprint;
  EngineOptions engine_options;
  KvDiskOptions kv_disk;
};

// Where the key of the disk tier stands if nobody says: $STATE_DIRECTORY (systemd),
// $XDG_STATE_HOME, or ~/.local/state.
Result<std::string> default_kv_disk_key();

// Tokens that one sequence may have, and that the cache holds, for these options on this machine:
// if the options leave it open, at most a quarter of the memory that is available, or on a GPU what
// the weights and gpu_memory_utilization leave.
struct CacheSize {
  int64_t context_tokens = 0, cache_tokens = 0;
};
Result<CacheSize> cache_size(const ServedEngineOptions& options, const LoadedModel& loaded);

Result<std::unique_ptr<ServedEngine>> load_served_engine(const ServedEngineOptions& options);
// `memory_fd`: shared memory for its cache; −1: memory of this process alone. `served` must outlive
// the engine.
Result<std::unique_ptr<Engine>> make_engine(ServedEngine& served, int memory_fd = -1);

}  // namespace fathom
