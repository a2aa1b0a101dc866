// EncodedWeights: another source's weights, with the matrices of linear layers in a block format.
//
// For `--compute int8` (Q8_0; what PyTorch calls dynamic quantisation) and for tests of every
// format on any model. Encoded when first asked for, and kept in memory.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/weight_source.h"

namespace fathom {

class EncodedWeights : public WeightSource {
 public:
  EncodedWeights(std::unique_ptr<WeightSource> inner, DType type)
      : inner_(std::move(inner)), type_(type) {}

  const StoredTensor* find(std::string_view name) const override { return inner_->find(name); }
  void for_each(const std::function<void(const std::string& name, const StoredTensor&)>& visit)
      const override {
    inner_->for_each(visit);
  }
  std::string description() const override { return inner_->description(); }

  // In `type`, unless it is block-quantised or FP4 already, is no linear layer (embeddings, the
  // router), or its rows are no whole blocks.
  Result<WeightView> matrix(const std::string& name, int64_t rows, int64_t cols) const override;
  Result<WeightView> vector(const std::string& name, int64_t size) const override {
    return inner_->vector(name, size);
  }

 private:
  std::unique_ptr<WeightSource> inner_;
  DType type_;
  mutable std::map<std::string, std::vector<std::byte>> encoded_;
};

}  // namespace fathom
