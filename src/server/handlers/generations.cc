// One coroutine per answer feeds a common queue. See generations.h.
#include "server/handlers/generations.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <deque>
#include <utility>

#include "server/handlers/signal.h"

namespace fathom::server {

namespace asio = boost::asio;

namespace {

bool is_last(const GenerationEvent& event) {
  return event.kind == GenerationEvent::Kind::kFinished ||
         event.kind == GenerationEvent::Kind::kFailed;
}

// How often a pump looks whether it was stopped, should its generation not be interruptible.
constexpr std::chrono::milliseconds kPumpPeriod{1000};

}  // namespace

struct Generations::Shared {
  struct Choice {
    std::unique_ptr<Generation> generation;
    asio::cancellation_signal cancel;
    bool stopped = false;  // nobody wants more of it
  };
  std::deque<Choice> choices;
  std::vector<ChoiceEvent> events;
  Signal arrived;
  bool spawned = false;
};

Generations::Generations(std::vector<std::unique_ptr<Generation>> generations) {
  if (generations.size() == 1) {
    only_ = std::move(generations.front());
    return;
  }
  shared_ = std::make_shared<Shared>();
  for (auto& generation : generations)
    shared_->choices.emplace_back().generation = std::move(generation);
}

Generations::~Generations() {
  for (std::size_t i = 0; shared_ != nullptr && i < shared_->choices.size(); ++i)
    stop(static_cast<int>(i));
}

void Generations::stop(int choice) {
  only_.reset();
  if (shared_ == nullptr) return;
  Shared::Choice& c = shared_->choices[static_cast<std::size_t>(choice)];
  if (c.stopped) return;
  c.stopped = true;
  // A pump that waits is interrupted and lets go of the generation.
  if (shared_->spawned) {
    c.cancel.emit(asio::cancellation_type::terminal);
  } else {
    c.generation.reset();
  }
}

asio::awaitable<void> Generations::pump(std::shared_ptr<Shared> shared, std::size_t choice) {
  Shared::Choice& c = shared->choices[choice];
  while (!c.stopped) {
    GenerationEvent event = co_await c.generation->next(kPumpPeriod);
    if (c.stopped || event.kind == GenerationEvent::Kind::kIdle) continue;
    const bool last = is_last(event);
    shared->events.push_back({static_cast<int>(choice), std::move(event)});
    shared->arrived.notify();
    if (last) break;
  }
}

void Generations::spawn_pumps(const asio::any_io_executor& executor) {
  shared_->spawned = true;
  for (std::size_t i = 0; i < shared_->choices.size(); ++i) {
    Shared::Choice& c = shared_->choices[i];
    if (c.stopped) continue;
    // `shared` lives as long as a pump does.
    const auto ended = [shared = shared_, i](const std::exception_ptr& failure) {
      Shared::Choice& own = shared->choices[i];
      own.generation.reset();
      if (failure == nullptr || own.stopped) return;
      GenerationEvent event;
      event.kind = GenerationEvent::Kind::kFailed;
      event.error = internal_error("the generation ended by an exception");
      shared->events.push_back({static_cast<int>(i), std::move(event)});
      shared->arrived.notify();
    };
    asio::co_spawn(executor, pump(shared_, i),
                   asio::bind_cancellation_slot(c.cancel.slot(), ended));
  }
}

asio::awaitable<void> Generations::next(std::chrono::milliseconds timeout,
                                        std::vector<ChoiceEvent>& out) {
  out.clear();
  if (only_ != nullptr) {
    GenerationEvent event = co_await only_->next(timeout);
    if (is_last(event)) only_.reset();
    out.push_back({0, std::move(event)});
    co_return;
  }
  if (!shared_->spawned) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    spawn_pumps(executor);
  }
  if (shared_->events.empty()) co_await shared_->arrived.wait(timeout);
  out.swap(shared_->events);
  if (out.empty()) out.emplace_back();
}

}  // namespace fathom::server
