// POST /completions and its aliases: plain text and fill-in-the-middle.
#include <utility>

#include "server/api/completions_request.h"
#include "server/api/completions_response.h"
#include "server/handlers/answer_run.h"
#include "server/handlers/common.h"
#include "server/handlers/groups.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using api::CompletionRequest;

class CompletionForm final : public AnswerForm {
 public:
  CompletionForm(const api::ResponseMeta& meta, const CompletionRequest& request,
                 std::vector<std::string> echoes, std::shared_ptr<const Tokenizer> tokenizer)
      : meta_(meta),
        tokenizer_(std::move(tokenizer)),
        echoes_(std::move(echoes)),
        choices_(request.choices),
        logprobs_(request.top_logprobs >= 0),
        streams_(request.stream),
        stream_(meta,
                {.include_usage = request.include_usage,
                 .logprobs = logprobs_,
                 .choices = static_cast<int>(echoes_.size())},
                echoes_, choices_, tokenizer_) {}

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
    std::vector<api::CompletionChoice> choices;
    for (std::size_t i = 0; i < answers.size(); ++i) choices.push_back({answers[i], echoes_[i]});
    return api::completion_body(meta_, choices, choices_, logprobs_ ? tokenizer_.get() : nullptr);
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
  std::vector<std::string> echoes_;
  int choices_;
  bool logprobs_;
  bool streams_;
  api::CompletionStream stream_;
};

asio::awaitable<api::ApiStatus> complete(HandlerDeps& deps, RequestContext& context,
                                         Responder& responder) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, api::parse_completion_request));
  const api::CompletionRequest& request = asked.request;
  const api::PrepareContext prepare = prepare_context(deps, context, asked.model);
  const auto work = [&] { return api::prepare_completions(request, prepare); };
  FATHOM_CO_TRY(auto prepared, co_await prepare_off_io(deps, context, work));
  AnswerJob job = job_of(context, asked.model);
  job.prompts = static_cast<int64_t>(request.prompts.size());
  std::vector<std::string> echoes;
  for (api::PreparedCompletion& choice : prepared) {
    job.choices.push_back(std::move(choice.prepared));
    echoes.push_back(std::move(choice.echo));
  }
  CompletionForm form(make_meta(deps, context, "cmpl-", request.model, *asked.model), request,
                      std::move(echoes), asked.model->tokenizer);
  co_await respond(deps, responder, std::move(job), form, request.stream);
  co_return api::ApiStatus{};
}

}  // namespace

void add_completion_routes(Router& router, HandlerDeps& deps) {
  for (const char* pattern : {"/completions", "/v1/completions", "/beta/completions"}) {
    router.add(inference_route(pattern, "completion.create",
                               [&deps](RequestContext& context, Responder& responder) {
                                 return answer_or_refuse(complete(deps, context, responder),
                                                         Dialect::kOpenAi, context, responder);
                               }));
  }
}

}  // namespace fathom::server
