#include "ops/ops.h"

#include <cstring>

namespace fathom {

RowClasses row_classes(std::span<const SequenceRows> sequences) {
  RowClasses out;
  for (const SequenceRows& s : sequences) {
    out.rows += s.num_rows;
    if (s.position_class == PositionClass::kPrompt) out.prompt_rows += s.num_rows;
  }
  return out;
}

void Ops::read(const TensorView& from, const TensorView& to) {
  FATHOM_CHECK(from.rows == to.rows && from.cols == to.cols && from.dtype == to.dtype)
      << from.rows << "x" << from.cols << " to " << to.rows << "x" << to.cols;
  const std::size_t bytes = static_cast<std::size_t>(from.cols) * dtype_bytes(from.dtype);
  for (int64_t r = 0; r < from.rows; ++r)
    std::memcpy(to.row_range(r, 1).data, from.row_range(r, 1).data, bytes);
}

TensorView Ops::on_host(const TensorView& x, Workspace& host) {
  if (memory().on_host()) return x;
  const TensorView copy = host.allocate(x.dtype, x.rows, x.cols);
  read(x, copy);
  return copy;
}

void Ops::add_rms_norm(const AddRmsNormArgs& args) {
  add({.x = args.x, .delta = args.delta});
  rms_norm({.x = args.x, .weight = args.weight, .eps = args.eps, .out = args.out});
}

void Ops::linears(std::span<const LinearArgs> args) {
  for (const LinearArgs& a : args) linear(a);
}

void Ops::rope_append(const RopeAppendArgs& args) {
  rope(args.q);
  rope(args.k);
  kv_append(args.append);
}

void Ops::append_attention(const AppendAttentionArgs& args) {
  rope_append(args.rows);
  attention(args.attention);
}

namespace {
constexpr const char* kOneRank = "is for models loaded with ModelOptions::tensor_parallel";
}
void Ops::all_reduce(const TensorView&) { FATHOM_CHECK(false) << "all_reduce " << kOneRank; }
void Ops::broadcast(const TensorView&) { FATHOM_CHECK(false) << "broadcast " << kOneRank; }
void Ops::gather_columns(const GatherColumnsArgs&) {
  FATHOM_CHECK(false) << "gather_columns " << kOneRank;
}

void Ops::mark(std::string_view, const TensorView&) {}

}  // namespace fathom
