// ProgressOps: counts the operations that it passes on, so that a supervisor can tell a long step
// from one that hangs.
#pragma once

#include <atomic>
#include <cstdint>

#include "ops/ops.h"

namespace fathom::worker {

class ProgressOps final : public OpsDecorator {
 public:
  explicit ProgressOps(Ops& inner) : OpsDecorator(inner), inner_(inner) {}
  const std::atomic<uint64_t>& count() const { return count_; }

  // A step that is repeated is one operation.
  StepStart begin_step(const StepShape& s) override { return step(), inner_.begin_step(s); }
  void end_step() override { inner_.end_step(); }
  void embed(const EmbedArgs& a) override { step(), OpsDecorator::embed(a); }
  void rms_norm(const RmsNormArgs& a) override { step(), OpsDecorator::rms_norm(a); }
  void add_rms_norm(const AddRmsNormArgs& a) override { step(), OpsDecorator::add_rms_norm(a); }
  void linear(const LinearArgs& a) override { step(), OpsDecorator::linear(a); }
  void linears(std::span<const LinearArgs> a) override { step(), OpsDecorator::linears(a); }
  void attention(const AttentionArgs& a) override { step(), OpsDecorator::attention(a); }
  void append_attention(const AppendAttentionArgs& a) override {
    step(), inner_.append_attention(a);
  }
  void mla_attention(const MlaAttentionArgs& a) override { step(), OpsDecorator::mla_attention(a); }
  void mlp(const MlpArgs& a) override { step(), OpsDecorator::mlp(a); }
  void moe(const MoeArgs& a) override { step(), OpsDecorator::moe(a); }

 private:
  void step() { count_.fetch_add(1, std::memory_order_relaxed); }
  Ops& inner_;
  std::atomic<uint64_t> count_{0};
};

}  // namespace fathom::worker
