// CpuOps: attention over the paged cache, many queries at once (kernels/attend.h).
//
// Which kernel serves depends on machine and cache alone, so a position's result never depends on
// its step.
#include <algorithm>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/kernels/attend.h"
#include "backend/cpu/kernels/kernels.h"

namespace fathom {
namespace {

// Rows that one task takes: they share decoded weights.
constexpr int64_t kRowBlock = 8;
// Scratch of absorbed queries and latents at a time.
constexpr int64_t kMlaScratchBytes = int64_t{64} << 20;

// The parts of `sequences` that lie in rows [begin, end) of the step.
std::vector<SequenceRows> clip(std::span<const SequenceRows> sequences, int64_t begin,
                               int64_t end) {
  std::vector<SequenceRows> out;
  for (SequenceRows s : sequences) {
    const int64_t first = std::max(begin, s.first_row);
    const int64_t last = std::min(end, s.first_row + s.num_rows);
    if (first >= last) continue;
    s.start_position += first - s.first_row;
    s.first_row = first;
    s.num_rows = last - first;
    out.push_back(s);
  }
  return out;
}

}  // namespace

// Queries that share cached rows: heads of one KV head, rows of one sequence.
struct CpuOps::AttendGroup {
  cpu::AttendQuery queries[cpu::kAttendQueries];
  int count = 0;
  const int32_t* pages = nullptr;
  int64_t key_offset = 0, value_offset = 0;

  int64_t num_keys() const { return queries[count - 1].num_keys; }  // the last sees the most
  int64_t chunks() const { return (num_keys() + cpu::kAttendChunk - 1) / cpu::kAttendChunk; }
};

void CpuOps::attend_rows(const AttendShape& shape, std::span<const SequenceRows> sequences) {
  const cpu::AttendKernel& kernel = cpu::attend_kernel({.dtype = shape.kv.dtype,
                                                        .page_tokens = shape.kv.page_rows,
                                                        .key_dim = shape.key_dim,
                                                        .value_dim = shape.value_dim});
  const Workspace::Scope scope(scratch_);
  const int64_t heads_per_kv = shape.heads / shape.kv_heads;
  std::vector<AttendGroup> groups;
  for (const SequenceRows& s : sequences) {
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      for (int64_t n = 0; n < s.num_rows * heads_per_kv; ++n) {
        if (n % cpu::kAttendQueries == 0) {
          groups.push_back({.pages = shape.kv.table(s).data(),
                            .key_offset = kv_head * shape.key_stride,
                            .value_offset = shape.value_offset + kv_head * shape.key_stride});
        }
        const int64_t row = n / heads_per_kv, h = kv_head * heads_per_kv + n % heads_per_kv;
        groups.back().queries[groups.back().count++] = {
            .q = shape.q.f32(s.first_row + row) + h * shape.key_dim,
            .num_keys = s.start_position + row + 1,
            .out = shape.out.f32(s.first_row + row) + h * shape.value_dim};
        if (shape.sinks != nullptr)
          groups.back().queries[groups.back().count - 1].sink = shape.sinks[h];
      }
    }
  }
  const auto rows_of = [&](const AttendGroup& g) {
    return cpu::AttendRows{.data = reinterpret_cast<const uint8_t*>(shape.kv.data),
                           .pages = g.pages,
                           .dtype = shape.kv.dtype,
                           .page_tokens = shape.kv.page_rows,
                           .page_stride_bytes = shape.kv.page_stride_bytes,
                           .row_bytes = shape.kv.row_bytes(),
                           .key_offset = g.key_offset,
                           .key_dim = shape.key_dim,
                           .value_offset = g.value_offset,
                           .value_dim = shape.value_dim};
  };
  constexpr int64_t kQueries = cpu::kAttendQueries;
  const int64_t acc_size = kQueries * ((shape.value_dim + 15) / 16 * 16);
  const auto states = [&](int64_t n) {
    std::vector<cpu::AttendState> out;
    for (int64_t i = 0; i < n; ++i)
      out.push_back({scratch_.array<float>(kQueries), scratch_.array<float>(kQueries),
                     scratch_.array<float>(acc_size)});
    return out;
  };
  const auto chunk = [&](const AttendGroup& g, const std::byte* panel, int64_t c,
                         const cpu::AttendState& state) {
    kernel.chunk(rows_of(g), g.queries, g.count, panel, c * cpu::kAttendChunk,
                 std::min((c + 1) * cpu::kAttendChunk, g.num_keys()), state);
  };
  const int64_t panel_bytes = shape.key_dim * kQueries * static_cast<int64_t>(sizeof(float));
  const auto count = static_cast<int64_t>(groups.size());
  if (count >= int64_t{4} * pool_.num_threads()) {
    // A group a task.
    std::vector<std::byte*> panels;
    for (int t = 0; t < pool_.num_threads(); ++t)
      panels.push_back(scratch_.array<std::byte>(panel_bytes));
    const auto total = states(pool_.num_threads()), next = states(pool_.num_threads());
    pool_.parallel_for(count, [&](int64_t task, int thread) {
      const auto t = static_cast<std::size_t>(thread);
      const AttendGroup& g = groups[static_cast<std::size_t>(task)];
      kernel.pack(g.queries, g.count, shape.key_dim, shape.scale, panels[t]);
      chunk(g, panels[t], 0, total[t]);
      for (int64_t c = 1; c < g.chunks(); ++c) {
        chunk(g, panels[t], c, next[t]);
        kernel.merge(g.count, shape.value_dim, total[t], next[t]);
      }
      kernel.finish(g.queries, g.count, shape.value_dim, total[t]);
    });
    return;
  }
  // Few groups: a chunk a task, merged afterwards.
  struct Piece {
    const AttendGroup* group;
    const std::byte* panel;
    int64_t chunk;
  };
  std::vector<Piece> pieces;
  for (const AttendGroup& g : groups) {
    auto* panel = scratch_.array<std::byte>(panel_bytes);
    kernel.pack(g.queries, g.count, shape.key_dim, shape.scale, panel);
    for (int64_t c = 0; c < g.chunks(); ++c) pieces.push_back({&g, panel, c});
  }
  const auto state = states(static_cast<int64_t>(pieces.size()));
  pool_.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t task, int) {
    const Piece& p = pieces[static_cast<std::size_t>(task)];
    chunk(*p.group, p.panel, p.chunk, state[static_cast<std::size_t>(task)]);
  });
  std::size_t at = 0;
  for (const AttendGroup& g : groups) {
    const cpu::AttendState& total = state[at];
    for (int64_t c = 1; c < g.chunks(); ++c)
      kernel.merge(g.count, shape.value_dim, total, state[at + static_cast<std::size_t>(c)]);
    kernel.finish(g.queries, g.count, shape.value_dim, total);
    at += static_cast<std::size_t>(g.chunks());
  }
}

void CpuOps::attention(const AttentionArgs& args) {
  attend_rows({.q = args.q,
               .out = args.out,
               .kv = args.kv,
               .heads = args.heads,
               .kv_heads = args.kv_heads,
               .key_dim = args.head_dim,
               .key_stride = args.head_dim,
               .value_offset = args.kv_heads * args.head_dim,
               .value_dim = args.head_dim,
               .scale = args.scale},
              args.sequences);
}

// absorbed[t] of head h = [Wkᵀ q_nope | q_rope].
void CpuOps::absorb_queries(const MlaAttentionArgs& args, const TensorView& q,
                            const TensorView& absorbed) {
  const int64_t dn = args.qk_nope_head_dim, dr = args.qk_rope_head_dim, r = args.kv_lora_rank;
  for_rows(q.rows, args.heads * dr, [&](int64_t t) {
    for (int64_t h = 0; h < args.heads; ++h)
      std::copy_n(q.f32(t) + h * (dn + dr) + dn, dr, absorbed.f32(t) + h * (r + dr) + r);
  });
  if (args.k_b.defined()) {
    std::vector<Product> products;
    for (int64_t h = 0; h < args.heads; ++h) {
      const WeightView w = args.k_b.row_range(h * r, r);
      products.push_back({.x = inputs(q.columns(h * (dn + dr), dn), w),
                          .rows = q.rows,
                          .weight = w,
                          .out = outputs(absorbed.columns(h * (r + dr), r))});
    }
    return run_products(products);
  }
  const int64_t blocks = (q.rows + kRowBlock - 1) / kRowBlock;
  pool_.parallel_for(blocks * args.heads, [&](int64_t task, int) {
    const int64_t h = task % args.heads, begin = task / args.heads * kRowBlock;
    const int64_t end = std::min(begin + kRowBlock, q.rows);
    const WeightView wk = args.kv_b.row_range(h * (dn + args.v_head_dim), dn);
    std::vector<float> weight_row(static_cast<std::size_t>(r));
    for (int64_t t = begin; t < end; ++t) std::fill_n(absorbed.f32(t) + h * (r + dr), r, 0.0f);
    for (int64_t d = 0; d < dn; ++d) {
      cpu::decode_row(wk, d, weight_row.data());
      for (int64_t t = begin; t < end; ++t)
        cpu::axpy_row(q.f32(t)[h * (dn + dr) + d], weight_row.data(), r,
                      absorbed.f32(t) + h * (r + dr));
    }
  });
}

// Takes the rows that attend to a selection out of the end of `s`.
void CpuOps::sparse_rows(const MlaAttentionArgs& args, SequenceRows& s, int64_t first_row,
                         std::vector<TokenKeys>& out) {
  const int64_t all = std::clamp<int64_t>(args.selected.cols - s.start_position, 0, s.num_rows);
  for (int64_t i = all; i < s.num_rows; ++i) {
    TokenKeys token{.row = s.first_row + i - first_row, .keys = {}};
    const int32_t* selected = args.selected.i32(s.first_row + i);
    for (int64_t k = 0; k < args.selected.cols && selected[k] >= 0; ++k)
      token.keys.push_back(args.kv.row(s, selected[k]));
    out.push_back(std::move(token));
  }
  s.num_rows = all;
}

void CpuOps::mla_attention(const MlaAttentionArgs& args) {
  const int64_t r = args.kv_lora_rank, width = r + args.qk_rope_head_dim;
  const int64_t row_bytes = args.heads * (width + r) * static_cast<int64_t>(sizeof(float));
  const int64_t block = std::max<int64_t>(kMlaScratchBytes / row_bytes, 1);
  for (int64_t begin = 0; begin < args.q.rows; begin += block) {
    const Workspace::Scope scope(scratch_);
    const int64_t rows = std::min(block, args.q.rows - begin);
    const TensorView absorbed = scratch_.f32(rows, args.heads * width);
    const TensorView latent = scratch_.f32(rows, args.heads * r);
    absorb_queries(args, args.q.row_range(begin, rows), absorbed);
    std::vector<SequenceRows> sequences = clip(args.sequences, begin, begin + rows);
    std::vector<TokenKeys> sparse;
    if (args.selected.data != nullptr) {
      for (SequenceRows& s : sequences) sparse_rows(args, s, begin, sparse);
      std::erase_if(sequences, [](const SequenceRows& s) { return s.num_rows == 0; });
    }
    for (SequenceRows& s : sequences) s.first_row -= begin;
    const AttendShape shape{.q = absorbed,
                            .out = latent,
                            .kv = args.kv,
                            .heads = args.heads,
                            .kv_heads = 1,
                            .key_dim = width,
                            .key_stride = width,
                            .value_offset = 0,
                            .value_dim = r,
                            .scale = args.scale};
    attend_rows(shape, sequences);
    attend_gathered(shape, sparse);
    const TensorView out = args.out.row_range(begin, rows);
    std::vector<Product> products;
    for (int64_t h = 0; h < args.heads; ++h) {
      const WeightView w = args.value_weights(h);
      products.push_back({.x = inputs(latent.columns(h * r, r), w),
                          .rows = rows,
                          .weight = w,
                          .out = outputs(out.columns(h * args.v_head_dim, args.v_head_dim))});
    }
    run_products(products);
  }
}

}  // namespace fathom
