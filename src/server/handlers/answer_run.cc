// See answer_run.h.
#include "server/handlers/answer_run.h"

#include <utility>

#include "server/handlers/common.h"

namespace fathom::server {

namespace asio = boost::asio;
using api::ApiError;
using api::ApiResult;

void AnswerForm::begin(const api::Usage&, SseEvents&) {}
void AnswerForm::end(SseEvents&) {}
std::string AnswerForm::keep_alive() { return std::string(api::kSseKeepAlive); }

AnswerRun::AnswerRun(HandlerDeps& deps, const AnswerJob& job,
                     std::vector<std::unique_ptr<Generation>> generations)
    : deps_(deps),
      request_id_(job.request_id),
      meter_(*deps.generation_metrics, job.model->id, job.choices.size(), job.start),
      generations_(std::move(generations)),
      open_(job.choices.size()) {
  for (const api::Prepared& choice : job.choices)
    choices_.push_back(std::make_unique<Choice>(choice.spec));
  // Answers to one prompt stand together; it counts once.
  const std::size_t step = job.choices.size() / static_cast<std::size_t>(job.prompts);
  for (std::size_t i = 0; i < job.choices.size(); i += step)
    meter_.prompt(job.choices[i].spec.prompt_tokens);
}

ApiResult<std::unique_ptr<AnswerRun>> AnswerRun::submit(HandlerDeps& deps, AnswerJob job) {
  if (deps.log_prompts && deps.log != nullptr) {
    const auto text = job.model->tokenizer->decode(job.choices.front().request.prompt);
    deps.log->write(LogLevel::kInfo, "prompt",
                    {{"request_id", job.request_id},
                     {"model", job.model->id},
                     {"text", text ? *text : text.error().message}});
  }
  std::vector<std::unique_ptr<Generation>> generations;
  for (api::Prepared& choice : job.choices) {
    GenerationSpec spec;
    spec.model = job.model;
    spec.request = std::move(choice.request);
    spec.request_id = job.request_id;
    auto generation = deps.service.submit(std::move(spec));
    if (!generation) return api::service_error(generation.error());
    generations.push_back(*std::move(generation));
  }
  return std::unique_ptr<AnswerRun>(new AnswerRun(deps, job, std::move(generations)));
}

void AnswerRun::take_tokens(int choice, const GenerationEvent& event, AnswerForm& form,
                            SseEvents& out) {
  Choice& c = *choices_[static_cast<std::size_t>(choice)];
  meter_.tokens(choice, event.tokens.size());
  c.assembler.set_cached_prompt_tokens(event.cached_prompt_tokens);
  if (!begun_) {
    begun_ = true;
    form.begin(c.assembler.answer().usage, out);
  }
  const std::vector<api::Delta> deltas = c.assembler.push(event.tokens);
  form.deltas(choice, deltas, out);
  if (!c.assembler.stopped()) return;
  generations_.stop(choice);
  finish_choice(choice, FinishReason::kStop, form, out);
}

void AnswerRun::finish_choice(int choice, FinishReason reason, AnswerForm& form, SseEvents& out) {
  Choice& c = *choices_[static_cast<std::size_t>(choice)];
  if (!begun_) {
    begun_ = true;
    form.begin(c.assembler.answer().usage, out);
  }
  form.deltas(choice, c.assembler.finish(reason), out);
  const api::Answer& answer = c.assembler.answer();
  form.finish(choice, answer, out);
  c.done = true;
  --open_;
  meter_.finished(std::string(api::finish_name(answer.finish)).c_str());
  if (deps_.log_prompts && deps_.log != nullptr)
    deps_.log->write(LogLevel::kInfo, "answer",
                     {{"request_id", request_id_}, {"text", answer.reasoning + answer.content}});
}

void AnswerRun::fail(const Error& error) {
  error_ = api::service_error(error);
  meter_.failed();
  for (std::size_t i = 0; i < choices_.size(); ++i) generations_.stop(static_cast<int>(i));
}

asio::awaitable<AnswerRun::Step> AnswerRun::next(AnswerForm& form, SseEvents& out) {
  co_await generations_.next(deps_.keep_alive, arrived_);
  bool idle = true;
  for (const ChoiceEvent& arrived : arrived_) {
    if (choices_[static_cast<std::size_t>(arrived.choice)]->done) continue;
    const GenerationEvent& event = arrived.event;
    switch (event.kind) {
      case GenerationEvent::Kind::kIdle:
        continue;
      case GenerationEvent::Kind::kTokens:
        take_tokens(arrived.choice, event, form, out);
        break;
      case GenerationEvent::Kind::kFinished:
        if (event.finish == FinishReason::kError) {
          fail(internal_error("the engine failed to complete the answer"));
          co_return Step::kFailed;
        }
        finish_choice(arrived.choice, event.finish, form, out);
        break;
      case GenerationEvent::Kind::kFailed:
        fail(event.error);
        co_return Step::kFailed;
    }
    idle = false;
  }
  if (open_ > 0) co_return idle ? Step::kIdle : Step::kEvents;
  form.end(out);
  co_return Step::kDone;
}

std::vector<const api::Answer*> AnswerRun::answers() const {
  std::vector<const api::Answer*> out;
  for (const auto& choice : choices_) out.push_back(&choice->assembler.answer());
  return out;
}

namespace {

using Step = AnswerRun::Step;

asio::awaitable<void> stream_answers(HandlerDeps& deps, Responder& responder, AnswerRun& run,
                                     AnswerForm& form) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_sent = Clock::now();
  SseEvents events;
  for (;;) {
    events.clear();
    const Step step = co_await run.next(form, events);
    if (step == Step::kFailed && !responder.started()) {
      std::string body = form.error_body(run.error());
      co_await send_error(responder, run.error(), std::move(body));
      co_return;
    }
    if (step == Step::kFailed) form.error(run.error(), events);
    std::string text = sse_texts(events);
    // Tokens may come for long without a word that can be sent: a call's beginning, say.
    const Clock::time_point now = Clock::now();
    const bool silent = text.empty() && now - last_sent >= deps.keep_alive;
    if (step == Step::kIdle || silent) text = form.keep_alive();
    if (!text.empty()) last_sent = now;
    if (!responder.started()) {
      const bool begun = co_await start_sse(responder);
      if (!begun) co_return;
    }
    const bool sent = co_await responder.write(std::move(text));
    if (!sent) co_return;
    if (step == Step::kDone || step == Step::kFailed) break;
  }
  co_await responder.finish();
}

asio::awaitable<void> send_whole(HandlerDeps& deps, Responder& responder, AnswerRun& run,
                                 AnswerForm& form) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  Clock::time_point last_sent = begin;
  SseEvents unused;
  Step step = Step::kEvents;
  for (;;) {
    step = co_await run.next(form, unused);
    unused.clear();
    if (step == Step::kDone || step == Step::kFailed) break;
    const Clock::time_point now = Clock::now();
    if (now - begin < deps.body_keep_alive || now - last_sent < deps.keep_alive) continue;
    last_sent = now;
    if (!responder.started()) {
      const bool begun = co_await start_json(responder);
      if (!begun) co_return;
    }
    const bool sent = co_await responder.write(std::string(api::kBodyKeepAlive));
    if (!sent) co_return;
  }
  std::string body = step == Step::kDone ? form.body(run.answers()) : form.error_body(run.error());
  if (responder.started()) {
    const bool sent = co_await responder.write(std::move(body));
    if (sent) co_await responder.finish();
  } else if (step == Step::kDone) {
    co_await send_json(responder, std::move(body));
  } else {
    co_await send_error(responder, run.error(), std::move(body));
  }
}

}  // namespace

asio::awaitable<void> respond(HandlerDeps& deps, Responder& responder, AnswerJob job,
                              AnswerForm& form, bool stream) {
  auto run = AnswerRun::submit(deps, std::move(job));
  if (!run) {
    std::string body = form.error_body(run.error());
    co_await send_error(responder, run.error(), std::move(body));
  } else if (stream) {
    co_await stream_answers(deps, responder, **run, form);
  } else {
    co_await send_whole(deps, responder, **run, form);
  }
}

void DeltaCollector::add(std::span<const api::Delta> deltas) {
  using Kind = OutputEvent::Kind;
  for (const api::Delta& delta : deltas) {
    const Kind kind = delta.event.kind;
    const bool grows =
        kind == Kind::kReasoning || kind == Kind::kContent || kind == Kind::kToolCallArguments;
    if (!grows || deltas_.empty() || deltas_.back().event.kind != kind) {
      deltas_.push_back(delta);
      continue;
    }
    deltas_.back().event.text += delta.event.text;
    auto& tokens = deltas_.back().tokens;
    tokens.insert(tokens.end(), delta.tokens.begin(), delta.tokens.end());
  }
}

}  // namespace fathom::server
