// Engine: runs many requests at once on one model. Single-threaded: whoever owns it calls step().
//
// Owns sequences, the KV cache and the choice of what runs next. Text, templates and stop strings
// are not its business: tokens in, tokens out.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/result.h"
#include "engine/kv_cache.h"
#include "engine/request.h"
#include "engine/step_builder.h"
#include "model/model.h"

namespace fathom {

struct EngineOptions {
  // Tokens that all sequences together may hold, and the most that one may. 0 = the model's
  // context.
  int64_t cache_tokens = 0;
  int64_t max_sequences = 64;      // decoding at once
  int64_t max_batch_tokens = 512;  // rows of a step
  int64_t prefill_chunk = 512;     // prompt rows of one sequence in a step
  int64_t page_tokens = kDefaultPageTokens;
  DType kv_type = DType::kF32;  // of the cache
};

class Engine {
 public:
  // `model` and `ops` must outlive the engine.
  static Result<std::unique_ptr<Engine>> create(const Model& model, Ops& ops,
                                                const EngineOptions& options);

  // Queues a request. Errors: empty prompt, ids outside the vocabulary, a prompt that leaves no
  // room in the context, parameters out of range.
  Result<uint64_t> submit(Request request);

  // Forgets a request and frees its pages. Unknown ids are ignored.
  void cancel(uint64_t request_id);

  // Runs one step and appends the tokens it made to `events`. False if there is nothing to do.
  bool step(std::vector<TokenEvent>& events);

  // Tokens that one sequence may hold.
  int64_t context_tokens() const { return options_.cache_tokens; }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  const KvCache& cache() const { return cache_; }

 private:
  struct Sequence {
    uint64_t id = 0;
    Request request;
    std::vector<int32_t> answer;
    std::vector<int32_t> pages;
    int64_t computed = 0;     // tokens whose cache rows exist
    int64_t scheduled = 0;    // rows in the step being built
    int64_t logits_row = -1;  // row of the step that this sequence samples from

    int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
    int64_t size() const { return prompt_size() + static_cast<int64_t>(answer.size()); }
    // The next tokens to compute, all of one position class.
    std::span<const int32_t> pending() const;
    PositionClass pending_class() const;
  };

  Engine(const Model& model, Ops& ops, const EngineOptions& options, KvCache cache);
  void admit();
  void build_step();
  void sample_rows(std::vector<TokenEvent>& events);
  void finish(Sequence& sequence);

  const Model& model_;
  Ops& ops_;
  EngineOptions options_;
  KvCache cache_;
  Workspace workspace_;
  Sampler sampler_;
  StepBuilder builder_;
  uint64_t next_id_ = 1;
  std::deque<Sequence> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
};

}  // namespace fathom
