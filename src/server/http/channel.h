// One connection's bytes, in and out, with a deadline: what a connection needs of a socket.
//
// Owns the socket, its read buffer and its timer. Speaks no HTTP. This is where TLS plugs in: a
// stream with the same operations is another instantiation in channel.cc.
#pragma once

#include <array>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace fathom::server {

class Channel {
 public:
  enum class ReadEnd : uint8_t {
    kData,     // buffered() has grown
    kClosed,   // the client closed its side, or the connection is broken
    kTimeout,  // the deadline passed
  };

  virtual ~Channel() = default;
  virtual boost::asio::any_io_executor executor() = 0;

  // Bytes that arrived and were not consumed.
  virtual std::string_view buffered() const = 0;
  virtual void consume(std::size_t bytes) = 0;
  // Gives the buffer's memory back if it is empty.
  virtual void shrink() = 0;

  // Reads what is there, at most `max_bytes`, or waits for some. May be pending together with one
  // write.
  virtual boost::asio::awaitable<ReadEnd> read_some(std::size_t max_bytes) = 0;
  // Waits until the connection is broken (a reset; not a close of the client's side).
  virtual boost::asio::awaitable<void> wait_for_reset() = 0;
  // All of it, to the kernel. False: broken, or the deadline passed.
  virtual boost::asio::awaitable<bool> write(std::array<std::string_view, 3> parts) = 0;

  // Past it, whatever is pending ends; it stays until changed.
  virtual void set_deadline(std::chrono::steady_clock::time_point deadline) = 0;
  virtual void clear_deadline() = 0;

  virtual void shutdown_send() = 0;
  virtual void close() = 0;  // pending operations end
  virtual bool is_open() const = 0;
};

using Socket = boost::asio::generic::stream_protocol::socket;
std::shared_ptr<Channel> make_channel(Socket socket);

}  // namespace fathom::server
