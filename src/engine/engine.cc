// Engine: requests in and out. Which rows run is engine_schedule.cc's part, what comes of them
// engine_step.cc's; engine_tier.cc speaks with the second tier.
#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace fathom {

Engine::Engine(const Model& model, Ops& ops, const EngineOptions& options, KvCache cache,
               std::unique_ptr<PageTier> tier)
    : model_(model),
      ops_(ops),
      options_(options),
      cache_(std::make_unique<KvCache>(std::move(cache))),
      prefix_cache_(*cache_),
      tier_(options.prefix_cache ? std::move(tier) : nullptr),
      workspace_(ops.memory()),
      host_(ops.read_memory()) {
  FATHOM_CHECK(options.max_sequences > 0 && options.max_batch_tokens > 0 &&
               options.prefill_chunk > 0)
      << options.max_sequences << " " << options.max_batch_tokens << " " << options.prefill_chunk;
}

Engine::~Engine() {
  tier_.reset();
  // Shared memory keeps its records for the next process: only this one's trees go.
  if (cache_->directory() != nullptr) prefix_cache_.abandon();
}

Result<std::unique_ptr<Engine>> Engine::create(const Model& model, Ops& ops,
                                               const EngineOptions& options,
                                               std::unique_ptr<PageTier> tier) {
  EngineOptions o = options;
  if (o.cache_tokens <= 0) o.cache_tokens = model.info().max_context_tokens;
  if (o.context_tokens <= 0) o.context_tokens = o.cache_tokens;
  o.context_tokens = std::min(o.context_tokens, o.cache_tokens);
  if (o.max_batch_tokens <= 0) o.max_batch_tokens = ops.step_rows();
  if (o.prefill_chunk <= 0) o.prefill_chunk = ops.step_rows();
  if (model.info().mtp_layers == 0) o.speculate_up_to = 0;
  FATHOM_TRY(KvCache cache,
             KvCache::create(model.kv_layers(),
                             {.capacity_tokens = o.cache_tokens,
                              .page_tokens = o.page_tokens,
                              .type = o.kv_type,
                              .window_tokens = model.window_tokens(),
                              .window_sequences = o.max_sequences,
                              .step_tokens = std::max(o.prefill_chunk, o.max_batch_tokens),
                              .memory = &ops.cache_memory(),
                              .shared = o.shared_memory ? &*o.shared_memory : nullptr}));
  auto engine =
      std::unique_ptr<Engine>(new Engine(model, ops, o, std::move(cache), std::move(tier)));
  engine->prefix_cache_.restore();
  return engine;
}

namespace {

Status check_request(const Request& request, const ModelInfo& info, int64_t context) {
  const int64_t vocab = info.vocab_size;
  if (request.prompt.empty())
    return invalid_argument("the prompt is empty, expected a token or more");
  for (const auto* ids : {&request.prompt, &request.emitted}) {
    for (const int32_t id : *ids) {
      if (id < 0 || id >= vocab)
        return invalid_argument(
            fmt::format("token id {} in the prompt, expected 0 to {}", id, vocab - 1));
    }
  }
  FATHOM_TRY_STATUS(validate(request.sampling, vocab));
  if (request.top_logprobs > limits::kMaxTopLogprobs) {
    return invalid_argument(fmt::format("top_logprobs is {}, expected at most {}",
                                        request.top_logprobs, limits::kMaxTopLogprobs));
  }
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt >= context) {
    return invalid_argument(fmt::format(
        "the prompt has {} tokens, expected fewer than {} (the context)", prompt, context));
  }
  if (request.max_tokens < 1) {
    return invalid_argument(
        fmt::format("max_tokens is {}, expected 1 or more", request.max_tokens));
  }
  return {};
}

}  // namespace

Result<uint64_t> Engine::submit(Request request) {
  const int64_t context = context_tokens();
  FATHOM_TRY_STATUS(check_request(request, model_.info(), context));
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  request.max_tokens = std::min(request.max_tokens, context - prompt);
  if (static_cast<int64_t>(request.emitted.size()) >= request.max_tokens)
    return invalid_argument("the answer to go on with is already complete");
  if (waiting() >= options_.max_waiting) {
    return Error{ErrorCode::kUnavailable,
                 fmt::format("{} requests are waiting, expected fewer than {}: try again later",
                             waiting(), options_.max_waiting)};
  }
  auto s = std::make_unique<Sequence>();
  if (request.constraint.kind != ConstraintSpec::Kind::kNone) {
    if (!options_.constraints)
      return invalid_argument("this engine takes no constraints on answers");
    FATHOM_TRY(s->constraint, options_.constraints(request.constraint));
    for (const int32_t token : request.emitted) s->constraint->accept(token);
  }
  s->id = next_id_++;
  s->answer = request.emitted;
  s->request = std::move(request);
  waiting_.begin(s->request.tenant);
  const uint64_t id = s->id;
  waiting_.push(std::move(s));
  return id;
}

void Engine::cancel(uint64_t request_id) {
  if (const auto waiting = waiting_.take(request_id)) finish(*waiting);
  for (auto& s : running_)
    if (s->id == request_id) finish(*s);
  std::erase_if(running_, [](const auto& s) { return s->done(); });
}

// Releases what the sequence holds of the cache: it can be computed again.
void Engine::release(Sequence& s) {
  if (s.loading) tier_->cancel_load(s.id);
  s.loading = false;
  s.loading_window = 0;
  for (const int32_t page : s.loaded_window) cache_->window_pages().release(page);
  s.loaded_window.clear();
  cache_->give_back(s.tables);
  s.computed = 0;
  s.cached_pages = 0;
  s.last_node = PrefixCache::kNoNode;
  s.draft = -1;
  s.drafts = false;
  s.foreign_tokens = 0;
}

// Marks the sequence for removal.
void Engine::finish(Sequence& s) {
  store_all_pages(s);
  release(s);
  waiting_.end(s.request.tenant);
  s.id = 0;
}

std::vector<uint64_t> Engine::erase_tenant(std::string_view tenant) {
  std::vector<uint64_t> ids;
  for (const auto& s : running_)
    if (s->request.tenant == tenant) ids.push_back(s->id);
  for (const uint64_t id : waiting_.ids_of(tenant)) ids.push_back(id);
  for (const uint64_t id : ids) cancel(id);
  prefix_cache_.erase_tenant(tenant);
  if (tier_ != nullptr) {
    tier_->erase_tenant(tenant);
    take_back_stored();
  }
  cache_->wipe(owner_of(tenant));
  return ids;
}

// For KvCache::wipe: two tenants with one number cost no more than some work.
uint64_t Engine::owner_of(std::string_view tenant) { return std::hash<std::string_view>{}(tenant); }

void Engine::clear_prefix_cache() {
  FATHOM_CHECK_EQ(running(), 0) << "their pages stand in the cache's trees";
  prefix_cache_.clear();
}

EngineStats Engine::stats() const {
  EngineStats out = stats_;
  out.waiting = waiting();
  out.running = running();
  out.pages_total = cache_->pages().total();
  out.pages_free = cache_->pages().free();
  out.pages_cached = prefix_cache_.pages();
  out.page_tokens = cache_->page_tokens();
  out.tier = tier_stats();
  return out;
}

std::optional<PageTierStats> Engine::tier_stats() const {
  if (tier_ == nullptr) return std::nullopt;
  return tier_->stats();
}

}  // namespace fathom
