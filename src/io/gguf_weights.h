// The weights of a GGUF model under HuggingFace's names.
//
// Owns the translation of names and the cutting of stacked tensors: the experts of a layer, which
// GGUF keeps in one tensor, become one tensor each; per-head stacks become matrices. Copies
// nothing: what is presented are parts of the mapping. Does not undo the converter's permutation of
// Llama's q and k rows; gguf_config.h says that they are there.
//
// Source of the names: the tensor names of llama.cpp's Python package `gguf` (constants.py) and of
// transformers' models.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/gguf_files.h"
#include "io/weight_source.h"

namespace fathom {

// HuggingFace's name of the router's correction bias, within a layer.
inline constexpr std::string_view kCorrectionBias = "mlp.gate.e_score_correction_bias";

// "model.layers.3.self_attn.q_proj.weight" for "blk.3.attn_q.weight"; the name itself if it is none
// that HuggingFace's models have. Stacked experts: see GgufWeights.
std::string huggingface_name(std::string_view gguf_name);

// The same for the architecture deepseek4: "layers.3.attn.wq_a.weight" for "blk.3.attn_q_a.weight".
std::string deepseek_v4_name(std::string_view gguf_name);

// The way back: "blk.3.attn_q_a.weight" for "layers.3.attn.wq_a.weight"; "" for names that GGUF has
// not, or has not as they are (experts).
std::string gguf_v4_name(std::string_view name);

class GgufWeights : public WeightSource {
 public:
  // `files` must outlive the weights, which view it. Errors: stacks that are no stacks, names that
  // two tensors translate to, limits::kMaxExperts, limits::kMaxTensorsPerModel.
  static Result<std::unique_ptr<GgufWeights>> create(const GgufFiles& files);

  const StoredTensor* find(std::string_view name) const override;
  void for_each(
      const std::function<void(const std::string&, const StoredTensor&)>& visit) const override;
  std::string description() const override { return description_; }

 private:
  Status add(const std::string& gguf_name, const StoredTensor& tensor);
  Status insert(std::string name, StoredTensor tensor);
  Status add_experts(const std::string& layer, std::string_view kind, const StoredTensor& stack);

  std::string description_;
  bool v4_ = false;  // the names are those of DeepSeek-V4's checkpoints
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace fathom
