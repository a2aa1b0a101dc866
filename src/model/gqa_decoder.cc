#include "model/gqa_decoder.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/limits.h"

namespace fathom {
namespace {

class GqaDecoder : public Decoder {
 public:
  using Decoder::Decoder;
  Status load(const ModelFiles& files, const GqaOptions& options);

  std::vector<KvLayerSpec> kv_layers() const override {
    return std::vector<KvLayerSpec>(layers_.size(),
                                    {.row_elements = 2 * kv_heads_.count * head_dim_});
  }

 private:
  struct Layer {
    // Of this rank's heads.
    WeightView q_proj, k_proj, v_proj;  // [heads * head_dim | kv_heads * head_dim, hidden]
    WeightView q_bias, k_bias, v_bias;
    WeightView o_proj, o_bias;  // [hidden, heads * head_dim]
    WeightView q_norm, k_norm;  // [head_dim], or undefined
    SwigluWeights mlp;
  };

  Result<Layer> load_layer(const WeightSource& weights, int64_t index, const GqaOptions& options);
  Status divide(const JsonReader& reader);
  void attend(const LayerContext& context, int64_t layer, const TensorView& x,
              const TensorView& out) const override;
  void feed_forward(const LayerContext& context, int64_t layer, const TensorView& x,
                    const TensorView& out) const override {
    context.model.ops.mlp(
        {.x = x, .weights = layers_[static_cast<std::size_t>(layer)].mlp, .out = out});
    sum_over_ranks(context, out);
  }

  int64_t head_dim_ = 0;
  ShardRange heads_, kv_heads_;  // of this rank
  RopeLayout rope_layout_ = RopeLayout::kHalf;
  std::vector<Layer> layers_;
};

Result<GqaDecoder::Layer> GqaDecoder::load_layer(const WeightSource& w, int64_t index,
                                                 const GqaOptions& options) {
  const std::string p = layer_prefix(index), a = p + "self_attn.";
  const int64_t hidden = config_.hidden_size;
  const int64_t q_width = config_.num_attention_heads * head_dim_;
  const int64_t kv_width = config_.num_key_value_heads * head_dim_;
  Layer l;
  FATHOM_TRY(l.q_proj, w.matrix(a + "q_proj.weight", q_width, hidden));
  FATHOM_TRY(l.k_proj, w.matrix(a + "k_proj.weight", kv_width, hidden));
  FATHOM_TRY(l.v_proj, w.matrix(a + "v_proj.weight", kv_width, hidden));
  FATHOM_TRY(l.q_bias, optional_vector(w, options.qkv_bias, a + "q_proj.bias", q_width));
  FATHOM_TRY(l.k_bias, optional_vector(w, options.qkv_bias, a + "k_proj.bias", kv_width));
  FATHOM_TRY(l.v_bias, optional_vector(w, options.qkv_bias, a + "v_proj.bias", kv_width));
  FATHOM_TRY(l.o_proj, w.matrix(a + "o_proj.weight", hidden, q_width));
  FATHOM_TRY(l.o_bias, optional_vector(w, options.o_bias, a + "o_proj.bias", hidden));
  FATHOM_TRY(l.q_norm, optional_vector(w, options.qk_norm, a + "q_norm.weight", head_dim_));
  FATHOM_TRY(l.k_norm, optional_vector(w, options.qk_norm, a + "k_norm.weight", head_dim_));
  FATHOM_TRY(l.mlp,
             load_swiglu(w, p + "mlp.", hidden, config_.intermediate_size, options.mlp_bias));
  const ShardRange q{heads_.begin * head_dim_, heads_.count * head_dim_};
  const ShardRange kv{kv_heads_.begin * head_dim_, kv_heads_.count * head_dim_};
  l.q_proj = WeightSharder::rows(l.q_proj, q);
  l.k_proj = WeightSharder::rows(l.k_proj, kv);
  l.v_proj = WeightSharder::rows(l.v_proj, kv);
  l.q_bias = WeightSharder::elements(l.q_bias, q);
  l.k_bias = WeightSharder::elements(l.k_bias, kv);
  l.v_bias = WeightSharder::elements(l.v_bias, kv);
  FATHOM_TRY(l.o_proj, sharder_.columns(l.o_proj, q, a + "o_proj.weight"));
  l.o_bias = sharder_.once(l.o_bias);
  FATHOM_TRY(l.mlp, sharder_.swiglu(l.mlp, p + "mlp."));
  return l;
}

// Heads of queries are divided, and those of keys and values; where there are fewer of the latter
// than ranks, each stands on several.
Status GqaDecoder::divide(const JsonReader& reader) {
  const Shard& shard = sharder_.shard();
  const int64_t kv_heads = config_.num_key_value_heads;
  FATHOM_TRY(heads_, own_heads(reader));
  if (kv_heads % shard.size == 0) {
    kv_heads_ = shard.part(kv_heads);
  } else if (shard.size % kv_heads == 0) {
    kv_heads_ = {shard.rank * kv_heads / shard.size, 1};
  } else {
    return reader.bad("num_key_value_heads",
                      fmt::format("a multiple or a divisor of {} for --tensor-parallel {}",
                                  shard.size, shard.size));
  }
  return {};
}

Status GqaDecoder::load(const ModelFiles& files, const GqaOptions& options) {
  const JsonReader reader(*files.config, files.config_path);
  FATHOM_TRY(const DecoderConfig config, read_decoder_config(reader));
  FATHOM_TRY(const bool sliding, reader.boolean_or("use_sliding_window", false));
  if (sliding) return reader.bad("use_sliding_window", "false (full attention)");
  const int64_t heads = config.num_attention_heads, kv_heads = config.num_key_value_heads;
  if (heads % kv_heads != 0)
    return reader.bad("num_key_value_heads", "a divisor of num_attention_heads");
  if (!reader.has("head_dim") && config.hidden_size % heads != 0)
    return reader.bad("num_attention_heads", "a divisor of hidden_size, or a head_dim");
  FATHOM_TRY(head_dim_,
             reader.integer_or("head_dim", config.hidden_size / heads, 2, limits::kMaxHiddenSize));
  if (head_dim_ % 2 != 0) return reader.bad("head_dim", "an even number (rope pairs channels)");
  // GGUF's Llama files have the rows of q and k permuted (io/gguf_config.h).
  FATHOM_TRY(const bool interleaved, reader.boolean_or("rope_interleaved", false));
  rope_layout_ = interleaved ? RopeLayout::kPairs : RopeLayout::kHalf;
  FATHOM_TRY(rope_, read_rope(reader, head_dim_));
  FATHOM_TRY_STATUS(load_decoder(files, config));
  FATHOM_TRY_STATUS(divide(reader));
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    FATHOM_TRY_STATUS(load_layer_norms(*files.weights));
    FATHOM_TRY(Layer layer, load_layer(*files.weights, i, options));
    layers_.push_back(std::move(layer));
  }
  return {};
}

void GqaDecoder::attend(const LayerContext& context, int64_t layer, const TensorView& x,
                        const TensorView& out) const {
  const Layer& l = layers_[static_cast<std::size_t>(layer)];
  Ops& ops = context.model.ops;
  Workspace& ws = context.model.workspace;
  const int64_t heads = heads_.count, kv_heads = kv_heads_.count;
  const TensorView q = ws.f32(x.rows, heads * head_dim_);
  const TensorView k = ws.f32(x.rows, kv_heads * head_dim_);
  const TensorView v = ws.f32(x.rows, kv_heads * head_dim_);
  ops.linears(
      std::array<LinearArgs, 3>{{{.x = x, .weight = l.q_proj, .bias = l.q_bias, .out = q},
                                 {.x = x, .weight = l.k_proj, .bias = l.k_bias, .out = k},
                                 {.x = x, .weight = l.v_proj, .bias = l.v_bias, .out = v}}});
  if (l.q_norm.defined()) {
    const auto eps = static_cast<float>(config_.rms_norm_eps);
    const TensorView qh = q.split_columns(heads), kh = k.split_columns(kv_heads);
    ops.rms_norm({.x = qh, .weight = l.q_norm, .eps = eps, .out = qh});
    ops.rms_norm({.x = kh, .weight = l.k_norm, .eps = eps, .out = kh});
  }
  const KvPages& kv = context.step.kv[static_cast<std::size_t>(layer)];
  const auto sequences = context.step.sequences;
  ops.append_attention(
      {.rows = {.q = {.x = q, .angles = context.angles, .heads = heads, .layout = rope_layout_},
                .k = {.x = k, .angles = context.angles, .heads = kv_heads, .layout = rope_layout_},
                .append = {.parts = std::array{k, v}, .kv = kv, .sequences = sequences}},
       .attention = {.q = q,
                     .kv = kv,
                     .sequences = sequences,
                     .heads = heads,
                     .kv_heads = kv_heads,
                     .head_dim = head_dim_,
                     .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim_))),
                     .out = q}});
  ops.linear({.x = q, .weight = l.o_proj, .bias = l.o_bias, .out = out});
  sum_over_ranks(context, out);
}

}  // namespace

Result<std::unique_ptr<Model>> load_gqa_decoder(const ModelFiles& files, const Shard& shard,
                                                const GqaOptions& options) {
  auto model = std::make_unique<GqaDecoder>(shard);
  FATHOM_TRY_STATUS(model->load(files, options));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace fathom
