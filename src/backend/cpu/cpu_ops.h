// CpuOps: Ops on the CPU with vector kernels picked at run time and a thread pool.
//
// Every row's result is independent of the other rows of a step and of the number of threads
// (kernels/kernels.h), so prompt and generated positions share their kernels here.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

#include "backend/cpu/kernels/attend.h"
#include "backend/cpu/kernels/block_dot.h"
#include "base/thread_pool.h"
#include "ops/compute_type.h"
#include "ops/ops.h"

namespace fathom {

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

 private:
  // Below this size a loop costs less on one thread than waking the others (2–3 µs).
  static constexpr int64_t kSerialElements = 16 << 10;

  // How a product takes its inputs. Depends on the weights alone, never on the number of rows.
  enum class InputForm : uint8_t {
    kF32,
    kInt8,
    kInt8EvenThenOdd,
    // Three int8 rows for one of inputs, each what the rounding of those before it left. Their
    // products add up to one with inputs of 23 bits: as exact as float32.
    kInt8TripleEvenThenOdd,
  };
  static constexpr std::size_t kInputForms = 4;
  InputForm input_form(const WeightView& weight) const;
  // Rows of inputs in that form: one of the two.
  struct Inputs {
    const float* const* f32 = nullptr;
    const cpu::Int8Row* int8 = nullptr;
    int64_t parts = 1;  // int8 rows for one of inputs, side by side

    bool defined() const { return f32 != nullptr || int8 != nullptr; }
    Inputs from(int64_t row) const {
      return int8 != nullptr ? Inputs{.int8 = int8 + row * parts, .parts = parts}
                             : Inputs{.f32 = f32 + row};
    }
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
  void compute_int8(const Product& product, int64_t n0, int64_t n1) const;
  // The rows of x in a form. Live in scratch_.
  Inputs inputs(const TensorView& x, InputForm form);
  Inputs inputs(const TensorView& x, const WeightView& weight) {
    return inputs(x, input_form(weight));
  }
  // The same for products with weights of several types: each form is made once.
  class InputsOf {
   public:
    InputsOf(CpuOps& ops, const TensorView& x, std::span<const int64_t> order = {})
        : ops_(ops), x_(x), order_(order) {}
    Inputs operator()(const WeightView& weight);
    // Row i is row order[i] of x.
    Inputs ordered(const WeightView& weight);

   private:
    CpuOps& ops_;
    TensorView x_;
    std::span<const int64_t> order_;
    std::array<Inputs, kInputForms> made_{}, ordered_{};
  };
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
