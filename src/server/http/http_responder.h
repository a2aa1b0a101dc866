// The Responder of a connection: formats heads, bodies and chunks onto a Channel.
//
// Owns the framing of answers (Content-Length, chunked, until close) and whether the connection can
// carry another request afterwards. Does not watch the client (connection.cc).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "server/http/channel.h"
#include "server/http/responder.h"

namespace fathom::server {

class HttpResponder final : public Responder {
 public:
  struct Options {
    std::chrono::milliseconds send_timeout{};
    int minor_version = 1;
    bool head_only = false;   // HEAD: heads without bodies
    bool keep_alive = false;  // announced to the client; see keep_alive() for the outcome
    ErrorFormat error_format = deepseek_error_body;
    std::string request_id;
    ExtraHeaders headers;  // of every answer
  };
  HttpResponder(Channel& channel, Options options)
      : channel_(channel), options_(std::move(options)) {}

  boost::asio::awaitable<void> send(int status, std::string content_type, std::string body,
                                    ExtraHeaders headers) override;
  boost::asio::awaitable<void> fail(HttpError error) override;
  boost::asio::awaitable<bool> start(int status, std::string content_type,
                                     ExtraHeaders headers) override;
  boost::asio::awaitable<bool> write(std::string chunk) override;
  boost::asio::awaitable<bool> finish() override;
  bool started() const override { return state_ != State::kNothing; }
  bool gone() const override { return gone_; }

  void mark_gone() { gone_ = true; }
  // The answer is complete, and the client may send another request.
  bool keep_alive() const { return state_ == State::kDone && options_.keep_alive && !gone_; }
  bool complete() const { return state_ == State::kDone; }
  int status() const { return status_; }              // 0: nothing was sent
  int64_t bytes_sent() const { return bytes_sent_; }  // of bodies, without framing

 private:
  enum class State : uint8_t { kNothing, kStreaming, kDone };
  // The head up to and with the blank line.
  std::string head(int status, std::string_view content_type, const ExtraHeaders& headers,
                   std::string_view framing) const;
  boost::asio::awaitable<bool> put(std::array<std::string_view, 3> parts);
  bool chunked() const { return options_.minor_version == 1; }

  Channel& channel_;
  Options options_;
  State state_ = State::kNothing;
  bool gone_ = false;
  int status_ = 0;
  int64_t bytes_sent_ = 0;
};

}  // namespace fathom::server
