// The worker's end of the protocol: serves one engine on a unix socket until the front goes away.
//
// Owns the stream and the heartbeats. The engine and its thread are EngineLoop's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "engine/engine.h"

namespace fathom::worker {

inline constexpr uint32_t kProtocol = 1;

// Two workers with equal fingerprints compute the same bytes.
struct Fingerprint {
  std::string build, model, backend;
  bool operator==(const Fingerprint&) const = default;
};

struct WorkerServerOptions {
  std::string socket;  // path
  Fingerprint fingerprint;
  // Grows with every operation that the engine's thread computes.
  const std::atomic<uint64_t>* progress = nullptr;
};

// Returns when the front has closed its stream or was not there within 30 s.
Status serve_worker(std::unique_ptr<Engine> engine, const WorkerServerOptions& options);

}  // namespace fathom::worker
