#include "backend/cpu/cpu_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/kernels.h"
#include "tensor/float_formats.h"

namespace fathom {
namespace {

// As CpuOps::kSerialElements, for matrix products.
constexpr int64_t kSerialMultiplyAdds = 32 << 10;
// Tasks take a multiple of so many weight rows: what the kernels work on side by side, or, where
// there are too few rows to go round, a part of it.
constexpr int64_t kTaskColumns = 32, kSmallTaskColumns = 8;
// InputForm::kInt8TripleEvenThenOdd
constexpr int64_t kParts = 3;

}  // namespace

CpuOps::CpuOps(const CpuOpsOptions& options)
    : pool_(options.threads > 0 ? options.threads : default_thread_count(), options.processors),
      compute_(options.compute),
      block_dot_(cpu::block_dot_kernels().front().function),
      description_(fmt::format("cpu ({}, {}, {}{} thread{})", cpu::target_name(),
                               cpu::block_dot_kernels().front().name, pool_.num_threads(),
                               options.processors.empty() ? "" : " pinned",
                               pool_.num_threads() == 1 ? "" : "s")) {}

CpuOps::InputForm CpuOps::input_form(const WeightView& weight) const {
  if (compute_ == ComputeType::kF32 || compute_ == ComputeType::kBF16) return InputForm::kF32;
  if (is_block_quantized(weight.dtype)) return InputForm::kInt8;
  if (weight.dtype != DType::kF4E2M1) return InputForm::kF32;
  return compute_ == ComputeType::kInt8 ? InputForm::kInt8EvenThenOdd
                                        : InputForm::kInt8TripleEvenThenOdd;
}

CpuOps::Inputs CpuOps::inputs(const TensorView& x, InputForm form) {
  if (form != InputForm::kF32) {
    const auto order =
        form == InputForm::kInt8 ? cpu::InputOrder::kNatural : cpu::InputOrder::kEvenThenOdd;
    const int64_t parts = form == InputForm::kInt8TripleEvenThenOdd ? kParts : 1;
    const int64_t blocks = (x.cols + cpu::kInputBlock - 1) / cpu::kInputBlock;
    const int64_t total = x.rows * parts;
    auto* rows = scratch_.array<cpu::Int8Row>(total);
    auto* q = scratch_.array<int8_t>(total * x.cols);
    auto* scales = scratch_.array<float>(total * blocks);
    auto* sums32 = scratch_.array<int16_t>(total * x.cols / 32);
    auto* sums16 = scratch_.array<int16_t>(total * x.cols / 16);
    const TensorView left = scratch_.f32(parts > 1 ? x.rows : 0, x.cols);
    for_rows(x.rows, x.cols * parts, [&](int64_t r) {
      const float* from = x.f32(r);
      for (int64_t i = r * parts; i < (r + 1) * parts; ++i) {
        float* const rest = i + 1 < (r + 1) * parts ? left.f32(r) : nullptr;
        cpu::quantize_row(from, x.cols, order, q + i * x.cols, scales + i * blocks,
                          sums32 + i * x.cols / 32, sums16 + i * x.cols / 16, rest);
        rows[i] = {q + i * x.cols, scales + i * blocks, sums32 + i * x.cols / 32,
                   sums16 + i * x.cols / 16};
        from = rest;
      }
    });
    return {.int8 = rows, .parts = parts};
  }
  auto* rows = scratch_.array<const float*>(x.rows);
  if (compute_ != ComputeType::kBF16) {
    for (int64_t r = 0; r < x.rows; ++r) rows[r] = x.f32(r);
    return {.f32 = rows};
  }
  const TensorView rounded = scratch_.f32(x.rows, x.cols);
  for_rows(x.rows, x.cols, [&](int64_t r) {
    for (int64_t i = 0; i < x.cols; ++i) rounded.f32(r)[i] = bf16_to_f32(f32_to_bf16(x.f32(r)[i]));
    rows[r] = rounded.f32(r);
  });
  return {.f32 = rows};
}

CpuOps::Inputs CpuOps::InputsOf::operator()(const WeightView& weight) {
  const InputForm form = ops_.input_form(weight);
  Inputs& made = made_[static_cast<std::size_t>(form)];
  if (!made.defined()) made = ops_.inputs(x_, form);
  return made;
}

CpuOps::Inputs CpuOps::InputsOf::ordered(const WeightView& weight) {
  const Inputs all = (*this)(weight);
  Inputs& out = ordered_[static_cast<std::size_t>(ops_.input_form(weight))];
  if (out.defined()) return out;
  const auto sorted = [&]<typename Row>(const Row* rows) -> const Row* {
    if (rows == nullptr) return nullptr;
    auto* in_order = ops_.scratch_.array<Row>(static_cast<int64_t>(order_.size()) * all.parts);
    Row* next = in_order;
    for (const int64_t row : order_) next = std::copy_n(rows + row * all.parts, all.parts, next);
    return in_order;
  };
  out = {.f32 = sorted(all.f32), .int8 = sorted(all.int8), .parts = all.parts};
  return out;
}

float* const* CpuOps::outputs(const TensorView& out) {
  auto* rows = scratch_.array<float*>(out.rows);
  for (int64_t r = 0; r < out.rows; ++r) rows[r] = out.f32(r);
  return rows;
}

void CpuOps::compute_int8(const Product& p, int64_t n0, int64_t n1) const {
  const WeightView w = p.weight.row_range(n0, p.weight.rows - n0);
  const int64_t parts = p.x.parts, columns = n1 - n0;
  thread_local std::vector<float*> rows;
  thread_local std::vector<float> further;  // of the parts behind the first
  rows.clear();
  further.resize(static_cast<std::size_t>(p.rows * (parts - 1) * columns));
  for (int64_t i = 0; i < p.rows; ++i) {
    rows.push_back(p.out[i] + n0);
    for (int64_t part = 1; part < parts; ++part)
      rows.push_back(further.data() + (i * (parts - 1) + part - 1) * columns);
  }
  block_dot_({.type = w.dtype,
              .weights = reinterpret_cast<const uint8_t*>(w.data),
              .exponents = w.exponents,
              .row_bytes = w.row_bytes(),
              .cols = w.cols,
              .rows = w.rows,
              .n0 = 0,
              .n1 = columns,
              .x = p.x.int8,
              .m = p.rows * parts,
              .y = rows.data()});
  // The smallest first.
  for (int64_t i = 0; i < p.rows; ++i)
    for (int64_t part = parts - 1; part > 0; --part)
      cpu::add_row(rows[static_cast<std::size_t>(i * parts + part - 1)],
                   rows[static_cast<std::size_t>(i * parts + part)], columns);
}

void CpuOps::compute(const Product& p, int64_t n0, int64_t n1) const {
  if (p.x.int8 != nullptr) {
    compute_int8(p, n0, n1);
  } else {
    cpu::dot_rows(p.x.f32, p.rows, p.weight, n0, n1, p.out);
  }
  if (!p.bias.defined()) return;
  for (int64_t i = 0; i < p.rows; ++i) cpu::add_row(p.out[i] + n0, p.bias.f32() + n0, n1 - n0);
}

void CpuOps::run_products(std::span<const Product> products) {
  int64_t total = 0, columns = 0;
  for (const Product& p : products) {
    total += p.rows * p.weight.rows * p.weight.cols;
    columns += p.rows == 0 ? 0 : p.weight.rows;
  }
  if (total < kSerialMultiplyAdds || pool_.num_threads() == 1) {
    for (const Product& p : products) compute(p, 0, p.weight.rows);
    return;
  }
  // Four tasks a thread even out a stalled core; fewer, larger ones keep the streams long.
  const int64_t wanted = columns / (int64_t{4} * pool_.num_threads());
  const int64_t unit =
      columns < kTaskColumns * pool_.num_threads() ? kSmallTaskColumns : kTaskColumns;
  const int64_t step = std::max(unit, (wanted + unit - 1) / unit * unit);
  int64_t tasks = 0;
  for (const Product& p : products)
    if (p.rows > 0) tasks += (p.weight.rows + step - 1) / step;
  pool_.parallel_for(tasks, [&](int64_t task, int) {
    for (const Product& p : products) {
      const int64_t own = p.rows > 0 ? (p.weight.rows + step - 1) / step : 0;
      if (task < own) {
        compute(p, task * step, std::min((task + 1) * step, p.weight.rows));
        return;
      }
      task -= own;
    }
  });
}

void CpuOps::embed(const EmbedArgs& args) {
  for_rows(args.out.rows, args.out.cols, [&](int64_t t) {
    const int32_t id = args.token_ids[static_cast<std::size_t>(t)];
    FATHOM_CHECK(id >= 0 && id < args.table.rows) << "token " << id << " of " << args.table.rows;
    cpu::decode_row(args.table, id, args.out.f32(t));
  });
}

void CpuOps::rms_norm(const RmsNormArgs& args) {
  const float* weight = args.weight.defined() ? args.weight.f32() : nullptr;
  for_rows(args.x.rows, args.x.cols, [&](int64_t t) {
    cpu::rms_norm_row(args.x.f32(t), weight, args.x.cols, args.eps, args.out.f32(t));
  });
}

void CpuOps::layer_norm(const LayerNormArgs& args) {
  const float *weight = args.weight.f32(), *bias = args.bias.f32();
  const int64_t n = args.x.cols;
  for_rows(args.x.rows, n, [&](int64_t t) {
    const float* x = args.x.f32(t);
    float* out = args.out.f32(t);
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i];
    const float mean = sum / static_cast<float>(n);
    for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + args.eps);
    for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  });
}

void CpuOps::add_rms_norm(const AddRmsNormArgs& args) {
  const float* weight = args.weight.f32();
  for_rows(args.x.rows, args.x.cols, [&](int64_t t) {
    cpu::add_row(args.x.f32(t), args.delta.f32(t), args.x.cols);
    cpu::rms_norm_row(args.x.f32(t), weight, args.x.cols, args.eps, args.out.f32(t));
  });
}

void CpuOps::add(const AddArgs& args) {
  for_rows(args.x.rows, args.x.cols,
           [&](int64_t t) { cpu::add_row(args.x.f32(t), args.delta.f32(t), args.x.cols); });
}

void CpuOps::linear(const LinearArgs& args) { linears(std::span(&args, 1)); }

void CpuOps::linears(std::span<const LinearArgs> args) {
  const Workspace::Scope scope(scratch_);
  constexpr std::size_t kMax = 8;
  FATHOM_CHECK_LE(args.size(), kMax);
  std::array<Product, kMax> products;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const LinearArgs& a = args[i];
    FATHOM_CHECK_EQ(a.x.cols, a.weight.cols);
    FATHOM_CHECK_EQ(a.out.cols, a.weight.rows);
    FATHOM_CHECK_EQ(a.out.rows, a.x.rows);
    const bool same_input = i > 0 && args[i - 1].x.data == a.x.data &&
                            input_form(args[i - 1].weight) == input_form(a.weight);
    products[i] = {.x = same_input ? products[i - 1].x : inputs(a.x, a.weight),
                   .rows = a.x.rows,
                   .weight = a.weight,
                   .bias = a.bias,
                   .out = outputs(a.out)};
  }
  run_products(std::span(products.data(), args.size()));
}

void CpuOps::rope_angles(const RopeAnglesArgs& args) {
  const auto half = static_cast<int64_t>(args.inverse_frequencies.size());
  // A cosine and a sine cost about 40 multiply-adds.
  for_rows(args.out.rows, half * 40, [&](int64_t t) {
    float* out = args.out.f32(t);
    for (int64_t i = 0; i < half; ++i) {
      const double angle = args.positions[static_cast<std::size_t>(t)] *
                           args.inverse_frequencies[static_cast<std::size_t>(i)];
      out[i] = static_cast<float>(std::cos(angle) * args.attention_factor);
      out[half + i] = static_cast<float>(std::sin(angle) * args.attention_factor);
    }
  });
}

void CpuOps::rope(const RopeArgs& args) {
  const int64_t dims = args.angles.cols, head_dim = args.x.cols / args.heads;
  const auto rotate = args.layout == RopeLayout::kHalf ? cpu::rope_half_row : cpu::rope_pairs_row;
  for_rows(args.x.rows, args.heads * dims, [&](int64_t t) {
    const float* cos = args.angles.f32(t);
    const float* sin = cos + dims / 2;
    thread_local std::vector<float> negated;
    if (args.inverse) {
      negated.assign(sin, sin + dims / 2);
      for (float& v : negated) v = -v;
      sin = negated.data();
    }
    for (int64_t h = 0; h < args.heads; ++h)
      rotate(args.x.f32(t) + h * head_dim + args.offset, cos, sin, dims);
  });
}

void CpuOps::simulate(const SimulateArgs& args) {
  // About 8 plain operations a value.
  for_rows(args.x.rows, args.x.cols * 8,
           [&](int64_t t) { cpu::simulate_row(args.x.f32(t), args.x.cols, args.simulation); });
}

void CpuOps::kv_append(const KvAppendArgs& args) {
  const bool direct = args.kv.dtype == DType::kF32;
  for (const SequenceRows& s : args.sequences) {
    for_rows(s.num_rows, args.kv.row_elements, [&](int64_t i) {
      thread_local std::vector<float> row;
      row.resize(direct ? 0 : static_cast<std::size_t>(args.kv.row_elements));
      std::byte* const cached = args.kv.row(s, s.start_position + i);
      auto* out = direct ? reinterpret_cast<float*>(cached) : row.data();
      for (const TensorView& part : args.parts)
        out = std::copy_n(part.f32(s.first_row + i), part.cols, out);
      if (!direct) cpu::encode_kv_row(args.kv.dtype, row.data(), args.kv.row_elements, cached);
    });
  }
}

void CpuOps::gather_rows(const GatherRowsArgs& args) {
  for (int64_t i = 0; i < args.out.rows; ++i)
    std::memcpy(args.out.f32(i), args.x.f32(args.rows[static_cast<std::size_t>(i)]),
                static_cast<std::size_t>(args.out.cols) * sizeof(float));
}

void CpuOps::mlp(const MlpArgs& args) {
  const Workspace::Scope scope(scratch_);
  const SwigluWeights& w = args.weights;
  const TensorView gate = scratch_.f32(args.x.rows, w.gate.rows);
  const TensorView up = scratch_.f32(args.x.rows, w.up.rows);
  linears(std::array{LinearArgs{args.x, w.gate, w.gate_bias, gate},
                     LinearArgs{args.x, w.up, w.up_bias, up}});
  // An exponential and a division cost about 8 plain operations.
  for_rows(gate.rows, gate.cols * 8,
           [&](int64_t t) { cpu::silu_mul_row(gate.f32(t), up.f32(t), gate.cols); });
  linear({.x = gate, .weight = w.down, .bias = w.down_bias, .out = args.out});
}

}  // namespace fathom
