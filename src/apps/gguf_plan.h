// A GGUF file in the making: its metadata, and its tensors with where their values come from. The
// input may be a HuggingFace directory or another GGUF file.
//
// Owns the translation (names, permutations, stacks, metadata). Does not choose types nor write:
// quantize.cc does.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/gguf_writer.h"
#include "io/model_files.h"
#include "quant/recipe.h"

namespace fathom {

struct PlannedTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  DType source_type = DType::kF32;
  // Writes row `row` (of the tensor as a matrix [rows, shape.back()]) as float32. From any thread.
  std::function<void(int64_t row, float* out)> read_row;
  // All values as the input stores them, where it has them in this order; else empty.
  std::span<const std::byte> raw;
  // Where `raw` is not the input's own.
  std::vector<std::byte> owned;
  // Where the matrices start that the model multiplies with: one, or one for each entry of a stack
  // of experts. What a model computes is so traced back to the tensor's name (`fathom imatrix`).
  std::vector<const std::byte*> matrices;

  int64_t cols() const { return shape.back(); }
  int64_t rows() const;
};

struct GgufPlan {
  GgufKeyValues metadata;
  quant::ModelShape shape;
  std::vector<PlannedTensor> tensors;  // in the file's order
};

// `files` must outlive the plan. Errors: what the model's own loader refuses; tensors or properties
// that GGUF has no name for.
Result<GgufPlan> plan_from_huggingface(const ModelFiles& files);
Result<GgufPlan> plan_from_gguf(const ModelFiles& files);

// The parts of plan_from_huggingface: the architecture's keys (gguf_keys.cc) and the tokenizer's
// (gguf_tokenizer_keys.cc). `vocab_size`: as config.json has it; the list of tokens gets as long.
Status add_architecture_keys(const ModelFiles& files, bool has_mtp, GgufKeyValues& out);
Status add_tokenizer_keys(const ModelFiles& files, int64_t vocab_size, GgufKeyValues& out);

}  // namespace fathom
