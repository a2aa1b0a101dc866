// DeepSeek V3, R1, V3.1 (arXiv:2412.19437): MLA, sigmoid routing with a correction bias, one MTP
// module.
#include "model/deepseek_v3.h"

#include "model/architectures.h"

namespace fathom {

Status DeepseekV3::load_v3(const ModelFiles& files) {
  const JsonReader config(*files.config, files.config_path);
  FATHOM_TRY(MlaConfig mla, read_mla_config(config));
  FATHOM_TRY(MoeConfig moe, read_moe_config(config));
  FATHOM_TRY(const std::string scoring, config.string_or("scoring_func", "sigmoid"));
  if (scoring != "sigmoid") return config.bad("scoring_func", "\"sigmoid\"");
  FATHOM_TRY(const std::string method, config.string_or("topk_method", "noaux_tc"));
  if (method != "noaux_tc") return config.bad("topk_method", "\"noaux_tc\"");
  FATHOM_TRY(const bool interleave, config.boolean_or("rope_interleave", true));
  mla.rope_layout = interleave ? RopeLayout::kPairs : RopeLayout::kHalf;
  moe.scoring = RouterScoring::kSigmoid;
  moe.groups = moe.n_group > 1 ? RouterGroups::kTop2Sum : RouterGroups::kNone;
  moe.correction_bias = true;
  FATHOM_TRY_STATUS(load(files, mla, moe));

  FATHOM_TRY(const int64_t mtp_layers, config.integer_or("num_nextn_predict_layers", 0, 0, 16));
  const int64_t index = config_.num_hidden_layers;
  const std::string p = layer_prefix(index);
  // Some copies of the published weights leave the module out: then there is none to draft with.
  if (mtp_layers == 0 || !files.weights->has(p + "eh_proj.weight")) return {};
  const WeightSource& w = *files.weights;
  const int64_t hidden = config_.hidden_size;
  FATHOM_TRY(enorm_, w.vector(p + "enorm.weight", hidden));
  FATHOM_TRY(hnorm_, w.vector(p + "hnorm.weight", hidden));
  FATHOM_TRY(eh_proj_, w.matrix(p + "eh_proj.weight", hidden, 2 * hidden));
  FATHOM_TRY(shared_head_norm_, w.vector(p + "shared_head.norm.weight", hidden));
  FATHOM_TRY_STATUS(load_layer(w, moe_.n_routed_experts > 0));
  info_.mtp_layers = 1;
  return {};
}

TensorView DeepseekV3::mtp_forward(const ModelContext& context, const Step& step,
                                   const TensorView& hidden) const {
  FATHOM_CHECK_EQ(info_.mtp_layers, 1);
  const int64_t d = config_.hidden_size;
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  Ops& ops = context.ops;
  Workspace& ws = context.workspace;
  const TensorView pair = ws.f32(hidden.rows, 2 * d);  // [embedding | hidden]
  const TensorView embedding = pair.columns(0, d);
  ops.begin_rows(row_classes(step.sequences));
  ops.embed({.table = embed_tokens_, .token_ids = step.token_ids, .out = embedding});
  ops.rms_norm({.x = embedding, .weight = enorm_, .eps = eps, .out = embedding});
  ops.rms_norm({.x = hidden, .weight = hnorm_, .eps = eps, .out = pair.columns(d, d)});
  const TensorView x = ws.f32(hidden.rows, d);
  const TensorView h = ws.f32(hidden.rows, d);
  ops.linear({.x = pair, .weight = eh_proj_, .bias = {}, .out = x});
  ops.rms_norm({.x = x, .weight = norms_.back().input_layernorm, .eps = eps, .out = h});
  const LayerContext layer{context, step, rope_angles(context, step)};
  run_layers(layer, config_.num_hidden_layers, 1, shared_head_norm_, x, h);
  return h;
}

Result<std::unique_ptr<Model>> load_deepseek_v3(const ModelFiles& files, const Shard& shard) {
  auto model = std::make_unique<DeepseekV3>(shard);
  FATHOM_TRY_STATUS(model->load_v3(files));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace fathom
