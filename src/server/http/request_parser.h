// Bytes of a connection -> one request: HTTP/1.0 and 1.1, strictly.
//
// Owns the grammar and its limits; Beast's parser does the work (request_parser.cc), and what it
// lets pass but two parsers may read differently is refused here: obs-fold, bare CR or LF, any
// second Content-Length, Content-Length with Transfer-Encoding, any coding but chunked, a second
// Host. Does not read sockets and knows no routes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "server/http/http_error.h"
#include "server/http/request_context.h"

namespace fathom::server {

struct RequestHead {
  std::string method;
  std::string target;  // as sent
  int minor_version = 1;
  Headers headers;
  bool keep_alive = true;         // what the client wants
  bool expects_continue = false;  // it waits for "100 Continue" before it sends the body
  bool chunked = false;
  int64_t content_length = 0;  // 0 if chunked
  bool has_body() const { return chunked || content_length > 0; }
};

// One request. Feed it the connection's bytes; it says how many it took.
class RequestParser {
 public:
  struct Limits {
    int64_t max_header_bytes = limits::kHttpMaxHeaderBytes;
    int64_t max_headers = limits::kHttpMaxHeaders;
    int64_t max_target_bytes = limits::kHttpMaxTargetBytes;
  };
  explicit RequestParser(const Limits& limits);
  ~RequestParser();
  RequestParser(RequestParser&&) noexcept;
  RequestParser& operator=(RequestParser&&) noexcept;

  // What one call did. After an error the connection cannot be used for another request.
  struct Progress {
    std::size_t consumed = 0;
    std::optional<HttpError> error;
  };

  // Needs the whole head in `bytes`: takes all of it or nothing (or blank lines before it).
  Progress parse_head(std::string_view bytes);
  bool head_complete() const;
  const RequestHead& head() const;

  // After parse_head, before parse_body: the route's limit.
  void set_max_body_bytes(int64_t bytes);
  // Takes what it can of `bytes`; false in keep: the body is counted and dropped.
  Progress parse_body(std::string_view bytes, bool keep = true);
  bool complete() const;
  int64_t body_bytes() const;  // received so far, without transfer coding
  std::string take_body();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom::server
