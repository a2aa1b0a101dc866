// POST /chat/completions and its aliases.
#include <utility>

#include "server/api/chat_request.h"
#include "server/api/chat_response.h"
#include "server/handlers/answer_run.h"
#include "server/handlers/common.h"
#include "server/handlers/groups.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using api::ChatRequest;

class ChatForm final : public AnswerForm {
 public:
  ChatForm(api::ResponseMeta meta, const ChatRequest& request,
           std::shared_ptr<const Tokenizer> tokenizer)
      : meta_(meta),
        tokenizer_(tokenizer),
        logprobs_(request.top_logprobs >= 0),
        streams_(request.stream),
        stream_(std::move(meta),
                {.include_usage = request.include_usage,
                 .logprobs = request.top_logprobs >= 0,
                 .choices = request.choices},
                std::move(tokenizer)) {}

  void deltas(int choice, std::span<const api::Delta> deltas, SseEvents& out) override {
    if (streams_) append(stream_.deltas(choice, deltas), out);
  }
  void finish(int choice, const api::Answer& answer, SseEvents& out) override {
    if (streams_) append(stream_.finish(choice, answer), out);
  }
  void end(SseEvents& out) override {
    if (streams_) append(stream_.end(), out);
  }
  void error(const api::ApiError& error, SseEvents& out) override {
    out.push_back(stream_.error(error));
  }
  std::string body(std::span<const api::Answer* const> answers) override {
    return api::chat_body(meta_, answers, logprobs_ ? tokenizer_.get() : nullptr);
  }
  std::string error_body(const api::ApiError& error) override {
    return api::openai_error_body(error);
  }

 private:
  static void append(SseEvents events, SseEvents& out) {
    for (api::SseEvent& event : events) out.push_back(std::move(event));
  }
  api::ResponseMeta meta_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool logprobs_;
  bool streams_;
  api::ChatStream stream_;
};

asio::awaitable<void> chat(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  const bool large = context.body.size() > kInlineParseBytes;
  const auto parse = [&context] { return api::parse_chat_request(context.body); };
  auto request = co_await run_off_io(deps, large, parse);
  if (!request) {
    co_await send_error(responder, request.error());
    co_return;
  }
  auto model = find_model(deps, request->model);
  if (!model) {
    co_await send_error(responder, model.error());
    co_return;
  }
  const api::PrepareContext prepare = prepare_context(deps, context, *model);
  const bool long_prompt = context.body.size() > kInlinePrepareBytes;
  std::string().swap(context.body);
  const auto work = [&] { return api::prepare_chat(*request, prepare); };
  auto prepared = co_await run_off_io(deps, long_prompt, work);
  if (!prepared) {
    co_await send_error(responder, prepared.error());
    co_return;
  }
  AnswerJob job;
  job.model = *model;
  job.request_id = context.request_id;
  job.start = context.start;
  for (int i = 0; i < request->choices; ++i) job.choices.push_back(api::choice_of(*prepared, i));
  ChatForm form(make_meta(deps, context, "chatcmpl-", request->model, **model), *request,
                (*model)->tokenizer);
  co_await respond(deps, responder, std::move(job), form, request->stream);
}

}  // namespace

void add_chat_routes(Router& router, HandlerDeps& deps) {
  for (const char* pattern :
       {"/chat/completions", "/v1/chat/completions", "/beta/chat/completions"}) {
    router.add(inference_route(pattern, "chat.create",
                               [&deps](RequestContext& context, Responder& responder) {
                                 return chat(deps, context, responder);
                               }));
  }
}

}  // namespace fathom::server
