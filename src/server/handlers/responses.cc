// POST /responses, and what can be done with a stored one: look at it, follow its events, cancel
// it, delete it.
//
// A response in the background runs on its own; its request is answered at once, or follows its
// events like any later GET does, which may begin anywhere (starting_after). Others are computed
// while their client waits, and have no events to be had again.
#include <fmt/format.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/responses_request.h"
#include "server/api/responses_response.h"
#include "server/handlers/answer_run.h"
#include "server/handlers/common.h"
#include "server/handlers/groups.h"
#include "server/handlers/response_store.h"

namespace fathom::server {
namespace {

namespace asio = boost::asio;
using api::ResponsesRequest;

class ResponsesForm final : public AnswerForm {
 public:
  ResponsesForm(api::ResponseMeta meta, const ResponsesRequest& request,
                std::shared_ptr<const Tokenizer> tokenizer)
      : streams_(request.chat.stream || request.background),
        stream_(std::move(meta), request, std::move(tokenizer)) {}

  void begin(const api::Usage&, SseEvents& out) override {
    if (!std::exchange(begun_, true)) append(stream_.begin(), out);
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
    begin({}, out);
    append(stream_.fail(error), out);
  }
  void cancel() { stream_.cancel(); }
  std::string body() const { return stream_.body(); }
  std::string body(std::span<const api::Answer* const>) override { return body(); }
  std::string error_body(const api::ApiError& error) override {
    return api::openai_error_body(error);
  }

 private:
  static void append(SseEvents events, SseEvents& out) {
    for (api::SseEvent& event : events) out.push_back(std::move(event));
  }
  bool streams_;
  bool begun_ = false;
  api::ResponsesStream stream_;
  DeltaCollector collected_;
};

// The form of a response that is stored when it is complete.
class StoringForm final : public AnswerForm {
 public:
  StoringForm(ResponsesForm& form, ResponseStore& store, std::shared_ptr<StoredResponse> entry)
      : form_(form), store_(store), entry_(std::move(entry)) {}

  void begin(const api::Usage& usage, SseEvents& out) override { form_.begin(usage, out); }
  void deltas(int choice, std::span<const api::Delta> deltas, SseEvents& out) override {
    form_.deltas(choice, deltas, out);
  }
  void finish(int choice, const api::Answer& answer, SseEvents& out) override {
    form_.finish(choice, answer, out);
    if (entry_ == nullptr) return;
    entry_->history.push_back(api::message_of(answer));
    entry_->body = form_.body();
    store_.put(entry_);
  }
  void error(const api::ApiError& error, SseEvents& out) override { form_.error(error, out); }
  std::string body(std::span<const api::Answer* const> answers) override {
    return form_.body(answers);
  }
  std::string error_body(const api::ApiError& error) override { return form_.error_body(error); }

 private:
  ResponsesForm& form_;
  ResponseStore& store_;
  std::shared_ptr<StoredResponse> entry_;  // null: not to be stored
};

// What a response in the background runs on.
struct Background {
  std::shared_ptr<StoredResponse> entry;
  std::unique_ptr<ResponsesForm> form;
  std::unique_ptr<AnswerRun> run;
};

// Who follows is woken for what there is to send; to wake for nothing means "still idle" to it.
void publish(StoredResponse& entry, SseEvents& events) {
  if (events.empty() && entry.running) return;
  for (const api::SseEvent& event : events) entry.events.push_back(api::sse_text(event));
  events.clear();
  entry.changed.notify();
}

asio::awaitable<void> run_background(HandlerDeps& deps, std::shared_ptr<Background> background) {
  StoredResponse& entry = *background->entry;
  SseEvents events;
  while (entry.running) {
    const AnswerRun::Step step = co_await background->run->next(*background->form, events);
    if (!entry.running) break;  // cancelled meanwhile
    if (step == AnswerRun::Step::kFailed) background->form->error(background->run->error(), events);
    if (step == AnswerRun::Step::kDone)
      entry.history.push_back(api::message_of(*background->run->answers().front()));
    if (step == AnswerRun::Step::kDone || step == AnswerRun::Step::kFailed) {
      entry.running = false;
      entry.on_cancel = nullptr;
      entry.live_body = nullptr;
      entry.body = background->form->body();
      deps.responses->put(background->entry);
    }
    publish(entry, events);
  }
}

void spawn_background(HandlerDeps& deps, const asio::any_io_executor& executor,
                      const std::shared_ptr<Background>& background) {
  const std::shared_ptr<StoredResponse> entry = background->entry;
  // The entry must not keep what runs it: they would keep each other.
  const std::weak_ptr<Background> weak = background;
  entry->on_cancel = [raw = entry.get(), weak] {
    const auto running = weak.lock();
    if (running == nullptr) return;
    running->form->cancel();
    raw->body = running->form->body();
  };
  entry->live_body = [weak] {
    const auto running = weak.lock();
    return running == nullptr ? std::string() : running->form->body();
  };
  // One that an exception ended is as good as cancelled.
  const auto ended = [background](const std::exception_ptr&) {
    ResponseStore::cancel(*background->entry);
  };
  asio::co_spawn(executor, run_background(deps, background),
                 asio::bind_cancellation_slot(entry->cancel.slot(), ended));
}

// Sends the events from number `next` on, those that exist and those to come.
asio::awaitable<void> follow(HandlerDeps& deps, std::shared_ptr<StoredResponse> entry,
                             std::size_t next, Responder& responder) {
  const bool begun = co_await start_sse(responder);
  if (!begun) co_return;
  for (;;) {
    std::string text;
    for (; next < entry->events.size(); ++next) text += entry->events[next];
    const bool over = !entry->running;
    if (text.empty() && !over) {
      const std::size_t before = entry->events.size();
      co_await entry->changed.wait(deps.keep_alive);
      if (entry->events.size() > before || !entry->running) continue;
      text = api::kSseKeepAlive;
    }
    const bool sent = co_await responder.write(std::move(text));
    if (!sent) co_return;
    if (over) break;
  }
  co_await responder.finish();
}

// The stored response before this one; its conversation goes on.
api::ApiResult<std::vector<ChatMessage>> history_of(HandlerDeps& deps,
                                                    const ResponsesRequest& request,
                                                    std::string_view owner) {
  if (request.previous_response_id.empty()) return std::vector<ChatMessage>();
  const auto previous = deps.responses->find(request.previous_response_id, owner);
  if (previous == nullptr) {
    api::ApiError error = api::bad_request(
        "previous_response_id", fmt::format("previous_response_id names no stored response: {}",
                                            api::wire_text(request.previous_response_id)));
    error.status = 404;
    error.code = "previous_response_not_found";
    return error;
  }
  if (previous->running)
    return api::bad_request(
        "previous_response_id",
        "the response " + previous->id + " is still running, expected a complete one");
  return previous->history;
}

std::shared_ptr<StoredResponse> make_entry(const RequestContext& context, const std::string& id,
                                           const ResponsesRequest& request,
                                           std::vector<ChatMessage> history) {
  auto entry = std::make_shared<StoredResponse>();
  entry->id = id;
  entry->owner = context.principal.name;
  entry->background = request.background;
  entry->history = std::move(history);
  entry->history.insert(entry->history.end(), request.chat.messages.begin(),
                        request.chat.messages.end());
  entry->created = std::chrono::steady_clock::now();
  return entry;
}

asio::awaitable<void> begin_background(HandlerDeps& deps, Responder& responder, AnswerJob job,
                                       std::shared_ptr<Background> background, bool stream) {
  const std::shared_ptr<StoredResponse> entry = background->entry;
  if (!deps.responses->may_run(entry->owner)) {
    const api::ApiError error =
        api::service_error(resource_limit("too many responses run in the background"));
    co_await send_error(responder, error);
    co_return;
  }
  auto run = AnswerRun::submit(deps, std::move(job));
  if (!run) {
    co_await send_error(responder, run.error());
    co_return;
  }
  background->run = *std::move(run);
  entry->running = true;
  std::string queued = background->form->body();
  SseEvents events;
  background->form->begin({}, events);
  publish(*entry, events);
  deps.responses->put(entry);
  // Not the connection's: it goes on when that one has ended.
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  spawn_background(deps, executor, background);
  if (stream) {
    co_await follow(deps, entry, 0, responder);
  } else {
    co_await send_json(responder, std::move(queued));
  }
}

asio::awaitable<api::ApiStatus> create(HandlerDeps& deps, RequestContext& context,
                                       Responder& responder) {
  FATHOM_CO_TRY(auto asked, co_await read_request(deps, context, api::parse_responses_request));
  const api::ResponsesRequest& request = asked.request;
  FATHOM_CO_TRY(auto history, history_of(deps, request, context.principal.name));
  const api::PrepareContext prepare = prepare_context(deps, context, asked.model);
  const auto work = [&]() -> api::ApiResult<api::Prepared> {
    FATHOM_TRY(const api::ChatRequest chat, api::conversation(request, history));
    return api::prepare_chat(chat, prepare);
  };
  const bool large = context.body.size() > kInlinePrepareBytes || history.size() > 4;
  std::string().swap(context.body);
  FATHOM_CO_TRY(auto prepared, co_await run_off_io(deps, large, work));
  AnswerJob job = job_of(context, asked.model);
  job.choices.push_back(std::move(prepared));
  api::ResponseMeta meta = make_meta(deps, context, "resp_", request.chat.model, *asked.model);
  std::shared_ptr<StoredResponse> entry;
  if (request.store) entry = make_entry(context, meta.id, request, std::move(history));
  auto form = std::make_unique<ResponsesForm>(std::move(meta), request, asked.model->tokenizer);
  if (request.background) {
    auto background = std::make_shared<Background>();
    background->entry = entry;
    background->form = std::move(form);
    co_await begin_background(deps, responder, std::move(job), std::move(background),
                              request.chat.stream);
  } else {
    StoringForm storing(*form, *deps.responses, entry);
    co_await respond(deps, responder, std::move(job), storing, request.chat.stream);
  }
  co_return api::ApiStatus{};
}

// The response that the path names, if it is the caller's.
api::ApiResult<std::shared_ptr<StoredResponse>> find_stored(HandlerDeps& deps,
                                                            const RequestContext& context) {
  auto entry = deps.responses->find(context.param("response"), context.principal.name);
  if (entry != nullptr) return entry;
  return api::service_error(
      not_found(fmt::format("no response is stored as {}",
                            api::wire_text(std::string(context.param("response").substr(0, 64))))));
}

// Where a client that follows wants to begin: the number after starting_after.
api::ApiResult<std::size_t> first_event(const RequestContext& context) {
  const auto text = context.query("starting_after");
  if (!text.has_value()) return std::size_t{0};
  std::size_t number = 0;
  const auto [end, failure] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (failure != std::errc() || end != text->data() + text->size() || number > 1'000'000'000)
    return api::bad_request("starting_after",
                            fmt::format("starting_after is {}, expected the sequence_number of an "
                                        "event",
                                        api::wire_text(std::string(text->substr(0, 64)))));
  return number + 1;
}

asio::awaitable<void> show(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  auto entry = find_stored(deps, context);
  if (!entry) {
    co_await send_error(responder, entry.error());
    co_return;
  }
  const StoredResponse& stored = **entry;
  if (context.query("stream") != "true") {
    co_await send_json(responder, stored.current_body());
    co_return;
  }
  auto first = first_event(context);
  if (first && !stored.background)
    first = api::bad_request("stream",
                             "the response did not run in the background: it has no "
                             "events, expected a request without stream");
  if (!first) {
    co_await send_error(responder, first.error());
    co_return;
  }
  co_await follow(deps, *entry, *first, responder);
}

asio::awaitable<void> cancel(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  auto entry = find_stored(deps, context);
  if (entry && !(*entry)->background)
    entry = api::bad_request("response", "the response did not run in the background");
  if (!entry) {
    co_await send_error(responder, entry.error());
    co_return;
  }
  ResponseStore::cancel(**entry);
  co_await send_json(responder, (*entry)->body);
}

asio::awaitable<void> forget(HandlerDeps& deps, RequestContext& context, Responder& responder) {
  auto entry = find_stored(deps, context);
  if (!entry) {
    co_await send_error(responder, entry.error());
    co_return;
  }
  deps.responses->erase(**entry);
  std::string body =
      fmt::format(R"({{"id":"{}","object":"response","deleted":true}})", (*entry)->id);
  co_await send_json(responder, std::move(body));
}

}  // namespace

void add_response_routes(Router& router, HandlerDeps& deps) {
  for (const std::string prefix : {"/responses", "/v1/responses"}) {
    router.add(inference_route(prefix, "response.create", [&deps](RequestContext& c, Responder& r) {
      return answer_or_refuse(create(deps, c, r), Dialect::kOpenAi, c, r);
    }));
    const std::string one = prefix + "/{response}";
    router.add(light_route("GET", one, "response.get",
                           [&deps](RequestContext& c, Responder& r) { return show(deps, c, r); }));
    router.add(
        light_route("DELETE", one, "response.delete",
                    [&deps](RequestContext& c, Responder& r) { return forget(deps, c, r); }));
    router.add(
        light_route("POST", one + "/cancel", "response.cancel",
                    [&deps](RequestContext& c, Responder& r) { return cancel(deps, c, r); }));
  }
}

}  // namespace fathom::server
