// Llama: DeepSeek LLM 7B/67B, DeepSeek Coder, R1-Distill-Llama.
#include "model/architectures.h"
#include "model/gqa_decoder.h"

namespace fathom {

Result<std::unique_ptr<Model>> load_llama(const ModelFiles& files, const Shard& shard) {
  const JsonReader config(*files.config, files.config_path);
  FATHOM_TRY(const bool attention_bias, config.boolean_or("attention_bias", false));
  FATHOM_TRY(const bool mlp_bias, config.boolean_or("mlp_bias", false));
  return load_gqa_decoder(
      files, shard, {.qkv_bias = attention_bias, .o_bias = attention_bias, .mlp_bias = mlp_bias});
}

}  // namespace fathom
