// Qwen3: R1-0528-Qwen3. Norms each head's q and k before rope.
#include "model/architectures.h"
#include "model/gqa_decoder.h"

namespace fathom {

Result<std::unique_ptr<Model>> load_qwen3(const ModelFiles& files, const Shard& shard) {
  const JsonReader config(*files.config, files.config_path);
  FATHOM_TRY(const bool bias, config.boolean_or("attention_bias", false));
  return load_gqa_decoder(files, shard, {.qkv_bias = bias, .o_bias = bias, .qk_norm = true});
}

}  // namespace fathom
