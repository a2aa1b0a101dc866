// See handlers_test_support.h.
#include "server/handlers/handlers_test_support.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <fstream>
#include <future>
#include <mutex>
#include <thread>

#include "server/api/test_support.h"

namespace fathom::server::test {
namespace {

namespace asio = boost::asio;
using nlohmann::json;

json usual_status() {
  return json::parse(R"({"state":"ok","models":[{"id":"nano","state":"ready","running":3,
    "waiting":2,"kv_pages_used":16,"kv_pages_total":64,"prefix_cache_queries_total":100,
    "prefix_cache_hits_total":40,"preemptions_total":1,
    "workers":[{"index":0,"state":"ready","restarts":2}]}]})");
}

}  // namespace

std::vector<Step> say(std::string_view text) {
  return {{.kind = Step::Kind::kText, .text = std::string(text)}};
}
Step together(std::string text) {
  // A wait of this length marks tokens that come in one event.
  return {
      .kind = Step::Kind::kText, .text = std::move(text), .wait = std::chrono::milliseconds(-1)};
}
Step wait_ms(int ms) { return {.kind = Step::Kind::kWait, .wait = std::chrono::milliseconds(ms)}; }
Step hang() { return {.kind = Step::Kind::kHang}; }
Step finish(FinishReason reason) { return {.kind = Step::Kind::kFinish, .finish = reason}; }
Step fail(Error error) { return {.kind = Step::Kind::kFail, .error = std::move(error)}; }

Script script(std::vector<std::vector<Step>> parts) {
  Script out;
  for (auto& part : parts)
    for (Step& step : part) out.push_back(std::move(step));
  return out;
}

std::vector<SseLine> events_of(const std::string& body) {
  std::vector<SseLine> out;
  std::size_t at = 0;
  while (at < body.size()) {
    const std::size_t end = std::min(body.find("\n\n", at), body.size());
    SseLine line;
    for (std::size_t i = at; i < end;) {
      const std::size_t stop = std::min(body.find('\n', i), end);
      const std::string text = body.substr(i, stop - i);
      if (text.starts_with("event: ")) line.event = text.substr(7);
      if (text.starts_with("id: ")) line.id = text.substr(4);
      if (text.starts_with("data: ")) line.data = text.substr(6);
      i = stop + 1;
    }
    if (!line.data.empty()) out.push_back(std::move(line));
    at = end + 2;
  }
  return out;
}

struct ApiServer::State {
  class Service;
  class Played;

  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::thread_pool pool{1};
  Metrics metrics;
  std::unique_ptr<Service> service;
  std::unique_ptr<HandlerDeps> deps;
  Router router;
  OpenAuthenticator open;
  std::optional<ApiKeyAuthenticator> keys;
  std::unique_ptr<Listener> listener;
  std::thread thread;
};

class ApiServer::State::Service final : public ModelService {
 public:
  explicit Service(std::shared_ptr<ServedModel> model) : model_(std::move(model)) {}
  std::vector<std::shared_ptr<const ServedModel>> models() const override { return {model_}; }
  std::shared_ptr<const ServedModel> find(std::string_view name) const override {
    return name == model_->id || name == "deepseek-chat" ? model_ : nullptr;
  }
  Result<std::unique_ptr<Generation>> submit(GenerationSpec spec) override;
  Status load(std::string_view) override { return set_state("loading"); }
  Status unload(std::string_view) override { return set_state("unloaded"); }
  Status erase_tenant(const std::string& tenant) override {
    const std::lock_guard lock(mutex);
    erased.push_back(tenant);
    return {};
  }
  json status() const override {
    const std::lock_guard lock(mutex);
    return state;
  }

  mutable std::mutex mutex;
  std::deque<Script> scripts;
  std::vector<std::string> erased;
  std::optional<Error> refusal;
  json state = usual_status();
  std::vector<GenerationSpec> submitted;
  int cancelled = 0;
  int alive = 0;

 private:
  Status set_state(const char* name) {
    const std::lock_guard lock(mutex);
    state["models"][0]["state"] = name;
    return {};
  }

  std::shared_ptr<ServedModel> model_;
};

class ApiServer::State::Played final : public Generation {
 public:
  Played(Service& service, Script steps, const Tokenizer& tokenizer) : service_(service) {
    for (Step& step : steps) {
      if (step.kind != Step::Kind::kText) {
        steps_.push_back({std::move(step), {}});
        continue;
      }
      std::vector<SampledToken> tokens = api::test::tokens_of(tokenizer, step.text);
      if (step.wait.count() < 0) {
        steps_.push_back({std::move(step), std::move(tokens)});
      } else {
        for (SampledToken& token : tokens) steps_.push_back({step, {std::move(token)}});
      }
    }
    const std::lock_guard lock(service_.mutex);
    ++service_.alive;
  }
  ~Played() override {
    const std::lock_guard lock(service_.mutex);
    --service_.alive;
    if (!ended_) ++service_.cancelled;
  }

  asio::awaitable<GenerationEvent> next(std::chrono::milliseconds timeout) override {
    GenerationEvent event;
    for (;;) {
      const auto kind = steps_.empty() ? Step::Kind::kHang : steps_.front().step.kind;
      if (kind != Step::Kind::kWait && kind != Step::Kind::kHang) break;
      const bool over = kind == Step::Kind::kWait && steps_.front().step.wait <= timeout;
      asio::steady_timer timer(co_await asio::this_coro::executor,
                               over ? steps_.front().step.wait : timeout);
      co_await timer.async_wait(asio::use_awaitable);
      if (!over) {
        if (kind == Step::Kind::kWait) steps_.front().step.wait -= timeout;
        co_return event;
      }
      steps_.pop_front();
    }
    Playing playing = std::move(steps_.front());
    steps_.pop_front();
    event.cached_prompt_tokens = 2;
    if (playing.step.kind == Step::Kind::kText) {
      event.kind = GenerationEvent::Kind::kTokens;
      event.tokens = std::move(playing.tokens);
      co_return event;
    }
    ended_ = true;
    const bool failed = playing.step.kind == Step::Kind::kFail;
    event.kind = failed ? GenerationEvent::Kind::kFailed : GenerationEvent::Kind::kFinished;
    event.finish = playing.step.finish;
    event.error = playing.step.error;
    co_return event;
  }

 private:
  struct Playing {
    Step step;
    std::vector<SampledToken> tokens;
  };
  Service& service_;
  std::deque<Playing> steps_;
  bool ended_ = false;
};

Result<std::unique_ptr<Generation>> ApiServer::State::Service::submit(GenerationSpec spec) {
  Script steps = script({say("ok"), one(finish())});
  {
    const std::lock_guard lock(mutex);
    if (refusal.has_value()) {
      const Error error = *refusal;
      refusal.reset();
      return error;
    }
    submitted.push_back(std::move(spec));
    if (!scripts.empty()) {
      steps = std::move(scripts.front());
      scripts.pop_front();
    }
  }
  return std::unique_ptr<Generation>(
      std::make_unique<Played>(*this, std::move(steps), *model_->tokenizer));
}

ApiServer::ApiServer(Options options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  auto model = api::test::served(options.tokenizer, options.family);
  model->id = "nano";
  s.service = std::make_unique<State::Service>(model);
  s.deps.reset(new HandlerDeps{
      .service = *s.service, .metrics = s.metrics, .pool = s.pool, .version = "1.2.3"});
  s.deps->keep_alive = options.keep_alive;
  s.deps->body_keep_alive = options.body_keep_alive;
  s.deps->metrics_open = options.metrics_open;
  add_routes(s.router, *s.deps);
  Listener::Options o;
  o.pipeline.router = &s.router;
  o.pipeline.authenticator = &s.open;
  if (!options.api_keys.empty()) {
    const std::string path = fmt::format("{}/keys.{}", ::testing::TempDir(), ::getpid());
    std::ofstream(path) << options.api_keys;
    auto keys = ApiKeyAuthenticator::open(path);
    EXPECT_TRUE(keys) << keys.error().message;
    s.keys.emplace(*std::move(keys));
    o.pipeline.authenticator = &*s.keys;
  }
  o.on_handler_error = [](const std::string& text) { ADD_FAILURE() << text; };
  s.listener = std::make_unique<Listener>(s.io, std::move(o));
  const Status listening = s.listener->listen("127.0.0.1", 0);
  EXPECT_TRUE(listening) << listening.error().message;
  port_ = s.listener->port();
  s.listener->start();
  s.thread = std::thread([&s] { s.io.run(); });
}

ApiServer::~ApiServer() {
  State& s = *state_;
  asio::post(s.io, [&s] {
    server::stop_background(*s.deps);
    s.listener.reset();
  });
  s.work.reset();
  s.thread.join();
  s.pool.join();
}

void ApiServer::play(Script steps) {
  const std::lock_guard lock(state_->service->mutex);
  state_->service->scripts.push_back(std::move(steps));
}

void ApiServer::refuse_next(Error error) {
  const std::lock_guard lock(state_->service->mutex);
  state_->service->refusal = std::move(error);
}

void ApiServer::set_status(json status) {
  const std::lock_guard lock(state_->service->mutex);
  state_->service->state = std::move(status);
}

std::vector<GenerationSpec> ApiServer::submitted() {
  const std::lock_guard lock(state_->service->mutex);
  return state_->service->submitted;
}

std::vector<std::string> ApiServer::erased() {
  const std::lock_guard lock(state_->service->mutex);
  return state_->service->erased;
}

int ApiServer::cancelled() {
  const std::lock_guard lock(state_->service->mutex);
  return state_->service->cancelled;
}

int ApiServer::alive() {
  const std::lock_guard lock(state_->service->mutex);
  return state_->service->alive;
}

TestResponse ApiServer::get(std::string_view path, std::string_view headers) const {
  return connect().request(
      fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, headers));
}

TestResponse ApiServer::del(std::string_view path) const {
  return connect().request(fmt::format("DELETE {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path));
}

std::string ApiServer::post_bytes(std::string_view path, std::string_view body,
                                  std::string_view headers) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n{}\r\n{}",
      path, body.size(), headers, body);
}

TestResponse ApiServer::post(std::string_view path, std::string_view body,
                             std::string_view headers) const {
  return connect().request(post_bytes(path, body, headers));
}

const Router& ApiServer::router() const { return state_->router; }
Metrics& ApiServer::metrics() { return state_->metrics; }

bool ApiServer::eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

void ApiServer::stop_background() {
  std::promise<void> done;
  asio::post(state_->io, [&] {
    server::stop_background(*state_->deps);
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace fathom::server::test
