// A server on a loopback port with some routes, and a client that speaks bytes: for tests.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http/listener.h"
#include "server/http/router.h"

namespace boost::asio {
class io_context;
}

namespace fathom::server {

// What came back for one request.
struct TestResponse {
  int status = 0;  // 0: the connection ended before a whole head
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;                                 // without framing
  bool complete = false;                            // ended as its framing says
  std::string header(std::string_view name) const;  // "" if absent
};

// A blocking socket. Every read gives up after 5 seconds.
class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer_bytes = 0);
  explicit TestClient(const std::string& unix_path);
  ~TestClient();
  TestClient(TestClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool send(std::string_view bytes);
  // `head_only`: the answer to a HEAD.
  TestResponse read_response(bool head_only = false);
  TestResponse request(std::string_view bytes) {
    send(bytes);
    return read_response();
  }
  // Up to `bytes`; fewer if the connection ends or 5 seconds pass.
  std::string read_bytes(std::size_t bytes);
  // Whether the server has closed the connection, within `timeout`.
  bool closed_within(std::chrono::milliseconds timeout);
  void half_close();
  void reset();  // closes with RST
  int fd() const { return fd_; }

 private:
  bool fill();
  int fd_ = -1;
  std::string buffer_;
};

// What the handlers of the test routes did.
struct TestCounters {
  int handled = 0;
  int cancelled = 0;       // handlers that ended by an exception
  int writes_refused = 0;  // write() returned false
};

// Routes: see http_test_support.cc.
class TestServer {
 public:
  struct Options {
    HttpLimits limits;
    const Authenticator* authenticator = nullptr;  // null: open
    Quota* quota = nullptr;
    std::vector<std::string> cors_origins;
    std::function<void(const AccessRecord&)> on_access;
    std::function<void(const std::string&)> on_handler_error;
  };
  TestServer() : TestServer(Options()) {}
  explicit TestServer(Options options);
  ~TestServer();

  uint16_t port() const { return port_; }
  TestClient connect() const { return TestClient(port_); }
  // One request on a connection of its own.
  TestResponse request(std::string_view bytes) const { return connect().request(bytes); }
  // Runs on the io thread, and waits for it.
  void on_io(const std::function<void()>& fn);
  Listener::Stats stats();
  TestCounters counters();
  // Waits up to 5 s.
  bool eventually(const std::function<bool()>& condition);
  // Starts a drain and returns at once; drained() says whether it has ended.
  void begin_drain(std::chrono::milliseconds limit);
  bool drained();

 private:
  struct State;
  std::unique_ptr<State> state_;
  uint16_t port_ = 0;
};

}  // namespace fathom::server
