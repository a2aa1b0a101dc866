// An answer that says no: what went wrong in HTTP's terms, and how each API words it.
//
// Owns the statuses and DeepSeek's and OpenAI's names for them. The bodies' forms are api_error.h's;
// which one a path uses is the router's business.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fathom::server {

struct HttpError {
  int status = 500;
  std::string type;       // "invalid_request_error"
  std::string code;       // "invalid_request_error"
  std::string message;    // for the client: never paths, keys or addresses of ours
  int retry_after_s = 0;  // 0: no Retry-After
  std::vector<std::pair<std::string, std::string>> headers;
};

// The error with type and code of its status.
HttpError http_error(int status, std::string message);
// kInvalidArgument 400, kNotFound 404, kResourceLimit 429, kUnavailable 503, kInternal 500.
HttpError http_error(const Error& error);

// The JSON body of an error.
using ErrorFormat = std::string (*)(const HttpError& error, std::string_view request_id);

// {"error":{"message","type","param":null,"code"}}: DeepSeek's and OpenAI's.
std::string deepseek_error_body(const HttpError& error, std::string_view request_id);
// {"type":"error","error":{"type","message"},"request_id"}: Anthropic's, with its own types.
std::string anthropic_error_body(const HttpError& error, std::string_view request_id);

// "Not Found" for 404; "Unknown" for what is none.
std::string_view status_reason(int status);

}  // namespace fathom::server
