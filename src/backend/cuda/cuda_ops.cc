#include "backend/cuda/cuda_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace fathom {

using namespace cuda;

Result<std::unique_ptr<CudaOps>> CudaOps::create(const CudaOpsOptions& options) {
  FATHOM_TRY(Device device, open_device(options.device));
  return std::unique_ptr<CudaOps>(new CudaOps(std::move(device), options.compute));
}

CudaOps::CudaOps(Device device, ComputeType compute)
    : device_(std::move(device)),
      compute_(compute),
      description_(fmt::format("cuda:{} ({}, sm_{}{})", device_.index, device_.name, device_.major,
                               device_.minor)),
      scratch_(device_memory()),
      copies_memory_(device_memory()) {
  // In order with what is asked for without a stream: Memory::zero, copies of tests.
  FATHOM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamDefault));
  weights_ = std::make_unique<DeviceWeights>(stream_);
  uploads_ = std::make_unique<StepUploads>(stream_, device_memory());
  recorder_ = std::make_unique<StepRecorder>(stream_, *uploads_);
  matmul_ = std::make_unique<Matmul>();
  FATHOM_CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&arrived_), kArrived * sizeof(int32_t)));
  FATHOM_CUDA_CHECK(cudaMemset(arrived_, 0, kArrived * sizeof(int32_t)));
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(stream_);
  recorder_.reset();
  weights_.reset();
  uploads_.reset();
  cudaFree(arrived_);
  cudaStreamDestroy(stream_);
}

int64_t CudaOps::free_bytes() const {
  std::size_t free = 0, total = 0;
  FATHOM_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return static_cast<int64_t>(free);
}

void CudaOps::read(const TensorView& from, const TensorView& to) {
  FATHOM_CHECK(from.rows == to.rows && from.cols == to.cols && from.dtype == to.dtype)
      << from.rows << "x" << from.cols << " to " << to.rows << "x" << to.cols;
  const std::size_t size = dtype_bytes(from.dtype);
  FATHOM_CUDA_CHECK(cudaGetLastError());
  if (!from.empty()) {
    FATHOM_CUDA_CHECK(cudaMemcpy2DAsync(to.data, static_cast<std::size_t>(to.row_stride) * size,
                                        from.data, static_cast<std::size_t>(from.row_stride) * size,
                                        static_cast<std::size_t>(from.cols) * size,
                                        static_cast<std::size_t>(from.rows), cudaMemcpyDeviceToHost,
                                        stream_));
  }
  FATHOM_CUDA_CHECK(cudaStreamSynchronize(stream_));
}

void CudaOps::begin_rows(const RowClasses& classes) {
  classes_ = classes;
  copies_ = {};
  uploads_->reset();
  scratch_.reset();
}

StepStart CudaOps::begin_step(const StepShape& step) {
  return recorder_->begin(step, [&]() -> StepRecorder::Addresses {
    uploads_->reset();
    scratch_.reset();
    copies_memory_.reset();
    return {uploads_->next(), scratch_.next(), copies_memory_.next()};
  });
}

void CudaOps::end_step() { recorder_->end(); }

Extent CudaOps::extent(std::span<const SequenceRows> sequences) const {
  Extent e = extent_of(sequences);
  if (recorder_->last_position() >= 0) e.last_position = recorder_->last_position();
  return e;
}

void CudaOps::embed(const EmbedArgs& args) {
  for (const int32_t id : args.token_ids)
    FATHOM_CHECK(id >= 0 && id < args.table.rows) << "token " << id << " of " << args.table.rows;
  if (args.out.empty()) return;
  cuda::embed(weights_->get(args.table), uploads_->put(args.token_ids), written(args.out), stream_);
}

F32Rows CudaOps::written(const TensorView& x) {
  const auto* const from = reinterpret_cast<const float*>(copies_.data);
  if (from != nullptr && x.data != nullptr) {
    const auto* const begin = reinterpret_cast<const float*>(x.data);
    const auto* const end = begin + (x.rows - 1) * x.row_stride + x.cols;
    if (begin < from + copies_.rows * copies_.stride && from < end) copies_ = {};
  }
  return f32_rows(x);
}

void CudaOps::norm(NormArgs args) {
  copies_ = {};
  const int64_t rows = args.x.rows;
  if (!exact() && rows == classes_.rows && norm_takes_copies(args)) {
    copies_memory_.reset();
    Copies c{.data = args.out.data, .rows = rows, .cols = args.x.cols, .stride = args.out.stride};
    if (classes_.prompt_rows == rows && has_fp8_ && args.x.cols % 128 == 0) {
      c.fp8 = fp8_rows(rows, args.x.cols, copies_memory_);
      c.fp8.data = c.data;
      args.fp8 = c.fp8.codes;
      copies_ = c;
    } else if (classes_.prompt_rows == rows) {
      c.rounded = args.rounded = copies_memory_.array<uint16_t>(rows * args.x.cols);
      copies_ = c;
    } else if (classes_.prompt_rows == 0) {
      if (has_rounded_) c.rounded = args.rounded = copies_memory_.array<uint16_t>(rows * c.cols);
      if (has_int8_) {
        c.int8 = int8_rows(c.data, rows, c.cols, copies_memory_);
        args.int8 = c.int8.codes;
      }
      copies_ = c;
    }
  }
  cuda::rms_norm(args, stream_);
}

void CudaOps::rms_norm(const RmsNormArgs& args) {
  if (args.x.empty()) return;
  norm({.x = f32_rows(args.x),
        .out = f32_rows(args.out),
        .weight = weights_->vector(args.weight),
        .eps = args.eps});
}

void CudaOps::layer_norm(const LayerNormArgs& args) {
  if (args.x.empty()) return;
  cuda::layer_norm({.x = f32_rows(args.x),
                    .out = written(args.out),
                    .weight = weights_->vector(args.weight),
                    .bias = weights_->vector(args.bias),
                    .eps = args.eps},
                   stream_);
}

void CudaOps::add_rms_norm(const AddRmsNormArgs& args) {
  if (args.x.empty()) return;
  norm({.x = f32_rows(args.x),
        .out = f32_rows(args.out),
        .weight = weights_->vector(args.weight),
        .eps = args.eps,
        .delta = f32_rows(args.delta)});
}

void CudaOps::add(const AddArgs& args) {
  if (args.x.empty()) return;
  cuda::add(written(args.x), f32_rows(args.delta), stream_);
}

bool CudaOps::wants_int8(DType type) const {
  return (compute_ == ComputeType::kAuto || compute_ == ComputeType::kInt8) &&
         gemv_takes_int8(type);
}

CudaOps::Int8Rows CudaOps::int8_rows(const void* data, int64_t rows, int64_t cols,
                                     Workspace& memory) {
  return {.data = data,
          .rows = rows,
          .cols = cols,
          .codes = {.q = memory.array<int8_t>(rows * cols),
                    .scales = memory.array<float>(rows * cols / 32),
                    .sums = memory.array<float>(rows * cols / 16)}};
}

CudaOps::Int8Rows CudaOps::int8_inputs(const TensorView& x) {
  has_int8_ = true;
  const Int8Rows& known = copies_.int8;
  if (known.codes.q != nullptr && known.data == x.data && known.rows == x.rows && known.cols == x.cols)
    return known;
  const Int8Rows out = int8_rows(x.data, x.rows, x.cols, scratch_);
  quantize_inputs(f32_rows(x), out.codes, stream_);
  return out;
}

CudaOps::Few CudaOps::few_rows(const DeviceWeight& w) const {
  if (exact() || (gemv_takes_int8(w.dtype) && !wants_int8(w.dtype))) return Few::kNone;
  return narrow_takes(w) ? Few::kNarrow : gemv_takes(w) ? Few::kGemv : Few::kNone;
}

CudaOps::Few CudaOps::few_rows(const LinearArgs& a, const DeviceWeight& w) const {
  const Few kind = few_rows(w);
  const bool aligned = a.x.row_stride % 4 == 0 && reinterpret_cast<uintptr_t>(a.x.data) % 16 == 0;
  return kind == Few::kGemv && !gemv_takes_int8(w.dtype) && !aligned ? Few::kNone : kind;
}

void CudaOps::run(Few kind, const GemvArgs& args, cudaStream_t stream) {
  if (kind == Few::kNarrow) {
    narrow(args, stream);
  } else {
    gemv(args, stream);
  }
}

void CudaOps::give_inputs(Few kind, DType type, const TensorView& x, GemvArgs& args) {
  if (wants_int8(type)) {
    int8_inputs(x).give_to(args);
  } else if (kind == Few::kNarrow && args.rounded == nullptr) {
    has_rounded_ = true;
    args.rounded = rounded_inputs(x);
  }
}

void CudaOps::generated_linears(std::span<const LinearArgs> args, const uint16_t* rounded) {
  // The copy of the inputs, for neighbours that share them.
  GemvArgs known;
  TensorView known_x;
  DType known_type{};
  while (!args.empty()) {
    const LinearArgs& a = args.front();
    GemvArgs g{.x = f32_rows(a.x), .rounded = rounded, .rows = a.x.rows, .num_parts = 0};
    const Few kind = few_rows(a, weights_->get(a.weight));
    if (kind == Few::kNone) {
      FATHOM_CHECK(rounded == nullptr);
      cuda::linear({.x = f32_rows(a.x),
                    .out = f32_rows(a.out),
                    .weight = weights_->get(a.weight),
                    .bias = weights_->vector(a.bias)},
                   stream_);
      args = args.subspan(1);
      continue;
    }
    for (const LinearArgs& next : args) {
      if (g.num_parts == 3 || next.weight.dtype != a.weight.dtype || next.x.data != a.x.data ||
          next.x.rows != a.x.rows || next.x.cols != a.x.cols)
        break;
      const DeviceWeight w = weights_->get(next.weight);
      if (few_rows(next, w) != kind) break;
      g.parts[g.num_parts++] = {
          .weight = w, .bias = weights_->vector(next.bias), .out = f32_rows(next.out)};
    }
    if (known_x.data != nullptr && known_x.data == a.x.data && known_x.rows == a.x.rows &&
        known_x.cols == a.x.cols && wants_int8(known_type) == wants_int8(a.weight.dtype)) {
      g.rounded = known.rounded;
      g.q = known.q;
      g.q_scales = known.q_scales;
      g.q_sums = known.q_sums;
    }
    if (g.q == nullptr && g.rounded == nullptr) give_inputs(kind, a.weight.dtype, a.x, g);
    known = g;
    known_x = a.x;
    known_type = a.weight.dtype;
    run(kind, g, stream_);
    args = args.subspan(static_cast<std::size_t>(g.num_parts));
  }
}

const uint16_t* CudaOps::gated(const MlpArgs& args, const TensorView& hidden) {
  const SwigluWeights& w = args.weights;
  const LinearArgs gate{args.x, w.gate, w.gate_bias, hidden};
  const DeviceWeight g = weights_->get(w.gate), u = weights_->get(w.up);
  const Few kind = few_rows(gate, g);
  if (g.dtype != u.dtype || kind == Few::kNone || few_rows(gate, u) != kind) {
    const TensorView up = scratch_.f32(hidden.rows, hidden.cols);
    generated_linears(std::array{gate, LinearArgs{args.x, w.up, w.up_bias, up}});
    silu_mul(f32_rows(hidden), f32_rows(up), std::numeric_limits<float>::infinity(), stream_);
    return nullptr;
  }
  GemvArgs a{.x = f32_rows(args.x), .rows = args.x.rows, .num_parts = 2, .gated = true};
  a.parts[0] = {.weight = g, .bias = weights_->vector(w.gate_bias), .out = f32_rows(hidden)};
  a.parts[1] = {.weight = u, .bias = weights_->vector(w.up_bias)};
  const DeviceWeight down = weights_->get(w.down);
  if (kind == Few::kNarrow && few_rows(down) == Few::kNarrow && !wants_int8(down.dtype)) {
    a.parts[0].rounded = scratch_.array<uint16_t>(hidden.rows * hidden.cols);
    a.parts[0].out = {};
  }
  give_inputs(kind, g.dtype, args.x, a);
  run(kind, a, stream_);
  return a.parts[0].rounded;
}

int64_t CudaOps::prompt_rows(int64_t rows) const {
  if (exact() || classes_.rows == 0) return 0;
  FATHOM_CHECK(rows % classes_.rows == 0) << rows << " of " << classes_.rows;
  return rows / classes_.rows * classes_.prompt_rows;
}

bool CudaOps::takes_prompts(const LinearArgs& a) const {
  return a.weight.cols % 8 == 0 && a.weight.rows % 8 == 0 && a.out.row_stride % 4 == 0 &&
         reinterpret_cast<uintptr_t>(a.out.data) % 16 == 0;
}

const uint16_t* CudaOps::rounded_inputs(const TensorView& x) {
  if (copies_.rounded != nullptr && copies_.data == x.data && copies_.rows == x.rows &&
      copies_.cols == x.cols)
    return copies_.rounded;
  auto* const out = scratch_.array<uint16_t>(x.rows * x.cols);
  round_inputs(f32_rows(x), out, stream_);
  return out;
}

bool CudaOps::takes_fp8(const DeviceWeight& w) {
  const bool fits = compute_ == ComputeType::kAuto && w.dtype == DType::kF8E4M3 && w.aligned &&
                    w.scales != nullptr && w.scale_block_rows == 128 && w.scale_block_cols == 128 &&
                    w.scale_row0 % 128 == 0 && w.scale_stride == fp8_scale_stride(w.cols) &&
                    matmul_->takes_fp8(w.cols, w.rows);
  has_fp8_ = has_fp8_ || fits;
  return fits;
}

CudaOps::Fp8Rows CudaOps::fp8_rows(int64_t rows, int64_t cols, Workspace& memory) {
  Fp8Rows out{.rows = rows, .cols = cols};
  out.codes.rows = padded_rows(rows);
  out.codes.q = memory.array<uint8_t>(out.codes.rows * cols);
  out.codes.scales = memory.array<float>(out.codes.rows * ((cols + 127) / 128));
  return out;
}

void CudaOps::prompt_inputs(const TensorView& x, const DeviceWeight& w, PromptInputs& inputs) {
  if (!takes_fp8(w)) {
    if (inputs.rounded == nullptr) inputs.rounded = rounded_inputs(x);
    return;
  }
  if (inputs.fp8.codes.q != nullptr) return;
  const Fp8Rows& known = copies_.fp8;
  if (known.codes.q != nullptr && known.data == x.data && known.rows == x.rows &&
      known.cols == x.cols) {
    inputs.fp8 = known;
    return;
  }
  inputs.fp8 = fp8_rows(x.rows, x.cols, scratch_);
  quantize_fp8(f32_rows(x), inputs.fp8.codes, stream_);
}

void CudaOps::fp8_linear(const LinearArgs& args, const DeviceWeight& w, const Fp8Rows& x,
                         uint16_t* rounded_out) {
  Matmul::Fp8Product p{.x = x.codes.q,
                       .x_scales = x.codes.scales,
                       .weight = w.data,
                       .weight_scales = w.scales + w.scale_row0 / 128 * w.scale_stride,
                       .bias = weights_->vector(args.bias),
                       .out = rounded_out,
                       .bf16_out = rounded_out != nullptr,
                       .rows = x.codes.rows,
                       .in = w.cols,
                       .columns = w.rows};
  float* padded = nullptr;
  if (rounded_out == nullptr) {
    if (x.codes.rows != x.rows || args.out.row_stride != w.rows)
      padded = scratch_.array<float>(x.codes.rows * w.rows);
    p.out = padded != nullptr ? padded : args.out.f32(0);
  }
  const float* late_bias = nullptr;
  if (!matmul_->run(p, stream_)) {
    FATHOM_CHECK(rounded_out == nullptr);
    std::swap(late_bias, p.bias);
    matmul_->run(p, stream_);
  }
  if (padded != nullptr) {
    const auto row_bytes = static_cast<std::size_t>(w.rows) * sizeof(float);
    FATHOM_CUDA_CHECK(cudaMemcpy2DAsync(
        args.out.f32(0), static_cast<std::size_t>(args.out.row_stride) * sizeof(float), padded,
        row_bytes, row_bytes, static_cast<std::size_t>(x.rows), cudaMemcpyDeviceToDevice, stream_));
  }
  if (late_bias != nullptr) add_bias(f32_rows(args.out), late_bias, stream_);
}

void CudaOps::prompt_linear(const LinearArgs& args, const PromptInputs& inputs,
                            uint16_t* rounded_out) {
  const Workspace::Scope scope(scratch_);
  const DeviceWeight w = weights_->get(args.weight);
  if (takes_fp8(w)) {
    fp8_linear(args, w, inputs.fp8, rounded_out);
    return;
  }
  Matmul::Product p{.x = inputs.rounded,
                    .weight = w.data,
                    .bias = weights_->vector(args.bias),
                    .out = rounded_out,
                    .bf16_out = rounded_out != nullptr,
                    .rows = args.x.rows,
                    .in = w.cols,
                    .columns = w.rows,
                    .out_stride = w.rows};
  if (rounded_out == nullptr) {
    p.out = args.out.f32(0);
    p.out_stride = args.out.row_stride;
  }
  if (w.dtype != DType::kBF16 || !w.aligned) {
    auto* const decoded = scratch_.array<uint16_t>(w.rows * w.cols);
    decode_weight(w, decoded, stream_);
    p.weight = decoded;
  }
  if (matmul_->run(p, stream_)) return;
  FATHOM_CHECK(rounded_out == nullptr);
  const float* const bias = p.bias;
  p.bias = nullptr;
  matmul_->run(p, stream_);
  add_bias(f32_rows(args.out), bias, stream_);
}

void CudaOps::prompt_mlp(const MlpArgs& args) {
  const Workspace::Scope scope(scratch_);
  const SwigluWeights& w = args.weights;
  const int64_t rows = args.x.rows, inner = w.gate.rows;
  const DeviceWeight down = weights_->get(w.down);
  PromptInputs x, hidden;
  prompt_inputs(args.x, weights_->get(w.gate), x);
  prompt_inputs(args.x, weights_->get(w.up), x);
  auto* const gate = scratch_.array<uint16_t>(padded_rows(rows) * inner);
  auto* const up = scratch_.array<uint16_t>(padded_rows(rows) * inner);
  prompt_linear({.x = args.x, .weight = w.gate, .bias = {}, .out = {}}, x, gate);
  prompt_linear({.x = args.x, .weight = w.up, .bias = {}, .out = {}}, x, up);
  if (takes_fp8(down)) {
    hidden.fp8 = fp8_rows(rows, inner, scratch_);
    silu_mul_fp8(gate, up, rows, inner, hidden.fp8.codes, stream_);
  } else {
    silu_mul_bf16(gate, up, rows * inner, stream_);
    hidden.rounded = gate;
  }
  // Of x the number of rows alone counts.
  prompt_linear({.x = args.x, .weight = w.down, .bias = w.down_bias, .out = args.out}, hidden);
}

void CudaOps::linear(const LinearArgs& args) { linears(std::span(&args, 1)); }

void CudaOps::linears(std::span<const LinearArgs> args) {
  if (args.empty()) return;
  products(args, prompt_rows(args.front().x.rows));
}

void CudaOps::products(std::span<const LinearArgs> args, int64_t prompts) {
  const Workspace::Scope scope(scratch_);
  PromptInputs inputs;
  TensorView inputs_from;
  std::vector<LinearArgs> generated;
  for (const LinearArgs& a : args) {
    if (a.out.empty()) continue;
    const int64_t own = takes_prompts(a) ? prompts : 0;
    if (own > 0) {
      LinearArgs p = a;
      p.x = a.x.row_range(0, own);
      p.out = a.out.row_range(0, own);
      if (inputs_from.data != p.x.data || inputs_from.cols != p.x.cols) {
        inputs = {};
        inputs_from = p.x;
      }
      prompt_inputs(p.x, weights_->get(p.weight), inputs);
      prompt_linear(p, inputs);
    }
    if (own == a.x.rows) continue;
    LinearArgs g = a;
    g.x = a.x.row_range(own, a.x.rows - own);
    g.out = a.out.row_range(own, a.x.rows - own);
    generated.push_back(g);
  }
  generated_linears(generated);
  for (const LinearArgs& a : args) written(a.out);
}

void CudaOps::rope_angles(const RopeAnglesArgs& args) {
  if (args.out.empty()) return;
  cuda::rope_angles({.positions = uploads_->put(args.positions),
                     .frequencies = uploads_->put(args.inverse_frequencies),
                     .half = static_cast<int64_t>(args.inverse_frequencies.size()),
                     .factor = args.attention_factor,
                     .out = written(args.out)},
                    stream_);
}

RopeKernelArgs CudaOps::rope_args(const RopeArgs& args) {
  return {.x = written(args.x),
          .angles = f32_rows(args.angles),
          .heads = args.heads,
          .head_dim = args.x.cols / args.heads,
          .offset = args.offset,
          .pairs = args.layout == RopeLayout::kPairs,
          .inverse = args.inverse};
}

void CudaOps::rope(const RopeArgs& args) {
  if (args.x.empty()) return;
  cuda::rope(rope_args(args), stream_);
}

void CudaOps::mlp(const MlpArgs& args) {
  if (args.out.empty()) return;
  const Workspace::Scope scope(scratch_);
  const SwigluWeights& w = args.weights;
  const int64_t rows = args.x.rows;
  const LinearArgs down{.x = {}, .weight = w.down, .bias = w.down_bias, .out = args.out};
  // By the weights and the layout alone.
  const bool tensor_cores = w.gate.rows % 8 == 0 && w.gate.cols % 8 == 0 && takes_prompts(down) &&
                            !w.gate_bias.defined() && !w.up_bias.defined();
  const int64_t prompts = tensor_cores ? prompt_rows(rows) : 0;
  if (prompts > 0) {
    prompt_mlp(
        {.x = args.x.row_range(0, prompts), .weights = w, .out = args.out.row_range(0, prompts)});
  }
  if (prompts < rows) {
    const int64_t others = rows - prompts;
    const TensorView hidden = scratch_.f32(others, w.gate.rows);
    const uint16_t* const rounded =
        gated({.x = args.x.row_range(prompts, others), .weights = w, .out = {}}, hidden);
    const LinearArgs last{.x = hidden,
                          .weight = w.down,
                          .bias = w.down_bias,
                          .out = args.out.row_range(prompts, others)};
    generated_linears(std::span(&last, 1), rounded);
  }
  written(args.out);
}

void CudaOps::route(const RouteArgs& args) {
  if (args.logits.rows == 0) return;
  const bool by_token = !args.experts_of_token.empty();
  cuda::route({.logits = f32_rows(args.logits),
               .weights = written(args.weights),
               .ids = i32_rows(args.ids),
               .bias = weights_->vector(args.bias),
               .experts_of_token = by_token ? weights_->array(args.experts_of_token) : nullptr,
               .token_ids = by_token ? uploads_->put(args.token_ids) : nullptr,
               .scoring = args.scoring == RouterScoring::kSoftmax   ? Scoring::kSoftmax
                          : args.scoring == RouterScoring::kSigmoid ? Scoring::kSigmoid
                                                                    : Scoring::kSqrtSoftplus,
               .groups = args.groups == RouterGroups::kNone  ? Groups::kNone
                         : args.groups == RouterGroups::kMax ? Groups::kMax
                                                             : Groups::kTop2Sum,
               .num_groups = static_cast<int32_t>(args.num_groups),
               .groups_per_token = static_cast<int32_t>(args.groups_per_token),
               .normalize = args.normalize,
               .scaling_factor = args.scaling_factor},
              stream_);
}

void CudaOps::moe(const MoeArgs& args) {
  if (args.out.empty()) return;
  const Workspace::Scope scope(scratch_);
  const DeviceWeights::Experts e = weights_->experts(args.experts);
  const int64_t inner = args.experts.front().gate.rows;
  const TensorView hidden = scratch_.f32(args.x.rows * args.ids.cols, inner);
  TensorView shared;
  if (args.shared != nullptr) {
    shared = scratch_.f32(args.out.rows, args.out.cols);
    mlp({.x = args.x, .weights = *args.shared, .out = shared});
  }
  const Few up_kind = few_rows(e.gate), down_kind = few_rows(e.down);
  if (up_kind == Few::kNone || down_kind == Few::kNone) {
    cuda::experts({.x = f32_rows(args.x),
                   .out = written(args.out),
                   .ids = i32_rows(args.ids),
                   .weights = f32_rows(args.weights),
                   .experts = e.data,
                   .dtype = e.gate.dtype,
                   .down_dtype = e.down.dtype,
                   .inner = inner,
                   .limit = args.limit,
                   .hidden = f32_rows(hidden),
                   .shared = f32_rows(shared)},
                  stream_);
    return;
  }
  const TensorView parts = scratch_.f32(hidden.rows, args.out.cols);
  GemvArgs g{.x = f32_rows(args.x),
             .rows = hidden.rows,
             .num_parts = 2,
             .gated = true,
             .limit = args.limit,
             .experts = e.data,
             .ids = i32_rows(args.ids)};
  g.parts[0] = {.weight = e.gate, .out = f32_rows(hidden)};
  g.parts[1] = {.weight = e.gate};
  const bool round =
      up_kind == Few::kNarrow && down_kind == Few::kNarrow && !wants_int8(e.down.dtype);
  if (round) {
    g.parts[0].rounded = scratch_.array<uint16_t>(hidden.rows * inner);
    g.parts[0].out = {};
  }
  give_inputs(up_kind, e.gate.dtype, args.x, g);
  run(up_kind, g, stream_);
  GemvArgs d{.x = f32_rows(hidden),
             .rounded = g.parts[0].rounded,
             .rows = hidden.rows,
             .num_parts = 1,
             .experts = e.data,
             .ids = i32_rows(args.ids)};
  d.parts[0] = {.weight = e.down, .out = f32_rows(parts)};
  give_inputs(down_kind, e.down.dtype, hidden, d);
  run(down_kind, d, stream_);
  combine_experts(f32_rows(parts), f32_rows(args.weights), f32_rows(shared), written(args.out),
                  stream_);
}

void CudaOps::gather_rows(const GatherRowsArgs& args) {
  if (args.out.empty()) return;
  cuda::gather_rows(f32_rows(args.x), uploads_->put(args.rows), written(args.out), stream_);
}

void CudaOps::stream_weights(const StreamWeightsArgs& args) {
  if (args.z.rows == 0) return;
  FATHOM_CHECK(args.streams <= 8) << args.streams;
  cuda::stream_weights({.z = f32_rows(args.z),
                        .pre = written(args.pre),
                        .post = written(args.post),
                        .mix = written(args.mix),
                        .base = weights_->vector(args.base),
                        .scale = weights_->vector(args.scale),
                        .streams = static_cast<int32_t>(args.streams),
                        .iterations = static_cast<int32_t>(args.iterations),
                        .eps = args.eps},
                       stream_);
}

void CudaOps::read_streams(const ReadStreamsArgs& args) {
  if (args.out.empty()) return;
  cuda::read_streams(f32_rows(args.streams), f32_rows(args.pre), written(args.out), stream_);
}

void CudaOps::write_streams(const WriteStreamsArgs& args) {
  if (args.y.empty()) return;
  cuda::write_streams(written(args.streams), f32_rows(args.post), f32_rows(args.mix),
                      f32_rows(args.y), stream_);
}

void CudaOps::copy_to_streams(const CopyToStreamsArgs& args) {
  if (args.x.empty()) return;
  cuda::copy_to_streams(f32_rows(args.x), written(args.streams), stream_);
}

}  // namespace fathom
