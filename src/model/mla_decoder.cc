#include "model/mla_decoder.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/limits.h"

namespace fathom {
namespace {

// Both latent norms use this eps whatever rms_norm_eps says (tests/golden/data/NOTES.md §3).
constexpr float kLatentNormEps = 1e-6f;

}  // namespace

Result<MlaConfig> read_mla_config(const JsonReader& r) {
  constexpr int64_t kMax = limits::kMaxHiddenSize;
  MlaConfig c;
  FATHOM_TRY(c.q_lora_rank, r.integer_or("q_lora_rank", 0, 0, kMax));
  FATHOM_TRY(c.kv_lora_rank, r.integer("kv_lora_rank", 1, kMax));
  FATHOM_TRY(c.qk_nope_head_dim, r.integer("qk_nope_head_dim", 1, kMax));
  FATHOM_TRY(c.qk_rope_head_dim, r.integer("qk_rope_head_dim", 2, kMax));
  FATHOM_TRY(c.v_head_dim, r.integer("v_head_dim", 1, kMax));
  FATHOM_TRY(c.attention_bias, r.boolean_or("attention_bias", false));
  if (c.qk_rope_head_dim % 2 != 0) return r.bad("qk_rope_head_dim", "an even number");
  return c;
}

Result<MoeConfig> read_moe_config(const JsonReader& r) {
  MoeConfig c;
  FATHOM_TRY(c.n_routed_experts, r.integer_or("n_routed_experts", 0, 0, limits::kMaxExperts));
  FATHOM_TRY(c.first_k_dense_replace,
             r.integer_or("first_k_dense_replace", 0, 0, limits::kMaxLayers));
  FATHOM_TRY(c.moe_layer_freq, r.integer_or("moe_layer_freq", 1, 1, limits::kMaxLayers));
  if (c.n_routed_experts == 0) return c;
  FATHOM_TRY(c.num_experts_per_tok, r.integer("num_experts_per_tok", 1, c.n_routed_experts));
  FATHOM_TRY(c.n_shared_experts, r.integer_or("n_shared_experts", 0, 0, 1024));
  FATHOM_TRY(c.moe_intermediate_size,
             r.integer("moe_intermediate_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(c.n_group, r.integer_or("n_group", 1, 1, c.n_routed_experts));
  FATHOM_TRY(c.topk_group, r.integer_or("topk_group", 1, 1, c.n_group));
  FATHOM_TRY(c.routed_scaling_factor, r.number_or("routed_scaling_factor", 1, 0, 1e6));
  FATHOM_TRY(c.norm_topk_prob, r.boolean_or("norm_topk_prob", false));
  if (c.n_routed_experts % c.n_group != 0) return r.bad("n_group", "a divisor of n_routed_experts");
  if (c.num_experts_per_tok > c.n_routed_experts / c.n_group * c.topk_group) {
    return r.bad("num_experts_per_tok", fmt::format("at most {}, the experts in topk_group groups",
                                                    c.n_routed_experts / c.n_group * c.topk_group));
  }
  return c;
}

Status MlaDecoder::load(const ModelFiles& files, const MlaConfig& mla, const MoeConfig& moe) {
  const JsonReader reader(*files.config, files.config_path);
  FATHOM_TRY(const DecoderConfig config, read_decoder_config(reader));
  mla_ = mla;
  moe_ = moe;
  FATHOM_TRY(rope_, read_rope(reader, mla.qk_rope_head_dim));
  FATHOM_TRY_STATUS(load_decoder(files, config));
  FATHOM_TRY(heads_, own_heads(reader));
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const bool mixture =
        moe.n_routed_experts > 0 && i >= moe.first_k_dense_replace && i % moe.moe_layer_freq == 0;
    FATHOM_TRY_STATUS(load_layer(*files.weights, mixture));
  }
  return {};
}

std::vector<KvLayerSpec> MlaDecoder::kv_layers() const {
  std::vector<KvLayerSpec> specs;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    specs.push_back({.row_elements = mla_.kv_lora_rank + mla_.qk_rope_head_dim,
                     .mtp = static_cast<int64_t>(i) >= config_.num_hidden_layers});
  }
  return specs;
}

Status MlaDecoder::load_attention(const WeightSource& w, const std::string& a, Layer& l) {
  const int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads;
  const int64_t q_width = heads * (mla_.qk_nope_head_dim + mla_.qk_rope_head_dim);
  const int64_t kv_width = mla_.kv_lora_rank + mla_.qk_rope_head_dim;
  const bool bias = mla_.attention_bias;
  if (mla_.q_lora_rank == 0) {
    FATHOM_TRY(l.q_proj, w.matrix(a + "q_proj.weight", q_width, hidden));
  } else {
    FATHOM_TRY(l.q_a_proj, w.matrix(a + "q_a_proj.weight", mla_.q_lora_rank, hidden));
    FATHOM_TRY(l.q_a_bias, optional_vector(w, bias, a + "q_a_proj.bias", mla_.q_lora_rank));
    FATHOM_TRY(l.q_a_layernorm, w.vector(a + "q_a_layernorm.weight", mla_.q_lora_rank));
    FATHOM_TRY(l.q_b_proj, w.matrix(a + "q_b_proj.weight", q_width, mla_.q_lora_rank));
  }
  FATHOM_TRY(l.kv_a_proj_with_mqa, w.matrix(a + "kv_a_proj_with_mqa.weight", kv_width, hidden));
  FATHOM_TRY(l.kv_a_bias, optional_vector(w, bias, a + "kv_a_proj_with_mqa.bias", kv_width));
  FATHOM_TRY(l.kv_a_layernorm, w.vector(a + "kv_a_layernorm.weight", mla_.kv_lora_rank));
  // GGUF files may have the two halves apart, the keys' one transposed.
  if (w.has(a + "k_b_proj.weight")) {
    FATHOM_TRY(l.k_b_proj,
               w.matrix(a + "k_b_proj.weight", heads * mla_.kv_lora_rank, mla_.qk_nope_head_dim));
    FATHOM_TRY(l.v_b_proj,
               w.matrix(a + "v_b_proj.weight", heads * mla_.v_head_dim, mla_.kv_lora_rank));
  } else {
    FATHOM_TRY(l.kv_b_proj,
               w.matrix(a + "kv_b_proj.weight", heads * (mla_.qk_nope_head_dim + mla_.v_head_dim),
                        mla_.kv_lora_rank));
  }
  FATHOM_TRY(l.o_proj, w.matrix(a + "o_proj.weight", hidden, heads * mla_.v_head_dim));
  FATHOM_TRY(l.o_bias, optional_vector(w, bias, a + "o_proj.bias", hidden));
  const auto own = [&](int64_t width) {
    return ShardRange{heads_.begin * width, heads_.count * width};
  };
  const ShardRange q = own(mla_.qk_nope_head_dim + mla_.qk_rope_head_dim);
  l.q_proj = WeightSharder::rows(l.q_proj, q);
  l.q_b_proj = WeightSharder::rows(l.q_b_proj, q);
  l.kv_b_proj = WeightSharder::rows(l.kv_b_proj, own(mla_.qk_nope_head_dim + mla_.v_head_dim));
  l.k_b_proj = WeightSharder::rows(l.k_b_proj, own(mla_.kv_lora_rank));
  l.v_b_proj = WeightSharder::rows(l.v_b_proj, own(mla_.v_head_dim));
  FATHOM_TRY(l.o_proj, sharder_.columns(l.o_proj, own(mla_.v_head_dim), a + "o_proj.weight"));
  l.o_bias = sharder_.once(l.o_bias);
  return {};
}

Status MlaDecoder::load_mixture(const WeightSource& w, const std::string& m, Layer& l) {
  const int64_t hidden = config_.hidden_size;
  FATHOM_TRY(l.gate, w.matrix(m + "gate.weight", moe_.n_routed_experts, hidden));
  FATHOM_TRY(l.e_score_correction_bias,
             optional_vector(w, moe_.correction_bias, m + "gate.e_score_correction_bias",
                             moe_.n_routed_experts));
  for (int64_t e = 0; e < moe_.n_routed_experts; ++e) {
    const std::string p = fmt::format("{}experts.{}.", m, e);
    FATHOM_TRY(const SwigluWeights expert,
               load_swiglu(w, p, hidden, moe_.moe_intermediate_size, false));
    FATHOM_TRY(l.experts.emplace_back(), sharder_.swiglu(expert, p));
  }
  const std::string shared = m + "shared_experts.";
  if (moe_.n_shared_experts == 0 && w.has(shared + "gate_proj.weight")) {
    return invalid_argument(fmt::format(
        "{}: tensor '{}gate_proj.weight' is there, expected none: n_shared_experts is 0",
        w.description(), shared));
  }
  if (moe_.n_shared_experts > 0) {
    FATHOM_TRY(l.shared, load_swiglu(w, shared, hidden,
                                     moe_.moe_intermediate_size * moe_.n_shared_experts, false));
    FATHOM_TRY(l.shared, sharder_.swiglu(*l.shared, shared));
  }
  return {};
}

Status MlaDecoder::load_layer(const WeightSource& weights, bool mixture) {
  const std::string p = layer_prefix(static_cast<int64_t>(layers_.size()));
  FATHOM_TRY_STATUS(load_layer_norms(weights));
  Layer layer;
  FATHOM_TRY_STATUS(load_attention(weights, p + "self_attn.", layer));
  FATHOM_TRY_STATUS(load_selection(weights, p + "self_attn."));
  if (mixture) {
    FATHOM_TRY_STATUS(load_mixture(weights, p + "mlp.", layer));
  } else {
    FATHOM_TRY(layer.dense, load_swiglu(weights, p + "mlp.", config_.hidden_size,
                                        config_.intermediate_size, false));
    FATHOM_TRY(layer.dense, sharder_.swiglu(layer.dense, p + "mlp."));
  }
  layers_.push_back(std::move(layer));
  return {};
}

void MlaDecoder::attend(const LayerContext& context, int64_t layer, const TensorView& x,
                        const TensorView& out) const {
  const Layer& l = layers_[static_cast<std::size_t>(layer)];
  Ops& ops = context.model.ops;
  Workspace& ws = context.model.workspace;
  const int64_t heads = heads_.count;
  const int64_t nope = mla_.qk_nope_head_dim, rope = mla_.qk_rope_head_dim;
  const TensorView q = ws.f32(x.rows, heads * (nope + rope));
  const TensorView kv_row = ws.f32(x.rows, mla_.kv_lora_rank + rope);
  const LinearArgs kv_a{.x = x, .weight = l.kv_a_proj_with_mqa, .bias = l.kv_a_bias, .out = kv_row};
  TensorView selected;
  if (l.q_proj.defined()) {
    ops.linears(std::array{LinearArgs{.x = x, .weight = l.q_proj, .bias = {}, .out = q}, kv_a});
  } else {
    const TensorView qr = ws.f32(x.rows, mla_.q_lora_rank);
    ops.linears(
        std::array{LinearArgs{.x = x, .weight = l.q_a_proj, .bias = l.q_a_bias, .out = qr}, kv_a});
    ops.rms_norm({.x = qr, .weight = l.q_a_layernorm, .eps = kLatentNormEps, .out = qr});
    ops.linear({.x = qr, .weight = l.q_b_proj, .bias = {}, .out = q});
    selected = select(context, layer, x, qr);
  }
  const TensorView latent = kv_row.columns(0, mla_.kv_lora_rank);
  const TensorView k_rope = kv_row.columns(mla_.kv_lora_rank, rope);
  ops.rms_norm({.x = latent, .weight = l.kv_a_layernorm, .eps = kLatentNormEps, .out = latent});
  const KvPages& kv = context.step.kv[static_cast<std::size_t>(layer)];
  ops.rope_append(
      {.q = {.x = q,
             .angles = context.angles,
             .heads = heads,
             .offset = nope,
             .layout = mla_.rope_layout},
       .k = {.x = k_rope, .angles = context.angles, .heads = 1, .layout = mla_.rope_layout},
       .append = {.parts = std::span(&kv_row, 1), .kv = kv, .sequences = context.step.sequences}});
  const double scale = 1.0 / std::sqrt(static_cast<double>(nope + rope)) * rope_.mla_scale_factor;
  const TensorView o = ws.f32(x.rows, heads * mla_.v_head_dim);
  ops.mla_attention({.q = q,
                     .kv_b = l.kv_b_proj,
                     .k_b = l.k_b_proj,
                     .v_b = l.v_b_proj,
                     .kv = kv,
                     .sequences = context.step.sequences,
                     .heads = heads,
                     .qk_nope_head_dim = nope,
                     .qk_rope_head_dim = rope,
                     .v_head_dim = mla_.v_head_dim,
                     .kv_lora_rank = mla_.kv_lora_rank,
                     .scale = static_cast<float>(scale),
                     .selected = selected,
                     .out = o});
  ops.linear({.x = o, .weight = l.o_proj, .bias = l.o_bias, .out = out});
  sum_over_ranks(context, out);
}

void MlaDecoder::feed_forward(const LayerContext& context, int64_t layer, const TensorView& x,
                              const TensorView& out) const {
  const Layer& l = layers_[static_cast<std::size_t>(layer)];
  Ops& ops = context.model.ops;
  Workspace& ws = context.model.workspace;
  if (l.experts.empty()) {
    ops.mlp({.x = x, .weights = l.dense, .out = out});
    sum_over_ranks(context, out);
    return;
  }
  const TensorView router_logits = ws.f32(x.rows, moe_.n_routed_experts);
  const TensorView ids = ws.i32(x.rows, moe_.num_experts_per_tok);
  const TensorView weights = ws.f32(x.rows, moe_.num_experts_per_tok);
  ops.linear({.x = x, .weight = l.gate, .bias = {}, .out = router_logits});
  ops.route({.logits = router_logits,
             .bias = l.e_score_correction_bias,
             .scoring = moe_.scoring,
             .groups = moe_.groups,
             .num_groups = moe_.n_group,
             .groups_per_token = moe_.topk_group,
             .normalize = moe_.norm_topk_prob,
             .scaling_factor = static_cast<float>(moe_.routed_scaling_factor),
             .ids = ids,
             .weights = weights});
  ops.moe({.x = x,
           .ids = ids,
           .weights = weights,
           .experts = l.experts,
           .shared = l.shared ? &*l.shared : nullptr,
           .out = out});
  sum_over_ranks(context, out);
}

}  // namespace fathom
