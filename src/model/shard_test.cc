#include "model/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "quant/codec.h"

namespace fathom {
namespace shard_test {

using testing::HasSubstr;

std::vector<float> row_of(const WeightView& w, int64_t row) {
  std::vector<float> out(static_cast<std::size_t>(w.cols));
  quant::decode_row(w, row, out.data());
  return out;
}

// The ranks' columns of every row, side by side.
std::vector<float> joined(const WeightView& w, int size, int64_t unit) {
  std::vector<float> out;
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int rank = 0; rank < size; ++rank) {
      WeightSharder sharder({.rank = rank, .size = size});
      const auto part = sharder.columns(w, sharder.shard().part(w.cols, unit), "w");
      if (!part) {
        ADD_FAILURE() << part.error().message;
        return {};
      }
      const auto row = row_of(*part, r);
      out.insert(out.end(), row.begin(), row.end());
    }
  }
  return out;
}

std::vector<float> all_rows(const WeightView& w) {
  std::vector<float> out;
  for (int64_t r = 0; r < w.rows; ++r) {
    const auto row = row_of(w, r);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

TEST(Shard, PartsStandSideBySideInWholeUnits) {
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    for (const int64_t total : {8, 320, 336, 513}) {
      for (const int64_t unit : {1, 32, 64}) {
        int64_t at = 0, least = total, most = 0;
        for (int rank = 0; rank < size; ++rank) {
          const ShardRange part = Shard{.rank = rank, .size = size}.part(total, unit);
          EXPECT_EQ(part.begin, at);
          EXPECT_EQ(part.begin % unit == 0 || part.count == 0, true) << part.begin;
          at += part.count;
          least = std::min(least, part.count);
          most = std::max(most, part.count);
        }
        EXPECT_EQ(at, total) << size << " " << unit;
        EXPECT_LE(most - least, unit + unit - 1) << size << " " << total << " " << unit;
      }
    }
  }
}

TEST(Shard, ColumnsOfFloats) {
  std::vector<float> values(5 * 12);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  WeightView w{.data = reinterpret_cast<const std::byte*>(values.data()), .rows = 5, .cols = 12};
  for (const int size : {1, 2, 3, 5, 12}) EXPECT_EQ(joined(w, size, 1), values) << size;
}

TEST(Shard, ColumnsOfBlocksAndWhereTheyAreTorn) {
  std::vector<float> row(128);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i) - 50;
  std::vector<std::byte> bytes(static_cast<std::size_t>(2 * dtype_row_bytes(DType::kQ8_0, 128)));
  quant::encode(DType::kQ8_0, row.data(), 128, nullptr, bytes.data());
  for (float& x : row) x *= -3;
  quant::encode(DType::kQ8_0, row.data(), 128, nullptr, bytes.data() + bytes.size() / 2);
  const WeightView w{.data = bytes.data(), .dtype = DType::kQ8_0, .rows = 2, .cols = 128};
  for (const int size : {2, 3, 4}) EXPECT_EQ(joined(w, size, 32), all_rows(w)) << size;
  WeightSharder sharder({.rank = 1, .size = 8});
  const auto torn = sharder.columns(w, sharder.shard().part(128), "model.layers.3.o_proj.weight");
  ASSERT_FALSE(torn.has_value());
  EXPECT_THAT(torn.error().message, HasSubstr("model.layers.3.o_proj.weight: columns 16 to 32"));
  EXPECT_THAT(torn.error().message, HasSubstr("whole blocks of 32 (Q8_0)"));
}

// Scales of 128x128 values: parts that begin within a block, rows that do too.
TEST(Shard, ColumnsOfScaledBlocks) {
  constexpr int64_t kRows = 200, kCols = 320;
  std::vector<uint8_t> bytes(kRows * kCols);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 % 120);
  const std::array<float, 6> scales = {1, 2, 3, 4, 5, 6};
  const WeightView w{.data = reinterpret_cast<const std::byte*>(bytes.data()),
                     .dtype = DType::kF8E4M3,
                     .rows = kRows,
                     .cols = kCols,
                     .scales = scales.data(),
                     .scale_block_rows = 128,
                     .scale_block_cols = 128,
                     .scale_stride = 3};
  for (const WeightView& part : {w, w.row_range(100, 60), w.row_range(130, 70)})
    for (const int size : {2, 4, 5})
      for (const int64_t unit : {1, 64})
        EXPECT_EQ(joined(part, size, unit), all_rows(part)) << size;
}

TEST(Shard, ColumnsOfF4WithTheirExponents) {
  constexpr int64_t kRows = 3, kCols = 128;
  std::vector<uint8_t> bytes(kRows * kCols / 2), exponents(kRows * kCols / kF4Block);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37);
  for (std::size_t i = 0; i < exponents.size(); ++i) exponents[i] = static_cast<uint8_t>(120 + i);
  const WeightView w{.data = reinterpret_cast<const std::byte*>(bytes.data()),
                     .dtype = DType::kF4E2M1,
                     .rows = kRows,
                     .cols = kCols,
                     .exponents = exponents.data()};
  for (const int size : {2, 4}) EXPECT_EQ(joined(w, size, 32), all_rows(w)) << size;
}

TEST(Shard, SwigluPartsAddUpAndBiasesAreAddedOnce) {
  constexpr int64_t kHidden = 2, kInner = 6;
  const std::vector<float> gate(kInner * kHidden, 1), down(kHidden * kInner, 2),
      inner_bias(kInner, 3);
  const std::vector<float> bias(kHidden, 4);
  const auto view = [](const std::vector<float>& v, int64_t rows, int64_t cols) {
    return WeightView{
        .data = reinterpret_cast<const std::byte*>(v.data()), .rows = rows, .cols = cols};
  };
  const SwigluWeights w{.gate = view(gate, kInner, kHidden),
                        .up = view(gate, kInner, kHidden),
                        .down = view(down, kHidden, kInner),
                        .gate_bias = view(inner_bias, 1, kInner),
                        .up_bias = {},
                        .down_bias = view(bias, 1, kHidden)};
  WeightSharder second({.rank = 1, .size = 3});
  const SwigluWeights part = *second.swiglu(w, "mlp.");
  EXPECT_EQ(part.gate.rows, 2);
  EXPECT_EQ(part.gate.data, w.gate.row_range(2, 2).data);
  EXPECT_EQ(part.down.rows, 2);
  EXPECT_EQ(part.down.cols, 2);
  EXPECT_EQ(part.gate_bias.f32(), w.gate_bias.f32() + 2);
  EXPECT_FALSE(part.up_bias.defined());
  EXPECT_FALSE(part.down_bias.defined());
  WeightSharder first({.rank = 0, .size = 3});
  EXPECT_EQ(first.swiglu(w, "mlp.")->down_bias.data, w.down_bias.data);
  WeightSharder many({.rank = 0, .size = 7});
  const auto refused = many.swiglu(w, "model.layers.0.mlp.");
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("each of 7 ranks"));
}

}  // namespace shard_test
}  // namespace fathom
