#include "apps/imatrix_sums.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quant/codec.h"

namespace fathom {
namespace {

void add_rows(const TensorView& x, int64_t set, ImatrixEntry& entry) {
  FATHOM_CHECK_EQ(x.cols, entry.cols);
  double* sums = entry.sums.data() + set * entry.cols;
  for (int64_t t = 0; t < x.rows; ++t) {
    const float* row = x.f32(t);
    for (int64_t c = 0; c < x.cols; ++c) sums[c] += static_cast<double>(row[c]) * row[c];
  }
  entry.counts[static_cast<std::size_t>(set)] += x.rows;
}

WeightView f32_view(const float* data, int64_t rows, int64_t cols) {
  return {.data = reinterpret_cast<const std::byte*>(data), .rows = rows, .cols = cols};
}

}  // namespace

InputSums::InputSums(Ops& inner, const GgufPlan& plan) : OpsDecorator(inner) {
  for (const PlannedTensor& t : plan.tensors) {
    if (!quant::is_quantized_tensor(t.name, static_cast<int64_t>(t.shape.size()))) continue;
    // Without an output matrix the embeddings are it; else nothing is multiplied with them.
    if (t.name == "token_embd.weight" && !plan.shape.tied_embeddings) continue;
    const int64_t sets = t.shape.size() > 2 ? t.shape[0] : 1;
    ImatrixEntry& entry = entries_[t.name];
    entry.cols = t.cols();
    entry.sums.resize(static_cast<std::size_t>(sets * t.cols()));
    entry.counts.resize(static_cast<std::size_t>(sets));
    const bool keys = t.name.ends_with("attn_k_b.weight");
    for (std::size_t i = 0; i < t.matrices.size(); ++i)
      targets_[t.matrices[i]].push_back({&entry, static_cast<int64_t>(i), keys});
  }
}

void InputSums::add_inputs(const std::byte* weight, const TensorView& x) {
  const auto it = targets_.find(weight);
  if (it == targets_.end()) return;
  for (const Target& t : it->second) add_rows(x, t.set, *t.entry);
}

// One set takes all heads where the tensor is no stack.
void InputSums::add_head(const std::byte* weight, int64_t head, bool keys, const TensorView& x) {
  const auto it = targets_.find(weight);
  if (it == targets_.end()) return;
  for (const Target& t : it->second) {
    if (t.keys != keys) continue;
    add_rows(x, t.entry->counts.size() > 1 ? head : 0, *t.entry);
  }
}

void InputSums::linear(const LinearArgs& args) {
  add_inputs(args.weight.data, args.x);
  OpsDecorator::linear(args);
}

void InputSums::linears(std::span<const LinearArgs> args) {
  for (const LinearArgs& a : args) add_inputs(a.weight.data, a.x);
  OpsDecorator::linears(args);
}

// kv_b of one head whose values are the latents themselves: [nope + rank, rank].
WeightView InputSums::keys_then_identity(const MlaAttentionArgs& args, int64_t head) {
  const int64_t nope = args.qk_nope_head_dim, rank = args.kv_lora_rank;
  identity_.assign(static_cast<std::size_t>((nope + rank) * rank), 0.0f);
  if (args.kv_b.defined()) {
    const int64_t first = head * (nope + args.v_head_dim);
    for (int64_t i = 0; i < nope; ++i)
      quant::decode_row(args.kv_b, first + i, identity_.data() + i * rank);
  }
  for (int64_t i = 0; i < rank; ++i)
    identity_[static_cast<std::size_t>((nope + i) * rank + i)] = 1.0f;
  return f32_view(identity_.data(), nope + rank, rank);
}

// Head by head, with the identity in place of Wv: that gives Σ p·c, which the values' matrix is
// then multiplied with. kv_b in one piece counts as multiplied with the same, keys and all.
void InputSums::mla_attention(const MlaAttentionArgs& args) {
  const int64_t nope = args.qk_nope_head_dim, rank = args.kv_lora_rank;
  const int64_t width = nope + args.qk_rope_head_dim;
  for (int64_t h = 0; h < args.heads; ++h) {
    const Workspace::Scope scope(workspace_);
    const TensorView latent = workspace_.f32(args.q.rows, rank);
    const WeightView weights = keys_then_identity(args, h);
    MlaAttentionArgs head = args;
    head.q = args.q.columns(h * width, width);
    head.heads = 1;
    head.v_head_dim = rank;
    head.out = latent;
    if (args.kv_b.defined()) {
      head.kv_b = weights;
    } else {
      head.k_b = args.k_b.row_range(h * rank, rank);
      head.v_b = weights.row_range(nope, rank);
    }
    OpsDecorator::mla_attention(head);
    const bool whole = args.kv_b.defined();
    add_head(whole ? args.kv_b.data : args.k_b.data, h, true, head.q.columns(0, nope));
    add_head(whole ? args.kv_b.data : args.v_b.data, h, false, latent);
    OpsDecorator::linear({.x = latent,
                          .weight = args.value_weights(h),
                          .bias = {},
                          .out = args.out.columns(h * args.v_head_dim, args.v_head_dim)});
  }
}

void InputSums::mlp(const MlpArgs& args) {
  const Workspace::Scope scope(workspace_);
  const SwigluWeights& w = args.weights;
  const TensorView gate = workspace_.f32(args.x.rows, w.gate.rows);
  const TensorView up = workspace_.f32(args.x.rows, w.up.rows);
  linears(std::array{LinearArgs{.x = args.x, .weight = w.gate, .bias = w.gate_bias, .out = gate},
                     LinearArgs{.x = args.x, .weight = w.up, .bias = w.up_bias, .out = up}});
  for (int64_t t = 0; t < gate.rows; ++t) {
    float* g = gate.f32(t);
    for (int64_t i = 0; i < gate.cols; ++i) g[i] = g[i] / (1.0f + std::exp(-g[i])) * up.f32(t)[i];
  }
  linear({.x = gate, .weight = w.down, .bias = w.down_bias, .out = args.out});
}

void InputSums::run_expert(const MoeArgs& args, int64_t expert) {
  std::vector<int32_t> rows;
  std::vector<float> weights;
  for (int64_t t = 0; t < args.ids.rows; ++t) {
    for (int64_t k = 0; k < args.ids.cols; ++k) {
      if (args.ids.i32(t)[k] != expert) continue;
      rows.push_back(static_cast<int32_t>(t));
      weights.push_back(args.weights.f32(t)[k]);
    }
  }
  if (rows.empty()) return;
  const Workspace::Scope scope(workspace_);
  const auto count = static_cast<int64_t>(rows.size());
  const TensorView x = workspace_.f32(count, args.x.cols);
  const TensorView y = workspace_.f32(count, args.out.cols);
  gather_rows({.x = args.x, .rows = rows, .out = x});
  mlp({.x = x, .weights = args.experts[static_cast<std::size_t>(expert)], .out = y});
  for (int64_t i = 0; i < count; ++i) {
    float* out = args.out.f32(rows[static_cast<std::size_t>(i)]);
    const float weight = weights[static_cast<std::size_t>(i)];
    for (int64_t c = 0; c < y.cols; ++c) out[c] += weight * y.f32(i)[c];
  }
}

void InputSums::moe(const MoeArgs& args) {
  for (int64_t t = 0; t < args.out.rows; ++t) std::fill_n(args.out.f32(t), args.out.cols, 0.0f);
  for (std::size_t e = 0; e < args.experts.size(); ++e) run_expert(args, static_cast<int64_t>(e));
  if (args.shared == nullptr) return;
  const Workspace::Scope scope(workspace_);
  const TensorView y = workspace_.f32(args.x.rows, args.out.cols);
  mlp({.x = args.x, .weights = *args.shared, .out = y});
  add({.x = args.out, .delta = y});
}

}  // namespace fathom
