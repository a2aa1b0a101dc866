// WorkCounter: what a step has to read and to multiply, counted op by op as the model asks for it.
//
// Counts the least that the operations need: every weight once a step (of the experts, those that
// some row was routed to), every cached row once per sequence. What a backend reads twice is its
// loss.
#pragma once

#include <cstdint>

#include "ops/ops.h"

namespace fathom {

struct Work {
  int64_t weight_bytes = 0;          // a table's gathered rows count, not the table
  int64_t cache_bytes = 0;           // keys and values read by attention
  int64_t linear_operations = 0;     // 2 per multiply-add with a weight
  int64_t attention_operations = 0;  // 2 per multiply-add with a cached value, in the plain form
};

class WorkCounter : public OpsDecorator {
 public:
  explicit WorkCounter(Ops& inner) : OpsDecorator(inner) {}

  const Work& work() const { return work_; }

  void embed(const EmbedArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void add_rms_norm(const AddRmsNormArgs& args) override;
  void linear(const LinearArgs& args) override;
  void linears(std::span<const LinearArgs> args) override;
  void attention(const AttentionArgs& args) override;
  void mla_attention(const MlaAttentionArgs& args) override;
  void select_rows(const SelectRowsArgs& args) override;
  void shared_kv_attention(const SharedKvAttentionArgs& args) override;
  void mlp(const MlpArgs& args) override;
  void moe(const MoeArgs& args) override;

 private:
  void count_matrix(const WeightView& weight, int64_t rows);
  void count_swiglu(const SwigluWeights& weights, int64_t rows);
  // Cache rows of the step's sequences; `operations_per_key` for each row that sees it.
  void count_cache(const KvPages& kv, std::span<const SequenceRows> sequences,
                   int64_t operations_per_key);
  // The same where a row of the step sees `most` rows at most; per_row: each other ones.
  void count_rows(const KvPages& kv, std::span<const SequenceRows> sequences, int64_t most,
                  bool per_row, int64_t operations_per_row);

  Work work_;
};

}  // namespace fathom
