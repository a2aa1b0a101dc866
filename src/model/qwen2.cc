// Qwen2: R1-Distill-Qwen. Biases on q, k and v, none on o.
#include "model/architectures.h"
#include "model/gqa_decoder.h"

namespace fathom {

Result<std::unique_ptr<Model>> load_qwen2(const ModelFiles& files) {
  return load_gqa_decoder(files, {.qkv_bias = true});
}

}  // namespace fathom
