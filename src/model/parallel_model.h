// ParallelModel: a model whose weights are divided among the ranks of its Ops (ops/ranks.h). Each
// rank runs the same code on its part; what the engine gives and gets is rank 0's.
#pragma once

#include <memory>
#include <vector>

#include "model/model.h"

namespace fathom {

class ParallelModel final : public Model {
 public:
  // `parts`: by rank, loaded with their Shard.
  explicit ParallelModel(std::vector<std::unique_ptr<Model>> parts);

  // Of a rank: the same for all.
  std::vector<KvLayerSpec> kv_layers() const override { return parts_[0]->kv_layers(); }
  int64_t window_tokens() const override { return parts_[0]->window_tokens(); }
  // context.ops: ParallelOps of as many ranks, or a decorator of one.
  ModelOutput forward(const ModelContext& context, const Step& step) const override;
  void logits(const ModelContext& context, const TensorView& hidden,
              const TensorView& out) const override;
  TensorView mtp_forward(const ModelContext& context, const Step& step,
                         const TensorView& input) const override;

 private:
  std::vector<std::unique_ptr<Model>> parts_;
};

}  // namespace fathom
