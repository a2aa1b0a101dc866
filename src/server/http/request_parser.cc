// The one file with Beast in it: its basic_parser, and the checks around it. See request_parser.h.
#include "server/http/request_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <charconv>

namespace fathom::server {
namespace {

namespace http = boost::beast::http;
using ErrorCodeOut = boost::beast::error_code;
using BeastView = boost::beast::string_view;

std::string_view view(BeastView text) { return {text.data(), text.size()}; }

// Line ends and folding from `begin` on, on the raw bytes of a head (RFC 9112, sections 2.2
// and 5.2). A CR at the very end may still get its LF.
std::optional<HttpError> check_lines(std::string_view head, std::size_t begin) {
  for (std::size_t i = begin; i < head.size(); ++i) {
    const char c = head[i];
    if (c == '\0') return http_error(400, "Malformed request: a NUL byte in the header");
    if (c == '\n' && (i == 0 || head[i - 1] != '\r'))
      return http_error(400, "Malformed request: a line of the header ends in LF, expected CR LF");
    if (c != '\n' && i > 0 && head[i - 1] == '\r')
      return http_error(400, "Malformed request: a CR without LF in the header");
    if ((c == ' ' || c == '\t') && i > 0 && head[i - 1] == '\n')
      return http_error(400, "Malformed request: a folded header line");
  }
  return std::nullopt;
}

HttpError beast_error(const ErrorCodeOut& ec) {
  if (ec == http::error::bad_version)
    return http_error(505, "HTTP version not supported, expected HTTP/1.1 or HTTP/1.0");
  if (ec == http::error::body_limit) return http_error(413, "Request body too large");
  return http_error(400, fmt::format("Malformed request: {}", ec.message()));
}

}  // namespace

// Beast reports errors through the error_code of its callbacks; the text of ours is kept beside.
class RequestParser::Impl final : public http::basic_parser<true> {
 public:
  explicit Impl(const Limits& limits) : limits_(limits) {
    header_limit(static_cast<std::uint32_t>(limits.max_header_bytes + 4));
    body_limit(boost::none);
    eager(false);
  }

  Progress parse_head(std::string_view bytes);
  Progress parse_body(std::string_view bytes, bool keep);

  RequestHead head;
  std::string body;
  int64_t body_bytes = 0;
  int64_t max_body_bytes = limits::kHttpMaxBodyBytes;

 private:
  // Makes Beast stop; what it then calls the error does not matter.
  void refuse(int status, std::string message, ErrorCodeOut& ec) {
    error_ = http_error(status, std::move(message));
    ec = http::error::bad_field;
  }
  std::optional<HttpError> check_head();

  void on_request_impl(http::verb, BeastView method, BeastView target, int version,
                       ErrorCodeOut& ec) override {
    if (static_cast<int64_t>(target.size()) > limits_.max_target_bytes)
      return refuse(414,
                    fmt::format("Request target of {} bytes, at most {} are allowed", target.size(),
                                limits_.max_target_bytes),
                    ec);
    head.method = view(method);
    head.target = view(target);
    head.minor_version = version % 10;
  }
  void on_response_impl(int, BeastView, int, ErrorCodeOut&) override {}
  void on_field_impl(http::field name, BeastView spelled, BeastView value,
                     ErrorCodeOut& ec) override;
  // Later versions of Beast hand trailers over here; earlier ones give them to on_field_impl.
  void on_trailer_field_impl(http::field, BeastView, BeastView, ErrorCodeOut&) {}
  void on_header_impl(ErrorCodeOut&) override { in_body_ = true; }
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCodeOut&) override {}
  std::size_t on_body_impl(BeastView part, ErrorCodeOut& ec) override {
    return take(view(part), ec);
  }
  void on_chunk_header_impl(std::uint64_t size, BeastView, ErrorCodeOut& ec) override {
    if (size > static_cast<std::uint64_t>(std::max<int64_t>(0, max_body_bytes - body_bytes)))
      too_large(ec);
  }
  std::size_t on_chunk_body_impl(std::uint64_t, BeastView part, ErrorCodeOut& ec) override {
    return take(view(part), ec);
  }
  void on_finish_impl(ErrorCodeOut&) override {}

  void too_large(ErrorCodeOut& ec) {
    refuse(413, fmt::format("Request body too large, at most {} bytes are allowed", max_body_bytes),
           ec);
  }
  std::size_t take(std::string_view part, ErrorCodeOut& ec) {
    if (static_cast<int64_t>(part.size()) > max_body_bytes - body_bytes) {
      too_large(ec);
      return 0;
    }
    body_bytes += static_cast<int64_t>(part.size());
    // Grown by what arrived, never by what the client says will come.
    if (keep_) body.append(part);
    return part.size();
  }

  Limits limits_;
  std::optional<HttpError> error_;
  std::size_t scanned_ = 0;  // unconsumed bytes that are known to be well-formed lines
  bool in_body_ = false;
  bool keep_ = true;
};

void RequestParser::Impl::on_field_impl(http::field name, BeastView spelled, BeastView value,
                                        ErrorCodeOut& ec) {
  if (in_body_) return;  // a trailer: nothing of ours reads them
  if (static_cast<int64_t>(head.headers.all().size()) >= limits_.max_headers)
    return refuse(431, fmt::format("More than {} header fields", limits_.max_headers), ec);
  const std::string_view text = view(value);
  switch (name) {
    case http::field::content_length: {
      if (head.headers.count("content-length") > 0)
        return refuse(400, "Malformed request: more than one Content-Length", ec);
      const auto [end, failed] =
          std::from_chars(text.data(), text.data() + text.size(), head.content_length);
      if (failed != std::errc() || end != text.data() + text.size() || text.starts_with('-'))
        return refuse(400, "Malformed request: Content-Length is not a number of bytes", ec);
      break;
    }
    case http::field::transfer_encoding:
      if (head.headers.count("transfer-encoding") > 0)
        return refuse(400, "Malformed request: more than one Transfer-Encoding", ec);
      if (head.minor_version == 0)
        return refuse(400, "Malformed request: Transfer-Encoding in HTTP/1.0", ec);
      if (!equals_ignoring_case(text, "chunked"))
        return refuse(501, "Transfer-Encoding not supported, expected chunked", ec);
      head.chunked = true;
      break;
    default:
      break;
  }
  head.headers.add(std::string(view(spelled)), std::string(text));
}

std::optional<HttpError> RequestParser::Impl::check_head() {
  if (head.chunked && head.headers.count("content-length") > 0)
    return http_error(400, "Malformed request: both Content-Length and Transfer-Encoding");
  const std::size_t hosts = head.headers.count("host");
  if (hosts > 1 || (hosts == 0 && head.minor_version == 1))
    return http_error(400, fmt::format("Malformed request: {} Host fields, expected one", hosts));
  if (const auto expect = head.headers.get("expect"); expect && head.minor_version == 1) {
    if (!equals_ignoring_case(*expect, "100-continue"))
      return http_error(417, "Expectation not supported, expected 100-continue");
    head.expects_continue = head.has_body();
  }
  head.keep_alive = keep_alive();
  return std::nullopt;
}

RequestParser::Progress RequestParser::Impl::parse_head(std::string_view bytes) {
  Progress progress;
  // Blank lines before a request are skipped (RFC 9112, section 2.2).
  while (bytes.starts_with("\r\n")) {
    bytes.remove_prefix(2);
    progress.consumed += 2;
  }
  const auto limit = static_cast<std::size_t>(limits_.max_header_bytes);
  // Found and checked once each, however small the pieces are in which the head comes.
  const std::size_t end = bytes.substr(0, limit).find("\r\n\r\n", scanned_ < 3 ? 0 : scanned_ - 3);
  const std::string_view text =
      bytes.substr(0, end == std::string_view::npos ? bytes.size() : end + 4);
  progress.error = check_lines(text, scanned_);
  if (progress.error) return progress;
  if (end == std::string_view::npos) {
    scanned_ = bytes.size();
    if (bytes.size() > limit)
      progress.error = http_error(431, fmt::format("Request header too large, at most {} bytes are "
                                                   "allowed",
                                                   limits_.max_header_bytes));
    return progress;
  }
  ErrorCodeOut ec;
  const std::size_t taken = put(boost::asio::const_buffer(text.data(), text.size()), ec);
  if (error_) {
    progress.error = std::move(error_);
  } else if (ec) {
    progress.error = beast_error(ec);
  } else if (!is_header_done() || taken != text.size()) {
    progress.error = http_error(400, "Malformed request: the header does not end at a blank line");
  } else {
    progress.error = check_head();
  }
  progress.consumed += taken;
  scanned_ = 0;
  eager(true);
  return progress;
}

RequestParser::Progress RequestParser::Impl::parse_body(std::string_view bytes, bool keep) {
  Progress progress;
  keep_ = keep;
  if (head.content_length > max_body_bytes) {
    progress.error =
        http_error(413, fmt::format("Request body of {} bytes is too large, at most {} "
                                    "are allowed",
                                    head.content_length, max_body_bytes));
    return progress;
  }
  if (is_done() || bytes.empty()) return progress;
  ErrorCodeOut ec;
  progress.consumed = put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
  if (error_)
    progress.error = std::move(error_);
  else if (ec && ec != http::error::need_more)
    progress.error = beast_error(ec);
  if (progress.consumed > 0) scanned_ = 0;
  if (progress.error || is_done() || !ec) return progress;
  // What is left is the beginning of a chunk's header or of the trailers. With bad line ends it
  // would wait for an end that never comes.
  const std::string_view rest = bytes.substr(progress.consumed);
  progress.error = check_lines(rest, std::min(scanned_, rest.size()));
  scanned_ = rest.size();
  return progress;
}

RequestParser::RequestParser(const Limits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestParser::~RequestParser() = default;
RequestParser::RequestParser(RequestParser&&) noexcept = default;
RequestParser& RequestParser::operator=(RequestParser&&) noexcept = default;

RequestParser::Progress RequestParser::parse_head(std::string_view bytes) {
  return impl_->parse_head(bytes);
}
bool RequestParser::head_complete() const { return impl_->is_header_done(); }
const RequestHead& RequestParser::head() const { return impl_->head; }
void RequestParser::set_max_body_bytes(int64_t bytes) { impl_->max_body_bytes = bytes; }
RequestParser::Progress RequestParser::parse_body(std::string_view bytes, bool keep) {
  return impl_->parse_body(bytes, keep);
}
bool RequestParser::complete() const { return impl_->is_done(); }
int64_t RequestParser::body_bytes() const { return impl_->body_bytes; }
std::string RequestParser::take_body() { return std::move(impl_->body); }

}  // namespace fathom::server
