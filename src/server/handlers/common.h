// What the handlers share: answers' heads, errors in either form, the model that a request names,
// and when work leaves the io thread. Internal to this folder.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "server/api/api_error.h"
#include "server/api/chat_response.h"
#include "server/api/prepare.h"
#include "server/api/wire.h"
#include "server/handlers/routes.h"
#include "server/http/offload.h"

namespace fathom::server {

// Parsing takes about 1 ms for so much JSON; rendering and tokenising for so much text.
inline constexpr std::size_t kInlineParseBytes = 64 << 10;
inline constexpr std::size_t kInlinePrepareBytes = 8 << 10;

// fn() here if its input is small, else on the pool.
template <typename Fn>
boost::asio::awaitable<std::invoke_result_t<Fn>> run_off_io(HandlerDeps& deps, bool large, Fn fn) {
  if (!large) co_return fn();
  co_return co_await offload(deps.pool, std::move(fn));
}

enum class Dialect : uint8_t { kOpenAi, kAnthropic };
std::string error_body(Dialect dialect, const api::ApiError& error, std::string_view request_id);

// Runs a handler that may refuse; its error is sent in the dialect's form. Once it has begun to
// answer it must not return one.
boost::asio::awaitable<void> answer_or_refuse(boost::asio::awaitable<api::ApiStatus> handler,
                                              Dialect dialect, const RequestContext& context,
                                              Responder& responder);

boost::asio::awaitable<void> send_json(Responder& responder, std::string body);
// With Retry-After where coming back helps.
boost::asio::awaitable<void> send_error(Responder& responder, const api::ApiError& error,
                                        std::string body);
boost::asio::awaitable<void> send_error(Responder& responder, const api::ApiError& error);
boost::asio::awaitable<bool> start_sse(Responder& responder);
boost::asio::awaitable<bool> start_json(Responder& responder);

// The string in a field; "" if it is none.
std::string string_of(const nlohmann::json& object, const char* name);

std::string sse_texts(const std::vector<api::SseEvent>& events);

// The served model of that name or alias.
api::ApiResult<std::shared_ptr<const ServedModel>> find_model(HandlerDeps& deps,
                                                              std::string_view name);

// A request, and the served model that it names.
template <typename Request>
struct Asked {
  Request request;
  std::shared_ptr<const ServedModel> model;
};

// The body by `parse`. Errors: parse's; a model that is not served.
template <typename Request>
boost::asio::awaitable<api::ApiResult<Asked<Request>>> read_request(
    HandlerDeps& deps, const RequestContext& context,
    api::ApiResult<Request> (*parse)(std::string_view)) {
  const auto read = [&] { return parse(context.body); };
  FATHOM_CO_TRY(Request request,
                co_await run_off_io(deps, context.body.size() > kInlineParseBytes, read));
  std::string_view name;
  if constexpr (requires { request.model; }) {
    name = request.model;
  } else {
    name = request.chat.model;
  }
  FATHOM_CO_TRY(auto model, find_model(deps, name));
  co_return Asked<Request>{std::move(request), std::move(model)};
}

// fn(), which renders and tokenises what was in the body; the body itself is dropped before.
template <typename Fn>
boost::asio::awaitable<std::invoke_result_t<Fn>> prepare_off_io(HandlerDeps& deps,
                                                                RequestContext& context, Fn fn) {
  const bool large = context.body.size() > kInlinePrepareBytes;
  std::string().swap(context.body);
  co_return co_await run_off_io(deps, large, std::move(fn));
}

// `prefix`: "chatcmpl-". `model`: as the client named it, since clients compare.
api::ResponseMeta make_meta(HandlerDeps& deps, const RequestContext& context,
                            std::string_view prefix, std::string model, const ServedModel& served);
api::PrepareContext prepare_context(HandlerDeps& deps, const RequestContext& context,
                                    std::shared_ptr<const ServedModel> model,
                                    std::string_view call_prefix = "call_");

// A row that generates; `audit`: what it is called there.
Route inference_route(std::string pattern, std::string audit, Handler handler);
Route light_route(std::string method, std::string pattern, std::string audit, Handler handler);

}  // namespace fathom::server
