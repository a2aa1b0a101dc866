// DeepSeek V4: sliding-window, compressed-sparse and heavily-compressed attention,
// hyper-connections, hash-routed first layers, MTP (tests/golden/data/NOTES.md §5).
//
// The goldens are transformers', which leaves out what DeepSeek's own inference code does to cached
// values: Hadamard transform, FP4 and FP8. ModelOptions::simulate_quantised_cache turns it on.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "base/limits.h"
#include "model/architectures.h"
#include "model/v4_attention.h"

namespace fathom {
namespace {

class DeepseekV4 : public Model {
 public:
  Status load(const ModelFiles& files);
  std::vector<KvLayerSpec> kv_layers() const override { return kv_layers_; }
  int64_t window_tokens() const override { return window_tokens_; }
  ModelOutput forward(const ModelContext& context, const Step& step) const override;
  void logits(const ModelContext& context, const TensorView& hidden,
              const TensorView& out) const override {
    context.ops.begin_rows({.rows = hidden.rows});  // as Decoder's
    context.ops.linear({.x = hidden, .weight = head_, .bias = {}, .out = out});
  }
  TensorView mtp_forward(const ModelContext& context, const Step& step,
                         const TensorView& input) const override;
  Status simulate_quantised_cache(const JsonReader& config) override {
    // 0: no layer has an indexer.
    if (config_.index_dim > 0 && !std::has_single_bit(static_cast<uint64_t>(config_.index_dim)))
      return config.bad("index_head_dim", "a power of two where a quantised cache is simulated");
    config_.simulate_quantised_cache = true;
    return {};
  }

 private:
  struct Layer {
    V4Attention attention;
    WeightView attn_norm, ffn_norm;  // [hidden]
    StreamWeights attn_streams, ffn_streams;
    WeightView gate, gate_bias;             // [experts, hidden], [experts] or undefined
    std::vector<int32_t> experts_of_token;  // hash-routed layers: [vocab * experts_per_token]
    std::vector<SwigluWeights> experts;
    std::optional<SwigluWeights> shared;
  };
  // What follows the last layer: of the model, or of its MTP block.
  struct Head {
    StreamWeights streams;
    WeightView norm;  // [hidden]
  };

  Result<Layer> load_layer(const WeightSource& weights, const std::string& prefix, int64_t rate,
                           bool hash_routed, bool mtp);
  Status load_mixture(const WeightSource& weights, const std::string& prefix, bool hash_routed,
                      Layer& layer) const;
  Status load_mtp(const WeightSource& weights);
  V4Attention::Angles angles(const ModelContext& context, const Step& step) const;
  void run_layer(const ModelContext& context, const Step& step, const Layer& layer,
                 const V4Attention::Angles& angles, const TensorView& streams) const;
  void mixture(const ModelContext& context, const Step& step, const Layer& layer,
               const TensorView& x, const TensorView& out) const;
  TensorView finish(const ModelContext& context, const Head& head, const TensorView& streams) const;
  float norm_eps() const { return static_cast<float>(config_.rms_norm_eps); }

  V4Config config_;
  WeightView embed_, head_;  // [vocab, hidden]
  std::vector<Layer> layers_;
  Head main_head_;
  // The MTP block.
  std::optional<Layer> mtp_;
  Head mtp_head_;
  WeightView e_proj_, h_proj_, enorm_, hnorm_;  // [hidden, hidden], [hidden]
  std::vector<KvLayerSpec> kv_layers_;
  int64_t window_tokens_ = 0;
};

Result<SwigluWeights> load_expert(const WeightSource& w, const std::string& p, int64_t hidden,
                                  int64_t width) {
  SwigluWeights out;
  FATHOM_TRY(out.gate, w.matrix(p + "w1.weight", width, hidden));
  FATHOM_TRY(out.up, w.matrix(p + "w3.weight", width, hidden));
  FATHOM_TRY(out.down, w.matrix(p + "w2.weight", hidden, width));
  return out;
}

// The table of a hash-routed layer, [vocab, experts_per_token].
Result<std::vector<int32_t>> load_expert_table(const WeightSource& w, const std::string& name,
                                               const V4Config& c) {
  const StoredTensor* t = w.find(name);
  const std::vector<int64_t> shape = {c.vocab_size, c.experts_per_token};
  if (t == nullptr) {
    return invalid_argument(fmt::format("{}: tensor '{}' is missing, expected one of shape {}",
                                        w.description(), name, shape_string(shape)));
  }
  const bool wide = t->dtype == DType::kI64;
  if (t->shape != shape || (!wide && t->dtype != DType::kI32)) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' is {} of shape {}, expected I64 of shape {}", t->file, name,
                    dtype_name(t->dtype), shape_string(t->shape), shape_string(shape)));
  }
  std::vector<int32_t> out(static_cast<std::size_t>(c.vocab_size * c.experts_per_token));
  for (std::size_t i = 0; i < out.size(); ++i) {
    int64_t id = 0;
    if (wide) {
      std::memcpy(&id, t->data.data() + i * sizeof(int64_t), sizeof(int64_t));
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, t->data.data() + i * sizeof(int32_t), sizeof(int32_t));
      id = narrow;
    }
    if (id < 0 || id >= c.experts) {
      return invalid_argument(fmt::format("{}: tensor '{}' names expert {}, expected 0 to {}",
                                          t->file, name, id, c.experts - 1));
    }
    out[i] = static_cast<int32_t>(id);
  }
  return out;
}

Status DeepseekV4::load_mixture(const WeightSource& w, const std::string& p, bool hash_routed,
                                Layer& layer) const {
  const V4Config& c = config_;
  FATHOM_TRY(layer.gate, w.matrix(p + "gate.weight", c.experts, c.hidden_size));
  if (hash_routed) {
    FATHOM_TRY(layer.experts_of_token, load_expert_table(w, p + "gate.tid2eid", c));
  } else {
    FATHOM_TRY(layer.gate_bias, w.vector(p + "gate.bias", c.experts));
  }
  for (int64_t e = 0; e < c.experts; ++e) {
    FATHOM_TRY(SwigluWeights expert,
               load_expert(w, fmt::format("{}experts.{}.", p, e), c.hidden_size, c.expert_width));
    layer.experts.push_back(expert);
  }
  if (c.shared_experts > 0) {
    FATHOM_TRY(layer.shared, load_expert(w, p + "shared_experts.", c.hidden_size,
                                         c.expert_width * c.shared_experts));
  }
  return {};
}

Result<DeepseekV4::Layer> DeepseekV4::load_layer(const WeightSource& w, const std::string& p,
                                                 int64_t rate, bool hash_routed, bool mtp) {
  Layer l;
  FATHOM_TRY(l.attention, V4Attention::load(w, config_, p + "attn.", rate, kv_layers_.size()));
  for (KvLayerSpec spec : V4Attention::kv_rows(config_, rate)) {
    spec.mtp = mtp;
    kv_layers_.push_back(spec);
  }
  window_tokens_ = std::max(window_tokens_, V4Attention::window_tokens(config_, rate));
  FATHOM_TRY(l.attn_norm, w.vector(p + "attn_norm.weight", config_.hidden_size));
  FATHOM_TRY(l.ffn_norm, w.vector(p + "ffn_norm.weight", config_.hidden_size));
  FATHOM_TRY(l.attn_streams, load_stream_weights(w, p + "hc_attn", config_.streams, false));
  FATHOM_TRY(l.ffn_streams, load_stream_weights(w, p + "hc_ffn", config_.streams, false));
  FATHOM_TRY_STATUS(load_mixture(w, p + "ffn.", hash_routed, l));
  return l;
}

Status DeepseekV4::load_mtp(const WeightSource& w) {
  const std::string p = "mtp.0.";
  const int64_t hidden = config_.hidden_size;
  FATHOM_TRY(e_proj_, w.matrix(p + "e_proj.weight", hidden, hidden));
  FATHOM_TRY(h_proj_, w.matrix(p + "h_proj.weight", hidden, hidden));
  FATHOM_TRY(enorm_, w.vector(p + "enorm.weight", hidden));
  FATHOM_TRY(hnorm_, w.vector(p + "hnorm.weight", hidden));
  FATHOM_TRY(mtp_, load_layer(w, p, kSlidingOnly, false, true));
  FATHOM_TRY(mtp_head_.streams, load_stream_weights(w, p + "hc_head", config_.streams, true));
  FATHOM_TRY(mtp_head_.norm, w.vector(p + "norm.weight", hidden));
  info_.mtp_layers = 1;
  return {};
}

Status DeepseekV4::load(const ModelFiles& files) {
  const JsonReader reader(*files.config, files.config_path);
  FATHOM_TRY(config_, read_v4_config(reader));
  const WeightSource& w = *files.weights;
  info_.name = files.name;
  info_.architecture = files.model_type;
  info_.vocab_size = config_.vocab_size;
  info_.hidden_size = config_.hidden_size;
  info_.num_layers = config_.num_layers;
  info_.max_context_tokens = config_.max_position_embeddings;
  w.for_each([&](const std::string&, const StoredTensor& t) {
    info_.block_quantized |= is_block_quantized(t.dtype);
  });
  FATHOM_TRY(embed_, w.matrix("embed.weight", config_.vocab_size, config_.hidden_size));
  if (config_.tie_word_embeddings) {
    head_ = embed_;
  } else {
    FATHOM_TRY(head_, w.matrix("head.weight", config_.vocab_size, config_.hidden_size));
  }
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    const auto at = static_cast<std::size_t>(i);
    FATHOM_TRY(Layer layer, load_layer(w, fmt::format("layers.{}.", i), config_.compress_rates[at],
                                       config_.hash_routed[at], false));
    layers_.push_back(std::move(layer));
  }
  const std::string next = fmt::format("layers.{}.attn_norm.weight", config_.num_layers);
  if (w.has(next)) {
    return reader.bad("num_hidden_layers",
                      fmt::format("more: {} has tensor '{}'", w.description(), next));
  }
  FATHOM_TRY(main_head_.streams, load_stream_weights(w, "hc_head", config_.streams, true));
  FATHOM_TRY(main_head_.norm, w.vector("norm.weight", config_.hidden_size));
  // Some copies of the published weights leave the module out: then there is none to draft with.
  if (config_.mtp_layers > 0 && w.has("mtp.0.e_proj.weight")) FATHOM_TRY_STATUS(load_mtp(w));
  return {};
}

V4Attention::Angles DeepseekV4::angles(const ModelContext& context, const Step& step) const {
  const auto of = [&](const RopeTable& table) {
    const TensorView out =
        context.workspace.f32(static_cast<int64_t>(step.token_ids.size()), config_.rope_dim);
    context.ops.rope_angles({.positions = step.positions,
                             .inverse_frequencies = table.inverse_frequencies,
                             .attention_factor = table.attention_factor,
                             .out = out});
    return out;
  };
  return {.sliding = of(config_.sliding_rope), .compress = of(config_.compress_rope)};
}

void DeepseekV4::mixture(const ModelContext& context, const Step& step, const Layer& layer,
                         const TensorView& x, const TensorView& out) const {
  const V4Config& c = config_;
  const TensorView logits = context.workspace.f32(x.rows, c.experts);
  const TensorView ids = context.workspace.i32(x.rows, c.experts_per_token);
  const TensorView weights = context.workspace.f32(x.rows, c.experts_per_token);
  context.ops.linear({.x = x, .weight = layer.gate, .bias = {}, .out = logits});
  context.ops.route({.logits = logits,
                     .experts_of_token = layer.experts_of_token,
                     .token_ids = step.token_ids,
                     .bias = layer.gate_bias,
                     .scoring = RouterScoring::kSqrtSoftplus,
                     .normalize = c.norm_topk_prob,
                     .scaling_factor = static_cast<float>(c.routed_scaling_factor),
                     .ids = ids,
                     .weights = weights});
  context.ops.moe({.x = x,
                   .ids = ids,
                   .weights = weights,
                   .experts = layer.experts,
                   .shared = layer.shared ? &*layer.shared : nullptr,
                   .limit = c.swiglu_limit > 0 ? static_cast<float>(c.swiglu_limit)
                                               : std::numeric_limits<float>::infinity(),
                   .out = out});
}

void DeepseekV4::run_layer(const ModelContext& context, const Step& step, const Layer& layer,
                           const V4Attention::Angles& angles, const TensorView& streams) const {
  Ops& ops = context.ops;
  const Workspace::Scope scope(context.workspace);
  const TensorView y = context.workspace.f32(streams.rows, config_.hidden_size);
  const auto sublayer = [&](const StreamWeights& weights, const WeightView& norm, const auto& run) {
    const StreamRead in = read_streams(ops, context.workspace, config_.streams, weights, streams);
    ops.rms_norm({.x = in.x, .weight = norm, .eps = norm_eps(), .out = in.x});
    run(in.x);
    ops.write_streams({.streams = streams, .post = in.post, .mix = in.mix, .y = y});
  };
  sublayer(layer.attn_streams, layer.attn_norm, [&](const TensorView& x) {
    layer.attention.forward(context, step, config_, angles, x, y);
  });
  sublayer(layer.ffn_streams, layer.ffn_norm,
           [&](const TensorView& x) { mixture(context, step, layer, x, y); });
}

TensorView DeepseekV4::finish(const ModelContext& context, const Head& head,
                              const TensorView& streams) const {
  const TensorView h =
      read_streams(context.ops, context.workspace, config_.streams, head.streams, streams).x;
  context.ops.rms_norm({.x = h, .weight = head.norm, .eps = norm_eps(), .out = h});
  return h;
}

ModelOutput DeepseekV4::forward(const ModelContext& context, const Step& step) const {
  Ops& ops = context.ops;
  const auto tokens = static_cast<int64_t>(step.token_ids.size());
  const TensorView streams =
      context.workspace.f32(tokens, config_.streams.streams * config_.hidden_size);
  {
    const Workspace::Scope scope(context.workspace);
    const TensorView x = context.workspace.f32(tokens, config_.hidden_size);
    ops.begin_rows(row_classes(step.sequences));
    ops.embed({.table = embed_, .token_ids = step.token_ids, .out = x});
    ops.mark("embed", x);
    ops.copy_to_streams({.x = x, .streams = streams});
  }
  const V4Attention::Angles a = angles(context, step);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    run_layer(context, step, layers_[i], a, streams);
    ops.mark(fmt::format("layer{}", i), streams);
  }
  const TensorView hidden = finish(context, main_head_, streams);
  ops.mark("final_norm", hidden);
  return {.hidden = hidden, .mtp_input = streams};
}

TensorView DeepseekV4::mtp_forward(const ModelContext& context, const Step& step,
                                   const TensorView& input) const {
  FATHOM_CHECK_EQ(info_.mtp_layers, 1);
  Ops& ops = context.ops;
  Workspace& ws = context.workspace;
  const int64_t n = config_.streams.streams, hidden = config_.hidden_size;
  const TensorView streams = ws.f32(input.rows, n * hidden);
  {
    const Workspace::Scope scope(ws);
    const TensorView embedding = ws.f32(input.rows, hidden), e = ws.f32(input.rows, hidden);
    const TensorView h = ws.f32(input.rows * n, hidden), norm = ws.f32(input.rows, n * hidden);
    ops.begin_rows(row_classes(step.sequences));
    ops.embed({.table = embed_, .token_ids = step.token_ids, .out = embedding});
    ops.rms_norm({.x = embedding, .weight = enorm_, .eps = norm_eps(), .out = embedding});
    ops.linear({.x = embedding, .weight = e_proj_, .bias = {}, .out = e});
    ops.rms_norm({.x = input.split_columns(n),
                  .weight = hnorm_,
                  .eps = norm_eps(),
                  .out = norm.split_columns(n)});
    ops.linear({.x = norm.split_columns(n), .weight = h_proj_, .bias = {}, .out = h});
    ops.copy_to_streams({.x = e, .streams = streams});
    ops.add({.x = streams.split_columns(n), .delta = h});
  }
  run_layer(context, step, *mtp_, angles(context, step), streams);
  return finish(context, mtp_head_, streams);
}

}  // namespace

Result<std::unique_ptr<Model>> load_deepseek_v4(const ModelFiles& files, const Shard& shard) {
  if (!shard.whole()) {
    return invalid_argument(files.config_path +
                            ": model_type is \"deepseek_v4\", which --tensor-parallel cannot "
                            "divide yet; expected 1");
  }
  auto model = std::make_unique<DeepseekV4>();
  FATHOM_TRY_STATUS(model->load(files));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace fathom
