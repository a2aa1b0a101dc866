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

asio::awaitable<api::ApiStatus> messages(HandlerDeps& deps, RequestContext& context,
                                         Responder& responder) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, api::parse_anthropic_request));
  const api::ChatRequest& request = asked.request;
  const api::PrepareContext prepare = prepare_context(deps, context, asked.model, "toolu_");
  const auto work = [&] { return api::prepare_chat(request, prepare); };
  FATHOM_CO_TRY(auto prepared, co_await prepare_off_io(deps, context, work));
  AnswerJob job = job_of(context, asked.model);
  job.choices.push_back(std::move(prepared));
  AnthropicForm form(make_meta(deps, context, "msg_", request.model, *asked.model), request.stream);
  co_await respond(deps, responder, std::move(job), form, request.stream);
  co_return api::ApiStatus{};
}

asio::awaitable<api::ApiStatus> count_tokens(HandlerDeps& deps, RequestContext& context,
                                             Responder& responder) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, api::parse_count_tokens_request));
  const auto work = [&] { return api::count_tokens_body(asked.request, *asked.model); };
  FATHOM_CO_TRY(std::string body, co_await prepare_off_io(deps, context, work));
  co_await send_json(responder, std::move(body));
  co_return api::ApiStatus{};
}

}  // namespace

void add_anthropic_routes(Router& router, HandlerDeps& deps) {
  for (const char* prefix : {"/anthropic/v1/messages", "/v1/messages"}) {
    const std::string pattern = prefix;
    Route create = inference_route(
        pattern, "messages.create", [&deps](RequestContext& context, Responder& responder) {
          return answer_or_refuse(messages(deps, context, responder), Dialect::kAnthropic, context,
                                  responder);
        });
    create.error_format = anthropic_error_body;
    router.add(std::move(create));
    Route count = light_route("POST", pattern + "/count_tokens", "messages.count_tokens",
                              [&deps](RequestContext& context, Responder& responder) {
                                return answer_or_refuse(count_tokens(deps, context, responder),
                                                        Dialect::kAnthropic, context, responder);
                              });
    count.error_format = anthropic_error_body;
    router.add(std::move(count));
  }
  router.set_error_format("/anthropic", anthropic_error_body);
  router.set_error_format("/v1/messages", anthropic_error_body);
}

}  // namespace fathom::server
