// Signal: coroutines of one thread wait until something has changed.
//
// Owns the waiting only; what changed is looked up by whoever was woken. A notify() while nobody
// waits is lost: look first, then wait. Must outlive its waiters.
#pragma once

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <vector>

namespace fathom::server {

class Signal {
 public:
  void notify() {
    for (boost::asio::steady_timer* timer : waiting_) timer->cancel();
  }

  // Until the next notify(), or `timeout`. A cancelled coroutine is told at its next co_await.
  boost::asio::awaitable<void> wait(std::chrono::milliseconds timeout) {
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, timeout);
    const Entry entry(waiting_, &timer);
    boost::system::error_code ignored;
    co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }

 private:
  using Timers = std::vector<boost::asio::steady_timer*>;
  struct Entry {
    Entry(Timers& list, boost::asio::steady_timer* t) : timers(list), timer(t) {
      timers.push_back(timer);
    }
    ~Entry() { timers.erase(std::find(timers.begin(), timers.end(), timer)); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    Timers& timers;
    boost::asio::steady_timer* timer;
  };
  Timers waiting_;
};

}  // namespace fathom::server
