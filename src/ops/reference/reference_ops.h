// ReferenceOps: every op as the plainest possible scalar code. Slow, obvious, and what every
// backend is compared with (tests/conformance).
#pragma once

#include <vector>

#include "ops/ops.h"

namespace fathom {

// Row `row` of a weight as float32, scales applied. out: [weight.cols].
void decode_weight_row(const WeightView& weight, int64_t row, float* out);

class ReferenceOps : public Ops {
 public:
  std::string_view description() const override { return "reference (scalar)"; }
  void embed(const EmbedArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void layer_norm(const LayerNormArgs& args) override;
  void add(const AddArgs& args) override;
  void linear(const LinearArgs& args) override;
  void rope_angles(const RopeAnglesArgs& args) override;
  void rope(const RopeArgs& args) override;
  void simulate(const SimulateArgs& args) override;
  void kv_append(const KvAppendArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void mla_attention(const MlaAttentionArgs& args) override;
  void select_rows(const SelectRowsArgs& args) override;
  void compress(const CompressArgs& args) override;
  void shared_kv_attention(const SharedKvAttentionArgs& args) override;
  void stream_weights(const StreamWeightsArgs& args) override;
  void read_streams(const ReadStreamsArgs& args) override;
  void write_streams(const WriteStreamsArgs& args) override;
  void copy_to_streams(const CopyToStreamsArgs& args) override;
  void mlp(const MlpArgs& args) override;
  void route(const RouteArgs& args) override;
  void moe(const MoeArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;
};

}  // namespace fathom
