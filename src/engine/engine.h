// Engine: runs many requests at once on one model. Single-threaded: whoever owns it calls step().
//
// Owns sequences, the KV cache, the prefix cache and the choice of what runs next. Text, templates
// and stop strings are not its business: tokens in, tokens out. A request's tokens never depend on
// what else runs, on the state of the caches, on preemption or on speculation.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/kv_cache.h"
#include "engine/page_tier.h"
#include "engine/prefix_cache.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "engine/step_builder.h"
#include "engine/step_runner.h"
#include "engine/token_constraint.h"
#include "engine/waiting_queue.h"
#include "model/model.h"

namespace fathom {

struct EngineOptions {
  // Tokens that the cache holds, all sequences together. 0 = the model's context.
  int64_t cache_tokens = 0;
  // Tokens that one sequence may have. 0 = cache_tokens.
  int64_t context_tokens = 0;
  int64_t max_sequences = 64;       // computed at once
  int64_t max_waiting = INT64_MAX;  // more are refused
  // Rows of a step, and prompt rows of one sequence in it. 0 = what suits the backend.
  int64_t max_batch_tokens = 0;
  int64_t prefill_chunk = 0;
  int64_t page_tokens = kDefaultPageTokens;
  DType kv_type = DType::kF32;  // of the cache
  bool prefix_cache = true;
  // Drafts a token with the model's MTP module, if it has one, while at most this many sequences
  // run: with more, the rows cost more than they save. 0 = never.
  int64_t speculate_up_to = 4;
  std::optional<SharedKvMemory> shared_memory;  // for the cache; what is in it is used
  ConstraintFactory constraints;                // none: requests with a constraint are refused
};

// Counters grow for the engine's life; the others are of the moment.
struct EngineStats {
  int64_t waiting = 0, running = 0;
  int64_t pages_total = 0, pages_free = 0, pages_cached = 0;  // cached: also or only for later use
  int64_t prompt_tokens = 0, generated_tokens = 0;
  int64_t prefix_queries = 0, prefix_hits = 0;  // tokens looked up and found
  int64_t page_tokens = 0;
  int64_t preemptions = 0;
  int64_t drafted = 0, accepted = 0;  // tokens
  std::optional<PageTierStats> tier;  // none: there is no second tier
};

class Engine {
 public:
  // `model` and `ops` must outlive the engine. `tier`: for pages that the prefix cache evicts, and
  // for engines to come; null: none.
  static Result<std::unique_ptr<Engine>> create(const Model& model, Ops& ops,
                                                const EngineOptions& options,
                                                std::unique_ptr<PageTier> tier = nullptr);
  ~Engine();

  // Queues a request. Errors: empty prompt, ids outside the vocabulary, a prompt that leaves no
  // room in the context, parameters or a constraint that cannot be; kUnavailable if max_waiting
  // wait already.
  Result<uint64_t> submit(Request request);

  // Forgets a request and releases its pages. Unknown ids are ignored.
  void cancel(uint64_t request_id);

  // Runs one step and appends the tokens it made to `events`. False if there is nothing to do.
  bool step(std::vector<TokenEvent>& events);

  // Cancels a tenant's requests and forgets what the cache and the second tier hold of it; its rows
  // are overwritten. Returns the requests' ids.
  std::vector<uint64_t> erase_tenant(std::string_view tenant);
  void clear_prefix_cache();
  // Waits until the second tier has all full pages; false if that took too long.
  bool flush_tier(std::chrono::milliseconds timeout);

  // Tokens that one sequence may hold.
  int64_t context_tokens() const { return options_.context_tokens; }
  int64_t waiting() const { return waiting_.size(); }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  const KvCache& cache() const { return *cache_; }
  EngineStats stats() const;
  std::optional<PageTierStats> tier_stats() const;  // any thread

 private:
  Engine(const Model& model, Ops& ops, const EngineOptions& options, KvCache cache,
         std::unique_ptr<PageTier> tier);

  void admit();
  bool make_room(int64_t pages, int64_t window_pages);
  void match_prefix(Sequence& s);
  void keep_window(const Sequence& s, bool known);
  void note_cached(Sequence& s);
  PrefixCache::Key page_key(const Sequence& s, int64_t page) const;
  void plan();
  bool reserve(Sequence& s, int64_t tokens, std::size_t order);
  void preempt(std::size_t index);
  void build_step();
  void sample(const TensorView& hidden, std::vector<TokenEvent>& events);
  bool sample_row(Sequence& s, std::span<float> logits, std::vector<TokenEvent>& events);
  void advance(Sequence& s, int64_t rows);
  void publish_pages(Sequence& s);
  void draft(const TensorView& input);
  void release(Sequence& s);
  void finish(Sequence& s);
  bool speculates() const;
  static uint64_t owner_of(std::string_view tenant);
  void exchange_with_tier();
  void await_loads();
  PageTier::Page tier_page(Sequence& s, int64_t index) const;
  PageTier::Page tier_window(Sequence& s, int64_t index, int32_t number,
                             std::span<const int32_t> window_pages) const;
  void store_pages(Sequence& s);
  void store_all_pages(Sequence& s);
  void take_back_stored();
  void begin_load(Sequence& s);
  bool begin_window_load(Sequence& s, int64_t pages);
  void finish_window_load(Sequence& s, bool found);
  void use_loaded(Sequence& s, int64_t pages);
  void finish_loads();

  const Model& model_;
  Ops& ops_;
  EngineOptions options_;
  std::unique_ptr<KvCache> cache_;  // at an address that stays
  PrefixCache prefix_cache_;
  std::unique_ptr<PageTier> tier_;  // null: none; uses the cache's memory until it ends
  Workspace workspace_;
  Workspace host_;  // copies of what a device computed
  Sampler sampler_;
  StepRunner runner_;
  StepBuilder builder_, draft_builder_;
  uint64_t next_id_ = 1;
  WaitingQueue waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // by priority, then by id
  bool drafting_ = false;                           // in the step that runs
  bool began_loading_ = false;                      // since await_loads()
  std::vector<std::vector<int32_t>> lent_windows_;  // window pages that the tier is writing
  EngineStats stats_;
};

}  // namespace fathom
