#include "io/gguf_config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "io/gguf_weights.h"
#include "tensor/float_formats.h"

namespace fathom {
namespace {

using nlohmann::json;

constexpr double kMaxFactor = 1e6;

// What the functions below share: the file, the architecture's prefix, the result.
struct Source {
  const GgufMetadata& metadata;
  const WeightSource& weights;
  std::string architecture;
  json config = json::object();

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture, name); }
  bool has(std::string_view name) const { return metadata.has(key(name)); }
  Result<int64_t> integer(std::string_view name, int64_t min, int64_t max) const {
    return metadata.integer(key(name), min, max);
  }
  Result<int64_t> integer_or(std::string_view name, int64_t fallback, int64_t min,
                             int64_t max) const {
    return metadata.integer_or(key(name), fallback, min, max);
  }
  Result<double> number_or(std::string_view name, double fallback, double min, double max) const {
    return metadata.number_or(key(name), fallback, min, max);
  }
  Error bad(std::string_view name, std::string_view expected) const {
    return metadata.bad(key(name), expected);
  }
};

// 0.0707 stored as float32 is 0.07069999724…: the number somebody wrote has few digits.
double unrounded(double x) { return std::round(x * 1e6) / 1e6; }

Result<int64_t> vocab_size(const Source& s) {
  if (s.has("vocab_size")) return s.integer("vocab_size", 1, limits::kMaxVocab);
  if (const GgufValue* tokens = s.metadata.find("tokenizer.ggml.tokens")) {
    const auto count = static_cast<int64_t>(tokens->count());
    if (count >= 1 && count <= limits::kMaxVocab) return count;
  }
  // Converted without a tokenizer.
  for (const char* name : {"model.embed_tokens.weight", "embed.weight"}) {
    const StoredTensor* t = s.weights.find(name);
    if (t != nullptr && t->shape.size() == 2 && t->shape[0] >= 1 &&
        t->shape[0] <= limits::kMaxVocab)
      return t->shape[0];
  }
  return s.bad("vocab_size", "it, or a list tokenizer.ggml.tokens");
}

// The keys that every architecture has.
Status read_common(Source& s) {
  const struct {
    std::string_view gguf, huggingface;
    int64_t max;
  } kIntegers[] = {
      {"embedding_length", "hidden_size", limits::kMaxHiddenSize},
      {"feed_forward_length", "intermediate_size", limits::kMaxHiddenSize},
      {"attention.head_count", "num_attention_heads", limits::kMaxHeads},
      {"context_length", "max_position_embeddings", limits::kMaxContextTokens},
  };
  for (const auto& field : kIntegers) {
    // deepseek4 has no dense layers, and no width of one.
    if (field.huggingface == "intermediate_size" && s.architecture == "deepseek4") continue;
    FATHOM_TRY(const int64_t value, s.integer(field.gguf, 1, field.max));
    s.config[field.huggingface] = value;
  }
  FATHOM_TRY(const int64_t blocks, s.integer("block_count", 1, limits::kMaxLayers));
  FATHOM_TRY(const int64_t mtp, s.integer_or("nextn_predict_layers", 0, 0, blocks - 1));
  s.config["num_hidden_layers"] = blocks - mtp;
  if (mtp > 0) s.config["num_nextn_predict_layers"] = mtp;
  FATHOM_TRY(s.config["vocab_size"], vocab_size(s));
  FATHOM_TRY(s.config["rms_norm_eps"],
             s.metadata.number(s.key("attention.layer_norm_rms_epsilon"), 0, 1));
  FATHOM_TRY(s.config["rope_theta"], s.number_or("rope.freq_base", 10000, 1, 1e12));
  s.config["tie_word_embeddings"] = !s.weights.has("lm_head.weight");
  s.config["hidden_act"] = "silu";
  return {};
}

// Llama 3's scaling comes as the numbers that divide the frequencies, one per pair of channels.
Status read_frequency_divisors(Source& s, const StoredTensor& t) {
  if (t.dtype != DType::kF32 || t.shape.size() != 1) {
    return invalid_argument(fmt::format("{}: tensor 'rope_freqs.weight' is {} {}, expected F32 [n]",
                                        t.file, dtype_name(t.dtype), shape_string(t.shape)));
  }
  json divisors = json::array();
  bool scales = false;
  for (int64_t i = 0; i < t.shape[0] && i <= limits::kMaxHiddenSize; ++i) {
    float value = 0;
    std::memcpy(&value, t.data.data() + i * 4, sizeof(value));
    if (!(value >= 1e-6f && value <= static_cast<float>(kMaxFactor))) {
      return invalid_argument(
          fmt::format("{}: tensor 'rope_freqs.weight': element {} is {}, expected {} to {}", t.file,
                      i, value, 1e-6, kMaxFactor));
    }
    scales = scales || value != 1;
    divisors.push_back(value);
  }
  if (scales)
    s.config["rope_scaling"] = {{"rope_type", "frequency_divisors"},
                                {"frequency_divisors", std::move(divisors)}};
  return {};
}

// YaRN. For deepseek2, yarn_log_multiplier is a tenth of HuggingFace's mscale_all_dim, and mscale,
// which the file does not have, is equal to it in every published model.
Status read_yarn(Source& s, double factor) {
  json r = {{"rope_type", "yarn"}, {"factor", factor}};
  const int64_t context = s.config["max_position_embeddings"].get<int64_t>();
  FATHOM_TRY(
      r["original_max_position_embeddings"],
      s.integer_or("rope.scaling.original_context_length", context, 1, limits::kMaxContextTokens));
  FATHOM_TRY(r["beta_fast"], s.number_or("rope.scaling.yarn_beta_fast", 32, 0, 1e6));
  FATHOM_TRY(r["beta_slow"], s.number_or("rope.scaling.yarn_beta_slow", 1, 0, 1e6));
  FATHOM_TRY(const double extrapolation, s.number_or("rope.scaling.yarn_ext_factor", 1, -1, 100));
  if (extrapolation != 1 && extrapolation != -1)
    return s.bad("rope.scaling.yarn_ext_factor", "1 (or -1, which means the same)");
  FATHOM_TRY(const double log_multiplier,
             s.number_or("rope.scaling.yarn_log_multiplier", 0, 0, 100));
  FATHOM_TRY(const double attn_factor, s.number_or("rope.scaling.attn_factor", 1, 0, 1e3));
  // Converters write attention_factor, YaRN's whole magnitude (1 or more), or DeepSeek-R1-0528-
  // Qwen3-8B's attn_factor, which divides it away (below 1), under the same key.
  FATHOM_TRY(const double magnitude, s.number_or("rope.scaling.yarn_attn_factor", 0, 0, 1e3));
  if (log_multiplier > 0) {
    r["mscale"] = r["mscale_all_dim"] = unrounded(log_multiplier * 10);
    if (attn_factor != 1) r["attention_factor"] = attn_factor;
  } else if (magnitude >= 1) {
    r["attention_factor"] = magnitude * attn_factor;
  } else if (magnitude > 0 || attn_factor != 1) {
    r["attn_factor"] = (magnitude > 0 ? magnitude : 1) * attn_factor;
  }
  s.config["rope_scaling"] = std::move(r);
  return {};
}

Status read_rope_scaling(Source& s) {
  // Without a type, a factor is linear scaling's; rope.scale_linear is the old name of that.
  FATHOM_TRY(const std::string type, s.metadata.string_or(s.key("rope.scaling.type"), "linear"));
  FATHOM_TRY(double factor, s.number_or("rope.scale_linear", 0, 0, kMaxFactor));
  FATHOM_TRY(factor, s.number_or("rope.scaling.factor", factor, 0, kMaxFactor));
  const StoredTensor* divisors = s.weights.find("rope_freqs.weight");
  if (type == "yarn") {
    if (divisors != nullptr)
      return s.bad("rope.scaling.type", "none beside a tensor rope_freqs.weight");
    if (factor <= 0) return s.bad("rope.scaling.factor", "a factor above 0 for YaRN");
    return read_yarn(s, factor);
  }
  if (type != "linear" && type != "none")
    return s.bad("rope.scaling.type", "\"none\", \"linear\" or \"yarn\"");
  const bool linear = type == "linear" && factor != 0 && factor != 1;
  if (linear && divisors != nullptr)
    return s.bad("rope.scaling.factor", "none beside a tensor rope_freqs.weight");
  if (linear) s.config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
  return divisors == nullptr ? Status() : read_frequency_divisors(s, *divisors);
}

// llama, qwen2, qwen3.
Status read_gqa(Source& s) {
  const auto heads = s.config["num_attention_heads"].get<int64_t>();
  const auto hidden = s.config["hidden_size"].get<int64_t>();
  FATHOM_TRY(s.config["num_key_value_heads"],
             s.integer_or("attention.head_count_kv", heads, 1, limits::kMaxHeads));
  FATHOM_TRY(const int64_t head_dim,
             s.integer_or("attention.key_length", hidden / heads, 1, limits::kMaxHiddenSize));
  FATHOM_TRY(const int64_t value_dim,
             s.integer_or("attention.value_length", head_dim, 1, limits::kMaxHiddenSize));
  FATHOM_TRY(const int64_t rotated,
             s.integer_or("rope.dimension_count", head_dim, 1, limits::kMaxHiddenSize));
  if (value_dim != head_dim)
    return s.bad("attention.value_length", fmt::format("{}, as attention.key_length", head_dim));
  if (rotated != head_dim)
    return s.bad("rope.dimension_count", fmt::format("{}, the whole head", head_dim));
  s.config["head_dim"] = head_dim;
  FATHOM_TRY(const int64_t experts, s.integer_or("expert_count", 0, 0, limits::kMaxExperts));
  if (experts > 0) {
    return s.bad("expert_count",
                 fmt::format("0: fathom has no mixture of experts for {}", s.architecture));
  }
  const std::string layer = "model.layers.0.";
  s.config["attention_bias"] = s.weights.has(layer + "self_attn.q_proj.bias");
  s.config["mlp_bias"] = s.weights.has(layer + "mlp.gate_proj.bias");
  if (s.architecture == "llama") s.config["rope_interleaved"] = true;
  return {};
}

bool has_correction_bias(const Source& s) {
  const auto layers = s.config["num_hidden_layers"].get<int64_t>();
  return s.weights.has(fmt::format("model.layers.{}.{}", layers - 1, kCorrectionBias));
}

// V3's router takes the sigmoid, V2's the softmax. Files of before 2025 do not say which.
Result<bool> has_sigmoid_router(const Source& s) {
  constexpr int64_t kSoftmax = 1, kSigmoid = 2;
  constexpr int64_t kV3Layers = 61;
  if (!s.has("expert_gating_func"))
    return has_correction_bias(s) || s.config["num_hidden_layers"] == kV3Layers;
  FATHOM_TRY(const int64_t function, s.integer("expert_gating_func", 0, INT32_MAX));
  if (function != kSoftmax && function != kSigmoid)
    return s.bad("expert_gating_func", "1 (softmax) or 2 (sigmoid)");
  return function == kSigmoid;
}

// Most files do not have the groups, without which V2 and V3 pick other experts than they were
// trained to. The published models are told apart by their number of experts.
Status read_expert_groups(Source& s, int64_t experts) {
  int64_t groups = 1, used = 1;
  if (experts == 256) {  // V3, R1, V3.1
    groups = 8;
    used = 4;
  } else if (experts == 160) {  // V2, V2.5, Coder-V2
    groups = 8;
    used = 3;
  }
  if (s.has("expert_group_count")) {
    FATHOM_TRY(groups, s.integer("expert_group_count", 0, experts));
    FATHOM_TRY(used, s.integer_or("expert_group_used_count", 1, 0, experts));
  }
  s.config["n_group"] = std::max<int64_t>(groups, 1);
  s.config["topk_group"] = std::max<int64_t>(used, 1);
  return {};
}

Status read_mixture(Source& s) {
  FATHOM_TRY(const int64_t experts, s.integer_or("expert_count", 0, 0, limits::kMaxExperts));
  FATHOM_TRY(s.config["first_k_dense_replace"],
             s.integer_or("leading_dense_block_count", 0, 0, limits::kMaxLayers));
  FATHOM_TRY(const bool sigmoid, has_sigmoid_router(s));
  s.config["model_type"] = sigmoid ? "deepseek_v3" : "deepseek_v2";
  s.config["n_routed_experts"] = experts;
  if (experts == 0) return {};
  FATHOM_TRY(s.config["num_experts_per_tok"], s.integer("expert_used_count", 1, experts));
  FATHOM_TRY(s.config["n_shared_experts"], s.integer_or("expert_shared_count", 0, 0, 1024));
  FATHOM_TRY(s.config["moe_intermediate_size"],
             s.integer("expert_feed_forward_length", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(s.config["routed_scaling_factor"], s.number_or("expert_weights_scale", 1, 0, 1e6));
  FATHOM_TRY(const bool normalize, s.metadata.boolean_or(s.key("expert_weights_norm"), false));
  FATHOM_TRY_STATUS(read_expert_groups(s, experts));
  s.config["norm_topk_prob"] = normalize;
  s.config["moe_layer_freq"] = 1;
  if (sigmoid) {
    s.config["scoring_func"] = "sigmoid";
    s.config["topk_method"] = "noaux_tc";
    return {};
  }
  if (normalize)
    return s.bad("expert_weights_norm", "false: no published model with a softmax router has it");
  s.config["scoring_func"] = "softmax";
  s.config["topk_method"] = s.config["n_group"] > 1 ? "group_limited_greedy" : "greedy";
  return {};
}

// The indexer of deepseek32 and deepseek4.
Status read_indexer(Source& s) {
  FATHOM_TRY(s.config["index_n_heads"],
             s.integer("attention.indexer.head_count", 1, limits::kMaxHeads));
  FATHOM_TRY(s.config["index_head_dim"],
             s.integer("attention.indexer.key_length", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(s.config["index_topk"],
             s.integer("attention.indexer.top_k", 1, limits::kMaxContextTokens));
  return {};
}

// One number a layer.
Status read_compress_ratios(Source& s) {
  const GgufValue* value = s.metadata.find(s.key("attention.compress_ratios"));
  const auto ratios = value == nullptr ? std::nullopt : value->integers();
  if (!ratios || static_cast<int64_t>(ratios->size()) > 2 * limits::kMaxLayers)
    return s.bad("attention.compress_ratios", "a list of integers, one a layer");
  s.config["compress_ratios"] = *ratios;
  return {};
}

// MTP blocks come in files of their own (…-mtp.gguf), which are no models by themselves.
Status read_deepseek4(Source& s) {
  constexpr int64_t kMax = limits::kMaxHiddenSize;
  s.config["model_type"] = "deepseek_v4";
  s.config["tie_word_embeddings"] = !s.weights.has("head.weight");
  s.config["num_key_value_heads"] = 1;
  const struct {
    std::string_view gguf, huggingface;
    int64_t max;
  } kIntegers[] = {
      {"attention.key_length", "head_dim", kMax},
      {"rope.dimension_count", "qk_rope_head_dim", kMax},
      {"attention.q_lora_rank", "q_lora_rank", kMax},
      {"attention.sliding_window", "sliding_window", limits::kMaxContextTokens},
      {"attention.output_group_count", "o_groups", limits::kMaxHeads},
      {"attention.output_lora_rank", "o_lora_rank", kMax},
      {"expert_count", "n_routed_experts", limits::kMaxExperts},
      {"expert_used_count", "num_experts_per_tok", limits::kMaxExperts},
      {"expert_feed_forward_length", "moe_intermediate_size", kMax},
      {"hyper_connection.count", "hc_mult", 64},
      {"hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters", 1000},
  };
  for (const auto& field : kIntegers) {
    FATHOM_TRY(const int64_t value, s.integer(field.gguf, 1, field.max));
    s.config[field.huggingface] = value;
  }
  FATHOM_TRY(s.config["n_shared_experts"], s.integer_or("expert_shared_count", 1, 0, 1024));
  FATHOM_TRY(s.config["num_hash_layers"],
             s.integer_or("hash_layer_count", 0, 0, limits::kMaxLayers));
  FATHOM_TRY(s.config["routed_scaling_factor"], s.number_or("expert_weights_scale", 1, 0, 1e6));
  FATHOM_TRY(s.config["norm_topk_prob"],
             s.metadata.boolean_or(s.key("expert_weights_norm"), false));
  FATHOM_TRY(s.config["hc_eps"], s.number_or("hyper_connection.epsilon", 1e-6, 0, 1));
  FATHOM_TRY(s.config["compress_rope_theta"],
             s.number_or("attention.compress_rope_freq_base", 160000, 1, 1e12));
  s.config["scoring_func"] = "sqrtsoftplus";
  FATHOM_TRY(s.config["swiglu_limit"], s.number_or("swiglu_clamp_exp", 0, 0, 1e6));
  FATHOM_TRY_STATUS(read_compress_ratios(s));
  return read_indexer(s);
}

Status read_deepseek2(Source& s) {
  s.config["num_key_value_heads"] = s.config["num_attention_heads"];
  FATHOM_TRY(const int64_t q_rank,
             s.integer_or("attention.q_lora_rank", 0, 0, limits::kMaxHiddenSize));
  // The light models have none, whatever the key says.
  if (q_rank > 0 && s.weights.has("model.layers.0.self_attn.q_a_proj.weight"))
    s.config["q_lora_rank"] = q_rank;
  FATHOM_TRY(s.config["kv_lora_rank"],
             s.integer("attention.kv_lora_rank", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(const int64_t rope, s.integer("rope.dimension_count", 1, limits::kMaxHiddenSize));
  // Where there are no …_mla keys, the others have the meaning of these; where there are, the
  // others tell of attention in the latent space.
  const bool mla = s.has("attention.key_length_mla");
  const char* key_length = mla ? "attention.key_length_mla" : "attention.key_length";
  const char* value_length = mla ? "attention.value_length_mla" : "attention.value_length";
  FATHOM_TRY(const int64_t head_dim, s.integer(key_length, 1, limits::kMaxHiddenSize));
  if (head_dim <= rope)
    return s.bad(key_length, fmt::format("more than rope.dimension_count, {}", rope));
  FATHOM_TRY(s.config["v_head_dim"], s.integer(value_length, 1, limits::kMaxHiddenSize));
  s.config["qk_nope_head_dim"] = head_dim - rope;
  s.config["qk_rope_head_dim"] = rope;
  s.config["attention_bias"] = false;
  return read_mixture(s);
}

}  // namespace

Result<json> config_from_gguf(const GgufMetadata& metadata, const WeightSource& weights) {
  FATHOM_TRY(std::string type, metadata.string_or("general.type", "model"));
  if (type != "model") return metadata.bad("general.type", "\"model\"");
  FATHOM_TRY(std::string architecture, metadata.string("general.architecture"));
  Source s{metadata, weights, std::move(architecture)};
  const bool gqa =
      s.architecture == "llama" || s.architecture == "qwen2" || s.architecture == "qwen3";
  const bool v32 = s.architecture == "deepseek32", v4 = s.architecture == "deepseek4";
  if (!gqa && !v32 && !v4 && s.architecture != "deepseek2") {
    return metadata.bad("general.architecture",
                        "llama, qwen2, qwen3, deepseek2, deepseek32 or deepseek4");
  }
  FATHOM_TRY_STATUS(read_common(s));
  FATHOM_TRY_STATUS(read_rope_scaling(s));
  if (gqa) {
    s.config["model_type"] = s.architecture;
    FATHOM_TRY_STATUS(read_gqa(s));
  } else if (v4) {
    FATHOM_TRY_STATUS(read_deepseek4(s));
  } else if (v32) {
    FATHOM_TRY_STATUS(read_deepseek2(s));
    s.config["model_type"] = "deepseek_v32";
    FATHOM_TRY_STATUS(read_indexer(s));
  } else {
    FATHOM_TRY_STATUS(read_deepseek2(s));
  }
  return std::move(s.config);
}

}  // namespace fathom
