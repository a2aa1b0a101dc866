// ApiError: what a client is told when a request fails, and ApiResult<T>, a value or an ApiError.
//
// Owns the error bodies of the dialects. Does not own what causes them: base/result.h's Errors
// become ApiErrors here, by where they come from (the client's words, or the engines).
//
// A malformed or contradictory request is 400 with type and code "invalid_request_error", as
// DeepSeek's API says; its 422 is never used. Codes that OpenAI's clients look at stand in for that
// code where there is one: "model_not_found" (404), "context_length_exceeded",
// "rate_limit_exceeded".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/result.h"

namespace fathom::server::api {

struct ApiError {
  int status = 400;  // of HTTP
  std::string type = "invalid_request_error";
  std::string code = "invalid_request_error";
  std::string param;  // the field that is to blame; "" if none is
  std::string message;
};

// The client's words are to blame, or one of our limits on them: 400.
ApiError bad_request(std::string param, std::string message);
ApiError bad_request(const Error& error, std::string param = "");
// 404; `models`: what there is.
ApiError model_not_found(std::string_view name, std::string_view models);
// What ModelService::submit or a generation failed with: 400, 429, 500 or 503.
ApiError service_error(const Error& error);

// {"error": {"message", "type", "param", "code"}}: DeepSeek's and OpenAI's form.
std::string openai_error_body(const ApiError& error);
// {"type": "error", "error": {"type", "message"}, "request_id"}. Anthropic's form has types of its
// own, which follow from the status.
std::string anthropic_error_body(const ApiError& error, std::string_view request_id);
std::string_view anthropic_error_type(int status);

template <typename T>
class [[nodiscard]] ApiResult {
 public:
  ApiResult(T value) : state_(std::in_place_index<0>, std::move(value)) {}         // NOLINT
  ApiResult(ApiError error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  ApiResult(const Error& error) : ApiResult(bad_request(error)) {}                 // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  // Requires has_value(); anything else is a programmer error.
  T& operator*() & { return checked(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const ApiError& error() const& { return std::get<1>(state_); }
  ApiError&& error() && { return std::get<1>(std::move(state_)); }

 private:
  T& checked() {
    FATHOM_CHECK(has_value()) << std::get<1>(state_).message;
    return std::get<0>(state_);
  }
  std::variant<T, ApiError> state_;
};

template <>
class [[nodiscard]] ApiResult<void> {
 public:
  ApiResult() = default;
  ApiResult(ApiError error) : failed_(true), error_(std::move(error)) {}        // NOLINT
  ApiResult(const Error& error) : failed_(true), error_(bad_request(error)) {}  // NOLINT

  bool has_value() const { return !failed_; }
  explicit operator bool() const { return !failed_; }
  const ApiError& error() const& { return error_; }
  ApiError&& error() && { return std::move(error_); }

 private:
  bool failed_ = false;
  ApiError error_;
};

using ApiStatus = ApiResult<void>;

}  // namespace fathom::server::api
