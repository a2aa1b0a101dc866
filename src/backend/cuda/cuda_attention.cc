// CudaOps: the operations on the paged cache.
#include <algorithm>

#include "backend/cuda/cuda_ops.h"

namespace fathom {

using namespace cuda;

namespace {

// Floats of scratch memory that attention, or a selection's scores, take at a time.
constexpr int64_t kScratchFloats = int64_t{64} << 20;

// The tables of the rows from `first` on.
StepTables rows_from(StepTables t, int64_t first) {
  t.rows += first;
  return t;
}
template <typename T>
Rows<T> rows_from(Rows<T> x, int64_t first, int64_t count) {
  if (x.data == nullptr) return x;
  return {x.row(first), count, x.cols, x.stride};
}

// Prompt rows of the step in tiles of neighbours.
std::vector<FlashTile> flash_tiles(std::span<const SequenceRows> sequences) {
  std::vector<FlashTile> tiles;
  for (const SequenceRows& s : sequences) {
    if (s.position_class != PositionClass::kPrompt) continue;
    for (int64_t i = 0; i < s.num_rows; i += kFlashRows) {
      tiles.push_back({static_cast<int32_t>(s.first_row + i),
                       static_cast<int32_t>(std::min<int64_t>(kFlashRows, s.num_rows - i))});
    }
  }
  return tiles;
}

}  // namespace

AppendArgs CudaOps::append_args(const KvAppendArgs& args) {
  FATHOM_CHECK(args.parts.size() == 1 || args.parts.size() == 2) << args.parts.size();
  AppendArgs a{.parts = static_cast<int>(args.parts.size()),
               .kv = device_pages(args.kv),
               .tables = uploads_->tables(args.sequences),
               .rows = extent(args.sequences).rows};
  for (std::size_t i = 0; i < args.parts.size(); ++i) a.part[i] = f32_rows(args.parts[i]);
  return a;
}

void CudaOps::kv_append(const KvAppendArgs& args) { cuda::kv_append(append_args(args), stream_); }

void CudaOps::rope_append(const RopeAppendArgs& args) {
  const RopeArgs& k = args.k;
  RopeAppendKernelArgs a{.append = append_args(args.append)};
  bool found = false;
  int64_t before = 0;
  for (const TensorView& part : args.append.parts) {
    const int64_t column = (k.x.data - part.data) / static_cast<int64_t>(sizeof(float));
    if (k.x.row_stride == part.row_stride && column >= 0 && column + k.x.cols <= part.cols) {
      a.k_column = before + column;
      found = true;
    }
    before += part.cols;
  }
  if (!found || args.append.kv.dtype == DType::kQ8_0 || k.x.cols != k.heads * k.angles.cols) {
    Ops::rope_append(args);
    return;
  }
  a.q = rope_args(args.q);
  a.k = rope_args(k);
  cuda::rope_append(a, stream_);
}

void CudaOps::attend(AttendArgs a) {
  FATHOM_CHECK(a.value_dim <= 512) << a.value_dim;
  const AttendArgs all = a;
  a.rows = 1;
  const int64_t most = std::max<int64_t>(kScratchFloats / attend_scratch(a), 1);
  for (int64_t first = 0; first < all.rows; first += most) {
    const Workspace::Scope scope(scratch_);
    a = all;
    a.rows = std::min(most, all.rows - first);
    a.q = rows_from(all.q, first, a.rows);
    a.out = rows_from(all.out, first, a.rows);
    a.selected = rows_from(all.selected, first, a.rows);
    a.tables = rows_from(all.tables, first);
    a.partials = scratch_.array<float>(attend_scratch(a));
    cuda::attend(a, stream_);
  }
}

void CudaOps::flash_decode(FlashDecodeArgs a) {
  const FlashDecodeArgs all = a;
  a.rows = 1;
  const int64_t most = std::min(kScratchFloats / std::max<int64_t>(flash_decode_scratch(a), 1),
                                kArrived / flash_decode_counters(a));
  FATHOM_CHECK(most > 0) << a.heads << " heads, " << a.max_keys << " keys";
  for (int64_t first = 0; first < all.rows; first += most) {
    const Workspace::Scope scope(scratch_);
    a = all;
    a.rows = std::min(most, all.rows - first);
    a.q = rows_from(all.q, first, a.rows);
    a.out = rows_from(all.out, first, a.rows);
    if (a.rounded != nullptr) a.rounded += first * a.out.cols;
    if (a.int8.q != nullptr) {
      a.int8.q += first * a.out.cols;
      a.int8.scales += first * a.out.cols / 32;
      a.int8.sums += first * a.out.cols / 16;
    }
    a.own.k = rows_from(all.own.k, first, a.rows);
    a.own.v = rows_from(all.own.v, first, a.rows);
    a.own.angles = rows_from(all.own.angles, first, a.rows);
    a.tables = rows_from(all.tables, first);
    a.partials = scratch_.array<float>(flash_decode_scratch(a));
    a.arrived = arrived_;
    cuda::flash_decode(a, stream_);
  }
}

void CudaOps::append_attention(const AppendAttentionArgs& args) {
  const RopeArgs &q = args.rows.q, &k = args.rows.k;
  const KvAppendArgs& append = args.rows.append;
  const AttentionArgs& a = args.attention;
  const OwnRows own{.k = f32_rows(k.x),
                    .v = append.parts.size() == 2 ? f32_rows(append.parts[1]) : F32Rows{},
                    .angles = f32_rows(k.angles),
                    .pairs = k.layout == RopeLayout::kPairs};
  const auto is_whole = [&](const RopeArgs& r) {
    return r.offset == 0 && !r.inverse && r.layout == k.layout && r.angles.data == k.angles.data;
  };
  const bool one_each = std::all_of(
      append.sequences.begin(), append.sequences.end(), [](const SequenceRows& s) {
        return s.num_rows == 1 && s.position_class == PositionClass::kGenerated;
      });
  if (!exact() && one_each && flash_takes(device_pages(a.kv), a.head_dim) &&
      flash_decode_takes(f32_rows(a.q), f32_rows(a.out)) && flash_decode_takes(own, a.head_dim) &&
      is_whole(q) && is_whole(k) && own.v.data != nullptr && q.x.data == a.q.data &&
      k.x.data == append.parts[0].data && k.x.cols == a.kv_heads * a.head_dim &&
      own.v.cols == k.x.cols && append.kv.data == a.kv.data) {
    attention(a, own);
    return;
  }
  rope_append(args.rows);
  attention(a);
}

void CudaOps::attention(const AttentionArgs& args, const OwnRows& own) {
  const Extent e = extent(args.sequences);
  const DevicePages kv = device_pages(args.kv);
  int64_t prompts = 0;
  const bool tensor_cores = !exact() && flash_takes(kv, args.head_dim);
  if (tensor_cores) {
    const std::vector<FlashTile> tiles = flash_tiles(args.sequences);
    for (const FlashTile& t : tiles) prompts += t.rows;
    flash({.q = f32_rows(args.q),
           .out = written(args.out),
           .kv = kv,
           .tables = uploads_->tables(args.sequences),
           .tiles = uploads_->put(std::span<const FlashTile>(tiles)),
           .num_tiles = static_cast<int64_t>(tiles.size()),
           .heads = static_cast<int32_t>(args.heads),
           .kv_heads = static_cast<int32_t>(args.kv_heads),
           .head_dim = static_cast<int32_t>(args.head_dim),
           .scale = args.scale},
          stream_);
  }
  if (prompts == e.rows) return;
  const int64_t others = e.rows - prompts;
  const F32Rows q = rows_from(f32_rows(args.q), prompts, others);
  const F32Rows out = rows_from(written(args.out), prompts, others);
  if (tensor_cores && flash_decode_takes(q, out)) {
    // The product behind may take it in bfloat16 or int8.
    uint16_t* rounded = nullptr;
    Int8Rows int8;
    if (prompts == 0) {
      copies_memory_.reset();
      if (has_rounded_) rounded = copies_memory_.array<uint16_t>(others * out.cols);
      if (has_int8_) int8 = int8_rows(out.data, others, out.cols, copies_memory_);
      copies_ = {.data = out.data,
                 .rows = others,
                 .cols = out.cols,
                 .stride = out.stride,
                 .rounded = rounded,
                 .int8 = int8};
    }
    flash_decode({.q = q,
                  .out = out,
                  .rounded = rounded,
                  .int8 = int8.codes,
                  .own = own,
                  .kv = kv,
                  .tables = rows_from(uploads_->tables(args.sequences), prompts),
                  .rows = others,
                  .heads = static_cast<int32_t>(args.heads),
                  .kv_heads = static_cast<int32_t>(args.kv_heads),
                  .head_dim = static_cast<int32_t>(args.head_dim),
                  .max_keys = static_cast<int32_t>(e.last_position + 1),
                  .scale = args.scale});
    return;
  }
  attend({.q = q,
          .out = out,
          .keys = kv,
          .tables = rows_from(uploads_->tables(args.sequences), prompts),
          .rows = others,
          .heads = static_cast<int32_t>(args.heads),
          .kv_heads = static_cast<int32_t>(args.kv_heads),
          .key_dim = static_cast<int32_t>(args.head_dim),
          .key_stride = static_cast<int32_t>(args.head_dim),
          .value_offset = static_cast<int32_t>(args.kv_heads * args.head_dim),
          .value_dim = static_cast<int32_t>(args.head_dim),
          .max_keys = static_cast<int32_t>(e.last_position + 1),
          .scale = args.scale});
}

void CudaOps::mla_attention(const MlaAttentionArgs& args) {
  const Extent e = extent(args.sequences);
  if (e.rows == 0) return;
  const Workspace::Scope scope(scratch_);
  const int64_t nope = args.qk_nope_head_dim, rope = args.qk_rope_head_dim;
  const int64_t rank = args.kv_lora_rank, wide = nope + rope;
  // Queries as the cache's rows are: [Wkᵀ q_nope | q_rope] for each head.
  const TensorView absorbed = scratch_.f32(e.rows, args.heads * (rank + rope));
  const F32Rows q = f32_rows(args.q);
  const F32Rows to = f32_rows(absorbed);
  const DeviceWeight k = weights_->get(args.kv_b.defined() ? args.kv_b : args.k_b);
  if (args.kv_b.defined()) {
    linear_transposed({.x = q,
                       .out = to,
                       .weight = k,
                       .heads = args.heads,
                       .inner = nope,
                       .x_step = wide,
                       .weight_step = nope + args.v_head_dim,
                       .out_step = rank + rope},
                      stream_);
  } else {
    cuda::linear({.x = {q.data, q.rows, nope, q.stride},
                  .out = {to.data, to.rows, rank, to.stride},
                  .weight = k,
                  .batches = args.heads,
                  .x_step = wide,
                  .weight_step = rank,
                  .out_step = rank + rope},
                 stream_);
  }
  copy_columns({.from = q,
                .to = to,
                .groups = args.heads,
                .columns = rope,
                .from_offset = nope,
                .from_step = wide,
                .to_offset = rank,
                .to_step = rank + rope},
               stream_);
  const TensorView latent = scratch_.f32(e.rows, args.heads * rank);
  attend({.q = to,
          .out = f32_rows(latent),
          .keys = device_pages(args.kv),
          .selected = i32_rows(args.selected),
          .tables = uploads_->tables(args.sequences),
          .rows = e.rows,
          .heads = static_cast<int32_t>(args.heads),
          .kv_heads = 1,
          .key_dim = static_cast<int32_t>(rank + rope),
          .value_dim = static_cast<int32_t>(rank),
          .max_keys = static_cast<int32_t>(e.last_position + 1),
          .scale = args.scale});
  const bool joint = args.kv_b.defined();
  DeviceWeight v = weights_->get(joint ? args.kv_b : args.v_b);
  int64_t step = args.v_head_dim;
  if (joint) {  // the values' rows of a head stand behind its keys'
    v.skip_rows(nope);
    step += nope;
  }
  const F32Rows out = written(args.out);
  cuda::linear({.x = {reinterpret_cast<float*>(latent.data), e.rows, rank, latent.row_stride},
                .out = {out.data, out.rows, args.v_head_dim, out.stride},
                .weight = v,
                .batches = args.heads,
                .x_step = rank,
                .weight_step = step,
                .out_step = args.v_head_dim},
               stream_);
}

void CudaOps::shared_kv_attention(const SharedKvAttentionArgs& args) {
  const Extent e = extent(args.sequences);
  if (e.rows == 0) return;
  FATHOM_CHECK(args.compressed.data == nullptr || args.compressed.dtype == args.window.dtype)
      << dtype_name(args.compressed.dtype) << " " << dtype_name(args.window.dtype);
  int64_t most = std::min(args.window_tokens, e.last_position + 1);
  if (args.compressed.data != nullptr) {
    const int64_t visible = args.compressed.visible_rows(e.last_position);
    most += args.selected.data != nullptr ? std::min(args.selected.cols, visible) : visible;
  }
  attend({.q = f32_rows(args.q),
          .out = written(args.out),
          .window = device_pages(args.window),
          .keys = device_pages(args.compressed),
          .selected = i32_rows(args.selected),
          .tables = uploads_->tables(args.sequences),
          .sinks = weights_->vector(args.sinks),
          .rows = e.rows,
          .heads = static_cast<int32_t>(args.heads),
          .kv_heads = 1,
          .key_dim = static_cast<int32_t>(args.head_dim),
          .value_dim = static_cast<int32_t>(args.head_dim),
          .window_tokens = static_cast<int32_t>(args.window_tokens),
          .max_keys = static_cast<int32_t>(most),
          .scale = args.scale});
}

void CudaOps::select_rows(const SelectRowsArgs& args) {
  const Extent e = extent(args.sequences);
  const auto most = static_cast<int32_t>(args.keys.visible_rows(e.last_position));
  const StepTables tables = uploads_->tables(args.sequences);
  const int64_t rows = std::max<int64_t>(kScratchFloats / std::max(most, 1), 1);
  for (int64_t first = 0; first < e.rows; first += rows) {
    const Workspace::Scope scope(scratch_);
    const int64_t count = std::min(rows, e.rows - first);
    cuda::select_rows({.q = rows_from(f32_rows(args.q), first, count),
                       .weights = rows_from(f32_rows(args.weights), first, count),
                       .keys = device_pages(args.keys),
                       .tables = rows_from(tables, first),
                       .heads = static_cast<int32_t>(args.heads),
                       .dim = static_cast<int32_t>(args.keys.row_elements),
                       .rows = count,
                       .max_keys = most,
                       .scores = scratch_.array<float>(count * std::max(most, 1)),
                       .out = rows_from(i32_rows(args.out), first, count)},
                      stream_);
  }
}

void CudaOps::compress(const CompressArgs& args) {
  cuda::compress({.source = device_pages(args.source),
                  .out = device_pages(args.out),
                  .tables = uploads_->tables(args.sequences),
                  .rows = extent(args.sequences).rows,
                  .overlap = args.overlap,
                  .ape = weights_->vector(args.ape),
                  .norm = weights_->vector(args.norm),
                  .frequencies = uploads_->put(args.inverse_frequencies),
                  .half = static_cast<int32_t>(args.inverse_frequencies.size()),
                  .eps = args.eps,
                  .simulation = args.simulation,
                  .simulated = static_cast<int32_t>(args.simulated)},
                 stream_);
}

void CudaOps::simulate(const SimulateArgs& args) {
  if (args.x.empty()) return;
  cuda::simulate(written(args.x), args.simulation, stream_);
}

}  // namespace fathom
