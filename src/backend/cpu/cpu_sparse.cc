// CpuOps: selection of cached rows, compressed rows, and attention on rows that lie apart.
//
// Rows that lie apart are copied side by side for each token, in the cache's own type: all heads of
// the token use them, which costs far more than the copy.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/kernels/index_scores.h"
#include "backend/cpu/kernels/kernels.h"

namespace fathom {
namespace {

// Scratch of copied rows, or of scores, at a time.
constexpr int64_t kScratchBytes = int64_t{64} << 20;
// Of the copies; what the fastest attention kernels take.
constexpr int64_t kPageRows = 64;
// Rows scored by one task.
constexpr int64_t kScoreChunk = 256;

int64_t pages_of(int64_t keys) { return (keys + kPageRows - 1) / kPageRows; }

// The `k` best of n scores in ascending order, ties to the lower index. `scores` is used up.
void pick_best(float* scores, int64_t n, int64_t k, int32_t* out) {
  thread_local std::vector<float> sorted;
  for (int64_t i = 0; i < n; ++i)
    if (std::isnan(scores[i])) scores[i] = -std::numeric_limits<float>::infinity();
  sorted.assign(scores, scores + n);
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const float last = sorted[static_cast<std::size_t>(k - 1)];
  auto ties = k - std::count_if(scores, scores + n, [&](float s) { return s > last; });
  for (int64_t i = 0; i < n; ++i) {
    if (scores[i] > last || (scores[i] == last && ties-- > 0)) *out++ = static_cast<int32_t>(i);
  }
}

}  // namespace

void CpuOps::attend_gathered(AttendShape shape, std::span<const TokenKeys> tokens) {
  const int64_t row_bytes = shape.kv.row_bytes(), page_bytes = row_bytes * kPageRows;
  while (!tokens.empty()) {
    const Workspace::Scope scope(scratch_);
    std::size_t count = 0;
    int64_t pages = 0;
    while (count < tokens.size()) {
      const int64_t more = pages_of(static_cast<int64_t>(tokens[count].keys.size()));
      if (count > 0 && (pages + more) * page_bytes > kScratchBytes) break;
      pages += more;
      ++count;
    }
    auto* const copies = scratch_.array<std::byte>(pages * page_bytes);
    auto* const table = scratch_.array<int32_t>(pages);
    std::iota(table, table + pages, 0);
    std::vector<SequenceRows> sequences;
    int64_t page = 0;
    for (const TokenKeys& t : tokens.first(count)) {
      const auto keys = static_cast<int64_t>(t.keys.size());
      sequences.push_back({.first_row = t.row,
                           .num_rows = 1,
                           .start_position = keys - 1,
                           .pages = {table + page, static_cast<std::size_t>(pages_of(keys))}});
      page += pages_of(keys);
    }
    // A page a task: one token has many when it is decoded alone.
    pool_.parallel_for(pages, [&](int64_t task, int) {
      const auto after =
          std::upper_bound(sequences.begin(), sequences.end(), task,
                           [](int64_t p, const SequenceRows& s) { return p < s.pages.front(); });
      const auto t = static_cast<std::size_t>(after - sequences.begin()) - 1;
      const auto& keys = tokens[t].keys;
      const int64_t first = (task - sequences[t].pages.front()) * kPageRows;
      const int64_t end = std::min(first + kPageRows, static_cast<int64_t>(keys.size()));
      for (int64_t k = first; k < end; ++k)
        std::memcpy(copies + task * page_bytes + (k - first) * row_bytes,
                    keys[static_cast<std::size_t>(k)], static_cast<std::size_t>(row_bytes));
    });
    shape.kv = {.data = copies,
                .dtype = shape.kv.dtype,
                .page_rows = kPageRows,
                .page_stride_bytes = page_bytes,
                .row_elements = shape.kv.row_elements};
    attend_rows(shape, sequences);
    tokens = tokens.subspan(count);
  }
}

void CpuOps::shared_kv_attention(const SharedKvAttentionArgs& args) {
  std::vector<TokenKeys> tokens;
  for (const SequenceRows& s : args.sequences) {
    for (int64_t i = 0; i < s.num_rows; ++i) {
      const int64_t row = s.first_row + i, position = s.start_position + i;
      TokenKeys token{.row = row, .keys = {}};
      for (int64_t j = std::max<int64_t>(position + 1 - args.window_tokens, 0); j <= position; ++j)
        token.keys.push_back(args.window.row(s, j));
      if (args.compressed.data != nullptr) {
        const int64_t visible = args.compressed.visible_rows(position);
        if (args.selected.data == nullptr || visible <= args.selected.cols) {
          for (int64_t j = 0; j < visible; ++j) token.keys.push_back(args.compressed.row(s, j));
        } else {
          const int32_t* selected = args.selected.i32(row);
          for (int64_t k = 0; k < args.selected.cols; ++k)
            token.keys.push_back(args.compressed.row(s, selected[k]));
        }
      }
      tokens.push_back(std::move(token));
    }
  }
  attend_gathered({.q = args.q,
                   .out = args.out,
                   .kv = args.window,
                   .heads = args.heads,
                   .kv_heads = 1,
                   .key_dim = args.head_dim,
                   .key_stride = args.head_dim,
                   .value_offset = 0,
                   .value_dim = args.head_dim,
                   .scale = args.scale,
                   .sinks = args.sinks.f32()},
                  tokens);
}

void CpuOps::select_rows(const SelectRowsArgs& args) {
  struct Token {
    const SequenceRows* sequence;
    int64_t row, visible, first_score;
  };
  const KvPages& keys = args.keys;
  const int64_t k = args.out.cols, dim = keys.row_elements;
  std::vector<Token> tokens;
  for (const SequenceRows& s : args.sequences) {
    for (int64_t i = 0; i < s.num_rows; ++i) {
      const int64_t visible = keys.visible_rows(s.start_position + i);
      if (visible > k) {
        tokens.push_back({&s, s.first_row + i, visible, 0});
        continue;
      }
      int32_t* const out = args.out.i32(s.first_row + i);
      std::iota(out, out + visible, 0);
      std::fill(out + visible, out + k, -1);
    }
  }
  const int64_t heads = cpu::padded_index_heads(args.heads);
  for (std::size_t begin = 0; begin < tokens.size();) {
    const Workspace::Scope scope(scratch_);
    int64_t scores_size = 0;
    std::size_t end = begin;
    struct Piece {
      std::size_t token;
      int64_t first;
    };
    std::vector<Piece> pieces;
    for (; end < tokens.size(); ++end) {
      Token& t = tokens[end];
      const int64_t bytes = (scores_size + t.visible) * static_cast<int64_t>(sizeof(float));
      if (end > begin && bytes > kScratchBytes) break;
      t.first_score = scores_size;
      scores_size += t.visible;
      for (int64_t first = 0; first < t.visible; first += kScoreChunk)
        pieces.push_back({end, first});
    }
    const auto count = static_cast<int64_t>(end - begin);
    auto* const panels = scratch_.array<float>(count * heads * dim);
    auto* const weights = scratch_.array<float>(count * heads);
    auto* const scores = scratch_.array<float>(scores_size);
    for_rows(count, heads * dim, [&](int64_t i) {
      const int64_t row = tokens[begin + static_cast<std::size_t>(i)].row;
      cpu::pack_index_query(args.q.f32(row), args.weights.f32(row), args.heads, dim,
                            panels + i * heads * dim, weights + i * heads);
    });
    pool_.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t task, int) {
      const Piece& p = pieces[static_cast<std::size_t>(task)];
      const Token& t = tokens[p.token];
      const auto i = static_cast<int64_t>(p.token - begin);
      const cpu::IndexQuery query{panels + i * heads * dim, weights + i * heads, heads, dim};
      const int64_t last = std::min(p.first + kScoreChunk, t.visible);
      for (int64_t j = p.first; j < last;) {
        const int64_t n = std::min(keys.page_rows - j % keys.page_rows, last - j);
        cpu::index_scores(query, keys.dtype, keys.row(*t.sequence, j), keys.row_bytes(), n,
                          scores + t.first_score + j);
        j += n;
      }
    });
    pool_.parallel_for(count, [&](int64_t i, int) {
      const Token& t = tokens[begin + static_cast<std::size_t>(i)];
      pick_best(scores + t.first_score, t.visible, k, args.out.i32(t.row));
    });
    begin = end;
  }
}

namespace {

// The weighted mean of window w (ops.h: CompressArgs). out: [row_elements].
void window_mean(const CompressArgs& args, const SequenceRows& s, int64_t w, float* out) {
  const int64_t m = args.out.tokens_per_row, d = args.out.row_elements;
  const int64_t width = args.source.row_elements / 2;
  const float* ape = args.ape.f32();
  // Where each slot's kv stands; its z is `width` behind. Windows w−1 and w, or w alone.
  thread_local std::vector<const float*> kv, bias;
  thread_local std::vector<float> max, sum;
  kv.clear();
  bias.clear();
  const auto add = [&](int64_t window, int64_t offset) {
    for (int64_t j = 0; j < m; ++j) {
      kv.push_back(reinterpret_cast<const float*>(args.source.row(s, window * m + j)) + offset);
      bias.push_back(ape + j * width + offset);
    }
  };
  if (args.overlap && w > 0) add(w - 1, 0);
  add(w, args.overlap ? d : 0);
  max.assign(static_cast<std::size_t>(d), -std::numeric_limits<float>::infinity());
  sum.assign(static_cast<std::size_t>(d), 0.0f);
  std::fill_n(out, d, 0.0f);
  for (std::size_t j = 0; j < kv.size(); ++j)
    for (int64_t c = 0; c < d; ++c)
      max[static_cast<std::size_t>(c)] =
          std::max(max[static_cast<std::size_t>(c)], kv[j][width + c] + bias[j][c]);
  for (std::size_t j = 0; j < kv.size(); ++j) {
    for (int64_t c = 0; c < d; ++c) {
      const float e = std::exp(kv[j][width + c] + bias[j][c] - max[static_cast<std::size_t>(c)]);
      sum[static_cast<std::size_t>(c)] += e;
      out[c] += e * kv[j][c];
    }
  }
  for (int64_t c = 0; c < d; ++c) out[c] /= sum[static_cast<std::size_t>(c)];
}

}  // namespace

void CpuOps::compress(const CompressArgs& args) {
  struct Window {
    const SequenceRows* sequence;
    int64_t w;
  };
  const int64_t m = args.out.tokens_per_row, d = args.out.row_elements;
  std::vector<Window> windows;
  for (const SequenceRows& s : args.sequences)
    for (int64_t w = s.start_position / m; (w + 1) * m <= s.start_position + s.num_rows; ++w)
      windows.push_back({&s, w});
  const auto half = static_cast<int64_t>(args.inverse_frequencies.size());
  pool_.parallel_for(static_cast<int64_t>(windows.size()), [&](int64_t task, int) {
    const Window& window = windows[static_cast<std::size_t>(task)];
    thread_local std::vector<float> row, angles;
    row.resize(static_cast<std::size_t>(d));
    angles.resize(static_cast<std::size_t>(2 * half));
    window_mean(args, *window.sequence, window.w, row.data());
    cpu::rms_norm_row(row.data(), args.norm.f32(), d, args.eps, row.data());
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(window.w * m) * args.inverse_frequencies[static_cast<std::size_t>(i)];
      angles[static_cast<std::size_t>(i)] = static_cast<float>(std::cos(angle));
      angles[static_cast<std::size_t>(half + i)] = static_cast<float>(std::sin(angle));
    }
    cpu::rope_pairs_row(row.data() + d - 2 * half, angles.data(), angles.data() + half, 2 * half);
    cpu::simulate_row(row.data(), args.simulated, args.simulation);
    std::byte* const cached = args.out.row(*window.sequence, window.w);
    if (args.out.dtype == DType::kF32) {
      std::memcpy(cached, row.data(), row.size() * sizeof(float));
    } else {
      cpu::encode_kv_row(args.out.dtype, row.data(), d, cached);
    }
  });
}

}  // namespace fathom
