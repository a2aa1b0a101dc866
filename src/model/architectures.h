// The architectures, one file each. registry.cc maps config.json's model_type to them. `shard`: the
// part to load; its weights may be copies, kept by the model.
#pragma once

#include <memory>

#include "base/result.h"
#include "model/model.h"
#include "model/shard.h"

namespace fathom {

Result<std::unique_ptr<Model>> load_llama(const ModelFiles& files, const Shard& shard);
Result<std::unique_ptr<Model>> load_qwen2(const ModelFiles& files, const Shard& shard);
Result<std::unique_ptr<Model>> load_qwen3(const ModelFiles& files, const Shard& shard);
Result<std::unique_ptr<Model>> load_deepseek_v2(const ModelFiles& files, const Shard& shard);
Result<std::unique_ptr<Model>> load_deepseek_v3(const ModelFiles& files, const Shard& shard);
Result<std::unique_ptr<Model>> load_deepseek_v32(const ModelFiles& files, const Shard& shard);
Result<std::unique_ptr<Model>> load_deepseek_v4(const ModelFiles& files, const Shard& shard);

}  // namespace fathom
