#include "model/v4_attention.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace fathom {
namespace {

// Rows of a layer in the cache, behind first_row: the window's, then the compressor's source and
// entries, then the indexer's.
constexpr std::size_t kWindowRow = 0, kSourceRow = 1, kEntryRow = 2, kIndexSourceRow = 3,
                      kIndexEntryRow = 4;
// Independent products at a time.
constexpr int64_t kProducts = 8;

// What DeepSeek's own inference code does after norm and rope (Attention, Compressor and Indexer of
// DeepSeek-V4-Pro's inference/model.py): to the indexer's queries (each head) and entries, and to
// the channels without rope of window keys and entries.
constexpr Simulation kIndexSimulation{.type = SimulatedType::kFp4, .block = 32, .hadamard = true};
constexpr Simulation kKeySimulation{.type = SimulatedType::kFp8, .block = 64};

bool overlaps(int64_t rate) { return rate == kSelectingRate; }
int64_t width(int64_t rate, int64_t entry) { return overlaps(rate) ? 2 * entry : entry; }

}  // namespace

Result<V4Attention::Compressor> V4Attention::load_compressor(const WeightSource& w,
                                                             const V4Config& c,
                                                             const std::string& prefix,
                                                             int64_t rate, int64_t entry) {
  const int64_t wide = width(rate, entry);
  Compressor out;
  FATHOM_TRY(out.wkv, w.matrix(prefix + "wkv.weight", wide, c.hidden_size));
  FATHOM_TRY(out.wgate, w.matrix(prefix + "wgate.weight", wide, c.hidden_size));
  FATHOM_TRY(out.ape, w.matrix(prefix + "ape", rate, wide));
  if (out.ape.dtype != DType::kF32) {
    return invalid_argument(w.description() + ": tensor '" + prefix + "ape' is " +
                            std::string(dtype_name(out.ape.dtype)) + ", expected F32");
  }
  FATHOM_TRY(out.norm, w.vector(prefix + "norm.weight", entry));
  return out;
}

Result<V4Attention> V4Attention::load(const WeightSource& w, const V4Config& c,
                                      const std::string& p, int64_t rate, std::size_t first_row) {
  V4Attention a;
  a.rate_ = rate;
  a.first_row_ = first_row;
  const int64_t q_width = c.heads * c.head_dim, o_width = c.o_groups * c.o_lora_rank;
  FATHOM_TRY(a.wq_a_, w.matrix(p + "wq_a.weight", c.q_lora_rank, c.hidden_size));
  FATHOM_TRY(a.q_norm_, w.vector(p + "q_norm.weight", c.q_lora_rank));
  FATHOM_TRY(a.wq_b_, w.matrix(p + "wq_b.weight", q_width, c.q_lora_rank));
  FATHOM_TRY(a.wkv_, w.matrix(p + "wkv.weight", c.head_dim, c.hidden_size));
  FATHOM_TRY(a.kv_norm_, w.vector(p + "kv_norm.weight", c.head_dim));
  FATHOM_TRY(a.wo_a_, w.matrix(p + "wo_a.weight", o_width, q_width / c.o_groups));
  FATHOM_TRY(a.wo_b_, w.matrix(p + "wo_b.weight", c.hidden_size, o_width));
  FATHOM_TRY(a.sinks_, w.vector(p + "attn_sink", c.heads));
  if (rate == kSlidingOnly) return a;
  FATHOM_TRY(a.compressor_, load_compressor(w, c, p + "compressor.", rate, c.head_dim));
  if (rate != kSelectingRate) return a;
  const std::string i = p + "indexer.";
  FATHOM_TRY(a.index_wq_b_,
             w.matrix(i + "wq_b.weight", c.index_heads * c.index_dim, c.q_lora_rank));
  FATHOM_TRY(a.index_weights_, w.matrix(i + "weights_proj.weight", c.index_heads, c.hidden_size));
  FATHOM_TRY(a.index_compressor_, load_compressor(w, c, i + "compressor.", rate, c.index_dim));
  return a;
}

std::vector<KvLayerSpec> V4Attention::kv_rows(const V4Config& c, int64_t rate) {
  std::vector<KvLayerSpec> rows = {{.row_elements = c.head_dim, .window = true}};
  const auto compressed = [&](int64_t entry) {
    // Sums of exponentials of what is cached: kept exactly.
    rows.push_back({.row_elements = 2 * width(rate, entry), .window = true, .exact = true});
    rows.push_back({.row_elements = entry, .tokens_per_row = rate});
  };
  if (rate != kSlidingOnly) compressed(c.head_dim);
  if (rate == kSelectingRate) compressed(c.index_dim);
  return rows;
}

int64_t V4Attention::window_tokens(const V4Config& c, int64_t rate) {
  const int64_t source = rate == kSlidingOnly ? 0 : (overlaps(rate) ? 2 * rate : rate) - 1;
  return std::max(c.sliding_window - 1, source);
}

void V4Attention::compress(const ModelContext& context, const Step& step, const V4Config& c,
                           const Compressor& compressor, std::size_t source,
                           const TensorView& x) const {
  const Workspace::Scope scope(context.workspace);
  const int64_t wide = compressor.wkv.rows;
  const TensorView row = context.workspace.f32(x.rows, 2 * wide);
  context.ops.linears(std::array{
      LinearArgs{.x = x, .weight = compressor.wkv, .bias = {}, .out = row.columns(0, wide)},
      LinearArgs{.x = x, .weight = compressor.wgate, .bias = {}, .out = row.columns(wide, wide)}});
  const KvPages& kv = step.kv[first_row_ + source];
  context.ops.kv_append({.parts = std::span(&row, 1), .kv = kv, .sequences = step.sequences});
  CompressArgs args{.source = kv,
                    .out = step.kv[first_row_ + source + 1],
                    .sequences = step.sequences,
                    .overlap = overlaps(rate_),
                    .ape = compressor.ape,
                    .norm = compressor.norm,
                    .eps = static_cast<float>(c.rms_norm_eps),
                    .inverse_frequencies = c.compress_rope.inverse_frequencies};
  if (c.simulate_quantised_cache) {
    const bool index = source == kIndexSourceRow;
    args.simulation = index ? kIndexSimulation : kKeySimulation;
    args.simulated = index ? c.index_dim : c.head_dim - c.rope_dim;
  }
  context.ops.compress(args);
}

// The entries that each token attends to.
TensorView V4Attention::select(const ModelContext& context, const Step& step, const V4Config& c,
                               const TensorView& angles, const TensorView& x,
                               const TensorView& qr) const {
  Ops& ops = context.ops;
  const TensorView selected = context.workspace.i32(x.rows, c.index_topk);
  const Workspace::Scope scope(context.workspace);
  compress(context, step, c, index_compressor_, kIndexSourceRow, x);
  const TensorView q = context.workspace.f32(x.rows, c.index_heads * c.index_dim);
  const TensorView weights = context.workspace.f32(x.rows, c.index_heads);
  ops.linear({.x = qr, .weight = index_wq_b_, .bias = {}, .out = q});
  ops.linear({.x = x, .weight = index_weights_, .bias = {}, .out = weights});
  ops.rope({.x = q,
            .angles = angles,
            .heads = c.index_heads,
            .offset = c.index_dim - c.rope_dim,
            .layout = RopeLayout::kPairs});
  if (c.simulate_quantised_cache)
    ops.simulate({.x = q.split_columns(c.index_heads), .simulation = kIndexSimulation});
  ops.select_rows({.q = q,
                   .weights = weights,
                   .keys = step.kv[first_row_ + kIndexEntryRow],
                   .sequences = step.sequences,
                   .heads = c.index_heads,
                   .out = selected});
  return selected;
}

void V4Attention::forward(const ModelContext& context, const Step& step, const V4Config& c,
                          const Angles& all_angles, const TensorView& x,
                          const TensorView& out) const {
  Ops& ops = context.ops;
  Workspace& ws = context.workspace;
  const Workspace::Scope scope(ws);
  const auto eps = static_cast<float>(c.rms_norm_eps);
  const TensorView& angles = rate_ == kSlidingOnly ? all_angles.sliding : all_angles.compress;
  const TensorView qr = ws.f32(x.rows, c.q_lora_rank), q = ws.f32(x.rows, c.heads * c.head_dim);
  const TensorView kv = ws.f32(x.rows, c.head_dim);
  ops.linears(std::array{LinearArgs{.x = x, .weight = wq_a_, .bias = {}, .out = qr},
                         LinearArgs{.x = x, .weight = wkv_, .bias = {}, .out = kv}});
  ops.rms_norm({.x = qr, .weight = q_norm_, .eps = eps, .out = qr});
  ops.rms_norm({.x = kv, .weight = kv_norm_, .eps = eps, .out = kv});
  ops.linear({.x = qr, .weight = wq_b_, .bias = {}, .out = q});
  const TensorView heads = q.split_columns(c.heads);
  ops.rms_norm({.x = heads, .weight = {}, .eps = eps, .out = heads});
  RopeArgs rope{.x = q,
                .angles = angles,
                .heads = c.heads,
                .offset = c.head_dim - c.rope_dim,
                .layout = RopeLayout::kPairs};
  ops.rope(rope);
  ops.rope({.x = kv,
            .angles = angles,
            .heads = 1,
            .offset = c.head_dim - c.rope_dim,
            .layout = RopeLayout::kPairs});
  if (c.simulate_quantised_cache)
    ops.simulate({.x = kv.columns(0, c.head_dim - c.rope_dim), .simulation = kKeySimulation});
  const KvPages& window = step.kv[first_row_ + kWindowRow];
  ops.kv_append({.parts = std::span(&kv, 1), .kv = window, .sequences = step.sequences});
  TensorView selected;
  KvPages entries;
  if (rate_ != kSlidingOnly) {
    compress(context, step, c, compressor_, kSourceRow, x);
    entries = step.kv[first_row_ + kEntryRow];
  }
  if (rate_ == kSelectingRate) selected = select(context, step, c, angles, x, qr);
  ops.shared_kv_attention(
      {.q = q,
       .window = window,
       .compressed = entries,
       .selected = selected,
       .sinks = sinks_,
       .sequences = step.sequences,
       .heads = c.heads,
       .head_dim = c.head_dim,
       .window_tokens = c.sliding_window,
       .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim))),
       .out = q});
  // The values carry the rotation of their positions: this takes it back.
  rope.inverse = true;
  ops.rope(rope);
  const int64_t part = q.cols / c.o_groups, rank = c.o_lora_rank;
  const TensorView o = ws.f32(x.rows, c.o_groups * rank);
  for (int64_t first = 0; first < c.o_groups; first += kProducts) {
    std::array<LinearArgs, kProducts> products;
    const int64_t count = std::min(kProducts, c.o_groups - first);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t g = first + i;
      products[static_cast<std::size_t>(i)] = {.x = q.columns(g * part, part),
                                               .weight = wo_a_.row_range(g * rank, rank),
                                               .bias = {},
                                               .out = o.columns(g * rank, rank)};
    }
    ops.linears(std::span(products).first(static_cast<std::size_t>(count)));
  }
  ops.linear({.x = o, .weight = wo_b_, .bias = {}, .out = out});
}

}  // namespace fathom
