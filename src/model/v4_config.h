// The fields of a DeepSeek-V4 config.json, in DeepSeek's form or in transformers'.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "model/hyper_connections.h"
#include "model/rope.h"

namespace fathom {

// Tokens that a compressed entry of a layer stands for; kSlidingOnly: the layer has none.
inline constexpr int64_t kSlidingOnly = 0;
// Layers of this rate overlap their windows and select with an indexer (CSA); those of any other
// rate attend to all entries (HCA).
inline constexpr int64_t kSelectingRate = 4;

struct V4Config {
  int64_t hidden_size = 0, num_layers = 0, vocab_size = 0, max_position_embeddings = 0;
  int64_t mtp_layers = 0;
  bool tie_word_embeddings = false;
  double rms_norm_eps = 0;
  // Attention.
  int64_t heads = 0, head_dim = 0, rope_dim = 0, q_lora_rank = 0;
  int64_t o_groups = 0, o_lora_rank = 0;
  int64_t sliding_window = 0;
  std::vector<int64_t> compress_rates;  // of each layer
  int64_t index_heads = 0, index_dim = 0, index_topk = 0;
  RopeTable sliding_rope, compress_rope;
  // Mixture of experts.
  int64_t experts = 0, experts_per_token = 0, expert_width = 0, shared_experts = 0;
  double routed_scaling_factor = 1, swiglu_limit = 0;
  bool norm_topk_prob = true;
  std::vector<bool> hash_routed;  // of each layer
  StreamConfig streams;
  bool simulate_quantised_cache = false;  // ModelOptions, not the file's
};

Result<V4Config> read_v4_config(const JsonReader& config);

}  // namespace fathom
