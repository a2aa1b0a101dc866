// Model: a loaded network. Computes hidden states and logits for a step; owns no sequence state.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "io/model_files.h"
#include "ops/ops.h"

namespace fathom {

// How a model computes, beside what its files say.
struct ModelOptions {
  // Rounds indexer and cache values as DeepSeek's own inference code does (ops/simulation.h). An
  // error for architectures other than deepseek_v32 and deepseek_v4.
  bool simulate_quantised_cache = false;
  // Ranks that share the weights (model/shard.h). With more than 1 the model is for ParallelOps of
  // as many (ops/ranks.h). An error where heads or channels cannot be divided among them, and for
  // deepseek_v4.
  int tensor_parallel = 1;
  bool shapes_only = false;  // nothing is computed: parts of weights need not be copied
};

// One kind of rows that a layer keeps in the paged cache.
struct KvLayerSpec {
  int64_t row_elements = 0;
  int64_t tokens_per_row = 1;  // how many tokens a row stands for
  // Only the rows of the last Model::window_tokens() tokens are read.
  bool window = false;
  bool exact = false;  // in float32 whatever the type of the cache
  bool mtp = false;    // of the MTP module
};

struct ModelInfo {
  std::string name;          // of the directory
  std::string architecture;  // config.json's model_type
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;  // without MTP layers
  int64_t mtp_layers = 0;
  int64_t max_context_tokens = 0;
  bool block_quantized = false;  // some weight is
};

// One forward pass over rows of several sequences (ops/kv_pages.h says how rows and sequences
// relate).
struct Step {
  std::span<const int32_t> token_ids;  // [tokens]
  std::span<const int32_t> positions;  // [tokens]
  std::span<const SequenceRows> sequences;
  std::span<const KvPages> kv;  // one per entry of Model::kv_layers()
};

struct ModelContext {
  Ops& ops;
  Workspace& workspace;  // results live there until the caller resets it
};

struct ModelOutput {
  TensorView hidden;     // [tokens, hidden], after the final norm: what logits() takes
  TensorView mtp_input;  // [tokens, *], what mtp_forward() takes
};

class Model {
 public:
  virtual ~Model() = default;
  const ModelInfo& info() const { return info_; }

  // What the cache holds, the MTP module's rows included.
  virtual std::vector<KvLayerSpec> kv_layers() const = 0;
  // How many tokens before the one computed rows of KvLayerSpec::window are read of.
  virtual int64_t window_tokens() const { return 0; }

  // Appends the step's rows to the cache.
  virtual ModelOutput forward(const ModelContext& context, const Step& step) const = 0;

  // out[i] = logits of hidden row i. hidden: [rows, hidden]; out: [rows, vocab].
  virtual void logits(const ModelContext& context, const TensorView& hidden,
                      const TensorView& out) const = 0;

  // Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, §2.2). step.token_ids holds for each row
  // the token that FOLLOWS it; `input` is forward()'s ModelOutput::mtp_input for the rows. Returns
  // what logits() takes; they are of the token after the following one. Only if info().mtp_layers >
  // 0.
  virtual TensorView mtp_forward(const ModelContext& context, const Step& step,
                                 const TensorView& input) const;

  // ModelOptions::simulate_quantised_cache, for load_model. `config`: the model's, for errors.
  virtual Status simulate_quantised_cache(const JsonReader& config);

 protected:
  ModelInfo info_;
};

// Loads the architecture that config.json's model_type names. The views of the model point into
// `files`, which must outlive it.
Result<std::unique_ptr<Model>> load_model(const ModelFiles& files,
                                          const ModelOptions& options = {});

}  // namespace fathom
