// Work that would hold up the io thread, on a pool of threads: co_await offload(pool, fn).
//
// Owns the way there and back. The function always finishes: a handler that was cancelled meanwhile
// is told at its next co_await. What the function refers to must live that long, which it does when
// it stands in the awaiting coroutine.
#pragma once

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace fathom::server {

// Runs fn() on the pool and continues on the caller's executor with its (movable) result, or with
// the exception it threw.
template <typename Fn>
boost::asio::awaitable<std::invoke_result_t<Fn>> offload(boost::asio::thread_pool& pool, Fn fn) {
  namespace asio = boost::asio;
  using T = std::invoke_result_t<Fn>;
  struct Outcome {
    std::optional<T> value;
    std::exception_ptr error;
  };
  const auto outcome = std::make_shared<Outcome>();
  const auto initiate = [&pool, &fn, outcome](auto handler) {
    auto executor = asio::prefer(asio::get_associated_executor(handler),
                                 asio::execution::outstanding_work.tracked);
    asio::post(pool, [&fn, outcome, executor, handler = std::move(handler)]() mutable {
      try {
        outcome->value.emplace(fn());
      } catch (...) {
        outcome->error = std::current_exception();
      }
      asio::post(executor, std::move(handler));
    });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(initiate,
                                                                       asio::use_awaitable);
  if (outcome->error) std::rethrow_exception(outcome->error);
  co_return *std::move(outcome->value);
}

}  // namespace fathom::server
