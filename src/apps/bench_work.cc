#include "apps/bench_work.h"

#include <vector>

namespace fathom {

void WorkCounter::count_matrix(const WeightView& weight, int64_t rows) {
  if (!weight.defined() || rows == 0) return;
  work_.weight_bytes += weight.bytes();
  work_.linear_operations += 2 * rows * weight.rows * weight.cols;
}

void WorkCounter::count_swiglu(const SwigluWeights& weights, int64_t rows) {
  count_matrix(weights.gate, rows);
  count_matrix(weights.up, rows);
  count_matrix(weights.down, rows);
}

void WorkCounter::count_cache(const KvPages& kv, std::span<const SequenceRows> sequences,
                              int64_t operations_per_key) {
  for (const SequenceRows& s : sequences) {
    const int64_t first = s.start_position + 1, last = s.start_position + s.num_rows;
    work_.cache_bytes += last * kv.row_bytes();
    // Row i sees the keys up to its own: first + … + last of them in all.
    work_.attention_operations += operations_per_key * (first + last) * s.num_rows / 2;
  }
}

void WorkCounter::embed(const EmbedArgs& args) {
  work_.weight_bytes += args.table.row_bytes() * static_cast<int64_t>(args.token_ids.size());
  OpsDecorator::embed(args);
}

void WorkCounter::rms_norm(const RmsNormArgs& args) {
  work_.weight_bytes += args.weight.bytes();
  OpsDecorator::rms_norm(args);
}

void WorkCounter::add_rms_norm(const AddRmsNormArgs& args) {
  work_.weight_bytes += args.weight.bytes();
  OpsDecorator::add_rms_norm(args);
}

void WorkCounter::linear(const LinearArgs& args) {
  count_matrix(args.weight, args.x.rows);
  OpsDecorator::linear(args);
}

void WorkCounter::linears(std::span<const LinearArgs> args) {
  for (const LinearArgs& a : args) count_matrix(a.weight, a.x.rows);
  OpsDecorator::linears(args);
}

void WorkCounter::attention(const AttentionArgs& args) {
  count_cache(args.kv, args.sequences, 2 * args.heads * 2 * args.head_dim);
  OpsDecorator::attention(args);
}

void WorkCounter::mla_attention(const MlaAttentionArgs& args) {
  if (args.kv_b.defined()) count_matrix(args.kv_b, args.q.rows);
  if (args.k_b.defined()) count_matrix(args.k_b, args.q.rows);
  if (args.v_b.defined()) count_matrix(args.v_b, args.q.rows);
  count_cache(args.kv, args.sequences,
              2 * args.heads * (args.qk_nope_head_dim + args.qk_rope_head_dim + args.v_head_dim));
  OpsDecorator::mla_attention(args);
}

void WorkCounter::mlp(const MlpArgs& args) {
  count_swiglu(args.weights, args.x.rows);
  OpsDecorator::mlp(args);
}

void WorkCounter::moe(const MoeArgs& args) {
  std::vector<int64_t> rows(args.experts.size(), 0);
  for (int64_t t = 0; t < args.ids.rows; ++t)
    for (int64_t k = 0; k < args.ids.cols; ++k)
      ++rows[static_cast<std::size_t>(args.ids.i32(t)[k])];
  for (std::size_t e = 0; e < rows.size(); ++e) count_swiglu(args.experts[e], rows[e]);
  if (args.shared != nullptr) count_swiglu(*args.shared, args.x.rows);
  OpsDecorator::moe(args);
}

}  // namespace fathom
