// WorkerLink: the front's end of the protocol.
//
// Owns the stream and the two threads that read and write it, so that a worker that stands still
// holds up nobody. What the worker says goes to callbacks on the reading thread. gRPC stays in the
// .cc file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_loop.h"
#include "worker/worker_server.h"

namespace fathom::worker {

struct Heartbeat {
  uint64_t progress = 0, steps = 0;
  bool busy = false;
  EngineStats stats;
};

class WorkerLink {
 public:
  struct Callbacks {
    std::function<void(Fingerprint)> on_ready;
    std::function<void(std::vector<LoopEvent>)> on_events;
    std::function<void(Heartbeat)> on_heartbeat;
    std::function<void()> on_closed;  // the last one
  };
  // Connects as soon as the worker listens on `socket`.
  WorkerLink(const std::string& socket, Callbacks callbacks);
  // No callback runs or will run once this returns.
  ~WorkerLink();
  WorkerLink(const WorkerLink&) = delete;
  WorkerLink& operator=(const WorkerLink&) = delete;

  // Never wait. attach() comes first.
  void attach(uint32_t memory);
  void submit(uint64_t ticket, const Request& request);
  void cancel(uint64_t ticket);
  void erase_tenant(const std::string& tenant);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom::worker
