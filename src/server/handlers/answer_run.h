// AnswerRun: the answers to one request from submission to their ends; AnswerForm: what a dialect
// makes of them; respond(): both sent to the client, streamed or whole.
//
// Owns the driving that all dialects share: assemblers, stop strings, metrics, keep-alives, and
// where an error goes (a status before the first byte, an event behind it). Does not parse.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/api_error.h"
#include "server/api/prepare.h"
#include "server/api/wire.h"
#include "server/handlers/generation_metrics.h"
#include "server/handlers/generations.h"
#include "server/handlers/routes.h"

namespace fathom::server {

using SseEvents = std::vector<api::SseEvent>;

class AnswerForm {
 public:
  virtual ~AnswerForm() = default;
  // Before the first token of any answer. `usage`: the prompt's part.
  virtual void begin(const api::Usage& usage, SseEvents& out);
  virtual void deltas(int choice, std::span<const api::Delta> deltas, SseEvents& out) = 0;
  virtual void finish(int choice, const api::Answer& answer, SseEvents& out) = 0;
  // All answers are complete.
  virtual void end(SseEvents& out);
  virtual void error(const api::ApiError& error, SseEvents& out) = 0;
  // What a stream says when there is nothing to say.
  virtual std::string keep_alive();
  // After the end, as one body.
  virtual std::string body(std::span<const api::Answer* const> answers) = 0;
  virtual std::string error_body(const api::ApiError& error) = 0;
};

struct AnswerJob {
  std::shared_ptr<const ServedModel> model;
  std::vector<api::Prepared> choices;  // one per answer
  int64_t prompts = 1;                 // how many prompts they answer, in equal shares
  std::string request_id;
  std::chrono::steady_clock::time_point start;
};
// A job of this request; its choices are to be added.
inline AnswerJob job_of(const RequestContext& context, std::shared_ptr<const ServedModel> model) {
  return {.model = std::move(model), .request_id = context.request_id, .start = context.start};
}

class AnswerRun {
 public:
  enum class Step : uint8_t {
    kEvents,
    kIdle,  // nothing came for a while
    kDone,
    kFailed,  // see error()
  };

  // `deps` must outlive it.
  static api::ApiResult<std::unique_ptr<AnswerRun>> submit(HandlerDeps& deps, AnswerJob job);

  // What comes next, in the form's words (appended). After kDone or kFailed: nothing.
  boost::asio::awaitable<Step> next(AnswerForm& form, SseEvents& out);
  const api::ApiError& error() const { return error_; }
  std::vector<const api::Answer*> answers() const;

 private:
  struct Choice {
    explicit Choice(api::AnswerSpec spec) : assembler(std::move(spec)) {}
    api::AnswerAssembler assembler;
    bool done = false;
  };
  AnswerRun(HandlerDeps& deps, const AnswerJob& job,
            std::vector<std::unique_ptr<Generation>> generations);
  void take_tokens(int choice, const GenerationEvent& event, AnswerForm& form, SseEvents& out);
  void finish_choice(int choice, FinishReason reason, AnswerForm& form, SseEvents& out);
  void fail(const Error& error);

  HandlerDeps& deps_;
  std::string request_id_;
  std::vector<std::unique_ptr<Choice>> choices_;
  RequestMeter meter_;
  Generations generations_;
  std::vector<ChoiceEvent> arrived_;
  std::size_t open_;
  bool begun_ = false;
  api::ApiError error_;
};

// The whole way from a job to the client. Refused or failed before the first byte: an error with
// its status. `form` must outlive the returned coroutine.
boost::asio::awaitable<void> respond(HandlerDeps& deps, Responder& responder, AnswerJob job,
                                     AnswerForm& form, bool stream);

// Deltas that a whole body is made of: what belongs together, joined.
class DeltaCollector {
 public:
  void add(std::span<const api::Delta> deltas);
  const std::vector<api::Delta>& all() const { return deltas_; }

 private:
  std::vector<api::Delta> deltas_;
};

}  // namespace fathom::server
