// config.json as HuggingFace would write it, from a GGUF file's metadata, so that each model reads
// one form of configuration.
//
// Knows the architectures llama, qwen2, qwen3 and deepseek2 (which is DeepSeek V2, V2.5, V3, R1 and
// V3.1). Owns no judgement of the values beyond their types and ranges: the models check what they
// read. Sources: docs/gguf.md of ggml for the keys; the deepseek2 conversion of llama.cpp
// (conversion/deepseek.py) for what its keys mean.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "io/gguf.h"

namespace fathom {

// `weights`: under HuggingFace's names; the presence of some tensors decides (biases, a head of its
// own, the router's correction bias), and `rope_freqs.weight` is read. Beside HuggingFace's keys
// the result may have:
//   rope_interleaved: true       rows of q and k are permuted so that channels 2i and 2i+1 pair
//   rope_scaling.rope_type "frequency_divisors" with frequency_divisors: [numbers]
// Errors: an architecture or a property that fathom does not have; a key that is missing or bad.
Result<nlohmann::json> config_from_gguf(const GgufMetadata& metadata, const WeightSource& weights);

}  // namespace fathom
