// CudaOps: Ops on one NVIDIA GPU. Host code alone; the kernels are in kernels/.
//
// Operations are queued on one stream and done in order; read() waits for them. Weights come to
// the device when they are first used (device_weights.h).
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <span>
#include <string>

#include "backend/cuda/convert.h"
#include "backend/cuda/device.h"
#include "backend/cuda/device_weights.h"
#include "backend/cuda/matmul.h"
#include "backend/cuda/step_recorder.h"
#include "backend/cuda/step_uploads.h"
#include "ops/compute_type.h"
#include "ops/ops.h"

namespace fathom {

struct CudaOpsOptions {
  int device = 0;
  ComputeType compute = ComputeType::kAuto;
};

class CudaOps final : public Ops {
 public:
  static Result<std::unique_ptr<CudaOps>> create(const CudaOpsOptions& options);
  ~CudaOps() override;

  std::string_view description() const override { return description_; }
  Memory& memory() const override { return cuda::device_memory(); }
  Memory& read_memory() const override { return cuda::pinned_memory(); }
  void read(const TensorView& from, const TensorView& to) override;
  void begin_rows(const RowClasses& classes) override;
  StepStart begin_step(const StepShape& step) override;
  void end_step() override;
  bool classes_agree() const override { return exact(); }
  int64_t step_rows() const override { return 2048; }

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
  void rope_append(const RopeAppendArgs& args) override;
  void attention(const AttentionArgs& args) override { attention(args, {}); }
  void append_attention(const AppendAttentionArgs& args) override;
  void mla_attention(const MlaAttentionArgs& args) override;
  void select_rows(const SelectRowsArgs& args) override;
  void simulate(const SimulateArgs& args) override;
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

  cuda::DeviceWeights& weights() { return *weights_; }
  const cuda::Device& device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  int64_t free_bytes() const;  // of the device's memory, now

 private:
  CudaOps(cuda::Device device, ComputeType compute);
  bool exact() const { return compute_ == ComputeType::kF32; }
  struct Int8Rows {
    const void* data = nullptr;  // of the float32 ones
    int64_t rows = 0, cols = 0;
    cuda::Int8Codes codes;

    void give_to(cuda::GemvArgs& a) const {
      a.q = codes.q;
      a.q_scales = codes.scales;
      a.q_sums = codes.sums;
    }
  };
  static Int8Rows int8_rows(const void* data, int64_t rows, int64_t cols, Workspace& memory);
  struct Fp8Rows {
    const void* data = nullptr;  // of the float32 ones
    int64_t rows = 0, cols = 0;
    cuda::Fp8Codes codes;
  };
  // Copies of the rows that a norm or attention wrote, which the products behind it take: of generated rows in
  // int8 and bfloat16, as they are wanted; of prompt rows in E4M3 if some weight takes that, else
  // in bfloat16. Any other operation makes them void.
  struct Copies {
    const void* data = nullptr;  // of the output in float32
    int64_t rows = 0, cols = 0, stride = 0;
    const uint16_t* rounded = nullptr;
    Int8Rows int8;
    Fp8Rows fp8;
  };
  // x of prompt rows, as some product took it.
  struct PromptInputs {
    const uint16_t* rounded = nullptr;
    Fp8Rows fp8;
  };
  void norm(cuda::NormArgs args);
  // x as kernels take it; for what an operation writes: copies of it are void from now on.
  cuda::F32Rows written(const TensorView& x);
  // Inputs in int8: the norm's copy, or a new one.
  Int8Rows int8_inputs(const TensorView& x);
  bool wants_int8(DType type) const;
  // What computes a product of generated rows.
  enum class Few { kNone, kGemv, kNarrow };
  Few few_rows(const LinearArgs& args, const cuda::DeviceWeight& weight) const;
  Few few_rows(const cuda::DeviceWeight& weight) const;  // of inputs that lie as they should
  static void run(Few kind, const cuda::GemvArgs& args, cudaStream_t stream);
  // The copy of x that a product takes: in int8, in bfloat16, or none.
  void give_inputs(Few kind, DType type, const TensorView& x, cuda::GemvArgs& args);
  // Products for generated rows: those of the same inputs and type in one launch. rounded: the
  // inputs in bfloat16, which then need not be there in float32; or null.
  void generated_linears(std::span<const LinearArgs> args, const uint16_t* rounded = nullptr);
  // The same for prompt rows: on the tensor cores, if the shape allows.
  bool takes_prompts(const LinearArgs& args) const;
  // inputs: x as prompt_inputs() makes it for the weight; rounded_out: where the result goes in
  // bfloat16, or null: padded_rows() of them without gaps.
  void prompt_linear(const LinearArgs& args, const PromptInputs& inputs,
                     uint16_t* rounded_out = nullptr);
  // Adds what a product of x with the weight takes, unless it is there.
  void prompt_inputs(const TensorView& x, const cuda::DeviceWeight& weight, PromptInputs& inputs);
  // Whether prompts take the weight on the FP8 tensor cores: by its shape and place alone.
  bool takes_fp8(const cuda::DeviceWeight& weight);
  Fp8Rows fp8_rows(int64_t rows, int64_t cols, Workspace& memory);
  // The number of rows that a product in E4M3 writes.
  static int64_t padded_rows(int64_t rows) {
    return (rows + cuda::kFp8Rows - 1) / cuda::kFp8Rows * cuda::kFp8Rows;
  }
  void fp8_linear(const LinearArgs& args, const cuda::DeviceWeight& weight, const Fp8Rows& inputs,
                  uint16_t* rounded_out);
  const uint16_t* rounded_inputs(const TensorView& x);
  // out = the whole block for prompt rows, without leaving bfloat16 in between.
  void prompt_mlp(const MlpArgs& args);
  // Products of which the first rows, as many as given, are of prompts.
  void products(std::span<const LinearArgs> args, int64_t prompts);
  // hidden = silu(gate x) * (up x) for generated rows; in bfloat16 alone where the result is one
  // pointer, else null.
  const uint16_t* gated(const MlpArgs& args, const TensorView& hidden);
  // How many of the first of a tensor's rows are of prompts and computed as such.
  int64_t prompt_rows(int64_t rows) const;
  // The step's rows and last position, or further on in a step that may be repeated.
  cuda::Extent extent(std::span<const SequenceRows> sequences) const;
  cuda::RopeKernelArgs rope_args(const RopeArgs& args);
  cuda::AppendArgs append_args(const KvAppendArgs& args);
  // Attention in parts that fit the scratch memory.
  void attend(cuda::AttendArgs args);
  void flash_decode(cuda::FlashDecodeArgs args);
  // own: of every row of a step without prompts, or empty.
  void attention(const AttentionArgs& args, const cuda::OwnRows& own);

  RowClasses classes_;
  cuda::Device device_;
  ComputeType compute_;
  std::string description_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<cuda::DeviceWeights> weights_;
  std::unique_ptr<cuda::StepUploads> uploads_;
  std::unique_ptr<cuda::StepRecorder> recorder_;
  std::unique_ptr<cuda::Matmul> matmul_;
  // Whether some product of generated rows takes inputs in int8, or in bfloat16.
  bool has_int8_ = false, has_rounded_ = false;
  bool has_fp8_ = false;  // some weight takes E4M3 inputs of prompts
  Copies copies_;
  Workspace scratch_, copies_memory_;
  // flash_decode()'s counters, all zero between launches.
  static constexpr int64_t kArrived = int64_t{1} << 16;
  int32_t* arrived_ = nullptr;
};

}  // namespace fathom
