// Generations: the answers to one request, whatever their number, as one source of events.
//
// Owns them, and the order: events come as they happen, so that answers to one request grow side by
// side. Does not look into events.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <memory>
#include <vector>

#include "server/service.h"

namespace fathom::server {

struct ChoiceEvent {
  int choice = 0;
  GenerationEvent event;
};

class Generations {
 public:
  explicit Generations(std::vector<std::unique_ptr<Generation>> generations);
  // Cancels what has not ended.
  ~Generations();
  Generations(const Generations&) = delete;
  Generations& operator=(const Generations&) = delete;

  // Replaces `out` by all that came, or by one kIdle if nothing did within `timeout`. To be called
  // while an answer has not ended.
  boost::asio::awaitable<void> next(std::chrono::milliseconds timeout,
                                    std::vector<ChoiceEvent>& out);
  // Cancels one; nothing more comes of it.
  void stop(int choice);

 private:
  struct Shared;
  static boost::asio::awaitable<void> pump(std::shared_ptr<Shared> shared, std::size_t choice);
  void spawn_pumps(const boost::asio::any_io_executor& executor);

  std::unique_ptr<Generation> only_;  // one answer, the usual case, needs no coroutine of its own
  std::shared_ptr<Shared> shared_;    // several: kept by their pumps too
};

}  // namespace fathom::server
