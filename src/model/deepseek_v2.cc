// DeepSeek V2, V2-Lite, V2.5, Coder-V2 (arXiv:2405.04434): MLA, softmax routing, group-limited in
// V2.
#include "model/architectures.h"
#include "model/mla_decoder.h"

namespace fathom {

Result<std::unique_ptr<Model>> load_deepseek_v2(const ModelFiles& files, const Shard& shard) {
  const JsonReader config(*files.config, files.config_path);
  FATHOM_TRY(const MlaConfig mla, read_mla_config(config));
  FATHOM_TRY(MoeConfig moe, read_moe_config(config));
  FATHOM_TRY(const std::string scoring, config.string_or("scoring_func", "softmax"));
  if (scoring != "softmax") return config.bad("scoring_func", "\"softmax\"");
  FATHOM_TRY(const std::string method, config.string_or("topk_method", "greedy"));
  if (method == "group_limited_greedy") {
    moe.groups = RouterGroups::kMax;
  } else if (method != "greedy") {
    return config.bad("topk_method", "\"greedy\" or \"group_limited_greedy\"");
  }
  moe.scoring = RouterScoring::kSoftmax;
  // The library that made the goldens never normalises in V2, DeepSeek's code would; every
  // published config says false (tests/golden/data/NOTES.md §3, "MoE of V2").
  moe.norm_topk_prob = false;
  auto model = std::make_unique<MlaDecoder>(shard);
  FATHOM_TRY_STATUS(model->load(files, mla, moe));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace fathom
