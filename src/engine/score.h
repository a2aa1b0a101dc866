// Scoring of given tokens: the logits of every position, without sampling. For `fathom logits`,
// perplexity, importance matrices and tests.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/result.h"
#include "engine/kv_cache.h"
#include "model/model.h"

namespace fathom {

struct ScoreOptions {
  int64_t chunk = 512;  // rows of a step; 1 = token by token
  int64_t page_tokens = kDefaultPageTokens;
  DType kv_type = DType::kF32;  // of the cache
  // Positions from this one on are computed as generated ones (ops/kv_pages.h); −1 = none.
  int64_t generated_from = -1;
};

// Called with consecutive rows of logits: `first` is the position of row 0. logits: [rows, vocab].
using LogitsSink = std::function<Status(int64_t first, const TensorView& logits)>;

// The logits that follow each token. The model's context is no limit here: positions beyond it are
// computed as its rope defines them. Errors: no tokens, ids outside the vocabulary, and the sink's.
Status score_tokens(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                    const ScoreOptions& options, const LogitsSink& sink);

// The MTP module's logits: row i joins hidden state i with token i + 1 and is of token i + 2, so
// there are tokens − 1 rows. An error if the model has no MTP module.
Status score_tokens_mtp(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                        const ScoreOptions& options, const LogitsSink& sink);

// score_tokens, and the MTP module as well, if there is one: everything that the model has runs.
// For decorators of `ops` that look on.
Status trace_tokens(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                    const ScoreOptions& options, const LogitsSink& sink);

}  // namespace fathom
