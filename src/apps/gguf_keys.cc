// The keys that tell a GGUF reader what a model of HuggingFace's config.json is. Names and
// meanings: docs/gguf.md of ggml; for deepseek2 what llama.cpp's converter writes
// (conversion/deepseek.py, facts only).
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/gguf_plan.h"
#include "base/json.h"
#include "base/limits.h"
#include "model/v4_config.h"

namespace fathom {
namespace {

// config.json on one side, "ARCH.key" on the other.
struct Translator {
  JsonReader config;
  std::string architecture;
  GgufKeyValues& out;

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture, name); }
  void set(std::string_view name, int64_t value) const {
    out.set_u32(key(name), static_cast<uint32_t>(value));
  }
  void set(std::string_view name, double value) const {
    out.set_f32(key(name), static_cast<float>(value));
  }
  // Copies an integer if it is there.
  Status copy(std::string_view field, std::string_view name) const {
    if (!config.has(field)) return {};
    FATHOM_TRY(const int64_t value, config.integer(field, 0, INT32_MAX));
    set(name, value);
    return {};
  }
};

std::string architecture_name(const std::string& model_type) {
  if (model_type == "deepseek_v2" || model_type == "deepseek_v3") return "deepseek2";
  if (model_type == "deepseek_v32") return "deepseek32";
  if (model_type == "deepseek_v4") return "deepseek4";
  if (model_type == "llama" || model_type == "qwen2" || model_type == "qwen3") return model_type;
  return "";
}

Status add_yarn(const Translator& t, const JsonReader& rope) {
  constexpr double kMax = 1e6;
  FATHOM_TRY(const double factor, rope.number("factor", 1e-6, kMax));
  t.out.set_string(t.key("rope.scaling.type"), "yarn");
  t.set("rope.scaling.factor", factor);
  FATHOM_TRY(const int64_t context,
             t.config.integer_or("max_position_embeddings", 2048, 1, limits::kMaxContextTokens));
  FATHOM_TRY(const int64_t original, rope.integer_or("original_max_position_embeddings", context, 1,
                                                     limits::kMaxContextTokens));
  t.set("rope.scaling.original_context_length", original);
  for (const char* name : {"beta_fast", "beta_slow"}) {
    FATHOM_TRY(const double beta, rope.number_or(name, 0, 0, kMax));
    if (beta > 0) t.set(fmt::format("rope.scaling.yarn_{}", name), beta);
  }
  for (const char* name : {"attention_factor", "attn_factor"}) {
    if (!rope.has(name)) continue;
    FATHOM_TRY(const double magnitude, rope.number(name, 0, 1e3));
    t.set("rope.scaling.yarn_attn_factor", magnitude);
    break;
  }
  FATHOM_TRY(const double mscale, rope.number_or("mscale", 0, 0, 100));
  FATHOM_TRY(const double all_dim, rope.number_or("mscale_all_dim", 0, 0, 100));
  if (mscale != all_dim)
    return rope.bad("mscale",
                    fmt::format("{}, as mscale_all_dim: GGUF holds one of them", all_dim));
  FATHOM_TRY(const bool truncate, rope.boolean_or("truncate", true));
  if (!truncate) return rope.bad("truncate", "true: GGUF has no word for false");
  // For deepseek2 the key holds a tenth, which its readers undo.
  if (all_dim != 0) t.set("rope.scaling.yarn_log_multiplier", 0.1 * all_dim);
  return {};
}

Status add_rope(const Translator& t, int64_t rotated) {
  t.set("rope.dimension_count", rotated);
  FATHOM_TRY(auto rope, t.config.object("rope_parameters"));
  if (!rope) {
    FATHOM_TRY(rope, t.config.object("rope_scaling"));
  }
  const bool own_theta = rope && rope->has("rope_theta");
  FATHOM_TRY(const double theta,
             (own_theta ? *rope : t.config).number_or("rope_theta", 10000, 1, 1e12));
  t.set("rope.freq_base", theta);
  if (!rope) return {};
  FATHOM_TRY(std::string type, rope->string_or("type", "default"));
  FATHOM_TRY(type, rope->string_or("rope_type", type));
  if (type == "linear") {
    FATHOM_TRY(const double factor, rope->number("factor", 1e-6, 1e6));
    t.out.set_string(t.key("rope.scaling.type"), "linear");
    t.set("rope.scaling.factor", factor);
  }
  // Llama 3's scaling is a tensor, rope_freqs.weight.
  return type == "yarn" ? add_yarn(t, *rope) : Status();
}

Status add_latent_attention(const Translator& t) {
  constexpr int64_t kMax = limits::kMaxHiddenSize;
  FATHOM_TRY(const int64_t rank, t.config.integer("kv_lora_rank", 1, kMax));
  FATHOM_TRY(const int64_t nope, t.config.integer("qk_nope_head_dim", 1, kMax));
  FATHOM_TRY(const int64_t rope, t.config.integer("qk_rope_head_dim", 1, kMax));
  FATHOM_TRY(const int64_t v, t.config.integer("v_head_dim", 1, kMax));
  FATHOM_TRY(const bool interleave, t.config.boolean_or("rope_interleave", true));
  if (!interleave) return t.config.bad("rope_interleave", "true: GGUF has no word for false");
  FATHOM_TRY_STATUS(t.copy("q_lora_rank", "attention.q_lora_rank"));
  t.set("attention.kv_lora_rank", rank);
  // As attention in the latent space, with one key for all heads, and as it is for each head.
  t.set("attention.head_count_kv", int64_t{1});
  t.set("attention.key_length", rank + rope);
  t.set("attention.value_length", rank);
  t.set("attention.key_length_mla", nope + rope);
  t.set("attention.value_length_mla", v);
  return add_rope(t, rope);
}

Status add_mixture(const Translator& t, bool sigmoid) {
  constexpr int64_t kSoftmax = 1, kSigmoid = 2;
  FATHOM_TRY(const int64_t experts,
             t.config.integer_or("n_routed_experts", 0, 0, limits::kMaxExperts));
  FATHOM_TRY(const int64_t layers, t.config.integer("num_hidden_layers", 1, limits::kMaxLayers));
  FATHOM_TRY(const int64_t dense,
             t.config.integer_or("first_k_dense_replace", experts > 0 ? 0 : layers, 0,
                                 limits::kMaxLayers));
  FATHOM_TRY(const int64_t every, t.config.integer_or("moe_layer_freq", 1, 1, limits::kMaxLayers));
  if (every != 1) return t.config.bad("moe_layer_freq", "1: GGUF has no word for another");
  FATHOM_TRY(const int64_t inner, t.config.integer("intermediate_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(const int64_t expert_inner,
             t.config.integer_or("moe_intermediate_size", inner, 1, limits::kMaxHiddenSize));
  FATHOM_TRY(const int64_t shared, t.config.integer_or("n_shared_experts", 0, 0, 1024));
  FATHOM_TRY(const double scale, t.config.number_or("routed_scaling_factor", 1, 0, 1e6));
  FATHOM_TRY(const bool normalize, t.config.boolean_or("norm_topk_prob", false));
  t.set("leading_dense_block_count", experts > 0 ? dense : layers);
  t.set("expert_feed_forward_length", expert_inner);
  t.set("expert_shared_count", shared);
  if (experts == 0) return {};
  t.set("expert_count", experts);
  FATHOM_TRY_STATUS(t.copy("num_experts_per_tok", "expert_used_count"));
  FATHOM_TRY_STATUS(t.copy("n_group", "expert_group_count"));
  FATHOM_TRY_STATUS(t.copy("topk_group", "expert_group_used_count"));
  t.set("expert_weights_scale", scale);
  // V2 never normalises, whatever its configuration says.
  t.out.set_bool(t.key("expert_weights_norm"), sigmoid && normalize);
  t.set("expert_gating_func", sigmoid ? kSigmoid : kSoftmax);
  return {};
}

Status add_indexer(const Translator& t) {
  FATHOM_TRY_STATUS(t.copy("index_n_heads", "attention.indexer.head_count"));
  FATHOM_TRY_STATUS(t.copy("index_head_dim", "attention.indexer.key_length"));
  return t.copy("index_topk", "attention.indexer.top_k");
}

// deepseek4: all that io/gguf_config.cc reads of it.
Status add_v4(const Translator& t) {
  constexpr int64_t kSqrtSoftplus = 4;
  const std::pair<const char*, const char*> kIntegers[] = {
      {"head_dim", "attention.key_length"},
      {"head_dim", "attention.value_length"},
      {"q_lora_rank", "attention.q_lora_rank"},
      {"sliding_window", "attention.sliding_window"},
      {"o_groups", "attention.output_group_count"},
      {"o_lora_rank", "attention.output_lora_rank"},
      {"n_routed_experts", "expert_count"},
      {"num_experts_per_tok", "expert_used_count"},
      {"n_shared_experts", "expert_shared_count"},
      {"moe_intermediate_size", "expert_feed_forward_length"},
      {"hc_mult", "hyper_connection.count"},
      {"hc_sinkhorn_iters", "hyper_connection.sinkhorn_iterations"},
  };
  for (const auto& [field, name] : kIntegers) FATHOM_TRY_STATUS(t.copy(field, name));
  t.set("attention.head_count_kv", int64_t{1});
  t.set("expert_gating_func", kSqrtSoftplus);
  const struct {
    const char *field, *name;
    double fallback, max;
  } kNumbers[] = {
      {"routed_scaling_factor", "expert_weights_scale", 1, 1e6},
      {"hc_eps", "hyper_connection.epsilon", 1e-6, 1},
      {"compress_rope_theta", "attention.compress_rope_freq_base", 160000, 1e12},
      {"swiglu_limit", "swiglu_clamp_exp", 0, 1e6},
  };
  for (const auto& n : kNumbers) {
    FATHOM_TRY(const double value, t.config.number_or(n.field, n.fallback, 0, n.max));
    t.set(n.name, value);
  }
  FATHOM_TRY(const V4Config c, read_v4_config(t.config));
  t.out.set_bool(t.key("expert_weights_norm"), c.norm_topk_prob);
  t.out.set_i32s(t.key("attention.compress_ratios"),
                 std::vector<int32_t>(c.compress_rates.begin(), c.compress_rates.end()));
  const auto plain = std::find(c.hash_routed.begin(), c.hash_routed.end(), false);
  if (std::find(plain, c.hash_routed.end(), true) != c.hash_routed.end())
    return t.config.bad("mlp_layer_types", "hash_moe in the first layers only, as GGUF has it");
  t.set("hash_layer_count", static_cast<int64_t>(plain - c.hash_routed.begin()));
  FATHOM_TRY_STATUS(add_indexer(t));
  FATHOM_TRY(const int64_t rotated,
             t.config.integer("qk_rope_head_dim", 1, limits::kMaxHiddenSize));
  return add_rope(t, rotated);
}

}  // namespace

Status add_architecture_keys(const ModelFiles& files, bool has_mtp, GgufKeyValues& out) {
  const JsonReader config(*files.config, files.config_path);
  const Translator t{config, architecture_name(files.model_type), out};
  if (t.architecture.empty())
    return config.bad("model_type", "llama, qwen2, qwen3, deepseek_v2, _v3, _v32 or _v4");
  out.set_string("general.architecture", t.architecture);
  out.set_string("general.type", "model");
  out.set_string("general.name", files.name);
  FATHOM_TRY(const int64_t layers, config.integer("num_hidden_layers", 1, limits::kMaxLayers));
  FATHOM_TRY(const int64_t heads, config.integer("num_attention_heads", 1, limits::kMaxHeads));
  FATHOM_TRY(const int64_t hidden, config.integer("hidden_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(const int64_t context,
             config.integer_or("max_position_embeddings", 2048, 1, limits::kMaxContextTokens));
  FATHOM_TRY(const double eps, config.number_or("rms_norm_eps", 1e-6, 0, 1));
  t.set("block_count", layers + (has_mtp ? 1 : 0));
  if (has_mtp) t.set("nextn_predict_layers", int64_t{1});
  t.set("context_length", context);
  t.set("embedding_length", hidden);
  FATHOM_TRY_STATUS(t.copy("intermediate_size", "feed_forward_length"));
  FATHOM_TRY_STATUS(t.copy("vocab_size", "vocab_size"));
  t.set("attention.head_count", heads);
  t.set("attention.layer_norm_rms_epsilon", eps);
  if (t.architecture == "deepseek4") return add_v4(t);
  if (t.architecture == "deepseek2" || t.architecture == "deepseek32") {
    FATHOM_TRY_STATUS(add_latent_attention(t));
    if (t.architecture == "deepseek32") FATHOM_TRY_STATUS(add_indexer(t));
    return add_mixture(t, files.model_type != "deepseek_v2");
  }
  FATHOM_TRY(const int64_t kv_heads,
             config.integer_or("num_key_value_heads", heads, 1, limits::kMaxHeads));
  FATHOM_TRY(const int64_t head_dim,
             config.integer_or("head_dim", hidden / heads, 1, limits::kMaxHiddenSize));
  t.set("attention.head_count_kv", kv_heads);
  t.set("attention.key_length", head_dim);
  t.set("attention.value_length", head_dim);
  return add_rope(t, head_dim);
}

}  // namespace fathom
