// Qwen2: R1-Distill-Qwen. Biases on q, k and v, none on o.
#include "model/architectures.h"
#include "model/gqa_decoder.h"

namespace fathom {

Result<std::unique_ptr<Model>> load_qwen2(const ModelFiles& files, const Shard& shard) {
  return load_gqa_decoder(files, shard, {.qkv_bias = true});
}

}  // namespace fathom
