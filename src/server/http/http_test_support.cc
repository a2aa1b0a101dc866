// The test server's routes, and the client. See http_test_support.h.
#include "server/http/http_test_support.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>
#include <thread>

#include "server/http/offload.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
constexpr int kTimeoutMs = 5000;

// Counts handlers that end by an exception.
struct Unwinding {
  explicit Unwinding(TestCounters& c) : counters(c) {}
  ~Unwinding() {
    if (!done) ++counters.cancelled;
  }
  TestCounters& counters;
  bool done = false;
};

asio::awaitable<void> sleep_for(std::chrono::milliseconds duration) {
  asio::steady_timer timer(co_await asio::this_coro::executor, duration);
  co_await timer.async_wait(asio::use_awaitable);
}

// What the handler saw, one thing a line.
asio::awaitable<void> echo(RequestContext& context, Responder& responder) {
  std::string body = fmt::format("{} {}\n", context.method, context.path);
  for (const auto& [name, value] : context.params)
    body += fmt::format("param {}={}\n", name, value);
  for (const auto& [name, value] : context.queries)
    body += fmt::format("query {}={}\n", name, value);
  body += fmt::format("principal={}\nid={}\nbody={}", context.principal.name, context.request_id,
                      context.body);
  ExtraHeaders headers{{"X-Body-Bytes", fmt::format("{}", context.body.size())}};
  co_await responder.send(200, "text/plain", std::move(body), std::move(headers));
}

// ?chunks=N of 10 bytes each; ?fail=1 throws half-way.
asio::awaitable<void> stream(RequestContext& context, Responder& responder) {
  const int chunks = std::stoi(std::string(context.query("chunks").value_or("3")));
  bool there = co_await responder.start(200, "text/event-stream", {});
  for (int i = 0; i < chunks && there; ++i) {
    std::string chunk = fmt::format("chunk{:04}\n", i);
    there = co_await responder.write(std::move(chunk));
    if (context.query("fail") && i == chunks / 2) throw std::runtime_error("half-way");
  }
  if (!context.query("unfinished")) co_await responder.finish();
}

void add_routes(Router& router, TestCounters& counters, asio::thread_pool& pool) {
  const auto add = [&router](std::string method, std::string pattern, Handler handler,
                             Permission permission = Permission::kInfer) {
    Route route;
    route.method = std::move(method);
    route.pattern = std::move(pattern);
    route.permission = permission;
    route.quota = QuotaClass::kInference;
    route.handler = std::move(handler);
    router.add(std::move(route));
  };
  for (const char* prefix : {"", "/v1"}) {
    add("GET", fmt::format("{}/echo", prefix), echo);
    add("POST", fmt::format("{}/echo", prefix), echo);
  }
  add("GET", "/models/{model}", echo);
  add("GET", "/models/special", [](RequestContext&, Responder& r) -> asio::awaitable<void> {
    co_await r.send(200, "text/plain", "special", {});
  });
  add("GET", "/files/{path*}", echo, Permission::kPublic);
  add("GET", "/health", echo, Permission::kPublic);
  add("GET", "/stream", stream);
  add("GET", "/empty", [](RequestContext&, Responder& r) -> asio::awaitable<void> {
    co_await r.send(204, "", "", {});
  });
  add("GET", "/throws", [](RequestContext&, Responder&) -> asio::awaitable<void> {
    throw std::runtime_error("boom");
    co_return;
  });
  add("GET", "/silent", [](RequestContext&, Responder&) -> asio::awaitable<void> { co_return; });
  add("GET", "/header", [](RequestContext& c, Responder& r) -> asio::awaitable<void> {
    ExtraHeaders headers{{"X-Given", std::string(c.query("value").value_or(""))}};
    co_await r.send(200, "text/plain", "", std::move(headers));
  });
  // Waits ?ms=N before it answers; also by POST.
  const auto wait = [&counters](RequestContext& c, Responder& r) -> asio::awaitable<void> {
    ++counters.handled;
    Unwinding unwinding(counters);
    co_await sleep_for(
        std::chrono::milliseconds(std::stoi(std::string(c.query("ms").value_or("60000")))));
    co_await r.send(200, "text/plain", "waited", {});
    unwinding.done = true;
  };
  add("GET", "/wait", wait);
  add("POST", "/wait", wait);
  // Writes until nobody reads.
  add("GET", "/flood", [&counters](RequestContext&, Responder& r) -> asio::awaitable<void> {
    ++counters.handled;
    Unwinding unwinding(counters);
    bool there = co_await r.start(200, "application/octet-stream", {});
    while (there) there = co_await r.write(std::string(64 << 10, 'x'));
    ++counters.writes_refused;
    unwinding.done = true;
  });
  add("GET", "/offload", [&pool](RequestContext&, Responder& r) -> asio::awaitable<void> {
    const auto here = std::this_thread::get_id();
    const auto there = co_await offload(pool, [] { return std::this_thread::get_id(); });
    std::string text = here == std::this_thread::get_id() && here != there ? "ok" : "wrong thread";
    try {
      co_await offload(pool, []() -> int { throw std::runtime_error("from the pool"); });
    } catch (const std::runtime_error& error) {
      text += fmt::format(", {}", error.what());
    }
    co_await r.send(200, "text/plain", std::move(text), {});
  });
  Route small;
  small.method = "POST";
  small.pattern = "/small";
  small.permission = Permission::kInfer;
  small.max_body_bytes = 10;
  small.handler = echo;
  router.add(std::move(small));
  Route anthropic;
  anthropic.method = "POST";
  anthropic.pattern = "/anthropic/v1/messages";
  anthropic.permission = Permission::kInfer;
  anthropic.handler = echo;
  anthropic.error_format = anthropic_error_body;
  router.add(std::move(anthropic));
  router.set_error_format("/anthropic", anthropic_error_body);
}

}  // namespace

std::string TestResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (equals_ignoring_case(key, name)) return value;
  return "";
}

TestClient::TestClient(uint16_t port, int receive_buffer_bytes) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer_bytes > 0)
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
      << std::strerror(errno);
}

TestClient::TestClient(const std::string& unix_path) {
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  unix_path.copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
      << std::strerror(errno);
}

TestClient::~TestClient() {
  if (fd_ >= 0) ::close(fd_);
}

bool TestClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool TestClient::fill() {
  pollfd waiting{fd_, POLLIN, 0};
  if (::poll(&waiting, 1, kTimeoutMs) <= 0) return false;
  char bytes[65536];
  const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
  if (got <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(got));
  return true;
}

TestResponse TestClient::read_response(bool head_only) {
  TestResponse response;
  while (buffer_.find("\r\n\r\n") == std::string::npos)
    if (!fill()) return response;
  const std::size_t end = buffer_.find("\r\n\r\n");
  const std::string head = buffer_.substr(0, end + 2);
  buffer_.erase(0, end + 4);
  response.status = std::stoi(head.substr(9, 3));
  for (std::size_t at = head.find("\r\n") + 2; at < head.size();) {
    const std::size_t line_end = head.find("\r\n", at);
    const std::size_t colon = head.find(": ", at);
    response.headers.emplace_back(head.substr(at, colon - at),
                                  head.substr(colon + 2, line_end - colon - 2));
    at = line_end + 2;
  }
  if (response.status == 100) return read_response(head_only);
  const std::string length = response.header("Content-Length");
  if (head_only || response.status == 204 || response.status == 304) {
    response.complete = true;
  } else if (!length.empty()) {
    const std::size_t bytes = std::stoul(length);
    while (buffer_.size() < bytes && fill()) {
    }
    response.complete = buffer_.size() >= bytes;
    response.body = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
  } else if (response.header("Transfer-Encoding") == "chunked") {
    for (;;) {
      std::size_t line = buffer_.find("\r\n");
      while (line == std::string::npos && fill()) line = buffer_.find("\r\n");
      if (line == std::string::npos) break;
      const std::size_t bytes = std::stoul(buffer_.substr(0, line), nullptr, 16);
      while (buffer_.size() < line + 2 + bytes + 2 && fill()) {
      }
      if (buffer_.size() < line + 2 + bytes + 2) break;
      response.body += buffer_.substr(line + 2, bytes);
      buffer_.erase(0, line + 2 + bytes + 2);
      if (bytes == 0) {
        response.complete = true;
        break;
      }
    }
  } else {
    while (fill()) {
    }
    response.body = std::exchange(buffer_, "");
    response.complete = true;
  }
  return response;
}

std::string TestClient::read_bytes(std::size_t bytes) {
  while (buffer_.size() < bytes && fill()) {
  }
  std::string result = buffer_.substr(0, bytes);
  buffer_.erase(0, result.size());
  return result;
}

bool TestClient::closed_within(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd waiting{fd_, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) return false;
    char bytes[4096];
    if (::recv(fd_, bytes, sizeof bytes, 0) <= 0) return true;
  }
}

void TestClient::half_close() { ::shutdown(fd_, SHUT_WR); }

void TestClient::reset() {
  const linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(std::exchange(fd_, -1));
}

struct TestServer::State {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::thread_pool pool{1};
  Router router;
  OpenAuthenticator open;
  TestCounters counters;
  std::unique_ptr<Listener> listener;
  std::atomic<bool> drained = false;
  std::thread thread;
};

TestServer::TestServer(Options options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  add_routes(s.router, s.counters, s.pool);
  Listener::Options o;
  o.pipeline.router = &s.router;
  o.pipeline.authenticator = options.authenticator != nullptr ? options.authenticator : &s.open;
  o.pipeline.quota = options.quota;
  o.pipeline.cors_origins = options.cors_origins;
  o.limits = options.limits;
  o.on_access = options.on_access;
  o.on_handler_error = options.on_handler_error;
  s.listener = std::make_unique<Listener>(s.io, std::move(o));
  const Status listening = s.listener->listen("127.0.0.1", 0);
  EXPECT_TRUE(listening) << listening.error().message;
  port_ = s.listener->port();
  s.listener->start();
  s.thread = std::thread([&s] { s.io.run(); });
}

TestServer::~TestServer() {
  State& s = *state_;
  asio::post(s.io, [&s] { s.listener.reset(); });
  s.work.reset();
  s.thread.join();
  s.pool.join();
}

void TestServer::on_io(const std::function<void()>& fn) {
  std::promise<void> done;
  asio::post(state_->io, [&] {
    fn();
    done.set_value();
  });
  done.get_future().wait();
}

Listener::Stats TestServer::stats() {
  Listener::Stats stats;
  on_io([&] { stats = state_->listener->stats(); });
  return stats;
}

TestCounters TestServer::counters() {
  TestCounters counters;
  on_io([&] { counters = state_->counters; });
  return counters;
}

bool TestServer::eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < kTimeoutMs; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

void TestServer::begin_drain(std::chrono::milliseconds limit) {
  on_io([&] {
    asio::co_spawn(state_->io, state_->listener->drain(limit),
                   [this](std::exception_ptr) { state_->drained = true; });
  });
}

bool TestServer::drained() { return state_->drained; }

}  // namespace fathom::server
