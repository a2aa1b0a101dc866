// Decoder: what all pre-norm decoders share: embedding, residual stream, norms, head. An
// architecture adds its attention and its feed-forward part.
#pragma once

#include <vector>

#include "base/json.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/shard.h"

namespace fathom {

// The fields of config.json that every decoder has.
struct DecoderConfig {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;
};
Result<DecoderConfig> read_decoder_config(const JsonReader& config);

// What a layer's parts need of the step besides their input.
struct LayerContext {
  const ModelContext& model;
  const Step& step;
  TensorView angles;  // [tokens, rotated width]
};

class Decoder : public Model {
 public:
  explicit Decoder(const Shard& shard) : sharder_(shard) {}
  ModelOutput forward(const ModelContext& context, const Step& step) const override;
  void logits(const ModelContext& context, const TensorView& hidden,
              const TensorView& out) const override;

 protected:
  struct LayerNorms {
    WeightView input_layernorm, post_attention_layernorm;  // [hidden]
  };

  // Attention of cache layer `layer`. x: [tokens, hidden], normalised; out: [tokens, hidden].
  virtual void attend(const LayerContext& context, int64_t layer, const TensorView& x,
                      const TensorView& out) const = 0;
  virtual void feed_forward(const LayerContext& context, int64_t layer, const TensorView& x,
                            const TensorView& out) const = 0;

  // Loads embedding, head and norms, and fills info_.
  Status load_decoder(const ModelFiles& files, const DecoderConfig& config);
  // The norms of `model.layers.N.`, for N = layers already loaded.
  Status load_layer_norms(const WeightSource& weights);

  // Runs layers [first, first + count) on the residual stream x; h holds the normalised input of
  // the first and, at the end, rms_norm(x, final_norm). Both [tokens, hidden].
  void run_layers(const LayerContext& context, int64_t first, int64_t count,
                  const WeightView& final_norm, const TensorView& x, const TensorView& h) const;
  TensorView rope_angles(const ModelContext& context, const Step& step) const;
  // The attention heads of this rank. An error if their number does not divide.
  Result<ShardRange> own_heads(const JsonReader& reader) const;
  // x = the sum of all ranks' x.
  void sum_over_ranks(const LayerContext& context, const TensorView& x) const {
    if (!sharder_.shard().whole()) context.model.ops.all_reduce(x);
  }

  WeightSharder sharder_;
  DecoderConfig config_;
  RopeTable rope_;
  WeightView embed_tokens_;  // [vocab, hidden]
  WeightView norm_;          // [hidden]
  WeightView lm_head_;       // [vocab, hidden]; of this rank's part of the vocabulary
  std::vector<LayerNorms> norms_;
};

// "model.layers.N."
std::string layer_prefix(int64_t layer);

// A vector of `size` elements if `wanted`, else an undefined view. A tensor that the file has and
// the configuration does not want is an error: the model would compute something else without it.
Result<WeightView> optional_vector(const WeightSource& weights, bool wanted,
                                   const std::string& name, int64_t size);

// {prefix}gate_proj/up_proj/down_proj of width `inner`, with biases if the config has mlp_bias.
Result<SwigluWeights> load_swiglu(const WeightSource& weights, const std::string& prefix,
                                  int64_t hidden, int64_t inner, bool bias);

}  // namespace fathom
