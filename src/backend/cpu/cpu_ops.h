// CpuOps: Ops on the CPU with vector kernels picked at run time and a thread pool.
//
// Every row's result is independent of the other rows of a step and of the number of threads
// (kernels/kernels.h), so prompt and generated positions share their kernels here.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "ops/ops.h"

namespace fathom {

// In what precision the inputs of matrix products are taken. Sums and everything else are float32.
enum class ComputeType : uint8_t {
  kF32,
  kBF16,  // inputs rounded to bfloat16
  kInt8,  // inputs rounded to int8 with one scale per kInt8Block values
};

struct CpuOpsOptions {
  int threads = 0;  // 0 = default_thread_count()
  ComputeType compute = ComputeType::kF32;
};

class CpuOps : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options = {});

  std::string_view description() const override { return description_; }
  int num_threads() const { return pool_.num_threads(); }

  void embed(const EmbedArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void add_rms_norm(const AddRmsNormArgs& args) override;
  void add(const AddArgs& args) override;
  void linear(const LinearArgs& args) override;
  void linears(std::span<const LinearArgs> args) override;
  void rope_angles(const RopeAnglesArgs& args) override;
  void rope(const RopeArgs& args) override;
  void kv_append(const KvAppendArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void mla_attention(const MlaAttentionArgs& args) override;
  void mlp(const MlpArgs& args) override;
  void route(const RouteArgs& args) override;
  void moe(const MoeArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;

 private:
  // Below this size a loop costs less on one thread than waking the others (2–3 µs).
  static constexpr int64_t kSerialElements = 16 << 10;

  // out[i] = x[i] · weightᵀ + bias for rows given by pointers; a piece of it is one task.
  struct Product {
    const float* const* x = nullptr;
    int64_t rows = 0;
    WeightView weight;
    WeightView bias;
    float* const* out = nullptr;
  };
  void run_products(std::span<const Product> products);
  // Row pointers of x, the rows rounded to the compute type where that is not float32.
  const float* const* inputs(const TensorView& x, std::size_t slot);
  float* const* outputs(const TensorView& out, std::size_t slot);
  // f(row) for all rows of `cols` elements' work each, in parallel if there is enough to pay for
  // it.
  template <typename F>
  void for_rows(int64_t rows, int64_t cols, const F& f) {
    if (rows * cols < kSerialElements) {
      for (int64_t r = 0; r < rows; ++r) f(r);
      return;
    }
    const int64_t per_task = std::max<int64_t>(1, kSerialElements / 2 / std::max<int64_t>(cols, 1));
    pool_.parallel_for((rows + per_task - 1) / per_task, [&](int64_t task, int) {
      const int64_t end = std::min(rows, (task + 1) * per_task);
      for (int64_t r = task * per_task; r < end; ++r) f(r);
    });
  }

  ThreadPool pool_;
  ComputeType compute_;
  std::string description_;
  // Scratch that keeps its capacity from step to step.
  std::vector<std::vector<const float*>> input_rows_;
  std::vector<std::vector<float*>> output_rows_;
  Workspace scratch_;
};

}  // namespace fathom
