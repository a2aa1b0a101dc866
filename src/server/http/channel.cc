// Channels over sockets. See channel.h.
//
// One timer per channel, armed lazily: moving a deadline later costs a store, and no timer is
// touched for writes that the kernel takes at once.
#include "server/http/channel.h"

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <optional>

#include "server/http/await.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

template <typename Stream>
class StreamChannel final : public Channel,
                            public std::enable_shared_from_this<StreamChannel<Stream>> {
 public:
  explicit StreamChannel(Stream stream)
      : stream_(std::move(stream)), timer_(stream_.get_executor()) {}

  asio::any_io_executor executor() override { return stream_.get_executor(); }

  std::string_view buffered() const override {
    return {static_cast<const char*>(buffer_.data().data()), buffer_.size()};
  }
  void consume(std::size_t bytes) override { buffer_.consume(bytes); }
  void shrink() override {
    if (buffer_.size() == 0) buffer_.shrink_to_fit();
  }

  asio::awaitable<ReadEnd> read_some(std::size_t max_bytes) override {
    if (!is_open()) co_return ReadEnd::kClosed;
    timed_out_ = false;
    const auto space = buffer_.prepare(max_bytes);
    const auto [ec, bytes] = co_await stream_.async_read_some(space, kAwait);
    buffer_.commit(bytes);
    if (bytes > 0) co_return ReadEnd::kData;
    co_return ec&& timed_out_ ? ReadEnd::kTimeout : ReadEnd::kClosed;
  }

  asio::awaitable<void> wait_for_reset() override {
    if (!is_open()) co_return;
    const auto [ec] = co_await lowest().async_wait(Socket::wait_error, kAwait);
    (void)ec;
  }

  asio::awaitable<bool> write(std::array<std::string_view, 3> parts) override {
    if (!is_open()) co_return false;
    timed_out_ = false;
    std::array<asio::const_buffer, 3> buffers;
    std::transform(parts.begin(), parts.end(), buffers.begin(),
                   [](std::string_view part) { return asio::buffer(part); });
    const auto [ec, bytes] = co_await asio::async_write(stream_, buffers, kAwait);
    (void)bytes;
    co_return !ec;
  }

  void set_deadline(Clock::time_point deadline) override {
    deadline_ = deadline;
    if (!armed_ || *armed_ > deadline) arm(deadline);
  }
  void clear_deadline() override { deadline_.reset(); }

  void shutdown_send() override {
    error_code ignored;
    lowest().shutdown(Socket::shutdown_send, ignored);
  }
  void close() override {
    error_code ignored;
    lowest().close(ignored);
    timer_.cancel();
  }
  bool is_open() const override { return stream_.is_open(); }

 private:
  Socket& lowest() { return stream_; }

  void arm(Clock::time_point at) {
    armed_ = at;
    timer_.expires_at(at);
    timer_.async_wait([weak = this->weak_from_this(), at](const error_code& ec) {
      const auto self = weak.lock();
      if (self && !ec && self->armed_ == at) self->on_timer();
    });
  }

  void on_timer() {
    armed_.reset();
    if (!deadline_ || !is_open()) return;
    if (*deadline_ > Clock::now()) return arm(*deadline_);
    timed_out_ = true;
    deadline_.reset();
    error_code ignored;
    lowest().cancel(ignored);
  }

  Stream stream_;
  asio::steady_timer timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<Clock::time_point> deadline_;
  std::optional<Clock::time_point> armed_;  // when timer_ fires
  bool timed_out_ = false;
};

}  // namespace

std::shared_ptr<Channel> make_channel(Socket socket) {
  return std::make_shared<StreamChannel<Socket>>(std::move(socket));
}

}  // namespace fathom::server
