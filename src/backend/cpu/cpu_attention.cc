// CpuOps: attention over the paged cache.
#include <algorithm>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/kernels/kernels.h"

namespace fathom {
namespace {

// Rows of one sequence that one task takes: they share decoded weights and cached keys.
constexpr int64_t kRowBlock = 8;

struct RowBlock {
  const SequenceRows* sequence;
  int64_t begin, end;  // rows within the sequence
};

std::vector<RowBlock> row_blocks(std::span<const SequenceRows> sequences) {
  std::vector<RowBlock> blocks;
  for (const SequenceRows& s : sequences)
    for (int64_t i = 0; i < s.num_rows; i += kRowBlock)
      blocks.push_back({&s, i, std::min(i + kRowBlock, s.num_rows)});
  return blocks;
}

}  // namespace

void CpuOps::attention(const AttentionArgs& args) {
  FATHOM_CHECK_LE(args.kv.page_tokens, cpu::kMaxPageTokens);
  const std::vector<RowBlock> blocks = row_blocks(args.sequences);
  const int64_t group = args.heads / args.kv_heads, d = args.head_dim;
  const auto tasks = static_cast<int64_t>(blocks.size()) * args.kv_heads;
  // out may be q: a head's query is read before its result is written.
  pool_.parallel_for(tasks, [&](int64_t task, int) {
    const RowBlock& block = blocks[static_cast<std::size_t>(task / args.kv_heads)];
    const int64_t kv_head = task % args.kv_heads;
    const SequenceRows& s = *block.sequence;
    std::vector<float> query(static_cast<std::size_t>(d));
    for (int64_t i = block.begin; i < block.end; ++i) {
      for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        std::copy_n(args.q.f32(s.first_row + i) + h * d, d, query.data());
        cpu::attend_row({.q = query.data(),
                         .kv = args.kv,
                         .pages = s.pages,
                         .num_keys = s.start_position + i + 1,
                         .key_offset = kv_head * d,
                         .key_dim = d,
                         .value_offset = (args.kv_heads + kv_head) * d,
                         .value_dim = d,
                         .scale = args.scale,
                         .out = args.out.f32(s.first_row + i) + h * d});
      }
    }
  });
}

void CpuOps::mla_attention(const MlaAttentionArgs& args) {
  FATHOM_CHECK_LE(args.kv.page_tokens, cpu::kMaxPageTokens);
  const int64_t dn = args.qk_nope_head_dim, dr = args.qk_rope_head_dim, dv = args.v_head_dim;
  const int64_t r = args.kv_lora_rank;
  const std::vector<RowBlock> blocks = row_blocks(args.sequences);
  const auto tasks = static_cast<int64_t>(blocks.size()) * args.heads;
  pool_.parallel_for(tasks, [&](int64_t task, int) {
    const RowBlock& block = blocks[static_cast<std::size_t>(task / args.heads)];
    const int64_t h = task % args.heads;
    const SequenceRows& s = *block.sequence;
    const int64_t rows = block.end - block.begin;
    const WeightView wk = args.kv_b.row_range(h * (dn + dv), dn);
    const WeightView wv = args.kv_b.row_range(h * (dn + dv) + dn, dv);

    // Absorbed queries: [Wkᵀ q_nope | q_rope], one row each.
    std::vector<float> query(static_cast<std::size_t>(rows * (r + dr)), 0.0f);
    std::vector<float> weight_row(static_cast<std::size_t>(r));
    std::vector<float> latent(static_cast<std::size_t>(rows * r));
    const auto q = [&](int64_t i) {
      return args.q.f32(s.first_row + block.begin + i) + h * (dn + dr);
    };
    for (int64_t d = 0; d < dn; ++d) {
      cpu::decode_row(wk, d, weight_row.data());
      for (int64_t i = 0; i < rows; ++i)
        cpu::axpy_row(q(i)[d], weight_row.data(), r,
                      &query[static_cast<std::size_t>(i * (r + dr))]);
    }
    const float* latent_rows[kRowBlock];
    float* out_rows[kRowBlock];
    for (int64_t i = 0; i < rows; ++i) {
      float* qi = &query[static_cast<std::size_t>(i * (r + dr))];
      std::copy_n(q(i) + dn, dr, qi + r);
      float* li = &latent[static_cast<std::size_t>(i * r)];
      cpu::attend_row({.q = qi,
                       .kv = args.kv,
                       .pages = s.pages,
                       .num_keys = s.start_position + block.begin + i + 1,
                       .key_offset = 0,
                       .key_dim = r + dr,
                       .value_offset = 0,
                       .value_dim = r,
                       .scale = args.scale,
                       .out = li});
      latent_rows[i] = li;
      out_rows[i] = args.out.f32(s.first_row + block.begin + i) + h * dv;
    }
    cpu::dot_rows(latent_rows, rows, wv, 0, dv, out_rows);
  });
}

}  // namespace fathom
