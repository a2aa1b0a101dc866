// ReferenceOps: selection of cached rows, compressed rows, and attention on them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/reference/reference_ops.h"
#include "ops/reference/reference_support.h"

namespace fathom {

using namespace reference;

void ReferenceOps::select_rows(const SelectRowsArgs& args) {
  const int64_t dim = args.keys.row_elements, k = args.out.cols;
  for_each_row(args.sequences, [&](int64_t row, const SequenceRows& s, int64_t position) {
    const int64_t visible = args.keys.visible_rows(position);
    std::vector<float> scores(static_cast<std::size_t>(visible), 0.0f);
    for (int64_t j = 0; j < visible; ++j) {
      const float* key = cached_row(args.keys, s, j);
      for (int64_t h = 0; h < args.heads; ++h) {
        const float* q = args.q.f32(row) + h * dim;
        const float dot = std::inner_product(q, q + dim, key, 0.0f);
        scores[static_cast<std::size_t>(j)] += args.weights.f32(row)[h] * std::max(dot, 0.0f);
      }
    }
    std::vector<int64_t> picked = top_k(scores, std::min(k, visible));
    std::sort(picked.begin(), picked.end());
    int32_t* const out = args.out.i32(row);
    std::fill_n(std::copy(picked.begin(), picked.end(), out),
                k - static_cast<int64_t>(picked.size()), -1);
  });
}

namespace {

// One compressed row: the weighted mean of its window, before the norm.
std::vector<float> window_mean(const CompressArgs& args, const SequenceRows& s, int64_t w) {
  const int64_t m = args.out.tokens_per_row, d = args.out.row_elements;
  const int64_t width = args.source.row_elements / 2;
  const float* ape = args.ape.f32();
  std::vector<float> out(static_cast<std::size_t>(d), 0.0f);
  for (int64_t c = 0; c < d; ++c) {
    std::vector<float> z, kv;
    const auto add = [&](int64_t window, int64_t channel) {
      for (int64_t j = 0; j < m; ++j) {
        const float* row = cached_row(args.source, s, window * m + j);
        z.push_back(row[width + channel] + ape[j * width + channel]);
        kv.push_back(row[channel]);
      }
    };
    if (args.overlap && w > 0) add(w - 1, c);
    add(w, args.overlap ? d + c : c);
    softmax(z);
    out[static_cast<std::size_t>(c)] = std::inner_product(z.begin(), z.end(), kv.begin(), 0.0f);
  }
  return out;
}

}  // namespace

void ReferenceOps::compress(const CompressArgs& args) {
  const int64_t m = args.out.tokens_per_row, d = args.out.row_elements;
  const auto half = static_cast<int64_t>(args.inverse_frequencies.size());
  for_each_row(args.sequences, [&](int64_t, const SequenceRows& s, int64_t position) {
    if ((position + 1) % m != 0) return;
    const int64_t w = position / m;
    std::vector<float> row = window_mean(args, s, w);
    const float squares = std::inner_product(row.begin(), row.end(), row.begin(), 0.0f);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(d) + args.eps);
    for (int64_t c = 0; c < d; ++c) row[static_cast<std::size_t>(c)] *= scale * args.norm.f32()[c];
    float* const rotated = row.data() + d - 2 * half;
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(w * m) * args.inverse_frequencies[static_cast<std::size_t>(i)];
      const auto cos = static_cast<float>(std::cos(angle));
      const auto sin = static_cast<float>(std::sin(angle));
      const float a = rotated[2 * i], b = rotated[2 * i + 1];
      rotated[2 * i] = a * cos - b * sin;
      rotated[2 * i + 1] = b * cos + a * sin;
    }
    simulate_row(std::span(row).first(static_cast<std::size_t>(args.simulated)), args.simulation);
    std::copy(row.begin(), row.end(), reinterpret_cast<float*>(args.out.row(s, w)));
  });
}

void ReferenceOps::shared_kv_attention(const SharedKvAttentionArgs& args) {
  const int64_t d = args.head_dim;
  for_each_row(args.sequences, [&](int64_t row, const SequenceRows& s, int64_t position) {
    std::vector<const float*> keys;
    for (int64_t j = std::max<int64_t>(position + 1 - args.window_tokens, 0); j <= position; ++j)
      keys.push_back(cached_row(args.window, s, j));
    if (args.compressed.data != nullptr) {
      for (const int64_t j : attended(args.selected, row, args.compressed.visible_rows(position)))
        keys.push_back(cached_row(args.compressed, s, j));
    }
    for (int64_t h = 0; h < args.heads; ++h) {
      const float* q = args.q.f32(row) + h * d;
      std::vector<float> p;
      for (const float* key : keys)
        p.push_back(std::inner_product(q, q + d, key, 0.0f) * args.scale);
      p.push_back(args.sinks.f32()[h]);
      softmax(p);
      std::vector<float> o(static_cast<std::size_t>(d), 0.0f);
      for (std::size_t j = 0; j < keys.size(); ++j)
        for (int64_t i = 0; i < d; ++i) o[static_cast<std::size_t>(i)] += p[j] * keys[j][i];
      std::copy(o.begin(), o.end(), args.out.f32(row) + h * d);
    }
  });
}

}  // namespace fathom
