// POST /anthropic/v1/messages and count_tokens, and the same at /v1/messages for clients that are
// given the server's address alone.
#include <utility>

#include "server/api/anthropic_request.h"
#include "server/api/anthropic_response.h"
#include "server/api/misc.h"
#include "server/handlers/answer_run.h"
#include "server/handlers/common.h"
#include "server/handlers/groups.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using api::ChatRequest;

class AnthropicForm final : public AnswerForm {
 public:
  AnthropicForm(const api::ResponseMeta& meta, bool streams)
      : request_id_(meta.request_id), streams_(streams), stream_(meta) {}

  void begin(const api::Usage& usage, SseEvents& out) override {
    begun_ = true;
    append(stream_.begin(usage), out);
  }
  void deltas(int, std::span<const api::Delta> deltas, SseEvents& out) override {
    if (streams_) {
      append(stream_.deltas(deltas), out);
    } else {
      collected_.add(deltas);
    }
  }
  void finish(int, const api::Answer& answer, SseEvents& out) override {
    if (!streams_) append(stream_.deltas(collected_.all()), out);
    append(stream_.finish(answer), out);
  }
  void error(const api::ApiError& error, SseEvents& out) override {
    out.push_back(stream_.error(error));
  }
  std::string keep_alive() override {
    // A ping is not allowed to come before message_start.
    return begun_ ? api::sse_text(stream_.ping()) : AnswerForm::keep_alive();
  }
  std::string body(std::span<const api::Answer* const>) override { return stream_.body(); }
  std::string error_body(const api::ApiError& error) override {
    return api::anthropic_error_body(error, request_id_);
  }

 private:
  static void append(SseEvents events, SseEvents& out) {
    for (api::SseEvent& event : events) out.push_back(std::move(event));
  }
  std::string request_id_;
  bool streams_;
  bool begun_ = false;
  api::AnthropicStream stream_;
  DeltaCollector collected_;
};

asio::awaitable<void> refuse(const RequestContext& context, Responder& responder,
                             const api::ApiError& error) {
  std::string body = error_body(Dialect::kAnthropic, error, context.request_id);
  co_await send_error(responder, error, std::move(body));
}

asio::awaitable<void> messages(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  const bool large = context.body.size() > kInlineParseBytes;
  const auto parse = [&context] { return api::parse_anthropic_request(context.body); };
  auto request = co_await run_off_io(deps, large, parse);
  if (!request) {
    co_await refuse(context, responder, request.error());
    co_return;
  }
  auto model = find_model(deps, request->model);
  if (!model) {
    co_await refuse(context, responder, model.error());
    co_return;
  }
  const api::PrepareContext prepare = prepare_context(deps, context, *model, "toolu_");
  const bool long_prompt = context.body.size() > kInlinePrepareBytes;
  std::string().swap(context.body);
  const auto work = [&] { return api::prepare_chat(*request, prepare); };
  auto prepared = co_await run_off_io(deps, long_prompt, work);
  if (!prepared) {
    co_await refuse(context, responder, prepared.error());
    co_return;
  }
  AnswerJob job;
  job.model = *model;
  job.request_id = context.request_id;
  job.start = context.start;
  job.choices.push_back(*std::move(prepared));
  AnthropicForm form(make_meta(deps, context, "msg_", request->model, **model), request->stream);
  co_await respond(deps, responder, std::move(job), form, request->stream);
}

asio::awaitable<void> count_tokens(HandlerDeps& deps, RequestContext& context,
                                   Responder& responder) {
  const bool large = context.body.size() > kInlineParseBytes;
  const auto parse = [&context] { return api::parse_count_tokens_request(context.body); };
  auto request = co_await run_off_io(deps, large, parse);
  if (!request) {
    co_await refuse(context, responder, request.error());
    co_return;
  }
  auto model = find_model(deps, request->model);
  if (!model) {
    co_await refuse(context, responder, model.error());
    co_return;
  }
  const auto work = [&] { return api::count_tokens_body(*request, **model); };
  auto body = co_await run_off_io(deps, context.body.size() > kInlinePrepareBytes, work);
  if (body) {
    co_await send_json(responder, *std::move(body));
  } else {
    co_await refuse(context, responder, body.error());
  }
}

}  // namespace

void add_anthropic_routes(Router& router, HandlerDeps& deps) {
  for (const char* prefix : {"/anthropic/v1/messages", "/v1/messages"}) {
    const std::string pattern = prefix;
    Route create = inference_route(pattern, "messages.create",
                                   [&deps](RequestContext& context, Responder& responder) {
                                     return messages(deps, context, responder);
                                   });
    create.error_format = anthropic_error_body;
    router.add(std::move(create));
    Route count = light_route("POST", pattern + "/count_tokens", "messages.count_tokens",
                              [&deps](RequestContext& context, Responder& responder) {
                                return count_tokens(deps, context, responder);
                              });
    count.error_format = anthropic_error_body;
    router.add(std::move(count));
  }
  router.set_error_format("/anthropic", anthropic_error_body);
  router.set_error_format("/v1/messages", anthropic_error_body);
}

}  // namespace fathom::server
