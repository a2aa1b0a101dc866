#include "model/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace fathom {
namespace {

// Inner channels of a rank are multiples of this where there are enough: what kernels take in one
// go.
constexpr int64_t kInnerUnit = 64;

int64_t block_elements(DType type) {
  return type == DType::kF4E2M1 ? kF4Block : dtype_block(type).elements;
}

}  // namespace

ShardRange Shard::part(int64_t total, int64_t unit) const {
  const int64_t units = (total + unit - 1) / unit;
  const auto border = [&](int64_t r) { return std::min(units * r / size * unit, total); };
  return {border(rank), border(rank + 1) - border(rank)};
}

std::byte* WeightSharder::allocate(std::size_t bytes) {
  copies_.emplace_back(host_memory().allocate(bytes));
  return copies_.back().get();
}

WeightView WeightSharder::elements(const WeightView& vector, const ShardRange& range) {
  if (!vector.defined()) return {};
  FATHOM_CHECK(vector.rows == 1 && range.begin + range.count <= vector.cols) << vector.cols;
  WeightView out = vector;
  out.data += dtype_row_bytes(vector.dtype, range.begin);
  out.cols = range.count;
  return out;
}

WeightView WeightSharder::rows(const WeightView& matrix, const ShardRange& range) {
  return matrix.defined() ? matrix.row_range(range.begin, range.count) : WeightView{};
}

WeightView WeightSharder::own_rows(const WeightView& matrix, const ShardRange& range) {
  WeightView out = rows(matrix, range);
  if (!shard_.copies) return out;
  std::byte* const data = allocate(static_cast<std::size_t>(out.bytes()));
  std::memcpy(data, out.data, static_cast<std::size_t>(out.bytes()));
  out.data = data;
  return out;
}

Result<WeightView> WeightSharder::columns(const WeightView& m, const ShardRange& range,
                                          const std::string& name) {
  if (shard_.whole()) return m;
  const int64_t block = block_elements(m.dtype);
  FATHOM_CHECK(range.begin >= 0 && range.count > 0 && range.begin + range.count <= m.cols)
      << range.begin << "+" << range.count << " of " << m.cols;
  if (range.begin % block != 0 || range.count % block != 0) {
    return invalid_argument(
        fmt::format("{}: columns {} to {} would be rank {}'s of {}, expected whole blocks of {} "
                    "({}): a smaller "
                    "--tensor-parallel, or another type of weights",
                    name, range.begin, range.begin + range.count, shard_.rank, shard_.size, block,
                    dtype_name(m.dtype)));
  }
  WeightView out = m;
  out.cols = range.count;
  if (!shard_.copies) return out;
  const auto row_bytes = static_cast<std::size_t>(out.row_bytes());
  std::byte* const data = allocate(static_cast<std::size_t>(m.rows) * row_bytes);
  const std::byte* const from = m.data + dtype_row_bytes(m.dtype, range.begin);
  for (int64_t r = 0; r < m.rows; ++r)
    std::memcpy(data + static_cast<std::size_t>(r) * row_bytes, from + r * m.row_bytes(),
                row_bytes);
  out.data = data;
  if (m.exponents != nullptr) {
    const auto width = static_cast<std::size_t>(range.count / kF4Block);
    std::byte* const exponents = allocate(static_cast<std::size_t>(m.rows) * width);
    for (int64_t r = 0; r < m.rows; ++r)
      std::memcpy(exponents + static_cast<std::size_t>(r) * width,
                  m.exponents + (r * m.cols + range.begin) / kF4Block, width);
    out.exponents = reinterpret_cast<const uint8_t*>(exponents);
  }
  if (m.scales != nullptr) {
    // Where the part does not begin with a block, in smaller blocks that it does begin with.
    out.scale_block_cols = std::gcd(range.begin, m.scale_block_cols);
    out.scale_stride = (range.count + out.scale_block_cols - 1) / out.scale_block_cols;
    const int64_t first = m.scale_row0 / m.scale_block_rows;
    const int64_t block_rows = (m.scale_row0 + m.rows - 1) / m.scale_block_rows + 1 - first;
    auto* const scales = reinterpret_cast<float*>(
        allocate(static_cast<std::size_t>(block_rows * out.scale_stride) * sizeof(float)));
    for (int64_t r = 0; r < block_rows; ++r)
      for (int64_t c = 0; c < out.scale_stride; ++c)
        scales[r * out.scale_stride + c] =
            m.scales[(first + r) * m.scale_stride +
                     (range.begin + c * out.scale_block_cols) / m.scale_block_cols];
    out.scales = scales;
    out.scale_row0 = m.scale_row0 - first * m.scale_block_rows;
  }
  return out;
}

Result<SwigluWeights> WeightSharder::swiglu(const SwigluWeights& w, const std::string& prefix) {
  if (shard_.whole()) return w;
  const int64_t inner = w.down.cols, block = block_elements(w.down.dtype);
  int64_t unit = std::lcm(block, kInnerUnit);
  if (inner < unit * shard_.size) unit = block;
  if (inner < unit * shard_.size) {
    return invalid_argument(
        fmt::format("{}down_proj.weight: its {} columns are {} blocks of {} ({}), expected one or "
                    "more for each "
                    "of {} ranks: a smaller --tensor-parallel, or another type of weights",
                    prefix, inner, inner / block, block, dtype_name(w.down.dtype), shard_.size));
  }
  const ShardRange range = shard_.part(inner, unit);
  SwigluWeights out;
  out.gate = rows(w.gate, range);
  out.up = rows(w.up, range);
  FATHOM_TRY(out.down, columns(w.down, range, prefix + "down_proj.weight"));
  out.gate_bias = elements(w.gate_bias, range);
  out.up_bias = elements(w.up_bias, range);
  out.down_bias = once(w.down_bias);
  return out;
}

}  // namespace fathom
