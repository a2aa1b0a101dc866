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

// Parse, find the model, answer: what tokenize and detokenize share.
template <typename Parse, typename Answer>
asio::awaitable<void> convert(HandlerDeps& deps, RequestContext& context, Responder& responder,
                              Parse parse, Answer answer) {
  const auto read = [&] { return parse(context.body); };
  auto request = co_await run_off_io(deps, context.body.size() > kInlineParseBytes, read);
  if (!request) {
    co_await send_error(responder, request.error());
    co_return;
  }
  auto model = find_model(deps, request->model);
  if (!model) {
    co_await send_error(responder, model.error());
    co_return;
  }
  const auto work = [&] { return answer(*request, **model); };
  auto body = co_await run_off_io(deps, context.body.size() > kInlinePrepareBytes, work);
  if (body) {
    co_await send_json(responder, *std::move(body));
  } else {
    co_await send_error(responder, body.error());
  }
}

asio::awaitable<void> embeddings(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  auto request = api::parse_embeddings_request(context.body);
  if (!request) {
    co_await send_error(responder, request.error());
    co_return;
  }
  auto model = find_model(deps, request->model);
  const api::ApiError error = model ? api::no_embeddings(request->model) : model.error();
  co_await send_error(responder, error);
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
          return convert(deps, c, r, api::parse_tokenize_request, api::tokenize_body);
        }));
    router.add(light_route(
        "POST", prefix + "/detokenize", "detokenize", [&deps](RequestContext& c, Responder& r) {
          return convert(deps, c, r, api::parse_detokenize_request, api::detokenize_body);
        }));
    router.add(
        light_route("POST", prefix + "/embeddings", "embeddings.create",
                    [&deps](RequestContext& c, Responder& r) { return embeddings(deps, c, r); }));
  }
  router.add(light_route("GET", "/user/balance", "",
                         [](RequestContext&, Responder& r) { return balance(r); }));
  router.add(light_route("GET", "/openapi.json", "",
                         [body = api::openapi_body(deps.version)](RequestContext&, Responder& r) {
                           return send_json(r, body);
                         }));
}

}  // namespace fathom::server
