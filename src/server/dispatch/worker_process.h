// WorkerProcess: one `fathom worker` process and the link to it.
//
// Owns its start, its end, and the judgement that it hangs: no heartbeat for kHeartbeatTimeout, or
// no progress for kStallTimeout though it is busy. Whoever hangs is killed. Does not decide what
// follows (model_host.h). All on the io thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/dispatch/engine_port.h"
#include "worker/worker_link.h"

namespace fathom::server {

class WorkerProcess final : public EnginePort, public std::enable_shared_from_this<WorkerProcess> {
 public:
  static constexpr std::chrono::milliseconds kHeartbeatTimeout{1'500};
  static constexpr std::chrono::milliseconds kStallTimeout{30'000};

  struct Callbacks {
    std::function<void(const worker::Fingerprint&)> on_ready;
    std::function<void(std::vector<LoopEvent>)> on_events;
    std::function<void(const worker::Heartbeat&)> on_heartbeat;
    // It is gone; the last callback. `status`: as waitpid gives it.
    std::function<void(int status)> on_exit;
  };

  WorkerProcess(boost::asio::io_context& io, std::string socket)
      : io_(io), socket_(std::move(socket)), exit_(io), watch_(io) {}
  ~WorkerProcess() override;

  // Starts `command` with "--socket", SOCKET behind it. The process gets `memory` as files 3, 4, …
  Status start(std::vector<std::string> command, std::span<const int> memory, Callbacks callbacks);
  // Lets it make its engine. Whoever had that memory before must be gone.
  void attach(int memory) { link_->attach(static_cast<uint32_t>(memory)); }
  // Ends it at once; on_exit follows.
  void kill(const std::string& reason);
  // No callback runs any more; the process is ended.
  void abandon();

  void submit(uint64_t ticket, const Request& request) override { link_->submit(ticket, request); }
  void cancel(uint64_t ticket) override { link_->cancel(ticket); }
  void erase_tenant(const std::string& tenant) override { link_->erase_tenant(tenant); }

  int pid() const { return pid_; }
  bool ready() const { return ready_; }
  const worker::Heartbeat& heartbeat() const { return heartbeat_; }
  std::chrono::steady_clock::time_point started() const { return started_; }
  const std::string& killed_because() const { return killed_because_; }

 private:
  void connect();
  void watch();
  void wait_for_exit();

  boost::asio::io_context& io_;
  const std::string socket_;
  Callbacks callbacks_;
  std::unique_ptr<worker::WorkerLink> link_;
  boost::asio::posix::stream_descriptor exit_;  // of the pidfd
  boost::asio::steady_timer watch_;
  int pid_ = -1;
  bool ready_ = false, gone_ = false;
  worker::Heartbeat heartbeat_;
  std::chrono::steady_clock::time_point started_, heard_, moved_;
  std::string killed_because_;
};

}  // namespace fathom::server
