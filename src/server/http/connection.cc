// The life of a connection. See connection.h.
//
// wait (idle deadline) -> head (header deadline) -> pipeline -> body (minimum rate) -> handler,
// with the client watched -> next request. While a handler runs, the watch keeps reading: that is
// how a close is noticed. What it reads is a pipelined request and stays in the channel's buffer.
#include "server/http/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <optional>

#include "server/http/http_responder.h"
#include "server/http/request_parser.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using ReadEnd = Channel::ReadEnd;

constexpr std::size_t kFirstReadBytes = 1024;  // idle connections hold a buffer of this size
constexpr std::size_t kHeadReadBytes = 4096;
constexpr std::size_t kBodyReadBytes = 64 << 10;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

RequestParser::Limits parser_limits(const HttpLimits& limits) {
  RequestParser::Limits result;
  result.max_header_bytes = limits.max_header_bytes;
  return result;
}

}  // namespace

// One request, from its first byte to the end of its answer.
struct Connection::Exchange {
  explicit Exchange(ConnectionEnvironment& environment)
      : shared(environment), parser(parser_limits(environment.limits)) {
    ++shared.requests_in_flight;
  }
  ~Exchange() {
    --shared.requests_in_flight;
    shared.body_bytes -= counted_body_bytes;
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  ConnectionEnvironment& shared;
  RequestParser parser;
  Clock::time_point start = Clock::now();
  Admission admission;
  int64_t counted_body_bytes = 0;
  bool keep_alive = false;
  bool client_gone = false;
  bool handler_done = false;
};

Connection::Connection(std::shared_ptr<Channel> channel, std::string remote_address,
                       std::shared_ptr<ConnectionEnvironment> environment)
    : channel_(std::move(channel)),
      remote_address_(std::move(remote_address)),
      environment_(std::move(environment)) {
  environment_->open.insert(this);
  ++environment_->connections_total;
}

Connection::~Connection() { environment_->open.erase(this); }

void Connection::start() {
  asio::co_spawn(channel_->executor(), run(), [self = shared_from_this()](std::exception_ptr e) {
    self->channel_->close();
    if (!e || !self->environment_->on_handler_error) return;
    try {
      std::rethrow_exception(e);
    } catch (const std::exception& error) {
      self->environment_->on_handler_error(error.what());
    } catch (...) {
      self->environment_->on_handler_error("an exception of an unknown type");
    }
  });
}

void Connection::cut() { channel_->close(); }

asio::awaitable<void> Connection::run() {
  const int64_t max_requests = environment_->limits.max_requests_per_connection;
  bool go_on = co_await wait_for_request();
  for (int64_t served = 1; go_on; ++served) {
    go_on = co_await exchange(served >= max_requests);
    channel_->shrink();
    if (go_on) go_on = co_await wait_for_request();
  }
  co_await linger();
  channel_->close();
}

asio::awaitable<bool> Connection::wait_for_request() {
  if (!channel_->buffered().empty()) co_return true;
  if (environment_->draining) co_return false;
  channel_->set_deadline(Clock::now() + environment_->limits.idle_timeout);
  auto& idle = environment_->idle;
  const auto place = idle.insert(idle.end(), this);
  const ReadEnd end = co_await channel_->read_some(kFirstReadBytes);
  idle.erase(place);
  channel_->clear_deadline();
  co_return end == ReadEnd::kData;
}

asio::awaitable<bool> Connection::read_head(Exchange& x) {
  channel_->set_deadline(x.start + environment_->limits.header_timeout);
  std::optional<HttpError> error;
  while (!error && !x.parser.head_complete()) {
    RequestParser::Progress progress = x.parser.parse_head(channel_->buffered());
    channel_->consume(progress.consumed);
    error = std::move(progress.error);
    if (error || x.parser.head_complete()) break;
    const ReadEnd end = co_await channel_->read_some(kHeadReadBytes);
    if (end == ReadEnd::kData) continue;
    if (end == ReadEnd::kClosed || channel_->buffered().empty()) co_return false;
    error = http_error(408, "The request's header did not arrive in time");
  }
  channel_->clear_deadline();
  if (error) {
    input_left_ = true;
    x.admission = environment_->pipeline.refuse(*std::move(error));
    x.admission.context.method = "";
  } else {
    x.admission = environment_->pipeline.admit(x.parser.head(), remote_address_);
    x.keep_alive = x.parser.head().keep_alive && !environment_->draining;
  }
  x.admission.context.start = x.start;
  co_return true;
}

// Reads the rest of the body; x.admission.refusal says what was wrong with it.
asio::awaitable<void> Connection::read_body(Exchange& x, bool keep) {
  const HttpLimits& limits = environment_->limits;
  const Clock::time_point begin = Clock::now();
  while (!x.parser.complete()) {
    const int64_t before = x.parser.body_bytes();
    RequestParser::Progress progress = x.parser.parse_body(channel_->buffered(), keep);
    channel_->consume(progress.consumed);
    const int64_t received = x.parser.body_bytes();
    if (keep) {
      x.counted_body_bytes += received - before;
      environment_->body_bytes += received - before;
    }
    if (!progress.error && environment_->body_bytes > limits.max_body_bytes_total) {
      progress.error = http_error(503, "The server holds too many request bodies, try again");
      progress.error->retry_after_s = 1;
    }
    // A chunk's header or the trailers, without end.
    if (!progress.error &&
        static_cast<int64_t>(channel_->buffered().size()) > limits.max_header_bytes)
      progress.error = http_error(400, "Malformed request: a chunk header or trailer is too long");
    if (!progress.error && !x.parser.complete()) {
      // The rate counts what is payload: one-byte chunks gain nothing.
      channel_->set_deadline(
          begin + limits.body_grace +
          std::chrono::milliseconds(received * 1000 / limits.min_body_bytes_per_s));
      const ReadEnd end = co_await channel_->read_some(kBodyReadBytes);
      channel_->clear_deadline();
      if (end == ReadEnd::kData) continue;
      if (end == ReadEnd::kTimeout)
        progress.error = http_error(408, "The request's body did not arrive in time");
      else
        x.client_gone = true;
    }
    if (progress.error) {
      x.admission.refusal = std::move(progress.error);
      x.admission.route = nullptr;
    }
    if (x.client_gone || x.admission.refusal) {
      x.keep_alive = x.keep_alive && x.parser.complete();
      input_left_ = !x.parser.complete();
      break;
    }
  }
}

// Brings the body in, or decides that it is not wanted. False: the client is gone.
asio::awaitable<bool> Connection::prepare_body(Exchange& x) {
  const RequestHead& head = x.parser.head();
  if (!head.has_body()) co_return true;
  if (x.admission.route != nullptr) {
    const int64_t limit = environment_->limits.max_body_bytes;
    const int64_t of_route = x.admission.route->max_body_bytes;
    const int64_t allowed = of_route > 0 ? std::min(of_route, limit) : limit;
    x.parser.set_max_body_bytes(allowed);
    if (head.content_length > allowed) {
      x.admission.refusal = http_error(
          413, fmt::format("Request body of {} bytes is too large, at most {} are allowed",
                           head.content_length, allowed));
      x.admission.route = nullptr;
    }
  }
  if (x.admission.route != nullptr) {
    if (head.expects_continue && channel_->buffered().empty()) {  // else the client did not wait
      channel_->set_deadline(Clock::now() + environment_->limits.send_timeout);
      const bool sent = co_await channel_->write({kContinue, {}, {}});
      channel_->clear_deadline();
      if (!sent) co_return false;
    }
    co_await read_body(x, true);
    x.admission.context.body = x.parser.take_body();
  } else if (!head.chunked && !head.expects_continue &&
             head.content_length <= limits::kHttpMaxDiscardedBytes) {
    // Small enough to be skipped, so that the connection can go on. What is wrong with it no longer
    // matters, the answer stands.
    std::optional<HttpError> refusal = std::move(x.admission.refusal);
    x.admission.refusal.reset();
    x.parser.set_max_body_bytes(limits::kHttpMaxDiscardedBytes);
    co_await read_body(x, false);
    x.admission.refusal = std::move(refusal);
  } else {
    x.keep_alive = false;
    input_left_ = true;
  }
  co_return !x.client_gone;
}

asio::awaitable<bool> Connection::exchange(bool last) {
  Exchange x(*environment_);
  const bool has_head = co_await read_head(x);
  if (!has_head) co_return false;
  ++environment_->requests_total;
  if (last) x.keep_alive = false;
  const bool parsed = x.parser.head_complete() && !input_left_;
  bool there = true;
  if (parsed) there = co_await prepare_body(x);
  if (!there) co_return false;
  HttpResponder::Options options;
  options.send_timeout = environment_->limits.send_timeout;
  options.minor_version = parsed ? x.parser.head().minor_version : 1;
  options.head_only = parsed && x.parser.head().method == "HEAD";
  options.keep_alive = x.keep_alive;
  options.error_format = x.admission.error_format;
  options.request_id = x.admission.context.request_id;
  options.headers = x.admission.headers;
  HttpResponder responder(*channel_, std::move(options));
  if (x.admission.route != nullptr) {
    co_await handle(x, responder);
  } else if (x.admission.options) {
    co_await responder.send(204, "", "", {});
  } else {
    HttpError refusal = *std::move(x.admission.refusal);
    co_await responder.fail(std::move(refusal));
  }
  report(x, responder);
  co_return responder.keep_alive() && !environment_->draining;
}

asio::awaitable<void> Connection::handle(Exchange& x, HttpResponder& responder) {
  using asio::experimental::awaitable_operators::operator||;
  // Whichever ends first cancels the other; both have ended when this goes on.
  co_await (call_handler(x, responder) || watch(x, responder));
  if (responder.gone() || responder.complete()) co_return;
  if (!responder.started()) {
    HttpError error = http_error(500, "The server failed to answer; see its log");
    co_await responder.fail(std::move(error));
  } else {
    channel_->close();  // a stream that nobody finished: the client must not take it for complete
  }
}

asio::awaitable<void> Connection::call_handler(Exchange& x, HttpResponder& responder) {
  std::string failure;
  try {
    co_await x.admission.route->handler(x.admission.context, responder);
  } catch (const std::exception& error) {
    failure = error.what();
  } catch (...) {
    failure = "an exception of an unknown type";
  }
  x.handler_done = true;
  // A cancelled handler ends by an exception; that is no fault.
  if (failure.empty() || responder.gone() || !environment_->on_handler_error) co_return;
  environment_->on_handler_error(fmt::format("{} {} (request {}): {}", x.admission.route->method,
                                             x.admission.route->pattern,
                                             x.admission.context.request_id, failure));
}

asio::awaitable<void> Connection::watch(const Exchange& x, HttpResponder& responder) {
  while (static_cast<int64_t>(channel_->buffered().size()) < limits::kHttpMaxPipelinedBytes) {
    const ReadEnd end = co_await channel_->read_some(kFirstReadBytes);
    if (x.handler_done) co_return;
    if (end == ReadEnd::kData) continue;
    responder.mark_gone();
    co_return;
  }
  // A client that sent so much ahead is no longer read from; only a reset shows that it left.
  co_await channel_->wait_for_reset();
  if (!x.handler_done) responder.mark_gone();
}

// Closing a socket with unread input sends a reset, which may destroy the answer on its way: the
// client gets some time to read it and to close first.
asio::awaitable<void> Connection::linger() {
  if (!input_left_ || !channel_->is_open()) co_return;
  channel_->shutdown_send();
  channel_->set_deadline(Clock::now() + std::chrono::milliseconds(limits::kHttpLingerMs));
  int64_t dropped = 0;
  while (dropped < 4 * limits::kHttpMaxDiscardedBytes) {
    dropped += static_cast<int64_t>(channel_->buffered().size());
    channel_->consume(channel_->buffered().size());
    const ReadEnd end = co_await channel_->read_some(kHeadReadBytes);
    if (end != ReadEnd::kData) break;
  }
}

void Connection::report(const Exchange& x, const HttpResponder& responder) const {
  if (!environment_->on_access) return;
  AccessRecord record;
  const RequestContext& context = x.admission.context;
  record.request_id = context.request_id;
  record.method = context.method;
  if (context.route != nullptr) record.route = context.route->pattern;
  record.principal = context.principal.name;
  record.remote_address = remote_address_;
  record.status = responder.status();
  record.request_bytes = x.parser.body_bytes();
  record.response_bytes = responder.bytes_sent();
  record.duration = Clock::now() - x.start;
  record.client_gone = responder.gone();
  environment_->on_access(record);
}

}  // namespace fathom::server
