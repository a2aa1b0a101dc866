#include "apps/bench_work.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace fathom {

void WorkCounter::count_matrix(const WeightView& weight, int64_t rows) {
  if (!weight.defined() || rows == 0) return;
  work_.weight_bytes += weight.bytes();
  if (weight.scales != nullptr) {
    const int64_t r = weight.scale_block_rows, c = weight.scale_block_cols;
    work_.weight_bytes += (weight.rows + r - 1) / r * ((weight.cols + c - 1) / c) * 4;
  }
  if (weight.exponents != nullptr) work_.weight_bytes += weight.rows * (weight.cols / kF4Block);
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

void WorkCounter::count_rows(const KvPages& kv, std::span<const SequenceRows> sequences,
                             int64_t most, bool per_row, int64_t operations_per_row) {
  for (const SequenceRows& s : sequences) {
    int64_t read = 0, multiplied = 0;
    for (int64_t i = 0; i < s.num_rows; ++i) {
      const int64_t seen = std::min(kv.visible_rows(s.start_position + i), most);
      read = per_row ? read + seen : seen;
      multiplied += seen;
    }
    work_.cache_bytes += read * kv.row_bytes();
    work_.attention_operations += operations_per_row * multiplied;
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
  const int64_t operations =
      2 * args.heads * (args.qk_nope_head_dim + args.qk_rope_head_dim + args.v_head_dim);
  if (args.selected.data == nullptr) {
    count_cache(args.kv, args.sequences, operations);
  } else {
    count_rows(args.kv, args.sequences, args.selected.cols, true, operations);
  }
  OpsDecorator::mla_attention(args);
}

void WorkCounter::select_rows(const SelectRowsArgs& args) {
  // Those who see few rows get all of them unseen.
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  for (const SequenceRows& s : args.sequences) {
    if (args.keys.visible_rows(s.start_position + s.num_rows - 1) > args.out.cols)
      count_rows(args.keys, std::span(&s, 1), kAll, false, 2 * args.heads * args.keys.row_elements);
  }
  OpsDecorator::select_rows(args);
}

void WorkCounter::shared_kv_attention(const SharedKvAttentionArgs& args) {
  const int64_t operations = 2 * args.heads * 2 * args.head_dim;
  count_rows(args.window, args.sequences, args.window_tokens, false, operations);
  if (args.compressed.data != nullptr) {
    const bool selects = args.selected.data != nullptr;
    const int64_t most = selects ? args.selected.cols : std::numeric_limits<int64_t>::max();
    count_rows(args.compressed, args.sequences, most, selects, operations);
  }
  OpsDecorator::shared_kv_attention(args);
}

void WorkCounter::mlp(const MlpArgs& args) {
  count_swiglu(args.weights, args.x.rows);
  OpsDecorator::mlp(args);
}

void WorkCounter::moe(const MoeArgs& args) {
  std::vector<int64_t> rows(args.experts.size(), 0);
  Workspace host;
  const TensorView ids = on_host(args.ids, host);
  for (int64_t t = 0; t < ids.rows; ++t)
    for (int64_t k = 0; k < ids.cols; ++k) ++rows[static_cast<std::size_t>(ids.i32(t)[k])];
  for (std::size_t e = 0; e < rows.size(); ++e) count_swiglu(args.experts[e], rows[e]);
  if (args.shared != nullptr) count_swiglu(*args.shared, args.x.rows);
  OpsDecorator::moe(args);
}

}  // namespace fathom
