// DeepSeek V3.2 (DeepSeek Sparse Attention): V3 with a lightning indexer in every layer, which
// picks at most index_topk past tokens for each query (tests/golden/data/NOTES.md §4).
//
// The goldens are transformers', which leaves out what DeepSeek's own inference code does to the
// indexer's queries and keys: Hadamard transform and FP8. ModelOptions::simulate_quantised_cache
// turns it on.
#include <fmt/format.h>

#include <array>
#include <bit>

#include "base/limits.h"
#include "model/architectures.h"
#include "model/deepseek_v3.h"

namespace fathom {
namespace {

constexpr float kKeyNormEps = 1e-6f;

// Of queries (each head) and keys, after norm and rope: Indexer.forward of DeepSeek-V3.2-Exp's
// inference/model.py, with the power-of-two scales of its configuration (scale_fmt ue8m0).
constexpr Simulation kIndexSimulation{.type = SimulatedType::kFp8, .block = 128, .hadamard = true};

class DeepseekV32 : public DeepseekV3 {
 public:
  using DeepseekV3::DeepseekV3;
  Status load_v32(const ModelFiles& files);
  // Behind the latents of all layers, the indexer's keys of all layers.
  std::vector<KvLayerSpec> kv_layers() const override {
    std::vector<KvLayerSpec> specs = DeepseekV3::kv_layers();
    const std::size_t layers = specs.size();
    for (std::size_t i = 0; i < layers; ++i)
      specs.push_back({.row_elements = head_dim_, .mtp = specs[i].mtp});
    return specs;
  }
  Status simulate_quantised_cache(const JsonReader& config) override {
    if (!std::has_single_bit(static_cast<uint64_t>(head_dim_)))
      return config.bad("index_head_dim", "a power of two where a quantised cache is simulated");
    simulation_ = kIndexSimulation;
    return {};
  }

 protected:
  Status load_selection(const WeightSource& weights, const std::string& prefix) override;
  TensorView select(const LayerContext& context, int64_t layer, const TensorView& x,
                    const TensorView& qr) const override;

 private:
  struct Indexer {
    WeightView wq_b;            // [heads * head_dim, q_lora]
    WeightView wk;              // [head_dim, hidden]
    WeightView k_norm, k_bias;  // [head_dim]
    WeightView weights_proj;    // [heads, hidden]
  };
  int64_t heads_ = 0, head_dim_ = 0, top_k_ = 0;
  Simulation simulation_;  // undefined: values stay as they are
  std::vector<Indexer> indexers_;
};

Status DeepseekV32::load_v32(const ModelFiles& files) {
  const JsonReader config(*files.config, files.config_path);
  FATHOM_TRY(heads_, config.integer("index_n_heads", 1, limits::kMaxHeads));
  FATHOM_TRY(head_dim_, config.integer("index_head_dim", 2, limits::kMaxHiddenSize));
  FATHOM_TRY(top_k_, config.integer("index_topk", 1, limits::kMaxContextTokens));
  // The indexer's queries come from the latent of the queries: there must be one.
  FATHOM_TRY(const int64_t q_lora, config.integer("q_lora_rank", 1, limits::kMaxHiddenSize));
  FATHOM_CHECK_GT(q_lora, 0);
  FATHOM_TRY(const int64_t rope, config.integer("qk_rope_head_dim", 2, limits::kMaxHiddenSize));
  if (rope > head_dim_) {
    return config.bad("index_head_dim",
                      fmt::format("at least qk_rope_head_dim, which is {}", rope));
  }
  return load_v3(files);
}

Status DeepseekV32::load_selection(const WeightSource& w, const std::string& prefix) {
  const std::string p = prefix + "indexer.";
  const int64_t hidden = config_.hidden_size;
  Indexer i;
  FATHOM_TRY(i.wq_b, w.matrix(p + "wq_b.weight", heads_ * head_dim_, mla_.q_lora_rank));
  FATHOM_TRY(i.wk, w.matrix(p + "wk.weight", head_dim_, hidden));
  FATHOM_TRY(i.k_norm, w.vector(p + "k_norm.weight", head_dim_));
  FATHOM_TRY(i.k_bias, w.vector(p + "k_norm.bias", head_dim_));
  FATHOM_TRY(i.weights_proj, w.matrix(p + "weights_proj.weight", heads_, hidden));
  indexers_.push_back(i);
  return {};
}

// Keys of the step's tokens go to the cache; the result is of select_rows.
TensorView DeepseekV32::select(const LayerContext& context, int64_t layer, const TensorView& x,
                               const TensorView& qr) const {
  const Indexer& i = indexers_[static_cast<std::size_t>(layer)];
  Ops& ops = context.model.ops;
  Workspace& ws = context.model.workspace;
  const TensorView q = ws.f32(x.rows, heads_ * head_dim_), k = ws.f32(x.rows, head_dim_);
  const TensorView weights = ws.f32(x.rows, heads_);
  ops.linear({.x = qr, .weight = i.wq_b, .bias = {}, .out = q});
  ops.linears(std::array{LinearArgs{.x = x, .weight = i.wk, .bias = {}, .out = k},
                         LinearArgs{.x = x, .weight = i.weights_proj, .bias = {}, .out = weights}});
  ops.layer_norm({.x = k, .weight = i.k_norm, .bias = i.k_bias, .eps = kKeyNormEps, .out = k});
  ops.rope({.x = q, .angles = context.angles, .heads = heads_, .layout = RopeLayout::kHalf});
  ops.rope({.x = k, .angles = context.angles, .heads = 1, .layout = RopeLayout::kHalf});
  if (simulation_.defined()) {
    ops.simulate({.x = q.split_columns(heads_), .simulation = simulation_});
    ops.simulate({.x = k, .simulation = simulation_});
  }
  const KvPages& keys = context.step.kv[indexers_.size() + static_cast<std::size_t>(layer)];
  ops.kv_append({.parts = std::span(&k, 1), .kv = keys, .sequences = context.step.sequences});
  const TensorView selected = ws.i32(x.rows, top_k_);
  ops.select_rows({.q = q,
                   .weights = weights,
                   .keys = keys,
                   .sequences = context.step.sequences,
                   .heads = heads_,
                   .out = selected});
  return selected;
}

}  // namespace

Result<std::unique_ptr<Model>> load_deepseek_v32(const ModelFiles& files, const Shard& shard) {
  auto model = std::make_unique<DeepseekV32>(shard);
  FATHOM_TRY_STATUS(model->load_v32(files));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace fathom
