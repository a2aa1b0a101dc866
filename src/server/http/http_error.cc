// The table of statuses, and the two forms of error bodies. See http_error.h.
#include "server/http/http_error.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

namespace fathom::server {
namespace {

struct StatusRow {
  int status;
  std::string_view reason;
  std::string_view type;  // empty: not an error
  std::string_view code;
  std::string_view anthropic_type;
};

constexpr std::string_view kInvalid = "invalid_request_error";

constexpr StatusRow kStatuses[] = {
    {100, "Continue", "", "", ""},
    {200, "OK", "", "", ""},
    {201, "Created", "", "", ""},
    {202, "Accepted", "", "", ""},
    {204, "No Content", "", "", ""},
    {206, "Partial Content", "", "", ""},
    {301, "Moved Permanently", "", "", ""},
    {302, "Found", "", "", ""},
    {304, "Not Modified", "", "", ""},
    {307, "Temporary Redirect", "", "", ""},
    {308, "Permanent Redirect", "", "", ""},
    {400, "Bad Request", kInvalid, kInvalid, kInvalid},
    {401, "Unauthorized", "authentication_error", kInvalid, "authentication_error"},
    {402, "Payment Required", "unknown_error", kInvalid, "billing_error"},
    {403, "Forbidden", "permission_error", "permission_denied", "permission_error"},
    {404, "Not Found", kInvalid, "not_found", "not_found_error"},
    {405, "Method Not Allowed", kInvalid, "method_not_allowed", kInvalid},
    {408, "Request Timeout", kInvalid, "request_timeout", kInvalid},
    {409, "Conflict", kInvalid, "conflict", kInvalid},
    {411, "Length Required", kInvalid, "length_required", kInvalid},
    {413, "Content Too Large", kInvalid, "request_too_large", "request_too_large"},
    {414, "URI Too Long", kInvalid, "uri_too_long", kInvalid},
    {415, "Unsupported Media Type", kInvalid, "unsupported_media_type", kInvalid},
    {416, "Range Not Satisfiable", kInvalid, "range_not_satisfiable", kInvalid},
    {417, "Expectation Failed", kInvalid, "expectation_failed", kInvalid},
    {422, "Unprocessable Content", kInvalid, kInvalid, kInvalid},
    {429, "Too Many Requests", "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"},
    {431, "Request Header Fields Too Large", kInvalid, "headers_too_large", kInvalid},
    {500, "Internal Server Error", "server_error", "internal_error", "api_error"},
    {501, "Not Implemented", kInvalid, "not_implemented", kInvalid},
    {503, "Service Unavailable", "server_error", "service_unavailable", "overloaded_error"},
    {505, "HTTP Version Not Supported", kInvalid, "version_not_supported", kInvalid},
};

const StatusRow* find_status(int status) {
  const auto* row = std::find_if(std::begin(kStatuses), std::end(kStatuses),
                                 [status](const StatusRow& r) { return r.status == status; });
  return row == std::end(kStatuses) ? nullptr : row;
}

// Foreign bytes in a message must not make the serialiser fail.
std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
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
  nlohmann::ordered_json body;
  body["error"]["message"] = error.message;
  body["error"]["type"] = error.type;
  body["error"]["param"] = nullptr;
  body["error"]["code"] = error.code;
  return dump(body);
}

std::string anthropic_error_body(const HttpError& error, std::string_view request_id) {
  const StatusRow* row = find_status(error.status);
  nlohmann::ordered_json body;
  body["type"] = "error";
  body["error"]["type"] =
      row == nullptr || row->anthropic_type.empty() ? "api_error" : row->anthropic_type;
  body["error"]["message"] = error.message;
  body["request_id"] = request_id;
  return dump(body);
}

std::string_view status_reason(int status) {
  const StatusRow* row = find_status(status);
  return row == nullptr ? "Unknown" : row->reason;
}

}  // namespace fathom::server
