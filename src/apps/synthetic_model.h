// Models of real shapes with random weights, made in memory: for measuring speed without files.
//
// Owns the shapes and the random blocks. What the weights compute is meaningless, but activations
// stay finite, and every byte is memory of its own, as a file's would be.
#pragma once

#include <string>

#include "base/result.h"
#include "base/thread_pool.h"
#include "io/model_files.h"

namespace fathom {

// `spec`: "SHAPE:TYPE", e.g. "r1-distill-qwen-1.5b:q8_0", "v2-lite:q4_k", or "v4-flash:native" (FP4
// experts, FP8 and BF16; four layers of the model's 43). TYPE is the type of the
// matrices: F32, F16, BF16, a block format, or FP8 as DeepSeek-V3 has it (float32 scales for 128 x
// 128; head and embeddings in BF16). As GGUF files have it, the head of Q4_K models is
// Q6_K, and a matrix whose columns are no whole blocks becomes Q8_0 or, failing that, F16.
// Errors: an unknown shape or type; more memory than there is.
Result<ModelFiles> make_synthetic_model(const std::string& spec, ThreadPool& pool);

// "r1-distill-qwen-1.5b, …" for help texts.
std::string synthetic_shapes();

}  // namespace fathom
