// One client's connection: requests one after the other, each through the pipeline to its handler.
//
// Owns the order of reading, answering and waiting, the deadlines of each, and the watch for the
// client's going while a handler runs. Sockets are channel.h's, checks pipeline.h's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include "server/http/channel.h"
#include "server/http/http_limits.h"
#include "server/http/pipeline.h"

namespace fathom::server {

class Connection;
class HttpResponder;

// What is known of a request once it is over, for logs and metrics.
struct AccessRecord {
  std::string_view request_id;
  std::string_view method;
  std::string_view route;  // the pattern; "" if no row answered
  std::string_view principal;
  std::string_view remote_address;
  int status = 0;             // 0: the client left before there was one
  int64_t request_bytes = 0;  // of the body
  int64_t response_bytes = 0;
  std::chrono::steady_clock::duration duration{};
  bool client_gone = false;  // before the answer was complete
};

// What the connections of one server share. Used on the io thread only.
struct ConnectionEnvironment {
  explicit ConnectionEnvironment(Pipeline p) : pipeline(std::move(p)) {}
  Pipeline pipeline;
  HttpLimits limits;
  std::function<void(const AccessRecord&)> on_access;        // may be empty
  std::function<void(const std::string&)> on_handler_error;  // an exception's text; may be empty
  bool draining = false;

  int64_t requests_in_flight = 0;
  int64_t requests_total = 0;
  int64_t connections_total = 0;
  int64_t body_bytes = 0;  // of all requests being read or handled
  std::unordered_set<Connection*> open;
  std::list<Connection*> idle;  // waiting for a request; the longest waiting first
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Channel> channel, std::string remote_address,
             std::shared_ptr<ConnectionEnvironment> environment);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Runs until the client or a limit ends it; keeps itself alive.
  void start();
  // Ends it now, whatever it does; a handler that runs is cancelled.
  void cut();

 private:
  struct Exchange;
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<bool> wait_for_request();
  // One request and its answer. False: the connection is done.
  boost::asio::awaitable<bool> exchange(bool last);
  boost::asio::awaitable<bool> read_head(Exchange& x);
  boost::asio::awaitable<void> read_body(Exchange& x, bool keep);
  boost::asio::awaitable<bool> prepare_body(Exchange& x);
  boost::asio::awaitable<void> answer(Exchange& x);
  boost::asio::awaitable<void> handle(Exchange& x, HttpResponder& responder);
  boost::asio::awaitable<void> call_handler(Exchange& x, HttpResponder& responder);
  boost::asio::awaitable<void> watch(const Exchange& x, HttpResponder& responder);
  boost::asio::awaitable<void> linger();
  void report(const Exchange& x, const HttpResponder& responder) const;

  std::shared_ptr<Channel> channel_;
  std::string remote_address_;
  std::shared_ptr<ConnectionEnvironment> environment_;
  bool input_left_ = false;  // the client may still be sending: close gently
};

}  // namespace fathom::server
