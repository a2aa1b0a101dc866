#include "server/dispatch/model_host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "server/dispatch/answer_queue.h"

namespace fathom::server {
namespace {

using namespace std::chrono_literals;

constexpr int kMaxQuickFailures = 6;
constexpr int kMaxFaults = 2;

// A fault of the engine itself; SIGKILL, SIGSTOP and the like come from outside.
bool is_crash(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status) != 0;
  const int signal = WTERMSIG(status);
  return signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS || signal == SIGILL ||
         signal == SIGFPE || signal == SIGSYS;
}

std::string describe_exit(int status) {
  if (WIFEXITED(status)) return fmt::format("exited with {}", WEXITSTATUS(status));
  return fmt::format("ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
}

class LocalPort final : public EnginePort {
 public:
  explicit LocalPort(EngineLoop& loop) : loop_(loop) {}
  void submit(uint64_t ticket, const Request& request) override { loop_.submit(ticket, request); }
  void cancel(uint64_t ticket) override { loop_.cancel(ticket); }
  void erase_tenant(const std::string& tenant) override { loop_.erase_tenant(tenant); }

 private:
  EngineLoop& loop_;
};

void add(EngineStats& to, const EngineStats& s) {
  to.prompt_tokens += s.prompt_tokens;
  to.generated_tokens += s.generated_tokens;
  to.prefix_queries += s.prefix_queries;
  to.prefix_hits += s.prefix_hits;
  to.preemptions += s.preemptions;
  to.drafted += s.drafted;
  to.accepted += s.accepted;
  if (!s.tier) return;
  // All but what the directory takes, which is the same one for all.
  PageTierStats sum = to.tier.value_or(PageTierStats{});
  sum.query_tokens += s.tier->query_tokens;
  sum.hit_tokens += s.tier->hit_tokens;
  sum.pages_read += s.tier->pages_read;
  sum.pages_written += s.tier->pages_written;
  sum.bytes_read += s.tier->bytes_read;
  sum.bytes_written += s.tier->bytes_written;
  sum.pages_skipped += s.tier->pages_skipped;
  sum.pages_damaged += s.tier->pages_damaged;
  sum.errors += s.tier->errors;
  sum.bytes = s.tier->bytes;
  sum.other_bytes = s.tier->other_bytes;
  if (!s.tier->last_error.empty()) sum.last_error = s.tier->last_error;
  to.tier = std::move(sum);
}

}  // namespace

class ModelHost::Answer final : public Generation {
 public:
  Answer(std::weak_ptr<ModelHost> host, uint64_t ticket, std::shared_ptr<AnswerQueue> queue)
      : host_(std::move(host)), ticket_(ticket), queue_(std::move(queue)) {}
  ~Answer() override {
    if (const auto host = host_.lock()) host->cancel(ticket_);
  }
  boost::asio::awaitable<GenerationEvent> next(std::chrono::milliseconds timeout) override {
    return queue_->next(timeout);
  }

 private:
  std::weak_ptr<ModelHost> host_;
  uint64_t ticket_;
  std::shared_ptr<AnswerQueue> queue_;
};

ModelHost::ModelHost(boost::asio::io_context& io, ModelSetup setup, Log& log)
    : io_(io),
      setup_(std::move(setup)),
      log_(log),
      model_(std::make_shared<const ServedModel>(setup_.model)) {}

ModelHost::~ModelHost() { stop(); }

// High numbers: a worker gets them as 3, 4, …, and none may be in the way of another.
Status ModelHost::make_memories() {
  for (int64_t i = 0; i < setup_.config.workers; ++i) {
    const int low = ::memfd_create("fathom-kv", MFD_CLOEXEC);
    const int fd = low < 0 ? -1 : ::fcntl(low, F_DUPFD_CLOEXEC, 512);
    const int error = errno;
    if (low >= 0) ::close(low);
    if (fd < 0) {
      return Error{
          ErrorCode::kUnavailable,
          fmt::format("cannot make shared memory for the cache: {}", std::strerror(error))};
    }
    memories_.push_back(fd);
  }
  return {};
}

Status ModelHost::start() {
  if (stopped_) return Error{ErrorCode::kUnavailable, "the server is shutting down"};
  unloading_ = false;
  if (started_ && !failed_) return {};
  if (started_) end_engines();
  failed_ = false;
  quick_failures_ = 0;
  started_ = true;
  const Status engines = start_engines();
  if (!engines) end_engines();
  return engines;
}

void ModelHost::unload() {
  if (!started_) return;
  unloading_ = true;
  log_.write(LogLevel::kInfo, "model unloading",
             {{"model", model_->id}, {"requests", journal_.size()}});
  if (journal_.size() == 0) end_engines();
}

// Their memory is free afterwards; what they counted stays.
void ModelHost::end_engines() {
  for (Slot& slot : slots_) {
    ++slot.epoch;  // what it still says is not heard
    if (slot.local) {
      add(past_, slot.local->stats());
    } else if (slot.process) {
      add(past_, slot.process->heartbeat().stats);
      slot.process->abandon();
    }
    slot.local.reset();
    slot.local_owner.reset();
    slot.process.reset();
    slot.memory = -1;
    slot.flights = 0;
  }
  for (const int fd : memories_) ::close(fd);
  memories_.clear();
  fingerprint_ = {};  // a model file may be another one now
  started_ = unloading_ = failed_ = false;
}

Status ModelHost::start_engines() {
  if (setup_.config.workers == 0) {
    FATHOM_TRY(LocalEngine made, setup_.make_engine());
    slots_.resize(1);
    const uint64_t epoch = ++slots_[0].epoch;
    auto sink = [this, epoch](std::vector<LoopEvent> events) {
      boost::asio::post(io_,
                        [weak = weak_from_this(), epoch, events = std::move(events)]() mutable {
                          if (const auto self = weak.lock())
                            self->on_events(0, epoch, std::move(events));
                        });
    };
    slots_[0].local_owner = std::move(made.owner);
    slots_[0].local = std::make_unique<EngineLoop>(std::move(made.engine), std::move(sink));
    local_port_ = std::make_unique<LocalPort>(*slots_[0].local);
    return {};
  }
  FATHOM_TRY_STATUS(make_memories());
  slots_.resize(static_cast<std::size_t>(setup_.config.workers + setup_.config.standby));
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].standby = static_cast<int64_t>(i) >= setup_.config.workers;
    start_worker(i);
  }
  return {};
}

void ModelHost::stop() {
  stopped_ = true;
  while (journal_.size() > 0) {
    fail(journal_.entries().begin()->first,
         {ErrorCode::kUnavailable, "the server is shutting down"});
  }
  if (started_) end_engines();
}

// A request is over, one way or another.
void ModelHost::end_journal(uint64_t ticket) {
  journal_.end(ticket);
  if (!unloading_ || journal_.size() > 0) return;
  // Not from within an engine's own report.
  boost::asio::post(io_, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && self->unloading_ && self->journal_.size() == 0) self->end_engines();
  });
}

bool ModelHost::usable(const Slot& slot) const {
  return slot.local != nullptr || (slot.memory >= 0 && slot.process && slot.process->ready());
}

int ModelHost::erase_tenant(const std::string& tenant) {
  int told = 0;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (!usable(slots_[i])) continue;
    port(i)->erase_tenant(tenant);
    ++told;
  }
  return told;
}

EnginePort* ModelHost::port(std::size_t index) {
  return slots_[index].local ? local_port_.get() : slots_[index].process.get();
}

void ModelHost::start_worker(std::size_t index) {
  Slot& slot = slots_[index];
  if (stopped_ || failed_ || !started_ || slot.process) return;
  ++slot.epoch;
  slot.stepped = false;
  slot.process =
      std::make_shared<WorkerProcess>(io_, fmt::format("{}.{}", setup_.socket_prefix, index));
  const auto mine = [weak = weak_from_this(), index, epoch = slot.epoch](auto what) {
    return [weak, index, epoch, what](auto&&... arguments) {
      const auto self = weak.lock();
      if (self && self->slots_[index].epoch == epoch && !self->stopped_)
        what(*self, index, std::forward<decltype(arguments)>(arguments)...);
    };
  };
  const Status started = slot.process->start(
      setup_.worker_command, memories_,
      {.on_ready = mine(
           [](ModelHost& h, std::size_t i, const worker::Fingerprint& f) { h.on_ready(i, f); }),
       .on_events = mine([](ModelHost& h, std::size_t i, std::vector<LoopEvent> events) {
         h.on_events(i, h.slots_[i].epoch, std::move(events));
       }),
       .on_heartbeat = mine(
           [](ModelHost& h, std::size_t i, const worker::Heartbeat& b) { h.on_heartbeat(i, b); }),
       .on_exit = mine([](ModelHost& h, std::size_t i, int status) { h.on_exit(i, status); })});
  if (started) return;
  log_.write(LogLevel::kError, "worker not started",
             {{"model", model_->id}, {"reason", started.error().message}});
  slot.process.reset();
  ++quick_failures_;
  restart(index);
}

void ModelHost::on_ready(std::size_t index, const worker::Fingerprint& fingerprint) {
  const bool known = !(fingerprint_ == worker::Fingerprint{});
  if (known && !(fingerprint == fingerprint_) && journal_.size() > 0) {
    // It would go on with other bytes than the answers began with.
    log_.write(LogLevel::kError, "worker computes differently",
               {{"model", model_->id}, {"backend", fingerprint.backend}});
    slots_[index].process->kill("its fingerprint differs from that of the answers in flight");
    return;
  }
  fingerprint_ = fingerprint;
  log_.write(LogLevel::kInfo, "worker ready",
             {{"model", model_->id},
              {"worker", static_cast<int64_t>(index)},
              {"pid", static_cast<int64_t>(slots_[index].process->pid())},
              {"standby", slots_[index].standby}});
  // A spare that is ready before the worker whose place is empty takes that place.
  if (slots_[index].standby) {
    for (Slot& other : slots_) {
      if (other.standby || (other.process && other.process->ready())) continue;
      std::swap(other.standby, slots_[index].standby);
      break;
    }
  }
  activate(index);
  place_waiting();
}

// Gives a worker that is ready the memory that is free, unless it is a spare.
void ModelHost::activate(std::size_t index) {
  Slot& slot = slots_[index];
  if (slot.standby || slot.memory >= 0) return;
  for (int memory = 0; memory < static_cast<int>(memories_.size()); ++memory) {
    const bool taken = std::any_of(slots_.begin(), slots_.end(),
                                   [&](const Slot& s) { return s.memory == memory; });
    if (taken) continue;
    slot.memory = memory;
    slot.process->attach(memory);
    return;
  }
}

void ModelHost::on_events(std::size_t index, uint64_t epoch, std::vector<LoopEvent> events) {
  for (LoopEvent& e : events) {
    JournalEntry* entry = journal_.find(e.ticket);
    if (entry == nullptr || entry->port != static_cast<int>(index) || entry->port_epoch != epoch)
      continue;
    if (e.finish == FinishReason::kError) {
      fail(e.ticket, std::move(e.error));
      continue;
    }
    FATHOM_CHECK_EQ(e.first_index, static_cast<int64_t>(entry->request.emitted.size()))
        << "request " << entry->request_id;
    for (const SampledToken& t : e.tokens) entry->request.emitted.push_back(t.token);
    const auto queue = entry->answer;
    if (!e.tokens.empty()) {
      queue->push({.kind = GenerationEvent::Kind::kTokens,
                   .tokens = std::move(e.tokens),
                   .cached_prompt_tokens = e.cached_tokens});
    }
    if (!e.finish) continue;
    queue->push({.kind = GenerationEvent::Kind::kFinished, .finish = *e.finish});
    --slots_[index].flights;
    end_journal(e.ticket);
  }
}

void ModelHost::on_heartbeat(std::size_t index, const worker::Heartbeat& heartbeat) {
  if (heartbeat.steps == 0) return;
  slots_[index].stepped = true;
  quick_failures_ = 0;
}

void ModelHost::on_exit(std::size_t index, int status) {
  Slot& slot = slots_[index];
  const std::string& because = slot.process->killed_because();
  log_.write(LogLevel::kWarning, "worker gone",
             {{"model", model_->id},
              {"worker", static_cast<int64_t>(index)},
              {"pid", static_cast<int64_t>(slot.process->pid())},
              {"how", because.empty() ? describe_exit(status) : "killed: " + because},
              {"requests", slot.flights}});
  add(past_, slot.process->heartbeat().stats);
  if (!slot.stepped) ++quick_failures_;
  const bool crashed = because.empty() && is_crash(status);
  slot.process.reset();
  slot.memory = -1;
  ++slot.restarts;
  // A loaded spare takes the place at once.
  if (!slot.standby) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      Slot& spare = slots_[i];
      if (!spare.standby || !spare.process || !spare.process->ready()) continue;
      spare.standby = false;
      slot.standby = true;
      activate(i);
      break;
    }
  }
  take_back(index, crashed);
  restart(index);
  place_waiting();
}

// The requests of a worker that is gone wait for another.
void ModelHost::take_back(std::size_t index, bool crashed) {
  std::vector<uint64_t> quarantined;
  for (auto& [ticket, entry] : journal_.entries()) {
    if (entry.port != static_cast<int>(index)) continue;
    entry.port = -1;
    if (crashed && !slots_[index].stepped && ++entry.faults >= kMaxFaults)
      quarantined.push_back(ticket);
  }
  slots_[index].flights = 0;
  for (const uint64_t ticket : quarantined) {
    log_.write(LogLevel::kError, "request quarantined",
               {{"model", model_->id}, {"request_id", journal_.find(ticket)->request_id}});
    fail(ticket, internal_error("the engine crashed twice on this request; it is not tried again"));
  }
}

void ModelHost::restart(std::size_t index) {
  if (quick_failures_ >= kMaxQuickFailures) return give_up();
  const auto delay = quick_failures_ <= 1 ? 0ms : 125ms * (1 << quick_failures_);
  auto timer = std::make_shared<boost::asio::steady_timer>(io_, delay);
  timer->async_wait([weak = weak_from_this(), timer, index](const boost::system::error_code& e) {
    if (const auto self = weak.lock(); self && !e) self->start_worker(index);
  });
}

void ModelHost::give_up() {
  if (failed_) return;
  failed_ = true;
  log_.write(LogLevel::kError, "gave up on a model: its workers keep ending before they compute",
             {{"model", model_->id}, {"failures", static_cast<int64_t>(quick_failures_)}});
  while (journal_.size() > 0) {
    fail(journal_.entries().begin()->first,
         {ErrorCode::kUnavailable, "the model's engine does not start; see the server's log"});
  }
}

// To the engine with the fewest requests.
void ModelHost::place(uint64_t ticket, JournalEntry& entry) {
  int best = -1;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (!usable(slots_[i])) continue;
    if (best < 0 || slots_[i].flights < slots_[static_cast<std::size_t>(best)].flights)
      best = static_cast<int>(i);
  }
  if (best < 0) return;
  Slot& slot = slots_[static_cast<std::size_t>(best)];
  entry.port = best;
  entry.port_epoch = slot.epoch;
  ++slot.flights;
  port(static_cast<std::size_t>(best))->submit(ticket, entry.request);
}

void ModelHost::place_waiting() {
  // In the order of arrival, and of what was going on before.
  std::vector<uint64_t> tickets;
  for (const auto& [ticket, entry] : journal_.entries())
    if (entry.port < 0) tickets.push_back(ticket);
  std::sort(tickets.begin(), tickets.end());
  for (const uint64_t ticket : tickets) place(ticket, *journal_.find(ticket));
}

Result<std::unique_ptr<Generation>> ModelHost::submit(GenerationSpec spec) {
  if (stopped_) return Error{ErrorCode::kUnavailable, "the server is shutting down"};
  if (failed_) {
    return Error{ErrorCode::kUnavailable,
                 fmt::format("the engine of {} does not start; see the server's log", model_->id)};
  }
  if (unloading_ || !started_) {
    return Error{ErrorCode::kUnavailable,
                 fmt::format("the model {} is unloaded; POST /models/{}/load loads it", model_->id,
                             model_->id)};
  }
  const int64_t most = setup_.config.max_running * std::max<int64_t>(setup_.config.workers, 1) +
                       setup_.config.max_waiting;
  if (journal_.size() >= most) {
    return resource_limit(
        fmt::format("{} requests are in flight, expected fewer than {}", journal_.size(), most));
  }
  const auto prompt = static_cast<int64_t>(spec.request.prompt.size());
  const int64_t room = model_->context_tokens - prompt;
  if (room > 0) spec.request.max_tokens = std::min(spec.request.max_tokens, room);
  auto queue = std::make_shared<AnswerQueue>(io_);
  const uint64_t ticket = journal_.append({.request = std::move(spec.request),
                                           .request_id = std::move(spec.request_id),
                                           .answer = queue});
  place(ticket, *journal_.find(ticket));
  return std::unique_ptr<Generation>(new Answer(weak_from_this(), ticket, std::move(queue)));
}

void ModelHost::cancel(uint64_t ticket) {
  const JournalEntry* entry = journal_.find(ticket);
  if (entry == nullptr) return;
  if (entry->port >= 0) {
    const auto index = static_cast<std::size_t>(entry->port);
    --slots_[index].flights;
    if (EnginePort* p = port(index)) p->cancel(ticket);
  }
  end_journal(ticket);
}

void ModelHost::fail(uint64_t ticket, Error error) {
  JournalEntry* entry = journal_.find(ticket);
  if (entry->port >= 0) --slots_[static_cast<std::size_t>(entry->port)].flights;
  entry->answer->push({.kind = GenerationEvent::Kind::kFailed, .error = std::move(error)});
  end_journal(ticket);
}

ModelHost::State ModelHost::state() const {
  if (failed_) return State::kFailed;
  if (!started_) return State::kUnloaded;
  if (unloading_) return State::kUnloading;
  bool stepped_before = false;
  for (const Slot& slot : slots_) {
    if (usable(slot)) return State::kReady;
    stepped_before = stepped_before || slot.restarts > 0;
  }
  return stepped_before ? State::kRestarting : State::kLoading;
}

EngineStats ModelHost::current_stats() const {
  EngineStats out = past_;
  for (const Slot& slot : slots_) {
    EngineStats s;
    if (slot.local) {
      s = slot.local->stats();
    } else if (slot.process) {
      s = slot.process->heartbeat().stats;
    }
    add(out, s);
    out.waiting += s.waiting;
    out.running += s.running;
    if (slot.standby) continue;
    out.pages_total += s.pages_total;
    out.pages_free += s.pages_free;
    out.pages_cached += s.pages_cached;
    out.page_tokens = s.page_tokens;
  }
  return out;
}

nlohmann::json ModelHost::status() const {
  static constexpr const char* kStates[] = {"loading", "ready",     "restarting",
                                            "failed",  "unloading", "unloaded"};
  const EngineStats s = current_stats();
  int64_t unplaced = 0;
  for (const auto& [ticket, entry] : journal_.entries())
    if (entry.port < 0) ++unplaced;
  nlohmann::json workers = nlohmann::json::array();
  const auto now = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const bool up = slot.local != nullptr || (slot.process && slot.process->ready());
    workers.push_back(
        {{"index", i},
         {"role", slot.standby ? "standby" : "active"},
         {"state", !started_           ? "unloaded"
                   : failed_           ? "failed"
                   : up                ? "ready"
                   : slot.restarts > 0 ? "restarting"
                                       : "starting"},
         {"pid", slot.process ? slot.process->pid() : 0},
         {"restarts", slot.restarts},
         {"uptime_s", slot.process
                          ? std::chrono::duration<double>(now - slot.process->started()).count()
                          : 0.0}});
  }
  nlohmann::json out{{"id", model_->id},
                     {"state", kStates[static_cast<int>(state())]},
                     {"context_tokens", model_->context_tokens},
                     {"running", s.running},
                     {"waiting", s.waiting + unplaced},
                     {"kv_pages_used", s.pages_total - s.pages_free},
                     {"kv_pages_total", s.pages_total},
                     {"kv_pages_cached", s.pages_cached},
                     {"kv_page_tokens", s.page_tokens > 0 ? s.page_tokens : kDefaultPageTokens},
                     {"prompt_tokens_total", s.prompt_tokens},
                     {"generation_tokens_total", s.generated_tokens},
                     {"prefix_cache_queries_total", s.prefix_queries},
                     {"prefix_cache_hits_total", s.prefix_hits},
                     {"preemptions_total", s.preemptions},
                     {"draft_tokens_total", s.drafted},
                     {"accepted_tokens_total", s.accepted},
                     {"workers", workers}};
  if (s.tier) {
    out["kv_disk"] = {{"queries_total", s.tier->query_tokens},
                      {"hits_total", s.tier->hit_tokens},
                      {"pages_read_total", s.tier->pages_read},
                      {"pages_written_total", s.tier->pages_written},
                      {"read_bytes_total", s.tier->bytes_read},
                      {"written_bytes_total", s.tier->bytes_written},
                      {"pages_skipped_total", s.tier->pages_skipped},
                      {"pages_damaged_total", s.tier->pages_damaged},
                      {"errors_total", s.tier->errors},
                      {"last_error", s.tier->last_error},
                      {"bytes", s.tier->bytes},
                      {"other_bytes", s.tier->other_bytes}};
  }
  return out;
}

}  // namespace fathom::server
