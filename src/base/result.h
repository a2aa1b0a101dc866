// Result<T>: a value or an Error, for everything a user, a file or the network can cause.
//
// The interface is a subset of std::expected's, so that it can become an alias once the compilers
// we support have it. Programmer errors are not Results: they are FATHOM_CHECKs (check.h).
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace fathom {

// What went wrong, in five kinds. apps/ maps them to exit codes, the server to HTTP statuses.
enum class ErrorCode {
  kInvalidArgument,  // the caller's words: a flag, a request, a file's content
  kNotFound,         // a named thing does not exist
  kResourceLimit,    // a named limit was reached, or memory ran out
  kUnavailable,      // not now: try again
  kInternal,         // ours
};

// `message` names the thing, the value seen, what was expected and what to do next.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

inline Error invalid_argument(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}
inline Error not_found(std::string message) { return {ErrorCode::kNotFound, std::move(message)}; }
inline Error resource_limit(std::string message) {
  return {ErrorCode::kResourceLimit, std::move(message)};
}
inline Error unavailable(std::string message) {
  return {ErrorCode::kUnavailable, std::move(message)};
}
inline Error internal_error(std::string message) {
  return {ErrorCode::kInternal, std::move(message)};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: like expected
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  // Requires has_value(); anything else is a programmer error.
  T& value() & {
    FATHOM_CHECK(has_value()) << error_message();
    return std::get<0>(state_);
  }
  const T& value() const& {
    FATHOM_CHECK(has_value()) << error_message();
    return std::get<0>(state_);
  }
  T&& value() && {
    FATHOM_CHECK(has_value()) << error_message();
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::string error_message() const { return has_value() ? "" : std::get<1>(state_).message; }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : failed_(true), error_(std::move(error)) {}  // NOLINT

  bool has_value() const { return !failed_; }
  explicit operator bool() const { return !failed_; }
  const Error& error() const& { return error_; }
  Error&& error() && { return std::move(error_); }

 private:
  bool failed_ = false;
  Error error_;
};

using Status = Result<void>;

}  // namespace fathom

#define FATHOM_CONCAT_(a, b) a##b
#define FATHOM_CONCAT(a, b) FATHOM_CONCAT_(a, b)

// FATHOM_TRY(auto x, f());  declares x, or returns f's error from the enclosing function.
// A statement, not an expression: around co_await an expression form crashes g++ 12.
#define FATHOM_TRY(declaration, expression) \
  FATHOM_TRY_(FATHOM_CONCAT(fathom_try_, __COUNTER__), declaration, expression)
#define FATHOM_TRY_(tmp, declaration, expression) \
  auto tmp = (expression);                        \
  if (!tmp) return std::move(tmp).error();        \
  declaration = *std::move(tmp)

// The same in a coroutine; the expression may be a co_await.
#define FATHOM_CO_TRY(declaration, expression) \
  FATHOM_CO_TRY_(FATHOM_CONCAT(fathom_co_try_, __COUNTER__), declaration, expression)
#define FATHOM_CO_TRY_(tmp, declaration, expression) \
  auto tmp = (expression);                           \
  if (!tmp) co_return std::move(tmp).error();        \
  declaration = *std::move(tmp)

// FATHOM_TRY_STATUS(f());  returns f's error, if any.
#define FATHOM_TRY_STATUS(expression)                                    \
  do {                                                                   \
    auto fathom_try_status = (expression);                               \
    if (!fathom_try_status) return std::move(fathom_try_status).error(); \
  } while (false)
