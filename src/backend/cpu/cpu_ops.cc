#include "backend/cpu/cpu_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/round_inputs.h"

namespace fathom {
namespace {

// As CpuOps::kSerialElements, for matrix products.
constexpr int64_t kSerialMultiplyAdds = 32 << 10;
// Weight rows of one task at least: a few cache lines of outputs.
constexpr int64_t kMinTaskColumns = 16;

const float* f32_data(const WeightView& w) {
  FATHOM_CHECK(w.dtype == DType::kF32) << dtype_name(w.dtype);
  return reinterpret_cast<const float*>(w.data);
}

}  // namespace

CpuOps::CpuOps(const CpuOpsOptions& options)
    : pool_(options.threads > 0 ? options.threads : default_thread_count()),
      compute_(options.compute),
      description_(fmt::format("cpu ({}, {} thread{})", cpu::target_name(), pool_.num_threads(),
                               pool_.num_threads() == 1 ? "" : "s")) {}

const float* const* CpuOps::inputs(const TensorView& x, std::size_t slot) {
  if (input_rows_.size() <= slot) input_rows_.resize(slot + 1);
  std::vector<const float*>& rows = input_rows_[slot];
  rows.resize(static_cast<std::size_t>(x.rows));
  if (compute_ == ComputeType::kF32) {
    for (int64_t r = 0; r < x.rows; ++r) rows[static_cast<std::size_t>(r)] = x.f32(r);
    return rows.data();
  }
  const TensorView rounded = scratch_.f32(x.rows, x.cols);
  for_rows(x.rows, x.cols, [&](int64_t r) {
    cpu::round_inputs(compute_, x.f32(r), x.cols, rounded.f32(r));
    rows[static_cast<std::size_t>(r)] = rounded.f32(r);
  });
  return rows.data();
}

float* const* CpuOps::outputs(const TensorView& out, std::size_t slot) {
  if (output_rows_.size() <= slot) output_rows_.resize(slot + 1);
  std::vector<float*>& rows = output_rows_[slot];
  rows.resize(static_cast<std::size_t>(out.rows));
  for (int64_t r = 0; r < out.rows; ++r) rows[static_cast<std::size_t>(r)] = out.f32(r);
  return rows.data();
}

void CpuOps::run_products(std::span<const Product> products) {
  const auto compute = [](const Product& p, int64_t n0, int64_t n1) {
    cpu::dot_rows(p.x, p.rows, p.weight, n0, n1, p.out);
    if (!p.bias.defined()) return;
    for (int64_t i = 0; i < p.rows; ++i)
      cpu::add_row(p.out[i] + n0, f32_data(p.bias) + n0, n1 - n0);
  };
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
  const int64_t step = std::max(kMinTaskColumns, (wanted + 15) / 16 * 16);
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
  const float* weight = f32_data(args.weight);
  for_rows(args.x.rows, args.x.cols, [&](int64_t t) {
    cpu::rms_norm_row(args.x.f32(t), weight, args.x.cols, args.eps, args.out.f32(t));
  });
}

void CpuOps::add_rms_norm(const AddRmsNormArgs& args) {
  const float* weight = f32_data(args.weight);
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
    const bool same_input = i > 0 && args[i - 1].x.data == a.x.data;
    products[i] = {.x = same_input ? products[i - 1].x : inputs(a.x, i),
                   .rows = a.x.rows,
                   .weight = a.weight,
                   .bias = a.bias,
                   .out = outputs(a.out, i)};
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
    for (int64_t h = 0; h < args.heads; ++h)
      rotate(args.x.f32(t) + h * head_dim + args.offset, cos, cos + dims / 2, dims);
  });
}

void CpuOps::kv_append(const KvAppendArgs& args) {
  FATHOM_CHECK(args.kv.dtype == DType::kF32) << dtype_name(args.kv.dtype);
  for (const SequenceRows& s : args.sequences) {
    for_rows(s.num_rows, args.kv.row_elements, [&](int64_t i) {
      auto* out = reinterpret_cast<float*>(args.kv.row(s.pages, s.start_position + i));
      for (const TensorView& part : args.parts)
        out = std::copy_n(part.f32(s.first_row + i), part.cols, out);
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
