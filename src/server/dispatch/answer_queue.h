// AnswerQueue: tokens on their way from an engine to the handler that awaits them.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>

#include "server/service.h"

namespace fathom::server {

// On the io thread. Holds no more than the answer has tokens.
class AnswerQueue {
 public:
  explicit AnswerQueue(boost::asio::io_context& io) : timer_(io) {}

  void push(GenerationEvent event);
  // As Generation::next.
  boost::asio::awaitable<GenerationEvent> next(std::chrono::milliseconds timeout);

 private:
  std::deque<GenerationEvent> events_;
  boost::asio::steady_timer timer_;  // cancelled when an event comes
};

}  // namespace fathom::server
