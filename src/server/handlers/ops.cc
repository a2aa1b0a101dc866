// What keeps the server running asks: /health, /ready, /metrics, /status, loading and unloading
// models.
//
// /health is for "restart me?" and load balancers: 503 only if no model can answer. /ready is for
// "send me work?": 503 until every model is that has not been unloaded.
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/misc.h"
#include "server/api/wire.h"
#include "server/handlers/common.h"
#include "server/handlers/groups.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using nlohmann::json;
using nlohmann::ordered_json;

json models_of(const json& status) {
  const auto found = status.find("models");
  return found != status.end() && found->is_array() ? *found : json::array();
}

asio::awaitable<void> send_state(Responder& responder, bool good, const ordered_json& state) {
  ExtraHeaders headers;
  headers.emplace_back("Cache-Control", "no-store");
  if (!good) headers.emplace_back("Retry-After", "5");
  std::string body = api::wire_text(state);
  co_await responder.send(good ? 200 : 503, "application/json", std::move(body),
                          std::move(headers));
}

asio::awaitable<void> health(HandlerDeps& deps, Responder& responder) {
  const json status = deps.service.status();
  const std::string state = string_of(status, "state");
  const bool good = state == "ok" || state == "degraded";
  bool failed = !models_of(status).empty();
  for (const json& model : models_of(status))
    failed = failed && string_of(model, "state") == "failed";
  ordered_json body;
  body["status"] = good ? "ok" : failed ? "failed" : "loading";
  co_await send_state(responder, good, body);
}

asio::awaitable<void> ready(HandlerDeps& deps, Responder& responder) {
  const json status = deps.service.status();
  const json models = models_of(status);
  // A model that was unloaded on purpose is not waited for.
  bool good = true, any = false;
  for (const json& model : models) {
    const std::string state = string_of(model, "state");
    any = any || state == "ready";
    good = good && (state == "ready" || state == "unloaded" || state == "unloading");
  }
  good = good && any;
  ordered_json body;
  body["status"] = good ? "ready" : "not_ready";
  body["models"] = ordered_json::object();
  for (const json& model : models)
    body["models"][string_of(model, "id")] = string_of(model, "state");
  co_await send_state(responder, good, body);
}

asio::awaitable<void> metrics(HandlerDeps& deps, Responder& responder) {
  std::string text = deps.metrics.render();
  co_await responder.send(200, std::string(kMetricsContentType), std::move(text), {});
}

asio::awaitable<void> show_status(HandlerDeps& deps, std::chrono::steady_clock::time_point start,
                                  Responder& responder) {
  json status = deps.service.status();
  const auto uptime = std::chrono::steady_clock::now() - start;
  if (!status.contains("version")) status["version"] = deps.version;
  if (!status.contains("uptime_s"))
    status["uptime_s"] = std::chrono::duration<double>(uptime).count();
  if (deps.complete_status) deps.complete_status(status);
  const ordered_json body = status;
  co_await send_state(responder, true, body);
}

// POST /models/{model}/load and /unload.
asio::awaitable<api::ApiStatus> change_model(HandlerDeps& deps, RequestContext& context,
                                             Responder& responder,
                                             Status (ModelService::*change)(std::string_view)) {
  FATHOM_CO_TRY(const auto served, find_model(deps, context.param("model")));
  const Status changed = (deps.service.*change)(served->id);
  if (!changed) co_return api::service_error(changed.error());
  std::string state;
  for (const json& model : models_of(deps.service.status()))
    if (string_of(model, "id") == served->id) state = string_of(model, "state");
  co_await send_json(responder, api::model_state_body(*served, state));
  co_return api::ApiStatus{};
}

// DELETE /v1/cache?user_id=ID: what the caches hold of the caller, or of one of its users.
asio::awaitable<api::ApiStatus> erase_cache(HandlerDeps& deps, RequestContext& context,
                                            Responder& responder) {
  const std::string_view user = context.query("user_id").value_or("");
  const Status told = deps.service.erase_tenant(api::tenant_of(context.principal.name, user));
  if (!told) co_return api::service_error(told.error());
  co_await send_json(responder, api::cache_erased_body());
  co_return api::ApiStatus{};
}

}  // namespace

void add_ops_routes(Router& router, HandlerDeps& deps) {
  const auto add = [&router](const char* pattern, Permission permission, Handler handler) {
    Route route = light_route("GET", pattern, "", std::move(handler));
    route.permission = permission;
    route.quota = QuotaClass::kNone;  // who watches is never told to come back later
    router.add(std::move(route));
  };
  add("/health", Permission::kPublic,
      [&deps](RequestContext&, Responder& r) { return health(deps, r); });
  add("/ready", Permission::kPublic,
      [&deps](RequestContext&, Responder& r) { return ready(deps, r); });
  add("/metrics", deps.metrics_open ? Permission::kPublic : Permission::kMetrics,
      [&deps](RequestContext&, Responder& r) { return metrics(deps, r); });
  const auto change = [&](const char* pattern, const char* audit, auto how) {
    Route route =
        light_route("POST", pattern, audit, [&deps, how](RequestContext& c, Responder& r) {
          return answer_or_refuse(change_model(deps, c, r, how), Dialect::kOpenAi, c, r);
        });
    route.permission = Permission::kAdmin;
    router.add(std::move(route));
  };
  change("/models/{model}/load", "models.load", &ModelService::load);
  change("/models/{model}/unload", "models.unload", &ModelService::unload);
  router.add(
      light_route("DELETE", "/v1/cache", "cache.erase", [&deps](RequestContext& c, Responder& r) {
        return answer_or_refuse(erase_cache(deps, c, r), Dialect::kOpenAi, c, r);
      }));
  add("/status", Permission::kObserve,
      [&deps, start = std::chrono::steady_clock::now()](RequestContext&, Responder& r) {
        return show_status(deps, start, r);
      });
}

}  // namespace fathom::server
