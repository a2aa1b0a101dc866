#include "server/api/api_error.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/utf8.h"
#include "server/api/wire.h"

namespace fathom::server::api {

using nlohmann::ordered_json;

namespace {

// Paths and values in messages are the client's words, which have no length.
constexpr std::size_t kMaxParamBytes = 256;
constexpr std::size_t kMaxMessageBytes = 2048;

std::string clip(std::string text, std::size_t max) {
  if (text.size() <= max) return text;
  while (max > 0 && (static_cast<uint8_t>(text[max]) & 0xC0) == 0x80) --max;
  text.resize(max);
  return text + "…";
}

}  // namespace

ApiError bad_request(std::string param, std::string message) {
  return {.param = clip(std::move(param), kMaxParamBytes),
          .message = clip(std::move(message), kMaxMessageBytes)};
}

ApiError bad_request(const Error& error, std::string param) {
  if (error.code == ErrorCode::kInternal || error.code == ErrorCode::kUnavailable)
    return service_error(error);
  return bad_request(std::move(param), error.message);
}

ApiError model_not_found(std::string_view name, std::string_view models) {
  return {.status = 404,
          .code = "model_not_found",
          .param = "model",
          .message = fmt::format("model is {}, which is not served here; expected one of: {}",
                                 json_preview(nlohmann::json(utf8_sanitize(name))), models)};
}

ApiError service_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return bad_request("", error.message);
    case ErrorCode::kNotFound:
      return {.status = 404, .code = "not_found", .message = error.message};
    case ErrorCode::kResourceLimit:
      return {.status = 429,
              .type = "rate_limit_error",
              .code = "rate_limit_exceeded",
              .message = error.message};
    case ErrorCode::kUnavailable:
      return {.status = 503,
              .type = "server_error",
              .code = "service_unavailable",
              .message = error.message};
    case ErrorCode::kInternal:
      break;
  }
  return {
      .status = 500, .type = "server_error", .code = "internal_error", .message = error.message};
}

std::string openai_error_body(const ApiError& error) {
  return wire_text(
      {{"error",
        {{"message", error.message},
         {"type", error.type},
         {"param", error.param.empty() ? ordered_json(nullptr) : ordered_json(error.param)},
         {"code", error.code}}}});
}

std::string_view anthropic_error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "billing_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

std::string anthropic_error_body(const ApiError& error, std::string_view request_id) {
  ordered_json body = {
      {"type", "error"},
      {"error", {{"type", anthropic_error_type(error.status)}, {"message", error.message}}}};
  if (!request_id.empty()) body["request_id"] = request_id;
  return wire_text(body);
}

}  // namespace fathom::server::api
