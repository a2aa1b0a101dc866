#include "server/dispatch/answer_queue.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

namespace fathom::server {

namespace asio = boost::asio;

void AnswerQueue::push(GenerationEvent event) {
  // A reader that falls behind gets what came meanwhile at once.
  if (!events_.empty() && event.kind == GenerationEvent::Kind::kTokens &&
      events_.back().kind == GenerationEvent::Kind::kTokens) {
    auto& tokens = events_.back().tokens;
    tokens.insert(tokens.end(), std::make_move_iterator(event.tokens.begin()),
                  std::make_move_iterator(event.tokens.end()));
  } else {
    events_.push_back(std::move(event));
  }
  timer_.cancel();
}

asio::awaitable<GenerationEvent> AnswerQueue::next(std::chrono::milliseconds timeout) {
  if (events_.empty()) {
    timer_.expires_after(timeout);
    boost::system::error_code error;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none)
      throw boost::system::system_error(asio::error::operation_aborted);
  }
  if (events_.empty()) co_return GenerationEvent{};
  GenerationEvent event = std::move(events_.front());
  events_.pop_front();
  co_return event;
}

}  // namespace fathom::server
