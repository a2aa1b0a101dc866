// Framing of answers (RFC 9112, sections 6 and 7). See http_responder.h.
#include "server/http/http_responder.h"

#include <fmt/format.h>

#include <ctime>

#include "base/check.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;

// What stands in a header's value, whoever wrote it, must not begin another header.
void append_header(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  for (const char c : value) out += static_cast<unsigned char>(c) < ' ' && c != '\t' ? ' ' : c;
  out.append("\r\n");
}

// "Tue, 15 Nov 1994 08:12:31 GMT", formatted once a second.
const std::string& http_date() {
  thread_local std::time_t formatted_at = 0;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now == formatted_at && !text.empty()) return text;
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm utc{};
  gmtime_r(&now, &utc);
  text = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday,
                     kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
  formatted_at = now;
  return text;
}

bool has_no_body(int status) { return status < 200 || status == 204 || status == 304; }

}  // namespace

std::string HttpResponder::head(int status, std::string_view content_type,
                                const ExtraHeaders& headers, std::string_view framing) const {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, status_reason(status));
  append_header(out, "Date", http_date());
  if (!content_type.empty()) {
    append_header(out, "Content-Type", content_type);
    append_header(out, "X-Content-Type-Options", "nosniff");
  }
  out.append(framing);
  if (!options_.keep_alive)
    append_header(out, "Connection", "close");
  else if (options_.minor_version == 0)
    append_header(out, "Connection", "keep-alive");
  for (const auto& [name, value] : options_.headers) append_header(out, name, value);
  for (const auto& [name, value] : headers) append_header(out, name, value);
  out.append("\r\n");
  return out;
}

asio::awaitable<bool> HttpResponder::put(std::array<std::string_view, 3> parts) {
  if (gone_) co_return false;
  channel_.set_deadline(std::chrono::steady_clock::now() + options_.send_timeout);
  const bool sent = co_await channel_.write(parts);
  channel_.clear_deadline();
  if (!sent) {
    gone_ = true;
    // Half an answer may be in the client's hands: nothing sensible can follow it.
    channel_.close();
  }
  co_return sent;
}

asio::awaitable<void> HttpResponder::send(int status, std::string content_type, std::string body,
                                          ExtraHeaders headers) {
  FATHOM_CHECK(state_ == State::kNothing) << "a second answer to one request";
  state_ = State::kDone;
  status_ = status;
  const bool empty = has_no_body(status);
  const std::string framing = empty ? "" : fmt::format("Content-Length: {}\r\n", body.size());
  const std::string top = head(status, content_type, headers, framing);
  const bool with_body = !empty && !options_.head_only;
  const std::string_view bytes = with_body ? std::string_view(body) : std::string_view();
  const bool sent = co_await put({top, bytes, {}});
  if (sent) bytes_sent_ += static_cast<int64_t>(bytes.size());
}

asio::awaitable<void> HttpResponder::fail(HttpError error) {
  ExtraHeaders headers = std::move(error.headers);
  if (error.retry_after_s > 0)
    headers.emplace_back("Retry-After", fmt::format("{}", error.retry_after_s));
  std::string body = options_.error_format(error, options_.request_id);
  co_await send(error.status, "application/json", std::move(body), std::move(headers));
}

asio::awaitable<bool> HttpResponder::start(int status, std::string content_type,
                                           ExtraHeaders headers) {
  FATHOM_CHECK(state_ == State::kNothing) << "a second answer to one request";
  state_ = State::kStreaming;
  status_ = status;
  // HTTP/1.0 has no chunks: there the end of the connection ends the answer.
  if (!chunked()) options_.keep_alive = false;
  const std::string top =
      head(status, content_type, headers, chunked() ? "Transfer-Encoding: chunked\r\n" : "");
  co_return co_await put({top, {}, {}});
}

asio::awaitable<bool> HttpResponder::write(std::string chunk) {
  FATHOM_CHECK(state_ == State::kStreaming) << "write() without start(), or after finish()";
  if (chunk.empty() || options_.head_only) co_return !gone_;
  const std::string size = chunked() ? fmt::format("{:x}\r\n", chunk.size()) : "";
  const std::string_view end = chunked() ? "\r\n" : "";
  const bool sent = co_await put({size, chunk, end});
  if (sent) bytes_sent_ += static_cast<int64_t>(chunk.size());
  co_return sent;
}

asio::awaitable<bool> HttpResponder::finish() {
  FATHOM_CHECK(state_ == State::kStreaming) << "finish() without start()";
  state_ = State::kDone;
  if (!chunked() || options_.head_only) co_return !gone_;
  co_return co_await put({"0\r\n\r\n", {}, {}});
}

}  // namespace fathom::server
