// The table of statuses. The bodies are api_error.h's. See http_error.h.
#include "server/http/http_error.h"

#include <algorithm>
#include <iterator>

#include "server/api/api_error.h"

namespace fathom::server {
namespace {

struct StatusRow {
  int status;
  std::string_view reason;
  std::string_view type;  // empty: not an error
  std::string_view code;
};

constexpr std::string_view kInvalid = "invalid_request_error";

constexpr StatusRow kStatuses[] = {
    {100, "Continue", "", ""},
    {200, "OK", "", ""},
    {201, "Created", "", ""},
    {202, "Accepted", "", ""},
    {204, "No Content", "", ""},
    {206, "Partial Content", "", ""},
    {301, "Moved Permanently", "", ""},
    {302, "Found", "", ""},
    {304, "Not Modified", "", ""},
    {307, "Temporary Redirect", "", ""},
    {308, "Permanent Redirect", "", ""},
    {400, "Bad Request", kInvalid, kInvalid},
    {401, "Unauthorized", "authentication_error", kInvalid},
    {402, "Payment Required", "unknown_error", kInvalid},
    {403, "Forbidden", "permission_error", "permission_denied"},
    {404, "Not Found", kInvalid, "not_found"},
    {405, "Method Not Allowed", kInvalid, "method_not_allowed"},
    {408, "Request Timeout", kInvalid, "request_timeout"},
    {409, "Conflict", kInvalid, "conflict"},
    {411, "Length Required", kInvalid, "length_required"},
    {413, "Content Too Large", kInvalid, "request_too_large"},
    {414, "URI Too Long", kInvalid, "uri_too_long"},
    {415, "Unsupported Media Type", kInvalid, "unsupported_media_type"},
    {416, "Range Not Satisfiable", kInvalid, "range_not_satisfiable"},
    {417, "Expectation Failed", kInvalid, "expectation_failed"},
    {422, "Unprocessable Content", kInvalid, kInvalid},
    {429, "Too Many Requests", "rate_limit_error", "rate_limit_exceeded"},
    {431, "Request Header Fields Too Large", kInvalid, "headers_too_large"},
    {500, "Internal Server Error", "server_error", "internal_error"},
    {501, "Not Implemented", kInvalid, "not_implemented"},
    {503, "Service Unavailable", "server_error", "service_unavailable"},
    {505, "HTTP Version Not Supported", kInvalid, "version_not_supported"},
};

const StatusRow* find_status(int status) {
  const auto* row = std::find_if(std::begin(kStatuses), std::end(kStatuses),
                                 [status](const StatusRow& r) { return r.status == status; });
  return row == std::end(kStatuses) ? nullptr : row;
}

}  // namespace

HttpError http_error(int status, std::string message) {
  HttpError error;
  error.status = status;
  error.message = std::move(message);
  const StatusRow* row = find_status(status);
  if (row == nullptr || row->type.empty()) row = find_status(500);
  error.type = row->type;
  error.code = row->code;
  return error;
}

HttpError http_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return http_error(400, error.message);
    case ErrorCode::kNotFound:
      return http_error(404, error.message);
    case ErrorCode::kResourceLimit:
      return http_error(429, error.message);
    case ErrorCode::kUnavailable:
      return http_error(503, error.message);
    case ErrorCode::kInternal:
      break;
  }
  return http_error(500, error.message);
}

std::string deepseek_error_body(const HttpError& error, std::string_view) {
  return api::openai_error_body(
      {.status = error.status, .type = error.type, .code = error.code, .message = error.message});
}

std::string anthropic_error_body(const HttpError& error, std::string_view request_id) {
  return api::anthropic_error_body({.status = error.status, .message = error.message}, request_id);
}

std::string_view status_reason(int status) {
  const StatusRow* row = find_status(status);
  return row == nullptr ? "Unknown" : row->reason;
}

}  // namespace fathom::server
