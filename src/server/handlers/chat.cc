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

asio::awaitable<api::ApiStatus> chat(HandlerDeps& deps, RequestContext& context,
                                     Responder& responder) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, api::parse_chat_request));
  const api::ChatRequest& request = asked.request;
  const api::PrepareContext prepare = prepare_context(deps, context, asked.model);
  const auto work = [&] { return api::prepare_chat(request, prepare); };
  FATHOM_CO_TRY(const api::Prepared prepared, co_await prepare_off_io(deps, context, work));
  AnswerJob job = job_of(context, asked.model);
  for (int i = 0; i < request.choices; ++i) job.choices.push_back(api::choice_of(prepared, i));
  ChatForm form(make_meta(deps, context, "chatcmpl-", request.model, *asked.model), request,
                asked.model->tokenizer);
  co_await respond(deps, responder, std::move(job), form, request.stream);
  co_return api::ApiStatus{};
}

}  // namespace

void add_chat_routes(Router& router, HandlerDeps& deps) {
  for (const char* pattern :
       {"/chat/completions", "/v1/chat/completions", "/beta/chat/completions"}) {
    router.add(inference_route(pattern, "chat.create",
                               [&deps](RequestContext& context, Responder& responder) {
                                 return answer_or_refuse(chat(deps, context, responder),
                                                         Dialect::kOpenAi, context, responder);
                               }));
  }
}

}  // namespace fathom::server
