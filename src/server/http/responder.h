// How a handler answers: one whole body, an error, or a stream of chunks.
//
// Owns the interface only; the connection implements it (connection.cc), tests may record with it.
//
// Cancellation. While a handler runs, its connection is watched. When the client is gone (it closed
// or reset the connection; a half-close counts), or the server's drain deadline passes, the
// handler's pending co_await ends with boost::system::system_error(operation_aborted), and so does
// every later one: the exception flies through the handler, whose destructors clean up, and the
// connection catches it. So a handler needs no code for it:
//   - `co_await generation->next(timeout)` is interrupted if it waits by an Asio operation (a
//   timer, a
//     channel) with use_awaitable; destroying the Generation then cancels the answer;
//   - what must not be interrupted goes to offload(), which always finishes first;
//   - a handler must not catch (...) around a co_await and go on.
//
// g++ 12 miscompiles co_await in a condition when an argument is a temporary with a destructor, as
// a std::string made in the call is: the coroutine then crashes. Give the result a name first:
//   bool there = co_await responder.start(200, "text/event-stream");
//   while (there) there = co_await responder.write(next());
// scripts/check_includes.py refuses the other form.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http/http_error.h"

namespace fathom::server {

using ExtraHeaders = std::vector<std::pair<std::string, std::string>>;

// Exactly one of send(), fail() and start() is called, once. Anything else is a programmer error.
// Only one call at a time may be pending.
class Responder {
 public:
  virtual ~Responder() = default;

  // A complete answer. `content_type` may be empty for an answer without a body (204).
  virtual boost::asio::awaitable<void> send(int status, std::string content_type, std::string body,
                                            ExtraHeaders headers = {}) = 0;
  // The error in the form of the route's API.
  virtual boost::asio::awaitable<void> fail(HttpError error) = 0;

  // Begins a stream and sends its head. False: the client is gone.
  virtual boost::asio::awaitable<bool> start(int status, std::string content_type,
                                             ExtraHeaders headers = {}) = 0;
  // One chunk; returns when the kernel took it. False: the client is gone, or took too long to read
  // (limits: send timeout); nothing more can be sent. An empty chunk sends nothing.
  virtual boost::asio::awaitable<bool> write(std::string chunk) = 0;
  // Ends the stream. A stream that is not finished is cut off, so that the client sees it is short.
  virtual boost::asio::awaitable<bool> finish() = 0;

  virtual bool started() const = 0;  // something was sent: the status can no longer change
  virtual bool gone() const = 0;     // whatever is sent now reaches nobody
};

}  // namespace fathom::server
