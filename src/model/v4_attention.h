// Attention of DeepSeek-V4: a sliding window over one shared vector a token, and compressed entries
// of what lies further back (tests/golden/data/NOTES.md §5).
#pragma once

#include <string>
#include <vector>

#include "model/model.h"
#include "model/v4_config.h"

namespace fathom {

class V4Attention {
 public:
  // Loads the weights `{prefix}wq_a.weight` …; rate: kSlidingOnly, or how many tokens an entry
  // stands for. first_row: index of the layer's first rows in the cache.
  static Result<V4Attention> load(const WeightSource& weights, const V4Config& config,
                                  const std::string& prefix, int64_t rate, std::size_t first_row);

  // What the layer keeps in the cache, in order.
  static std::vector<KvLayerSpec> kv_rows(const V4Config& config, int64_t rate);
  // How many tokens before the one computed kv_rows' window rows are read of.
  static int64_t window_tokens(const V4Config& config, int64_t rate);

  // The angles that a layer of this rate rotates by: sliding layers have a theta of their own.
  struct Angles {
    TensorView sliding, compress;  // [tokens, rope_dim]
  };
  // x: [tokens, hidden], normalised; out: [tokens, hidden].
  void forward(const ModelContext& context, const Step& step, const V4Config& config,
               const Angles& angles, const TensorView& x, const TensorView& out) const;

 private:
  // Turns the tokens of a window into one entry: of the keys, or of the indexer's.
  struct Compressor {
    WeightView wkv, wgate;  // [width, hidden], width = entry, or twice that if windows overlap
    WeightView ape;         // [rate, width]
    WeightView norm;        // [entry]
  };
  static Result<Compressor> load_compressor(const WeightSource& weights, const V4Config& config,
                                            const std::string& prefix, int64_t rate, int64_t entry);
  // Appends what becomes an entry to kv[source] and complete entries to kv[source + 1].
  void compress(const ModelContext& context, const Step& step, const V4Config& config,
                const Compressor& compressor, std::size_t source, const TensorView& x) const;
  TensorView select(const ModelContext& context, const Step& step, const V4Config& config,
                    const TensorView& angles, const TensorView& x, const TensorView& qr) const;

  int64_t rate_ = kSlidingOnly;
  std::size_t first_row_ = 0;
  WeightView wq_a_, q_norm_, wq_b_;  // [q_lora, hidden], [q_lora], [heads * head_dim, q_lora]
  WeightView wkv_, kv_norm_;         // [head_dim, hidden], [head_dim]
  WeightView wo_a_,
      wo_b_;          // [groups * o_lora, heads * head_dim / groups], [hidden, groups * o_lora]
  WeightView sinks_;  // [heads]
  Compressor compressor_;  // where rate_ is not kSlidingOnly
  // Where rate_ is kSelectingRate.
  WeightView index_wq_b_,
      index_weights_;  // [index_heads * index_dim, q_lora], [index_heads, hidden]
  Compressor index_compressor_;
};

}  // namespace fathom
