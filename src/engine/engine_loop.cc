#include "engine/engine_loop.h"

#include <algorithm>

namespace fathom {

EngineLoop::EngineLoop(std::unique_ptr<Engine> engine, Sink sink)
    : engine_(std::move(engine)), sink_(std::move(sink)), stats_(engine_->stats()) {
  thread_ = std::thread([this] { run(); });
}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void EngineLoop::post(Message message) {
  {
    const std::lock_guard lock(mutex_);
    mailbox_.push_back(std::move(message));
  }
  wake_.notify_one();
}

void EngineLoop::submit(uint64_t ticket, Request request) {
  post(Submit{ticket, std::move(request)});
}

void EngineLoop::cancel(uint64_t ticket) { post(Cancel{ticket}); }

void EngineLoop::erase_tenant(std::string tenant, std::function<void()> done) {
  post(Erase{std::move(tenant), std::move(done)});
}

void EngineLoop::flush(std::chrono::milliseconds timeout, std::function<void()> done) {
  post(Flush{timeout, std::move(done)});
}

EngineStats EngineLoop::stats() const {
  EngineStats out;
  {
    const std::lock_guard lock(mutex_);
    out = stats_;
  }
  out.tier = engine_->tier_stats();
  return out;
}

void EngineLoop::run() {
  std::vector<Message> messages;
  std::vector<TokenEvent> events;
  std::vector<LoopEvent> out;
  bool idle = false;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (idle) busy_.store(false, std::memory_order_relaxed);
      wake_.wait(lock, [&] { return stop_ || !idle || !mailbox_.empty(); });
      if (stop_) return;
      busy_.store(true, std::memory_order_relaxed);
      messages.swap(mailbox_);
    }
    for (Message& m : messages) handle(std::move(m), out);
    messages.clear();
    idle = !engine_->step(events);
    collect(events, out);
    events.clear();
    {
      const std::lock_guard lock(mutex_);
      stats_ = engine_->stats();
    }
    steps_.fetch_add(1, std::memory_order_relaxed);
    if (!out.empty()) sink_(std::move(out));
    out.clear();
  }
}

void EngineLoop::handle(Message message, std::vector<LoopEvent>& out) {
  if (auto* submit = std::get_if<Submit>(&message)) {
    const auto id = engine_->submit(std::move(submit->request));
    if (!id) {
      out.push_back(
          {.ticket = submit->ticket, .finish = FinishReason::kError, .error = id.error()});
      return;
    }
    tickets_[*id] = submit->ticket;
    ids_[submit->ticket] = *id;
  } else if (const auto* cancel = std::get_if<Cancel>(&message)) {
    const auto found = ids_.find(cancel->ticket);
    if (found == ids_.end()) return;
    engine_->cancel(found->second);
    tickets_.erase(found->second);
    ids_.erase(found);
  } else if (const auto* flush = std::get_if<Flush>(&message)) {
    engine_->flush_tier(flush->timeout);
    if (flush->done) flush->done();
  } else {
    erase(std::get<Erase>(message), out);
  }
}

void EngineLoop::erase(const Erase& erase, std::vector<LoopEvent>& out) {
  for (const uint64_t id : engine_->erase_tenant(erase.tenant)) {
    const auto ticket = tickets_.find(id);
    if (ticket == tickets_.end()) continue;
    out.push_back({.ticket = ticket->second,
                   .finish = FinishReason::kError,
                   .error = {ErrorCode::kUnavailable, "what this caller has here was erased"}});
    ids_.erase(ticket->second);
    tickets_.erase(ticket);
  }
  if (erase.done) erase.done();
}

// The tokens of a request in a step as one event.
void EngineLoop::collect(std::vector<TokenEvent>& events, std::vector<LoopEvent>& out) {
  for (TokenEvent& e : events) {
    const auto ticket = tickets_.find(e.request_id);
    if (ticket == tickets_.end()) continue;
    if (out.empty() || out.back().ticket != ticket->second || out.back().finish) {
      out.push_back({.ticket = ticket->second,
                     .first_index = e.index,
                     .cached_tokens = std::max<int64_t>(e.cached_tokens, 0)});
    }
    LoopEvent& to = out.back();
    if (e.finish == FinishReason::kError) {
      to.error = internal_error(std::move(e.error));
    } else {
      to.tokens.push_back(std::move(e.sampled));
    }
    to.finish = e.finish;
    if (e.finish) {
      ids_.erase(ticket->second);
      tickets_.erase(ticket);
    }
  }
}

}  // namespace fathom
