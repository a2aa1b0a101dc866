// ModelHost: one model's engines, and the promise that an engine's end is a pause and nothing else.
//
// Owns the journal of requests in flight, the choice of an engine for each, and the supervision of
// worker processes: how many, spares, restarts with back-off, and when to give up. On the io
// thread.
//
// When a worker dies, its requests go to another one, or wait for one, with the tokens they have;
// they go on with the tokens they would have had. The memory of the workers' KV caches is the
// host's: the successor of a dead worker finds the full pages there and need not compute them
// again. A request in whose first step engines crash twice is refused (quarantine): it would take
// down one after the other. Kills from outside count neither against requests nor, once a step was
// completed, as a crash loop.
//
// A model can be unloaded and loaded again while the server runs.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/config/server_config.h"
#include "server/dispatch/engine_port.h"
#include "server/dispatch/journal.h"
#include "server/dispatch/worker_process.h"
#include "server/log.h"
#include "server/service.h"

namespace fathom::server {

// An engine in this process, and what it points into.
struct LocalEngine {
  std::shared_ptr<void> owner;
  std::unique_ptr<Engine> engine;
};

struct ModelSetup {
  ServedModel model;
  ModelConfig config;
  // The command of a worker process, without --socket.
  std::vector<std::string> worker_command;
  // Its sockets are this path and a number. The system takes some 100 bytes, so no model's name.
  std::string socket_prefix;
  // For config.workers = 0.
  std::function<Result<LocalEngine>()> make_engine;
};

class ModelHost : public std::enable_shared_from_this<ModelHost> {
 public:
  enum class State : uint8_t { kLoading, kReady, kRestarting, kFailed, kUnloading, kUnloaded };

  ModelHost(boost::asio::io_context& io, ModelSetup setup, Log& log);
  ~ModelHost();

  // Starts the engines, at first or after unload(); one that gave up is tried again. Errors: those
  // of an engine in this process.
  Status start();
  // From now on requests are refused. Once those in flight have ended, the engines end and their
  // memory is free.
  void unload();
  // How many engines were told.
  int erase_tenant(const std::string& tenant);
  // Ends the engines; what is in flight fails.
  void stop();

  const std::shared_ptr<const ServedModel>& model() const { return model_; }
  const ModelConfig& config() const { return setup_.config; }
  Result<std::unique_ptr<Generation>> submit(GenerationSpec spec);
  State state() const;
  nlohmann::json status() const;

 private:
  struct Slot {
    std::shared_ptr<WorkerProcess> process;  // null: none, or to be started again
    std::shared_ptr<void> local_owner;       // for config.workers = 0: what `local` points into
    std::unique_ptr<EngineLoop> local;       // for config.workers = 0
    uint64_t epoch = 0;
    bool standby = false;
    int memory = -1;       // index in memories_ of the one that its process has; −1: none yet
    bool stepped = false;  // this life has completed a step
    int64_t flights = 0;
    int64_t restarts = 0;
  };
  class Answer;

  EnginePort* port(std::size_t index);
  bool usable(const Slot& slot) const;
  Status make_memories();
  Status start_engines();
  void end_engines();
  void end_journal(uint64_t ticket);
  void activate(std::size_t index);
  void start_worker(std::size_t index);
  void on_ready(std::size_t index, const worker::Fingerprint& fingerprint);
  void on_events(std::size_t index, uint64_t epoch, std::vector<LoopEvent> events);
  void on_heartbeat(std::size_t index, const worker::Heartbeat& heartbeat);
  void on_exit(std::size_t index, int status);
  void take_back(std::size_t index, bool crashed);
  void restart(std::size_t index);
  void give_up();
  void place(uint64_t ticket, JournalEntry& entry);
  void place_waiting();
  void cancel(uint64_t ticket);
  void fail(uint64_t ticket, Error error);
  EngineStats current_stats() const;

  boost::asio::io_context& io_;
  const ModelSetup setup_;
  Log& log_;
  std::shared_ptr<const ServedModel> model_;
  Journal journal_;
  std::vector<Slot> slots_;
  std::unique_ptr<EnginePort> local_port_;
  std::vector<int> memories_;  // memfds of the workers' caches, one for each active worker
  worker::Fingerprint fingerprint_;
  int quick_failures_ = 0;  // lives without a completed step, in a row
  bool failed_ = false, stopped_ = false;
  bool unloading_ = false, started_ = false;  // unloaded: neither
  EngineStats past_;                          // counters of workers that are gone
};

}  // namespace fathom::server
