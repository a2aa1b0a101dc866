// CpuOps: routing and the mixture of experts.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/kernels/kernels.h"

namespace fathom {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Index of the largest value, the lowest among equals; -1 if all are −inf.
int64_t arg_max(const float* v, int64_t n) {
  int64_t best = -1;
  float max = kMinusInfinity;
  for (int64_t i = 0; i < n; ++i) {
    if (v[i] > max) {
      max = v[i];
      best = i;
    }
  }
  return best;
}

void score(RouterScoring scoring, const float* logits, int64_t n, float* scores) {
  if (scoring == RouterScoring::kSigmoid) {
    for (int64_t e = 0; e < n; ++e) scores[e] = 1.0f / (1.0f + std::exp(-logits[e]));
    return;
  }
  if (scoring == RouterScoring::kSqrtSoftplus) {
    // ln(1 + exp(x)) without overflow.
    for (int64_t e = 0; e < n; ++e)
      scores[e] =
          std::sqrt(std::max(logits[e], 0.0f) + std::log1p(std::exp(-std::fabs(logits[e]))));
    return;
  }
  const float max = *std::max_element(logits, logits + n);
  float sum = 0;
  for (int64_t e = 0; e < n; ++e) sum += scores[e] = std::exp(logits[e] - max);
  for (int64_t e = 0; e < n; ++e) scores[e] /= sum;
}

// Masks the choice of experts outside the best groups (ops.h: RouterGroups).
void mask_groups(const RouteArgs& args, float* choice, int64_t experts,
                 std::vector<float>& groups) {
  const int64_t size = experts / args.num_groups;
  groups.assign(static_cast<std::size_t>(args.num_groups), 0.0f);
  for (int64_t g = 0; g < args.num_groups; ++g) {
    float first = kMinusInfinity, second = kMinusInfinity;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      if (choice[e] > first) {
        second = first;
        first = choice[e];
      } else {
        second = std::max(second, choice[e]);
      }
    }
    const bool two = args.groups == RouterGroups::kTop2Sum && size > 1;
    groups[static_cast<std::size_t>(g)] = two ? first + second : first;
  }
  std::vector<bool> kept(groups.size(), false);
  for (int64_t i = 0; i < args.groups_per_token; ++i) {
    const int64_t g = std::max<int64_t>(arg_max(groups.data(), args.num_groups), 0);
    kept[static_cast<std::size_t>(g)] = true;
    groups[static_cast<std::size_t>(g)] = kMinusInfinity;
  }
  const float masked = args.groups == RouterGroups::kMax ? 0.0f : kMinusInfinity;
  for (int64_t e = 0; e < experts; ++e)
    if (!kept[static_cast<std::size_t>(e / size)]) choice[e] = masked;
}

void route_row(const RouteArgs& args, int64_t t) {
  thread_local std::vector<float> scores, choice, groups;
  const int64_t experts = args.logits.cols, picks = args.ids.cols;
  scores.resize(static_cast<std::size_t>(experts));
  score(args.scoring, args.logits.f32(t), experts, scores.data());
  int32_t* ids = args.ids.i32(t);
  if (args.experts_of_token.empty()) {
    choice = scores;
    if (args.bias.defined()) cpu::add_row(choice.data(), args.bias.f32(), experts);
    if (args.groups != RouterGroups::kNone) mask_groups(args, choice.data(), experts, groups);
    for (int64_t k = 0; k < picks; ++k) {
      const int64_t e = std::max<int64_t>(arg_max(choice.data(), experts), 0);
      choice[static_cast<std::size_t>(e)] = kMinusInfinity;
      ids[k] = static_cast<int32_t>(e);
    }
  } else {
    const int64_t token = args.token_ids[static_cast<std::size_t>(t)];
    std::copy_n(args.experts_of_token.begin() + token * picks, picks, ids);
  }
  float* weights = args.weights.f32(t);
  float sum = 0;
  for (int64_t k = 0; k < picks; ++k) {
    weights[k] = scores[static_cast<std::size_t>(ids[k])];
    sum += weights[k];
  }
  for (int64_t k = 0; k < picks; ++k) {
    if (args.normalize) weights[k] /= sum + 1e-20f;
    weights[k] *= args.scaling_factor;
  }
}

}  // namespace

void CpuOps::route(const RouteArgs& args) {
  for_rows(args.logits.rows, args.logits.cols * (8 + args.ids.cols),
           [&](int64_t t) { route_row(args, t); });
}

// Pairs (token, k) are sorted by expert; each expert then multiplies its own tokens at once. The
// shared expert comes last, with all tokens. Two parallel passes (gate and up, then down) and a
// combination that adds a row's parts in the order of k.
void CpuOps::moe(const MoeArgs& args) {
  const Workspace::Scope scope(scratch_);
  const int64_t tokens = args.x.rows, picks = args.ids.cols;
  const auto num_experts = static_cast<int64_t>(args.experts.size());
  const int64_t pairs = tokens * picks, inner = args.experts[0].gate.rows;

  // Counting sort of the pairs by expert.
  std::vector<int64_t> begin(static_cast<std::size_t>(num_experts) + 1, 0);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t k = 0; k < picks; ++k) ++begin[static_cast<std::size_t>(args.ids.i32(t)[k]) + 1];
  for (std::size_t e = 0; e < static_cast<std::size_t>(num_experts); ++e) begin[e + 1] += begin[e];
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  const TensorView gate = scratch_.f32(pairs, inner), up = scratch_.f32(pairs, inner);
  const TensorView down = scratch_.f32(pairs, args.out.cols);
  std::vector<int64_t> pair_of_slot(static_cast<std::size_t>(pairs));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t k = 0; k < picks; ++k)
      pair_of_slot[static_cast<std::size_t>(next[static_cast<std::size_t>(args.ids.i32(t)[k])]++)] =
          t * picks + k;
  auto** gate_rows = scratch_.array<float*>(pairs);
  auto** up_rows = scratch_.array<float*>(pairs);
  auto** down_rows = scratch_.array<float*>(pairs);
  for (int64_t slot = 0; slot < pairs; ++slot) {
    const int64_t pair = pair_of_slot[static_cast<std::size_t>(slot)];
    gate_rows[slot] = gate.f32(pair);
    up_rows[slot] = up.f32(pair);
    down_rows[slot] = down.f32(pair);
  }
  // Experts may be of several types.
  std::vector<int64_t> token_of_slot(pair_of_slot.size());
  for (std::size_t i = 0; i < token_of_slot.size(); ++i) token_of_slot[i] = pair_of_slot[i] / picks;
  InputsOf x(*this, args.x, token_of_slot);
  std::vector<Product> products;
  for (std::size_t e = 0; e < static_cast<std::size_t>(num_experts); ++e) {
    const int64_t b = begin[e], rows = begin[e + 1] - begin[e];
    if (rows == 0) continue;
    const SwigluWeights& w = args.experts[e];
    products.push_back({x.ordered(w.gate).from(b), rows, w.gate, {}, gate_rows + b});
    products.push_back({x.ordered(w.up).from(b), rows, w.up, {}, up_rows + b});
  }
  TensorView shared_gate, shared_up;
  if (args.shared != nullptr) {
    shared_gate = scratch_.f32(tokens, args.shared->gate.rows);
    shared_up = scratch_.f32(tokens, args.shared->gate.rows);
    products.push_back({x(args.shared->gate), tokens, args.shared->gate, {}, outputs(shared_gate)});
    products.push_back({x(args.shared->up), tokens, args.shared->up, {}, outputs(shared_up)});
  }
  run_products(products);

  for_rows(pairs, inner * 8, [&](int64_t p) {
    if (args.limit < std::numeric_limits<float>::infinity()) {
      float *const g = gate.f32(p), *const u = up.f32(p);
      for (int64_t i = 0; i < inner; ++i) {
        g[i] = std::min(g[i], args.limit);
        u[i] = std::clamp(u[i], -args.limit, args.limit);
      }
    }
    cpu::silu_mul_row(gate.f32(p), up.f32(p), inner);
  });
  if (args.shared != nullptr) {
    for_rows(tokens, shared_gate.cols * 8, [&](int64_t t) {
      cpu::silu_mul_row(shared_gate.f32(t), shared_up.f32(t), shared_gate.cols);
    });
  }

  InputsOf gated(*this, gate, pair_of_slot);
  products.clear();
  for (std::size_t e = 0; e < static_cast<std::size_t>(num_experts); ++e) {
    const int64_t b = begin[e], rows = begin[e + 1] - begin[e];
    if (rows == 0) continue;
    const WeightView& w = args.experts[e].down;
    products.push_back({gated.ordered(w).from(b), rows, w, {}, down_rows + b});
  }
  if (args.shared != nullptr)
    products.push_back(
        {inputs(shared_gate, args.shared->down), tokens, args.shared->down, {}, outputs(args.out)});
  run_products(products);

  for_rows(tokens, args.out.cols * picks, [&](int64_t t) {
    float* out = args.out.f32(t);
    // The shared expert's result stands in `out`; it is added last, as ops.h says.
    float* sum = down.f32(t * picks);
    for (int64_t i = 0; i < args.out.cols; ++i) sum[i] *= args.weights.f32(t)[0];
    for (int64_t k = 1; k < picks; ++k)
      cpu::axpy_row(args.weights.f32(t)[k], down.f32(t * picks + k), args.out.cols, sum);
    if (args.shared != nullptr) {
      cpu::add_row(out, sum, args.out.cols);
    } else {
      std::copy_n(sum, args.out.cols, out);
    }
  });
}

}  // namespace fathom
