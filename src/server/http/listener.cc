// Listening sockets and the count of connections. See listener.h.
#include "server/http/listener.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/check.h"
#include "server/http/await.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Unix = asio::local::stream_protocol;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr int kBacklog = 4096;
constexpr std::chrono::milliseconds kAcceptPause{50};  // when the system has no descriptors left
constexpr std::chrono::milliseconds kDrainPoll{5};

std::string to_text(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

Error listen_error(const std::string& where, const char* what, const error_code& ec) {
  if (ec == asio::error::address_in_use)
    return {ErrorCode::kUnavailable,
            fmt::format("{}: another program listens there ({}); stop it, or choose another port "
                        "(0: any free one)",
                        where, ec.message())};
  if (ec == asio::error::access_denied)
    return invalid_argument(
        fmt::format("{}: {} is not permitted ({}); ports below 1024 need CAP_NET_BIND_SERVICE",
                    where, what, ec.message()));
  return invalid_argument(fmt::format("{}: cannot {}: {}", where, what, ec.message()));
}

template <typename Acceptor>
Status bind_and_listen(Acceptor& acceptor, const typename Acceptor::endpoint_type& endpoint,
                       const std::string& where) {
  error_code ec;
  acceptor.bind(endpoint, ec);
  if (ec) return listen_error(where, "bind", ec);
  acceptor.listen(kBacklog, ec);
  if (ec) return listen_error(where, "listen", ec);
  return {};
}

}  // namespace

class Listener::Impl : public std::enable_shared_from_this<Listener::Impl> {
 public:
  Impl(asio::io_context& io, Options options)
      : io_(io),
        options_(std::move(options)),
        shared_(std::make_shared<ConnectionEnvironment>(Pipeline(options_.pipeline))) {
    FATHOM_CHECK(options_.pipeline.router != nullptr);
    shared_->limits = options_.limits;
    shared_->on_access = options_.on_access;
    shared_->on_handler_error = options_.on_handler_error;
  }
  ~Impl() {
    for (const std::string& path : unix_paths_) ::unlink(path.c_str());
  }

  Status listen(const std::string& host, int64_t port);
  Status listen_unix(const std::string& path);
  void start();
  void stop();
  void cut_all();
  void close_idle();
  asio::awaitable<void> drain(std::chrono::milliseconds limit);
  Stats stats() const;

  std::vector<std::string> addresses;
  uint16_t port = 0;

 private:
  Status listen_at(const tcp::endpoint& endpoint);
  bool is_open() const {
    return options_.pipeline.authenticator != nullptr && options_.pipeline.authenticator->is_open();
  }
  template <typename Acceptor>
  asio::awaitable<void> accept_loop(Acceptor& acceptor);
  void admit(Socket socket, std::string remote);
  asio::awaitable<void> refuse(std::shared_ptr<Channel> channel);

  asio::io_context& io_;
  Options options_;
  std::shared_ptr<ConnectionEnvironment> shared_;
  std::vector<std::unique_ptr<tcp::acceptor>> tcp_;
  std::vector<std::unique_ptr<Unix::acceptor>> unix_;
  std::vector<std::string> unix_paths_;
  int64_t refusing_ = 0;
  int64_t refused_total_ = 0;
  int64_t evicted_total_ = 0;
};

Status Listener::Impl::listen_at(const tcp::endpoint& endpoint) {
  const std::string where = to_text(endpoint);
  if (is_open() && !options_.insecure && !endpoint.address().is_loopback())
    return invalid_argument(fmt::format(
        "{}: refusing to listen beyond this machine while nobody has to prove who they are; give "
        "--api-key-file FILE, or --insecure if the network is yours alone",
        where));
  auto acceptor = std::make_unique<tcp::acceptor>(io_);
  error_code ec;
  acceptor->open(endpoint.protocol(), ec);
  if (ec) return listen_error(where, "open a socket", ec);
  acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
  if (endpoint.address().is_v6()) acceptor->set_option(asio::ip::v6_only(true), ec);
  // Inherited by what is accepted: what a client that does not read, or sends ahead, can pin.
  const auto buffer = static_cast<int>(limits::kHttpSocketBufferBytes);
  acceptor->set_option(asio::socket_base::send_buffer_size(buffer), ec);
  acceptor->set_option(asio::socket_base::receive_buffer_size(buffer), ec);
  FATHOM_TRY_STATUS(bind_and_listen(*acceptor, endpoint, where));
  const tcp::endpoint bound = acceptor->local_endpoint(ec);
  if (port == 0) port = bound.port();
  addresses.push_back(to_text(bound));
  tcp_.push_back(std::move(acceptor));
  return {};
}

Status Listener::Impl::listen(const std::string& host, int64_t port_number) {
  if (port_number < 0 || port_number > 65535)
    return invalid_argument(fmt::format("listen.port: {}, expected 0 to 65535", port_number));
  tcp::resolver resolver(io_);
  error_code ec;
  const auto found = resolver.resolve(host, std::to_string(port_number),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  if (ec)
    return invalid_argument(fmt::format(
        "listen.host: '{}' is no address of this machine ({}), expected one like 127.0.0.1 or ::1",
        host, ec.message()));
  std::vector<tcp::endpoint> endpoints;
  for (const auto& entry : found)
    if (std::find(endpoints.begin(), endpoints.end(), entry.endpoint()) == endpoints.end())
      endpoints.push_back(entry.endpoint());
  for (const tcp::endpoint& endpoint : endpoints) FATHOM_TRY_STATUS(listen_at(endpoint));
  return {};
}

Status Listener::Impl::listen_unix(const std::string& path) {
  const std::string where = "unix:" + path;
  if (path.empty() || path.size() > 100)
    return invalid_argument(
        fmt::format("{}: a path of {} bytes, expected 1 to 100", where, path.size()));
  error_code ec;
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode))
      return invalid_argument(fmt::format("{}: exists and is no socket; remove it", where));
    Unix::socket probe(io_);
    probe.connect(Unix::endpoint(path), ec);
    if (!ec) return listen_error(where, "bind", asio::error::address_in_use);
    ::unlink(path.c_str());
  }
  auto acceptor = std::make_unique<Unix::acceptor>(io_);
  acceptor->open(Unix(), ec);
  if (ec) return listen_error(where, "open a socket", ec);
  // Nobody else may connect in between: the mode is right when the name appears.
  const mode_t before = ::umask(0177);
  const Status bound = bind_and_listen(*acceptor, Unix::endpoint(path), where);
  ::umask(before);
  if (!bound) return bound;
  unix_paths_.push_back(path);
  addresses.push_back(where);
  unix_.push_back(std::move(acceptor));
  return {};
}

void Listener::Impl::start() {
  for (auto& acceptor : tcp_)
    asio::co_spawn(io_, accept_loop(*acceptor), [self = shared_from_this()](std::exception_ptr) {});
  for (auto& acceptor : unix_)
    asio::co_spawn(io_, accept_loop(*acceptor), [self = shared_from_this()](std::exception_ptr) {});
}

template <typename Acceptor>
asio::awaitable<void> Listener::Impl::accept_loop(Acceptor& acceptor) {
  while (acceptor.is_open()) {
    typename Acceptor::protocol_type::endpoint peer;
    auto [ec, socket] = co_await acceptor.async_accept(peer, kAwait);
    if (!acceptor.is_open()) co_return;
    if (ec) {
      // No descriptors, no memory: those who wait stay in the backlog for a moment.
      asio::steady_timer pause(io_, kAcceptPause);
      co_await pause.async_wait(kAwait);
      continue;
    }
    std::string remote = "unix";
    if constexpr (std::is_same_v<Acceptor, tcp::acceptor>) {
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      remote = to_text(peer);
    }
    admit(Socket(std::move(socket)), std::move(remote));
  }
}

void Listener::Impl::admit(Socket socket, std::string remote) {
  const auto full = static_cast<int64_t>(shared_->open.size()) >= options_.limits.max_connections;
  auto channel = make_channel(std::move(socket));
  if (full && shared_->idle.empty()) {
    ++refused_total_;
    if (refusing_ >= limits::kHttpMaxRefusing) return;  // no time for manners: closed
    asio::co_spawn(io_, refuse(std::move(channel)),
                   [self = shared_from_this()](std::exception_ptr) { --self->refusing_; });
    ++refusing_;
    return;
  }
  if (full) {
    ++evicted_total_;
    // It leaves the list when its read ends, which is later: moved to the end, so that the next
    // newcomer finds another.
    shared_->idle.front()->cut();
    shared_->idle.splice(shared_->idle.end(), shared_->idle, shared_->idle.begin());
  }
  std::make_shared<Connection>(std::move(channel), std::move(remote), shared_)->start();
}

asio::awaitable<void> Listener::Impl::refuse(std::shared_ptr<Channel> channel) {
  HttpError error = http_error(503, "Too many connections, try again");
  const std::string body = deepseek_error_body(error, "");
  const std::string head = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
      "Retry-After: 1\r\nConnection: close\r\n\r\n",
      body.size());
  channel->set_deadline(Clock::now() + std::chrono::milliseconds(limits::kHttpLingerMs));
  const bool sent = co_await channel->write({head, body, {}});
  if (!sent) co_return;
  // Until the client has read it: its request is still on the way, and would be answered by a
  // reset.
  channel->shutdown_send();
  Channel::ReadEnd end = Channel::ReadEnd::kData;
  while (end == Channel::ReadEnd::kData) {
    channel->consume(channel->buffered().size());
    end = co_await channel->read_some(1024);
  }
}

void Listener::Impl::stop() {
  error_code ignored;
  for (auto& acceptor : tcp_) acceptor->close(ignored);
  for (auto& acceptor : unix_) acceptor->close(ignored);
  shared_->draining = true;
}

void Listener::Impl::cut_all() {
  const std::vector<Connection*> all(shared_->open.begin(), shared_->open.end());
  for (Connection* connection : all) connection->cut();
}

void Listener::Impl::close_idle() {
  for (Connection* connection : shared_->idle) connection->cut();
}

asio::awaitable<void> Listener::Impl::drain(std::chrono::milliseconds limit) {
  const auto self = shared_from_this();
  const Clock::time_point deadline = Clock::now() + limit;
  stop();
  asio::steady_timer timer(io_);
  while (!shared_->open.empty()) {
    if (Clock::now() >= deadline) {
      cut_all();
    } else {
      close_idle();
    }
    timer.expires_after(kDrainPoll);
    co_await timer.async_wait(kAwait);
  }
}

Listener::Stats Listener::Impl::stats() const {
  Stats stats;
  stats.connections = static_cast<int64_t>(shared_->open.size());
  stats.idle_connections = static_cast<int64_t>(shared_->idle.size());
  stats.connections_total = shared_->connections_total;
  stats.refused_total = refused_total_;
  stats.evicted_total = evicted_total_;
  stats.requests_in_flight = shared_->requests_in_flight;
  stats.requests_total = shared_->requests_total;
  stats.body_bytes = shared_->body_bytes;
  return stats;
}

Listener::Listener(asio::io_context& io, Options options)
    : impl_(std::make_shared<Impl>(io, std::move(options))) {}
Listener::~Listener() {
  impl_->stop();
  impl_->cut_all();
}
Status Listener::listen(const std::string& host, int64_t port) { return impl_->listen(host, port); }
Status Listener::listen_unix(const std::string& path) { return impl_->listen_unix(path); }
const std::vector<std::string>& Listener::addresses() const { return impl_->addresses; }
uint16_t Listener::port() const { return impl_->port; }
void Listener::start() { impl_->start(); }
asio::awaitable<void> Listener::drain(std::chrono::milliseconds limit) {
  return impl_->drain(limit);
}
Listener::Stats Listener::stats() const { return impl_->stats(); }

int64_t raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
  }
  return static_cast<int64_t>(limit.rlim_cur);
}

}  // namespace fathom::server
