#include "model/decoder.h"

#include <fmt/format.h>

#include "base/limits.h"

namespace fathom {

std::string layer_prefix(int64_t layer) { return fmt::format("model.layers.{}.", layer); }

Result<DecoderConfig> read_decoder_config(const JsonReader& r) {
  DecoderConfig c;
  FATHOM_TRY(c.hidden_size, r.integer("hidden_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(c.intermediate_size, r.integer("intermediate_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(c.num_hidden_layers, r.integer("num_hidden_layers", 1, limits::kMaxLayers));
  FATHOM_TRY(c.num_attention_heads, r.integer("num_attention_heads", 1, limits::kMaxHeads));
  FATHOM_TRY(c.num_key_value_heads,
             r.integer_or("num_key_value_heads", c.num_attention_heads, 1, limits::kMaxHeads));
  FATHOM_TRY(c.vocab_size, r.integer("vocab_size", 1, limits::kMaxVocab));
  FATHOM_TRY(c.max_position_embeddings,
             r.integer_or("max_position_embeddings", 2048, 1, limits::kMaxContextTokens));
  FATHOM_TRY(c.rms_norm_eps, r.number_or("rms_norm_eps", 1e-6, 0, 1));
  FATHOM_TRY(c.tie_word_embeddings, r.boolean_or("tie_word_embeddings", false));
  FATHOM_TRY(const std::string act, r.string_or("hidden_act", "silu"));
  if (act != "silu") return r.bad("hidden_act", "\"silu\"");
  return c;
}

Result<WeightView> optional_vector(const WeightSource& weights, bool wanted,
                                   const std::string& name, int64_t size) {
  if (wanted) return weights.vector(name, size);
  if (const StoredTensor* t = weights.find(name)) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' of shape {} is there, expected none by the configuration",
                    t->file, name, shape_string(t->shape)));
  }
  return WeightView{};
}

Result<SwigluWeights> load_swiglu(const WeightSource& weights, const std::string& prefix,
                                  int64_t hidden, int64_t inner, bool bias) {
  SwigluWeights w;
  FATHOM_TRY(w.gate, weights.matrix(prefix + "gate_proj.weight", inner, hidden));
  FATHOM_TRY(w.up, weights.matrix(prefix + "up_proj.weight", inner, hidden));
  FATHOM_TRY(w.down, weights.matrix(prefix + "down_proj.weight", hidden, inner));
  FATHOM_TRY(w.gate_bias, optional_vector(weights, bias, prefix + "gate_proj.bias", inner));
  FATHOM_TRY(w.up_bias, optional_vector(weights, bias, prefix + "up_proj.bias", inner));
  FATHOM_TRY(w.down_bias, optional_vector(weights, bias, prefix + "down_proj.bias", hidden));
  return w;
}

namespace {

// A wrong num_hidden_layers could load and answer nonsense: without the last layers, or with the
// MTP module, which stands behind them under the next number, as one of them.
Status check_layer_count(const ModelFiles& files, int64_t num_hidden_layers) {
  const auto tensor = [&](int64_t layer, std::string_view name) {
    const std::string full = layer_prefix(layer) + std::string(name);
    return files.weights->has(full) ? full : "";
  };
  const JsonReader reader(*files.config, files.config_path);
  const auto bad = [&](std::string_view relation, const std::string& name) {
    return reader.bad("num_hidden_layers", fmt::format("{}: {} has tensor '{}'", relation,
                                                       files.weights->description(), name));
  };
  const std::string own_mtp = tensor(num_hidden_layers - 1, "eh_proj.weight");
  if (!own_mtp.empty()) return bad("fewer, as layers of an MTP module do not count", own_mtp);
  const std::string next = tensor(num_hidden_layers, "input_layernorm.weight");
  if (!next.empty() && tensor(num_hidden_layers, "eh_proj.weight").empty())
    return bad("more", next);
  return {};
}

}  // namespace

Status Decoder::load_decoder(const ModelFiles& files, const DecoderConfig& config) {
  config_ = config;
  info_.name = files.name;
  info_.architecture = files.model_type;
  info_.vocab_size = config.vocab_size;
  info_.hidden_size = config.hidden_size;
  info_.num_layers = config.num_hidden_layers;
  info_.max_context_tokens = config.max_position_embeddings;
  const WeightSource& w = *files.weights;
  w.for_each([&](const std::string&, const StoredTensor& t) {
    info_.block_quantized |= is_block_quantized(t.dtype);
  });
  FATHOM_TRY_STATUS(check_layer_count(files, config.num_hidden_layers));
  FATHOM_TRY(embed_tokens_,
             w.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size));
  FATHOM_TRY(norm_, w.vector("model.norm.weight", config.hidden_size));
  if (config.tie_word_embeddings) {
    lm_head_ = embed_tokens_;
  } else {
    FATHOM_TRY(lm_head_, w.matrix("lm_head.weight", config.vocab_size, config.hidden_size));
  }
  const Shard& shard = sharder_.shard();
  if (config.vocab_size < shard.size) {
    return JsonReader(*files.config, files.config_path)
        .bad("vocab_size", fmt::format("{} or more for as many ranks", shard.size));
  }
  const ShardRange words = shard.part(config.vocab_size);
  if (config.tie_word_embeddings && !shard.whole()) {
    lm_head_ = sharder_.own_rows(lm_head_, words);
  } else {
    lm_head_ = WeightSharder::rows(lm_head_, words);
  }
  return {};
}

Result<ShardRange> Decoder::own_heads(const JsonReader& reader) const {
  const Shard& shard = sharder_.shard();
  if (config_.num_attention_heads % shard.size != 0) {
    return reader.bad(
        "num_attention_heads",
        fmt::format("a multiple of {} for --tensor-parallel {}", shard.size, shard.size));
  }
  return shard.part(config_.num_attention_heads);
}

Status Decoder::load_layer_norms(const WeightSource& weights) {
  const std::string p = layer_prefix(static_cast<int64_t>(norms_.size()));
  LayerNorms n;
  FATHOM_TRY(n.input_layernorm, weights.vector(p + "input_layernorm.weight", config_.hidden_size));
  FATHOM_TRY(n.post_attention_layernorm,
             weights.vector(p + "post_attention_layernorm.weight", config_.hidden_size));
  norms_.push_back(n);
  return {};
}

TensorView Decoder::rope_angles(const ModelContext& context, const Step& step) const {
  const auto dims = static_cast<int64_t>(rope_.inverse_frequencies.size()) * 2;
  const TensorView angles =
      context.workspace.f32(static_cast<int64_t>(step.token_ids.size()), dims);
  context.ops.rope_angles({.positions = step.positions,
                           .inverse_frequencies = rope_.inverse_frequencies,
                           .attention_factor = rope_.attention_factor,
                           .out = angles});
  return angles;
}

void Decoder::run_layers(const LayerContext& context, int64_t first, int64_t count,
                         const WeightView& final_norm, const TensorView& x,
                         const TensorView& h) const {
  Ops& ops = context.model.ops;
  Workspace& ws = context.model.workspace;
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  const TensorView delta = ws.f32(x.rows, x.cols);
  for (int64_t i = first; i < first + count; ++i) {
    const Workspace::Scope scope(ws);
    attend(context, i, h, delta);
    ops.add_rms_norm({.x = x,
                      .delta = delta,
                      .weight = norms_[static_cast<std::size_t>(i)].post_attention_layernorm,
                      .eps = eps,
                      .out = h});
    feed_forward(context, i, h, delta);
    const bool last = i + 1 == first + count;
    ops.add_rms_norm(
        {.x = x,
         .delta = delta,
         .weight = last ? final_norm : norms_[static_cast<std::size_t>(i + 1)].input_layernorm,
         .eps = eps,
         .out = h});
    ops.mark(fmt::format("layer{}", i), x);
  }
}

ModelOutput Decoder::forward(const ModelContext& context, const Step& step) const {
  const auto tokens = static_cast<int64_t>(step.token_ids.size());
  const TensorView x = context.workspace.f32(tokens, config_.hidden_size);
  const TensorView h = context.workspace.f32(tokens, config_.hidden_size);
  context.ops.begin_rows(row_classes(step.sequences));
  context.ops.embed({.table = embed_tokens_, .token_ids = step.token_ids, .out = x});
  context.ops.mark("embed", x);
  context.ops.rms_norm({.x = x,
                        .weight = norms_[0].input_layernorm,
                        .eps = static_cast<float>(config_.rms_norm_eps),
                        .out = h});
  const LayerContext layer{context, step, rope_angles(context, step)};
  run_layers(layer, 0, config_.num_hidden_layers, norm_, x, h);
  context.ops.mark("final_norm", h);
  return {.hidden = h, .mtp_input = h};
}

void Decoder::logits(const ModelContext& context, const TensorView& hidden,
                     const TensorView& out) const {
  // A class of its own would need to know where each row comes from.
  context.ops.begin_rows({.rows = hidden.rows});
  if (sharder_.shard().whole()) {
    context.ops.linear({.x = hidden, .weight = lm_head_, .out = out});
    return;
  }
  const TensorView part = context.workspace.f32(hidden.rows, lm_head_.rows);
  context.ops.linear({.x = hidden, .weight = lm_head_, .out = part});
  context.ops.gather_columns({.part = part, .out = out});
}

}  // namespace fathom
