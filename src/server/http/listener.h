// The HTTP server: listens, accepts, and ends gracefully.
//
// Owns the listening sockets, the connections and their number. What is answered is the router's
// and the handlers' business. Everything runs on the one thread that runs the io_context.
//
// At the limit of connections, the one that has waited longest without a request is closed for a
// newcomer; if all are busy, the newcomer is accepted, told 503 with Retry-After, and closed. So
// connections that send nothing cannot keep others out.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/http/connection.h"
#include "server/http/http_limits.h"
#include "server/http/pipeline.h"

namespace boost::asio {
class io_context;
}

namespace fathom::server {

class Listener {
 public:
  struct Options {
    Pipeline::Options pipeline;  // router, authenticator, quota, cors_origins
    HttpLimits limits;
    bool insecure = false;  // listen beyond this machine although the authenticator is open
    std::function<void(const AccessRecord&)> on_access;
    std::function<void(const std::string&)> on_handler_error;
  };
  struct Stats {
    int64_t connections = 0;
    int64_t idle_connections = 0;
    int64_t connections_total = 0;
    int64_t refused_total = 0;  // answered 503 at the limit of connections
    int64_t evicted_total = 0;  // idle ones that were closed for newcomers
    int64_t requests_in_flight = 0;
    int64_t requests_total = 0;
    int64_t body_bytes = 0;
  };

  // `io` must outlive this.
  Listener(boost::asio::io_context& io, Options options);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Binds all addresses of `host` (an IPv4 or IPv6 address, or a name); port 0: any free one. May
  // be called several times. Refuses what is not this machine if nobody has to prove who they are.
  Status listen(const std::string& host, int64_t port);
  // A unix socket that only this user may connect to. A stale one is replaced.
  Status listen_unix(const std::string& path);
  // "127.0.0.1:8080", "[::1]:8080", "unix:/run/fathom.sock"; with the ports chosen.
  const std::vector<std::string>& addresses() const;
  // The port of the first address; 0 if there is none.
  uint16_t port() const;

  // Accepts from now on.
  void start();
  // Stops accepting, closes idle connections, waits for the answers on their way up to `limit`,
  // then cuts those that are left. Returns when all connections have ended.
  boost::asio::awaitable<void> drain(std::chrono::milliseconds limit);
  Stats stats() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

// Raises the soft limit of open files to the hard one; returns it. A connection takes one.
int64_t raise_file_limit();

}  // namespace fathom::server
