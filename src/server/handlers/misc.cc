// Models, balance, tokenize, detokenize, embeddings, and the document that describes them all.
#include <utility>

#include "server/api/misc.h"
#include "server/api/openapi.h"
#include "server/handlers/common.h"
#include "server/handlers/groups.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;

asio::awaitable<void> list_models(HandlerDeps& deps, Responder& responder) {
  const auto models = deps.service.models();
  co_await send_json(responder, api::models_body(models));
}

asio::awaitable<void> show_model(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  auto model = find_model(deps, context.param("model"));
  if (model) {
    co_await send_json(responder, api::model_body(**model));
  } else {
    co_await send_error(responder, model.error());
  }
}

asio::awaitable<void> balance(Responder& responder) {
  co_await send_json(responder, api::balance_body());
}

// What tokenize and detokenize share.
template <typename Request>
asio::awaitable<api::ApiStatus> convert(HandlerDeps& deps, RequestContext& context,
                                        Responder& responder,
                                        api::ApiResult<Request> (*parse)(std::string_view),
                                        api::ApiResult<std::string> (*answer)(const Request&,
                                                                              const ServedModel&)) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, parse));
  const auto work = [&] { return answer(asked.request, *asked.model); };
  FATHOM_CO_TRY(std::string body, co_await prepare_off_io(deps, context, work));
  co_await send_json(responder, std::move(body));
  co_return api::ApiStatus{};
}

asio::awaitable<api::ApiStatus> embeddings(HandlerDeps& deps, RequestContext& context) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, api::parse_embeddings_request));
  co_return api::no_embeddings(asked.request.model);
}

}  // namespace

void add_misc_routes(Router& router, HandlerDeps& deps) {
  for (const std::string prefix : {"", "/v1"}) {
    router.add(light_route("GET", prefix + "/models", "", [&deps](RequestContext&, Responder& r) {
      return list_models(deps, r);
    }));
    router.add(
        light_route("GET", prefix + "/models/{model}", "",
                    [&deps](RequestContext& c, Responder& r) { return show_model(deps, c, r); }));
    router.add(light_route(
        "POST", prefix + "/tokenize", "tokenize", [&deps](RequestContext& c, Responder& r) {
          return answer_or_refuse(
              convert(deps, c, r, api::parse_tokenize_request, api::tokenize_body),
              Dialect::kOpenAi, c, r);
        }));
    router.add(light_route(
        "POST", prefix + "/detokenize", "detokenize", [&deps](RequestContext& c, Responder& r) {
          return answer_or_refuse(
              convert(deps, c, r, api::parse_detokenize_request, api::detokenize_body),
              Dialect::kOpenAi, c, r);
        }));
    router.add(light_route("POST", prefix + "/embeddings", "embeddings.create",
                           [&deps](RequestContext& c, Responder& r) {
                             return answer_or_refuse(embeddings(deps, c), Dialect::kOpenAi, c, r);
                           }));
  }
  router.add(light_route("GET", "/user/balance", "",
                         [](RequestContext&, Responder& r) { return balance(r); }));
  router.add(light_route("GET", "/openapi.json", "",
                         [body = api::openapi_body(deps.version)](RequestContext&, Responder& r) {
                           return send_json(r, body);
                         }));
}

}  // namespace fathom::server
