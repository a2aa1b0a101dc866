// MlaDecoder: decoders with multi-head latent attention and a mixture of experts: DeepSeek V2 and
// V3.
#pragma once

#include <optional>

#include "model/decoder.h"

namespace fathom {

// The MoE part of config.json, as the architecture's file read it.
struct MoeConfig {
  int64_t n_routed_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t n_shared_experts = 0;
  int64_t moe_intermediate_size = 0;
  int64_t first_k_dense_replace = 0;
  int64_t moe_layer_freq = 1;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  double routed_scaling_factor = 1;
  bool norm_topk_prob = false;
  RouterScoring scoring = RouterScoring::kSoftmax;
  RouterGroups groups = RouterGroups::kNone;
  bool correction_bias = false;  // e_score_correction_bias
};
// The fields that V2 and V3 share; the caller adds scoring, groups and bias.
Result<MoeConfig> read_moe_config(const JsonReader& config);

// The attention part of config.json.
struct MlaConfig {
  int64_t q_lora_rank = 0;  // 0: queries come from one full-rank projection (V2-Lite)
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  bool attention_bias = false;
  RopeLayout rope_layout = RopeLayout::kPairs;
};
Result<MlaConfig> read_mla_config(const JsonReader& config);

class MlaDecoder : public Decoder {
 public:
  using Decoder::Decoder;
  Status load(const ModelFiles& files, const MlaConfig& mla, const MoeConfig& moe);

  // Row `layer` of the cache: latent and rope key of that layer.
  std::vector<KvLayerSpec> kv_layers() const override;

 protected:
  // With tensor parallelism heads and inner channels are this rank's, all else is whole.
  struct Layer {
    WeightView q_proj;                             // [heads * (nope + rope), hidden], or
    WeightView q_a_proj, q_a_bias, q_a_layernorm;  // [q_lora, hidden], [q_lora]
    WeightView q_b_proj;                           // [heads * (nope + rope), q_lora]
    WeightView kv_a_proj_with_mqa, kv_a_bias;      // [kv_lora + rope, hidden]
    WeightView kv_a_layernorm;                     // [kv_lora]
    WeightView kv_b_proj;                          // [heads * (nope + v), kv_lora], or
    WeightView k_b_proj, v_b_proj;                 // [heads * kv_lora, nope], [heads * v, kv_lora]
    WeightView o_proj, o_bias;                     // [hidden, heads * v]
    SwigluWeights dense;                           // layers before the mixture starts
    WeightView gate, e_score_correction_bias;      // [experts, hidden], [experts]
    std::vector<SwigluWeights> experts;            // empty in dense layers
    std::optional<SwigluWeights> shared;
  };

  // Loads `model.layers.N.` for N = layers already loaded, norms included.
  Status load_layer(const WeightSource& weights, bool mixture);

  // What an architecture adds to the attention of every layer: its weights, and the cached
  // positions that each token attends to (MlaAttentionArgs::selected). qr: the normalised latent of
  // the queries, [tokens, q_lora].
  virtual Status load_selection(const WeightSource&, const std::string& /*attention_prefix*/) {
    return {};
  }
  virtual TensorView select(const LayerContext&, int64_t /*layer*/, const TensorView& /*x*/,
                            const TensorView& /*qr*/) const {
    return {};
  }

  void attend(const LayerContext& context, int64_t layer, const TensorView& x,
              const TensorView& out) const override;
  void feed_forward(const LayerContext& context, int64_t layer, const TensorView& x,
                    const TensorView& out) const override;

  MlaConfig mla_;
  MoeConfig moe_;
  ShardRange heads_;  // of this rank
  std::vector<Layer> layers_;

 private:
  Status load_attention(const WeightSource& weights, const std::string& prefix, Layer& layer);
  Status load_mixture(const WeightSource& weights, const std::string& prefix, Layer& layer);
};

}  // namespace fathom
