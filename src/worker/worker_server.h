// The worker's end of the protocol: serves one engine on a unix socket until the front goes away.
//
// Owns the stream and the heartbeats. The engine and its thread are EngineLoop's; the engine is
// made when the front says on which memory, so that a spare can wait with its weights loaded.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
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
  // The engine, its cache in the shared memory of that number.
  std::function<Result<std::unique_ptr<Engine>>(uint32_t memory)> make_engine;
};

// Returns when the front has closed its stream or was not there within 30 s, or with make_engine's
// error.
Status serve_worker(const WorkerServerOptions& options);

}  // namespace fathom::worker
