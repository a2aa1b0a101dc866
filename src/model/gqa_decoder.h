// GqaDecoder: decoders with grouped-query attention over full K/V and a SwiGLU: Llama, Qwen2,
// Qwen3.
#pragma once

#include "model/decoder.h"

namespace fathom {

// How the architectures of this kind differ.
struct GqaOptions {
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // rms_norm of each head's q and k before rope
};

// Loads a model whose config.json has the common fields (and head_dim, if it is not hidden /
// heads).
Result<std::unique_ptr<Model>> load_gqa_decoder(const ModelFiles& files, const Shard& shard,
                                                const GqaOptions& options);

}  // namespace fathom
