// Golden data of tests/golden/data and models/nano: lists of models, tensors by name.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "engine/score.h"
#include "io/encoded_weights.h"
#include "io/safetensors.h"
#include "model/model.h"

namespace fathom::test {

inline std::string data_dir() { return std::string(FATHOM_SOURCE_DIR) + "/tests/golden/data"; }
inline std::string nano_dir() { return std::string(FATHOM_SOURCE_DIR) + "/models/nano"; }

// The fixtures whose architecture fathom has (golden.safetensors beside the weights).
inline std::vector<std::string> fixtures() {
  return {
      "llama_mha",    "llama_gqa_llama3rope", "llama_linear_f32", "qwen2",       "qwen2_tied_f16",
      "qwen3",        "deepseek_v2_lite",     "deepseek_v2",      "deepseek_v3", "deepseek_v3_fp8",
      "deepseek_v32", "deepseek_v4",          "deepseek_v4_fp4"};
}

struct OpenModel {
  ModelFiles files;
  std::unique_ptr<Model> model;
};

// `encoded`: the linear layers' weights in this block format where their rows fit.
inline OpenModel open_model(const std::string& path, std::optional<DType> encoded = {},
                            const ModelOptions& options = {}) {
  auto files = open_model_files(path);
  if (!files) ADD_FAILURE() << files.error().message;
  OpenModel out{*std::move(files), nullptr};
  if (encoded)
    out.files.weights = std::make_unique<EncodedWeights>(std::move(out.files.weights), *encoded);
  auto model = load_model(out.files, options);
  if (!model) ADD_FAILURE() << model.error().message;
  out.model = *std::move(model);
  return out;
}

class Golden {
 public:
  explicit Golden(const std::string& model_dir)
      : file_(*SafetensorsWeights::open_file(model_dir + "/golden.safetensors")) {}

  bool has(const std::string& name) const { return file_->has(name); }
  std::vector<int64_t> shape(const std::string& name) const { return file_->find(name)->shape; }

  std::vector<int32_t> ids(const std::string& name) const {
    const StoredTensor* t = file_->find(name);
    FATHOM_CHECK(t != nullptr && t->dtype == DType::kI64) << name;
    std::vector<int32_t> out;
    for (std::size_t i = 0; i < t->data.size() / 8; ++i) {
      int64_t v = 0;
      std::memcpy(&v, t->data.data() + i * 8, 8);
      out.push_back(static_cast<int32_t>(v));
    }
    return out;
  }
  std::vector<float> floats(const std::string& name) const {
    const StoredTensor* t = file_->find(name);
    FATHOM_CHECK(t != nullptr && t->dtype == DType::kF32) << name;
    std::vector<float> out(t->data.size() / 4);
    std::memcpy(out.data(), t->data.data(), t->data.size());
    return out;
  }

 private:
  std::unique_ptr<SafetensorsWeights> file_;
};

inline double standard_deviation(const std::vector<float>& v) {
  double sum = 0, squares = 0;
  for (const float x : v) sum += x;
  const double mean = sum / static_cast<double>(v.size());
  for (const float x : v) squares += (x - mean) * (x - mean);
  return std::sqrt(squares / static_cast<double>(v.size()));
}

// Logits of all tokens, [tokens, vocab].
inline std::vector<float> all_logits(const Model& model, Ops& ops, std::span<const int32_t> tokens,
                                     const ScoreOptions& options, bool mtp = false) {
  std::vector<float> out;
  const LogitsSink sink = [&](int64_t, const TensorView& logits) -> Status {
    for (int64_t i = 0; i < logits.rows; ++i)
      out.insert(out.end(), logits.f32(i), logits.f32(i) + logits.cols);
    return {};
  };
  const Status status = mtp ? score_tokens_mtp(model, ops, tokens, options, sink)
                            : score_tokens(model, ops, tokens, options, sink);
  if (!status) ADD_FAILURE() << status.error().message;
  return out;
}

}  // namespace fathom::test
