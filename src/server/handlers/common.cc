// See common.h.
#include "server/handlers/common.h"

#include <ctime>
#include <nlohmann/json.hpp>

namespace fathom::server {

namespace asio = boost::asio;

namespace {

constexpr const char* kJson = "application/json";

// Seconds after which it makes sense to come back: a queue moves fast, a worker takes its time.
const char* retry_after(int status) {
  if (status == 429) return "1";
  return status == 503 ? "5" : nullptr;
}

}  // namespace

std::string error_body(Dialect dialect, const api::ApiError& error, std::string_view request_id) {
  return dialect == Dialect::kAnthropic ? api::anthropic_error_body(error, request_id)
                                        : api::openai_error_body(error);
}

asio::awaitable<void> answer_or_refuse(asio::awaitable<api::ApiStatus> handler, Dialect dialect,
                                       const RequestContext& context, Responder& responder) {
  const api::ApiStatus status = co_await std::move(handler);
  if (status) co_return;
  std::string body = error_body(dialect, status.error(), context.request_id);
  co_await send_error(responder, status.error(), std::move(body));
}

asio::awaitable<void> send_json(Responder& responder, std::string body) {
  co_await responder.send(200, kJson, std::move(body), {});
}

asio::awaitable<void> send_error(Responder& responder, const api::ApiError& error,
                                 std::string body) {
  ExtraHeaders headers;
  if (const char* seconds = retry_after(error.status)) headers.emplace_back("Retry-After", seconds);
  co_await responder.send(error.status, kJson, std::move(body), std::move(headers));
}

asio::awaitable<void> send_error(Responder& responder, const api::ApiError& error) {
  std::string body = api::openai_error_body(error);
  co_await send_error(responder, error, std::move(body));
}

asio::awaitable<bool> start_sse(Responder& responder) {
  ExtraHeaders headers;
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");  // nginx: pass events on as they come
  co_return co_await responder.start(200, "text/event-stream", std::move(headers));
}

asio::awaitable<bool> start_json(Responder& responder) {
  ExtraHeaders headers;
  headers.emplace_back("X-Accel-Buffering", "no");
  co_return co_await responder.start(200, kJson, std::move(headers));
}

std::string string_of(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string sse_texts(const std::vector<api::SseEvent>& events) {
  std::string text;
  for (const api::SseEvent& event : events) text += api::sse_text(event);
  return text;
}

api::ApiResult<std::shared_ptr<const ServedModel>> find_model(HandlerDeps& deps,
                                                              std::string_view name) {
  auto model = deps.service.find(name);
  if (model != nullptr) return model;
  std::string names;
  for (const auto& served : deps.service.models())
    names += (names.empty() ? "" : ", ") + served->id;
  return api::model_not_found(name, names);
}

api::ResponseMeta make_meta(HandlerDeps& deps, const RequestContext& context,
                            std::string_view prefix, std::string model, const ServedModel& served) {
  return {.id = std::string(prefix) + deps.make_id(),
          .request_id = context.request_id,
          .created_unix_s = static_cast<int64_t>(std::time(nullptr)),
          .model = std::move(model),
          .fingerprint = served.fingerprint};
}

api::PrepareContext prepare_context(HandlerDeps& deps, const RequestContext& context,
                                    std::shared_ptr<const ServedModel> model,
                                    std::string_view call_prefix) {
  return {.model = std::move(model),
          .random_seed = deps.random_seed(),
          .identity = context.principal.name,
          .call_id_prefix = std::string(call_prefix) + deps.make_id().substr(0, 16) + "_"};
}

Route inference_route(std::string pattern, std::string audit, Handler handler) {
  Route route;
  route.method = "POST";
  route.pattern = std::move(pattern);
  route.permission = Permission::kInfer;
  route.quota = QuotaClass::kInference;
  route.audit = std::move(audit);
  route.handler = std::move(handler);
  return route;
}

Route light_route(std::string method, std::string pattern, std::string audit, Handler handler) {
  Route route = inference_route(std::move(pattern), std::move(audit), std::move(handler));
  route.method = std::move(method);
  route.quota = QuotaClass::kLight;
  return route;
}

}  // namespace fathom::server
