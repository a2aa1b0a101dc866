#include "ops/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "ops/reference/reference_support.h"
#include "tensor/float_formats.h"

namespace fathom {

using reference::attended;
using reference::cached_row;
using reference::for_each_row;
using reference::sigmoid;
using reference::softmax;
using reference::softplus;
using reference::top_k;

namespace {

float element(const WeightView& w, int64_t row, int64_t col) {
  const int64_t i = row * w.cols + col;
  switch (w.dtype) {
    case DType::kF32:
      return reinterpret_cast<const float*>(w.data)[i];
    case DType::kF16:
      return f16_to_f32(reinterpret_cast<const uint16_t*>(w.data)[i]);
    case DType::kBF16:
      return bf16_to_f32(reinterpret_cast<const uint16_t*>(w.data)[i]);
    case DType::kF8E4M3: {
      const float v = f8e4m3_to_f32(reinterpret_cast<const uint8_t*>(w.data)[i]);
      if (w.scales == nullptr) return v;
      return v * w.scales[(w.scale_row0 + row) / w.scale_block_rows * w.scale_stride +
                          col / w.scale_block_cols];
    }
    case DType::kF4E2M1: {
      const auto two = reinterpret_cast<const uint8_t*>(w.data)[i / 2];
      return f4e2m1_to_f32(i % 2 == 0 ? two : static_cast<uint8_t>(two >> 4)) *
             f8e8m0_to_f32(w.exponents[i / kF4Block]);
    }
    default:
      FATHOM_CHECK(false) << "weight of type " << dtype_name(w.dtype);
      return 0;
  }
}

float silu(float x) { return x / (1.0f + std::exp(-x)); }

// y = weight · x + bias, for one row.
void mat_vec(const WeightView& weight, const WeightView& bias, const float* x, float* y) {
  for (int64_t n = 0; n < weight.rows; ++n) {
    float sum = 0;
    for (int64_t k = 0; k < weight.cols; ++k) sum += x[k] * element(weight, n, k);
    y[n] = bias.defined() ? sum + bias.f32()[n] : sum;
  }
}

void swiglu_row(const SwigluWeights& w, const float* x, float* y,
                float limit = std::numeric_limits<float>::infinity()) {
  std::vector<float> gate(static_cast<std::size_t>(w.gate.rows));
  std::vector<float> up(gate.size());
  mat_vec(w.gate, w.gate_bias, x, gate.data());
  mat_vec(w.up, w.up_bias, x, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i)
    gate[i] = silu(std::min(gate[i], limit)) * std::clamp(up[i], -limit, limit);
  mat_vec(w.down, w.down_bias, gate.data(), y);
}

// Sets the choice of every expert outside the best groups to what the method says.
void mask_groups(const RouteArgs& args, std::vector<float>& choice) {
  if (args.groups == RouterGroups::kNone) return;
  const std::size_t group_size = choice.size() / static_cast<std::size_t>(args.num_groups);
  std::vector<float> group_scores;
  for (std::size_t g = 0; g < choice.size(); g += group_size) {
    std::vector<float> members(choice.begin() + static_cast<std::ptrdiff_t>(g),
                               choice.begin() + static_cast<std::ptrdiff_t>(g + group_size));
    std::sort(members.begin(), members.end(), std::greater<>());
    const bool two = args.groups == RouterGroups::kTop2Sum && group_size > 1;
    group_scores.push_back(two ? members[0] + members[1] : members[0]);
  }
  std::vector<bool> kept(group_scores.size(), false);
  for (const int64_t g : top_k(group_scores, args.groups_per_token))
    kept[static_cast<std::size_t>(g)] = true;
  const float masked =
      args.groups == RouterGroups::kMax ? 0.0f : -std::numeric_limits<float>::infinity();
  for (std::size_t e = 0; e < choice.size(); ++e)
    if (!kept[e / group_size]) choice[e] = masked;
}

}  // namespace

namespace reference {

std::vector<int64_t> attended(const TensorView& selected, int64_t token, int64_t visible) {
  std::vector<int64_t> rows;
  if (selected.data == nullptr || visible <= selected.cols) {
    rows.resize(static_cast<std::size_t>(visible));
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }
  for (int64_t k = 0; k < selected.cols; ++k)
    if (selected.i32(token)[k] >= 0) rows.push_back(selected.i32(token)[k]);
  return rows;
}

void softmax(std::span<float> v) {
  const float max = *std::max_element(v.begin(), v.end());
  float sum = 0;
  for (float& x : v) sum += x = std::exp(x - max);
  for (float& x : v) x /= sum;
}

std::vector<int64_t> top_k(const std::vector<float>& values, int64_t k) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(k));
  return order;
}

}  // namespace reference

void decode_weight_row(const WeightView& weight, int64_t row, float* out) {
  for (int64_t c = 0; c < weight.cols; ++c) out[c] = element(weight, row, c);
}

void ReferenceOps::embed(const EmbedArgs& args) {
  for (int64_t t = 0; t < args.out.rows; ++t)
    decode_weight_row(args.table, args.token_ids[static_cast<std::size_t>(t)], args.out.f32(t));
}

void ReferenceOps::rms_norm(const RmsNormArgs& args) {
  for (int64_t t = 0; t < args.x.rows; ++t) {
    const float* x = args.x.f32(t);
    float sum = 0;
    for (int64_t i = 0; i < args.x.cols; ++i) sum += x[i] * x[i];
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(args.x.cols) + args.eps);
    for (int64_t i = 0; i < args.x.cols; ++i)
      args.out.f32(t)[i] = x[i] * scale * (args.weight.defined() ? args.weight.f32()[i] : 1.0f);
  }
}

void ReferenceOps::layer_norm(const LayerNormArgs& args) {
  const auto cols = static_cast<float>(args.x.cols);
  for (int64_t t = 0; t < args.x.rows; ++t) {
    const float* x = args.x.f32(t);
    const float mean = std::accumulate(x, x + args.x.cols, 0.0f) / cols;
    float squares = 0;
    for (int64_t i = 0; i < args.x.cols; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / std::sqrt(squares / cols + args.eps);
    for (int64_t i = 0; i < args.x.cols; ++i)
      args.out.f32(t)[i] = (x[i] - mean) * scale * args.weight.f32()[i] + args.bias.f32()[i];
  }
}

void ReferenceOps::add(const AddArgs& args) {
  for (int64_t t = 0; t < args.x.rows; ++t)
    for (int64_t i = 0; i < args.x.cols; ++i) args.x.f32(t)[i] += args.delta.f32(t)[i];
}

void ReferenceOps::linear(const LinearArgs& args) {
  for (int64_t t = 0; t < args.x.rows; ++t)
    mat_vec(args.weight, args.bias, args.x.f32(t), args.out.f32(t));
}

void ReferenceOps::rope_angles(const RopeAnglesArgs& args) {
  const auto half = static_cast<int64_t>(args.inverse_frequencies.size());
  for (int64_t t = 0; t < args.out.rows; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = args.positions[static_cast<std::size_t>(t)] *
                           args.inverse_frequencies[static_cast<std::size_t>(i)];
      args.out.f32(t)[i] = static_cast<float>(std::cos(angle) * args.attention_factor);
      args.out.f32(t)[half + i] = static_cast<float>(std::sin(angle) * args.attention_factor);
    }
  }
}

void ReferenceOps::rope(const RopeArgs& args) {
  const int64_t half = args.angles.cols / 2;
  const int64_t head_dim = args.x.cols / args.heads;
  for (int64_t t = 0; t < args.x.rows; ++t) {
    const float* cos = args.angles.f32(t);
    const float* sin = cos + half;
    for (int64_t h = 0; h < args.heads; ++h) {
      float* x = args.x.f32(t) + h * head_dim + args.offset;
      for (int64_t i = 0; i < half; ++i) {
        float& a = x[args.layout == RopeLayout::kHalf ? i : 2 * i];
        float& b = x[args.layout == RopeLayout::kHalf ? i + half : 2 * i + 1];
        const float s = args.inverse ? -sin[i] : sin[i];
        const float rotated = a * cos[i] - b * s;
        b = b * cos[i] + a * s;
        a = rotated;
      }
    }
  }
}

void ReferenceOps::kv_append(const KvAppendArgs& args) {
  for_each_row(args.sequences, [&](int64_t row, const SequenceRows& s, int64_t position) {
    auto* out = reinterpret_cast<float*>(args.kv.row(s, position));
    for (const TensorView& part : args.parts) out = std::copy_n(part.f32(row), part.cols, out);
  });
}

void ReferenceOps::attention(const AttentionArgs& args) {
  const int64_t d = args.head_dim;
  for_each_row(args.sequences, [&](int64_t row, const SequenceRows& s, int64_t position) {
    for (int64_t h = 0; h < args.heads; ++h) {
      const int64_t kv_head = h / (args.heads / args.kv_heads);
      const float* q = args.q.f32(row) + h * d;
      std::vector<float> p;
      for (int64_t j = 0; j <= position; ++j) {
        const float* k = cached_row(args.kv, s, j) + kv_head * d;
        p.push_back(std::inner_product(q, q + d, k, 0.0f) * args.scale);
      }
      softmax(p);
      std::vector<float> o(static_cast<std::size_t>(d), 0.0f);
      for (int64_t j = 0; j <= position; ++j) {
        const float* v = cached_row(args.kv, s, j) + (args.kv_heads + kv_head) * d;
        for (int64_t i = 0; i < d; ++i)
          o[static_cast<std::size_t>(i)] += p[static_cast<std::size_t>(j)] * v[i];
      }
      std::copy(o.begin(), o.end(), args.out.f32(row) + h * d);
    }
  });
}

void ReferenceOps::mla_attention(const MlaAttentionArgs& args) {
  const int64_t dn = args.qk_nope_head_dim, dr = args.qk_rope_head_dim, dv = args.v_head_dim;
  const int64_t r = args.kv_lora_rank;
  for (int64_t h = 0; h < args.heads; ++h) {
    const WeightView wv = args.value_weights(h);
    for_each_row(args.sequences, [&](int64_t row, const SequenceRows& s, int64_t position) {
      const float* q = args.q.f32(row) + h * (dn + dr);
      const std::vector<int64_t> keys = attended(args.selected, row, position + 1);
      std::vector<float> p;
      std::vector<float> k_nope(static_cast<std::size_t>(dn)),
          absorbed(static_cast<std::size_t>(r));
      if (args.k_b.defined()) mat_vec(args.k_b.row_range(h * r, r), {}, q, absorbed.data());
      for (const int64_t j : keys) {
        const float* c = cached_row(args.kv, s, j);
        float nope = 0;
        if (args.k_b.defined()) {
          nope = std::inner_product(c, c + r, absorbed.data(), 0.0f);
        } else {
          mat_vec(args.kv_b.row_range(h * (dn + dv), dn), {}, c, k_nope.data());
          nope = std::inner_product(q, q + dn, k_nope.data(), 0.0f);
        }
        p.push_back((nope + std::inner_product(q + dn, q + dn + dr, c + r, 0.0f)) * args.scale);
      }
      softmax(p);
      std::vector<float> latent(static_cast<std::size_t>(r), 0.0f);
      for (std::size_t j = 0; j < keys.size(); ++j) {
        const float* c = cached_row(args.kv, s, keys[j]);
        for (int64_t i = 0; i < r; ++i) latent[static_cast<std::size_t>(i)] += p[j] * c[i];
      }
      mat_vec(wv, {}, latent.data(), args.out.f32(row) + h * dv);
    });
  }
}

void ReferenceOps::mlp(const MlpArgs& args) {
  for (int64_t t = 0; t < args.x.rows; ++t)
    swiglu_row(args.weights, args.x.f32(t), args.out.f32(t));
}

void ReferenceOps::route(const RouteArgs& args) {
  const auto experts = static_cast<std::size_t>(args.logits.cols);
  for (int64_t t = 0; t < args.logits.rows; ++t) {
    const float* logits = args.logits.f32(t);
    std::vector<float> scores(logits, logits + experts);
    switch (args.scoring) {
      case RouterScoring::kSoftmax:
        softmax(scores);
        break;
      case RouterScoring::kSigmoid:
        for (float& s : scores) s = sigmoid(s);
        break;
      case RouterScoring::kSqrtSoftplus:
        for (float& s : scores) s = std::sqrt(softplus(s));
        break;
    }
    std::vector<float> choice = scores;
    if (args.bias.defined())
      for (std::size_t e = 0; e < experts; ++e) choice[e] += args.bias.f32()[e];
    mask_groups(args, choice);
    std::vector<int64_t> picked;
    if (args.experts_of_token.empty()) {
      picked = top_k(choice, args.ids.cols);
    } else {
      const int64_t token = args.token_ids[static_cast<std::size_t>(t)];
      for (int64_t k = 0; k < args.ids.cols; ++k)
        picked.push_back(
            args.experts_of_token[static_cast<std::size_t>(token * args.ids.cols + k)]);
    }
    float sum = 0;
    for (const int64_t e : picked) sum += scores[static_cast<std::size_t>(e)];
    for (std::size_t k = 0; k < picked.size(); ++k) {
      float w = scores[static_cast<std::size_t>(picked[k])];
      if (args.normalize) w /= sum + 1e-20f;
      args.ids.i32(t)[k] = static_cast<int32_t>(picked[k]);
      args.weights.f32(t)[k] = w * args.scaling_factor;
    }
  }
}

void ReferenceOps::moe(const MoeArgs& args) {
  std::vector<float> y(static_cast<std::size_t>(args.out.cols));
  for (int64_t t = 0; t < args.x.rows; ++t) {
    float* out = args.out.f32(t);
    std::fill(out, out + args.out.cols, 0.0f);
    for (int64_t k = 0; k < args.ids.cols; ++k) {
      swiglu_row(args.experts[static_cast<std::size_t>(args.ids.i32(t)[k])], args.x.f32(t),
                 y.data(), args.limit);
      for (std::size_t i = 0; i < y.size(); ++i) out[i] += args.weights.f32(t)[k] * y[i];
    }
    if (args.shared != nullptr) {
      swiglu_row(*args.shared, args.x.f32(t), y.data());
      for (std::size_t i = 0; i < y.size(); ++i) out[i] += y[i];
    }
  }
}

void ReferenceOps::gather_rows(const GatherRowsArgs& args) {
  for (int64_t i = 0; i < args.out.rows; ++i)
    std::memcpy(args.out.f32(i), args.x.f32(args.rows[static_cast<std::size_t>(i)]),
                static_cast<std::size_t>(args.out.cols) * sizeof(float));
}

}  // namespace fathom
