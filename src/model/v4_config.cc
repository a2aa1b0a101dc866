#include "model/v4_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "base/limits.h"

namespace fathom {
namespace {

// The field's list of names, one a layer, each replaced by what `value_of` makes of it.
template <typename T, typename F>
Result<std::vector<T>> layer_names(const JsonReader& r, std::string_view field, int64_t layers,
                                   std::string_view expected, const F& value_of) {
  const auto& list = r.value().at(std::string(field));
  if (!list.is_array() || static_cast<int64_t>(list.size()) < layers)
    return r.bad(field, fmt::format("a list of {} names", layers));
  std::vector<T> out;
  for (int64_t i = 0; i < layers; ++i) {
    const auto& name = list[static_cast<std::size_t>(i)];
    const auto value =
        name.is_string() ? value_of(name.template get_ref<const std::string&>()) : std::nullopt;
    if (!value) {
      return r.bad(fmt::format("{}[{}]", field, i),
                   fmt::format("{} (it is {})", expected, name.dump()));
    }
    out.push_back(*value);
  }
  return out;
}

// compress_ratios, a number a layer (and some more for MTP blocks), or transformers' layer_types
// with compress_rates.
Result<std::vector<int64_t>> read_rates(const JsonReader& r, int64_t layers) {
  if (r.has("compress_ratios")) {
    FATHOM_TRY(auto rates, r.integer_list("compress_ratios", 0, limits::kMaxContextTokens));
    if (static_cast<int64_t>(rates.size()) < layers)
      return r.bad("compress_ratios", fmt::format("a list of at least {} numbers", layers));
    rates.resize(static_cast<std::size_t>(layers));
    // Some copies write 1 for layers that compress nothing.
    std::replace(rates.begin(), rates.end(), int64_t{1}, kSlidingOnly);
    return rates;
  }
  if (!r.has("layer_types")) return r.bad("compress_ratios", "a list with a number for each layer");
  FATHOM_TRY(const auto given, r.object("compress_rates"));
  int64_t selecting = kSelectingRate, heavy = 128;
  if (given) {
    FATHOM_TRY(selecting, given->integer_or("compressed_sparse_attention", selecting, 1, 1 << 20));
    FATHOM_TRY(heavy, given->integer_or("heavily_compressed_attention", heavy, 1, 1 << 20));
  }
  if (selecting != kSelectingRate || heavy == kSelectingRate) {
    return r.bad("compress_rates",
                 fmt::format("{} for compressed_sparse_attention, another number for "
                             "heavily_compressed_attention",
                             kSelectingRate));
  }
  return layer_names<int64_t>(
      r, "layer_types", layers,
      "sliding_attention, compressed_sparse_attention or heavily_compressed_attention",
      [&](const std::string& name) -> std::optional<int64_t> {
        if (name == "sliding_attention") return kSlidingOnly;
        if (name == "compressed_sparse_attention") return selecting;
        if (name == "heavily_compressed_attention") return heavy;
        return std::nullopt;
      });
}

Result<std::vector<bool>> read_hash_layers(const JsonReader& r, int64_t layers) {
  if (r.has("mlp_layer_types")) {
    return layer_names<bool>(r, "mlp_layer_types", layers, "hash_moe or moe",
                             [](const std::string& name) -> std::optional<bool> {
                               if (name == "hash_moe") return true;
                               if (name == "moe") return false;
                               return std::nullopt;
                             });
  }
  FATHOM_TRY(const int64_t count, r.integer_or("num_hash_layers", 0, 0, layers));
  std::vector<bool> out(static_cast<std::size_t>(layers), false);
  std::fill_n(out.begin(), count, true);
  return out;
}

Status read_attention(const JsonReader& r, V4Config& c) {
  constexpr int64_t kMax = limits::kMaxHiddenSize;
  FATHOM_TRY(c.heads, r.integer("num_attention_heads", 1, limits::kMaxHeads));
  FATHOM_TRY(const int64_t kv_heads, r.integer_or("num_key_value_heads", 1, 1, limits::kMaxHeads));
  if (kv_heads != 1) return r.bad("num_key_value_heads", "1: all heads share one");
  FATHOM_TRY(c.head_dim, r.integer("head_dim", 2, kMax));
  if (r.has("qk_rope_head_dim")) {
    FATHOM_TRY(c.rope_dim, r.integer("qk_rope_head_dim", 2, c.head_dim));
  } else {
    FATHOM_TRY(const double part, r.number("partial_rotary_factor", 0, 1));
    c.rope_dim = static_cast<int64_t>(part * static_cast<double>(c.head_dim) + 0.5);
  }
  if (c.rope_dim < 2 || c.rope_dim % 2 != 0) return r.bad("qk_rope_head_dim", "an even number");
  FATHOM_TRY(c.q_lora_rank, r.integer("q_lora_rank", 1, kMax));
  FATHOM_TRY(c.o_groups, r.integer("o_groups", 1, c.heads));
  FATHOM_TRY(c.o_lora_rank, r.integer("o_lora_rank", 1, kMax));
  if (c.heads % c.o_groups != 0) return r.bad("o_groups", "a divisor of num_attention_heads");
  FATHOM_TRY(c.sliding_window, r.integer("sliding_window", 1, limits::kMaxContextTokens));
  FATHOM_TRY(const bool bias, r.boolean_or("attention_bias", false));
  if (bias) return r.bad("attention_bias", "false: no published model has biases");
  FATHOM_TRY(c.compress_rates, read_rates(r, c.num_layers));
  const auto selects = [](int64_t rate) { return rate == kSelectingRate; };
  if (std::any_of(c.compress_rates.begin(), c.compress_rates.end(), selects)) {
    FATHOM_TRY(c.index_heads, r.integer("index_n_heads", 1, limits::kMaxHeads));
    FATHOM_TRY(c.index_dim, r.integer("index_head_dim", c.rope_dim, kMax));
    FATHOM_TRY(c.index_topk, r.integer("index_topk", 1, limits::kMaxContextTokens));
  }
  FATHOM_TRY(c.sliding_rope, read_unscaled_rope(r, c.rope_dim));
  FATHOM_TRY(c.compress_rope, read_rope(r, c.rope_dim, "compress_rope_theta"));
  c.compress_rope.attention_factor = 1;  // V4 takes YaRN's frequencies, not its magnitude
  return {};
}

Status read_mixture(const JsonReader& r, V4Config& c) {
  FATHOM_TRY(c.experts, r.integer("n_routed_experts", 1, limits::kMaxExperts));
  FATHOM_TRY(c.experts_per_token, r.integer("num_experts_per_tok", 1, c.experts));
  FATHOM_TRY(c.expert_width, r.integer("moe_intermediate_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(c.shared_experts, r.integer_or("n_shared_experts", 1, 0, 1024));
  FATHOM_TRY(c.routed_scaling_factor, r.number_or("routed_scaling_factor", 1, 0, 1e6));
  FATHOM_TRY(c.norm_topk_prob, r.boolean_or("norm_topk_prob", true));
  FATHOM_TRY(c.swiglu_limit, r.number_or("swiglu_limit", 0, 0, 1e6));
  FATHOM_TRY(const std::string scoring, r.string_or("scoring_func", "sqrtsoftplus"));
  if (scoring != "sqrtsoftplus") return r.bad("scoring_func", "\"sqrtsoftplus\"");
  FATHOM_TRY(const std::string act, r.string_or("hidden_act", "silu"));
  if (act != "silu") return r.bad("hidden_act", "\"silu\"");
  FATHOM_TRY(c.hash_routed, read_hash_layers(r, c.num_layers));
  return {};
}

}  // namespace

Result<V4Config> read_v4_config(const JsonReader& r) {
  V4Config c;
  FATHOM_TRY(c.hidden_size, r.integer("hidden_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(c.num_layers, r.integer("num_hidden_layers", 1, limits::kMaxLayers));
  FATHOM_TRY(c.vocab_size, r.integer("vocab_size", 1, limits::kMaxVocab));
  FATHOM_TRY(c.max_position_embeddings,
             r.integer_or("max_position_embeddings", 2048, 1, limits::kMaxContextTokens));
  FATHOM_TRY(c.mtp_layers, r.integer_or("num_nextn_predict_layers", 0, 0, 16));
  FATHOM_TRY(c.tie_word_embeddings, r.boolean_or("tie_word_embeddings", false));
  FATHOM_TRY(c.rms_norm_eps, r.number_or("rms_norm_eps", 1e-6, 0, 1));
  FATHOM_TRY_STATUS(read_attention(r, c));
  FATHOM_TRY_STATUS(read_mixture(r, c));
  FATHOM_TRY(c.streams.streams, r.integer("hc_mult", 1, 64));
  FATHOM_TRY(c.streams.sinkhorn_iterations, r.integer_or("hc_sinkhorn_iters", 20, 1, 1000));
  FATHOM_TRY(c.streams.eps, r.number_or("hc_eps", 1e-6, 0, 1));
  c.streams.hidden = c.hidden_size;
  c.streams.norm_eps = c.rms_norm_eps;
  return c;
}

}  // namespace fathom
