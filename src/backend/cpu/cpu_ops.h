// CpuOps: Ops on the CPU with vector kernels picked at run time and a thread pool.
//
// Every row's result is independent of the other rows of a step and of the number of threads
// (kernels/kernels.h), so prompt and generated positions share their kernels here.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "backend/cpu/kernels/attend.h"
#include "backend/cpu/kernels/block_dot.h"
#include "base/thread_pool.h"
#include "ops/ops.h"

namespace fathom {

// In what precision the inputs of matrix products are taken. Sums and everything else are float32.
enum class ComputeType : uint8_t {
  kAuto,  // int8 for block-quantised weights, float32 for others
  kF32,   // block-quantised weights are decoded to float32
  kBF16,  // inputs rounded to bfloat16; weights as with kF32
};

struct CpuOpsOptions {
  int threads = 0;              // 0 = default_thread_count()
  std::vector<int> processors;  // of the threads (ThreadPool); empty = the system's choice
  ComputeType compute = ComputeType::kAuto;
};

class CpuOps : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options = {});

  std::string_view description() const override { return description_; }
  bool classes_agree() const override { return true; }
  int num_threads() const { return pool_.num_threads(); }

  void embed(const EmbedArgs& args) override;
  void rms_norm(const RmsNormArgs& args) override;
  void layer_norm(const LayerNormArgs& args) override;
  void add_rms_norm(const AddRmsNormArgs& args) override;
  void add(const AddArgs& args) override;
  void linear(const LinearArgs& args) override;
  void linears(std::span<const LinearArgs> args) override;
  void rope_angles(const RopeAnglesArgs& args) override;
  void rope(const RopeArgs& args) override;
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

 private:
  // Below this size a loop costs less on one thread than waking the others (2–3 µs).
  static constexpr int64_t kSerialElements = 16 << 10;

  // Rows of inputs in the form that their weights take: one of the two.
  struct Inputs {
    const float* const* f32 = nullptr;
    const cpu::Int8Row* int8 = nullptr;
  };
  // out[i] = x[i] · weightᵀ + bias for rows given by pointers; a piece of it is one task.
  struct Product {
    Inputs x;
    int64_t rows = 0;
    WeightView weight;
    WeightView bias;
    float* const* out = nullptr;
  };
  void run_products(std::span<const Product> products);
  // Columns [n0, n1) of a product.
  void compute(const Product& product, int64_t n0, int64_t n1) const;
  bool takes_int8(const WeightView& weight) const {
    return compute_ == ComputeType::kAuto && is_block_quantized(weight.dtype);
  }
  // The rows of x as a product with `weight` takes them. Live in scratch_.
  Inputs inputs(const TensorView& x, const WeightView& weight);
  float* const* outputs(const TensorView& out);

  // Attention with keys [kv_head · key_stride, + key_dim) of a cache row and values
  // [value_offset + kv_head · key_stride, + value_dim).
  struct AttendShape {
    TensorView q;    // [rows, heads * key_dim]
    TensorView out;  // [rows, heads * value_dim], may be q
    KvPages kv;
    int64_t heads = 0, kv_heads = 0;
    int64_t key_dim = 0, key_stride = 0;
    int64_t value_offset = 0, value_dim = 0;
    float scale = 0;
    const float* sinks = nullptr;  // [heads], or none
  };
  // The cached rows that one token attends to.
  struct TokenKeys {
    int64_t row = 0;  // of q
    std::vector<const std::byte*> keys;
  };
  struct AttendGroup;
  void attend_rows(const AttendShape& shape, std::span<const SequenceRows> sequences);
  // The same on cached rows that lie apart: of shape.kv only dtype and row_elements count.
  void attend_gathered(AttendShape shape, std::span<const TokenKeys> tokens);
  static void sparse_rows(const MlaAttentionArgs& args, SequenceRows& s, int64_t first_row,
                          std::vector<TokenKeys>& out);
  void absorb_queries(const MlaAttentionArgs& args, const TensorView& q,
                      const TensorView& absorbed);
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
  cpu::BlockDot block_dot_;
  std::string description_;
  Workspace scratch_;  // keeps its capacity from step to step
};

}  // namespace fathom
