// InputSums: what the columns of every weight matrix are multiplied with, summed up as a model
// runs.
//
// Owns the sums. Does not choose texts nor write files (imatrix.cc). Operations that hide the input
// of a matrix are run as the linears that they consist of, so the model's results keep their
// meaning but may differ in the last bits. Reads activations on the host: for CPU backends.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "apps/gguf_plan.h"
#include "apps/imatrix_file.h"
#include "ops/ops.h"

namespace fathom {

class InputSums : public OpsDecorator {
 public:
  // The matrices of `plan` that quantize would put into another type. Stacks of experts and of
  // heads get a set of sums for each.
  InputSums(Ops& inner, const GgufPlan& plan);

  // By GGUF name, also of matrices that saw no input (all counts 0).
  const std::map<std::string, ImatrixEntry>& entries() const { return entries_; }

  void linear(const LinearArgs& args) override;
  void linears(std::span<const LinearArgs> args) override;
  void mla_attention(const MlaAttentionArgs& args) override;
  void mlp(const MlpArgs& args) override;
  void moe(const MoeArgs& args) override;

 private:
  struct Target {
    ImatrixEntry* entry = nullptr;
    int64_t set = 0;    // of the first row; heads count from here
    bool keys = false;  // attn_k_b: multiplied with queries, not with latents
  };

  // x: [rows, cols], inputs of the matrix that starts at `weight`.
  void add_inputs(const std::byte* weight, const TensorView& x);
  void add_head(const std::byte* weight, int64_t head, bool keys, const TensorView& x);
  // An expert's rows of a MoE layer; adds its weighted output to args.out.
  void run_expert(const MoeArgs& args, int64_t expert);
  WeightView keys_then_identity(const MlaAttentionArgs& args, int64_t head);

  std::map<std::string, ImatrixEntry> entries_;
  std::unordered_map<const std::byte*, std::vector<Target>> targets_;
  Workspace workspace_;
  std::vector<float> identity_;
};

}  // namespace fathom
