// EngineLoop: an engine on a thread of its own. Requests come in by tickets of the caller's choice;
// tokens go out after every step.
//
// Owns the thread and the mailbox. Does not own what becomes of the tokens.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "engine/engine.h"

namespace fathom {

// What came of one request in one step, or the end of it.
struct LoopEvent {
  uint64_t ticket = 0;
  int64_t first_index = 0;  // of tokens[0] in the answer
  std::vector<SampledToken> tokens;
  int64_t cached_tokens = 0;
  std::optional<FinishReason> finish;
  Error error;  // with kError; its code says whose fault it is
};

class EngineLoop {
 public:
  // Called on the engine's thread, with everything that one step made.
  using Sink = std::function<void(std::vector<LoopEvent>)>;

  EngineLoop(std::unique_ptr<Engine> engine, Sink sink);
  // Forgets what is still running and ends the thread.
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // Any thread. A request that the engine refuses ends with kError. After cancel() nothing more is
  // said of a ticket, but what the sink was given already.
  void submit(uint64_t ticket, Request request);
  void cancel(uint64_t ticket);
  // `done`: on the engine's thread, once nothing of the tenant's is left here
  // (Engine::erase_tenant).
  void erase_tenant(std::string tenant, std::function<void()> done = {});
  // `done`: on the engine's thread, once its second tier has all full pages, or the time is over.
  void flush(std::chrono::milliseconds timeout, std::function<void()> done);

  // Any thread. Of the last step; of the second tier, of now.
  EngineStats stats() const;
  // Steps that ended.
  uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }
  // Something is to be done: then steps() has to move.
  bool busy() const { return busy_.load(std::memory_order_relaxed); }

 private:
  struct Submit {
    uint64_t ticket;
    Request request;
  };
  struct Cancel {
    uint64_t ticket;
  };
  struct Erase {
    std::string tenant;
    std::function<void()> done;
  };
  struct Flush {
    std::chrono::milliseconds timeout;
    std::function<void()> done;
  };
  using Message = std::variant<Submit, Cancel, Erase, Flush>;

  void post(Message message);
  void run();
  void handle(Message message, std::vector<LoopEvent>& out);
  void erase(const Erase& erase, std::vector<LoopEvent>& out);
  void collect(std::vector<TokenEvent>& events, std::vector<LoopEvent>& out);

  std::unique_ptr<Engine> engine_;
  const Sink sink_;
  std::unordered_map<uint64_t, uint64_t> tickets_;  // by the engine's id
  std::unordered_map<uint64_t, uint64_t> ids_;      // by ticket

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Message> mailbox_;
  EngineStats stats_;
  bool stop_ = false;
  std::atomic<uint64_t> steps_{0};
  std::atomic<bool> busy_{false};
  std::thread thread_;
};

}  // namespace fathom
