// StepBuilder: collects rows of sequences into a Step (model/model.h) and keeps the arrays it
// points to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "model/model.h"

namespace fathom {

class StepBuilder {
 public:
  void clear();

  // Adds `tokens` of one sequence, whose cache holds `start_position` tokens so far and whose page
  // tables cover the new ones. All sequences of class kPrompt must be added before any of
  // kGenerated. The tables must stay until the step has run.
  void add(std::span<const int32_t> tokens, int64_t start_position, PositionClass position_class,
           const PageTables& tables);

  int64_t rows() const { return static_cast<int64_t>(token_ids_.size()); }
  bool empty() const { return token_ids_.empty(); }
  Step step(const KvCache& cache) const;

 private:
  std::vector<int32_t> token_ids_, positions_;
  std::vector<SequenceRows> sequences_;
};

}  // namespace fathom
