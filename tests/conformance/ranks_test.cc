// What ranks say to each other: the same bits from every backend, whatever the size of a message.
#include "ops/ranks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "support/backend.h"

namespace fathom::test {
namespace {

// What rank r brings.
std::vector<float> values_of(int r, int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  uint32_t state = 12345u + static_cast<uint32_t>(r) * 977u;
  for (float& x : out) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int32_t>(state)) * 1e-7f;
  }
  return out;
}

TensorView put(Workspace& workspace, const std::vector<float>& values, int64_t rows) {
  const TensorView x = workspace.f32(rows, static_cast<int64_t>(values.size()) / rows);
#ifdef FATHOM_TEST_CUDA
  FATHOM_CUDA_CHECK(cudaMemcpy(x.data, values.data(), values.size() * 4, cudaMemcpyHostToDevice));
#else
  std::memcpy(x.data, values.data(), values.size() * 4);
#endif
  return x;
}

std::vector<float> get(Ops& ops, const TensorView& x) {
  std::vector<float> out(static_cast<std::size_t>(x.rows * x.cols));
  ops.read(x, {.data = reinterpret_cast<std::byte*>(out.data()),
               .rows = x.rows,
               .cols = x.cols,
               .row_stride = x.cols});
  return out;
}

class RanksConformance : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    ops_ = make_backends(GetParam(), {.threads = 1});
    if (ops_ == nullptr) GTEST_SKIP() << "too few GPUs";
  }
  std::unique_ptr<Ops> ops_;
};

TEST_P(RanksConformance, SumsInOrderOfRank) {
  const int size = GetParam();
  // Of 3, 30 KB, 1 MB and 15 MB; not all can be divided by the ranks.
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{1, 3}, {1, 7168}, {37, 7168}, {37, 7171}, {512, 7168}}) {
    const int64_t count = rows * cols;
    std::vector<float> expected = values_of(0, count);
    for (int r = 1; r < size; ++r) {
      const std::vector<float> other = values_of(r, count);
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += other[i];
    }
    ops_->ranks()->run([&](int r) {
      Ops& own = ops_->ranks()->ops(r);
      Workspace workspace(own.memory());
      const TensorView x = put(workspace, values_of(r, count), rows);
      own.all_reduce(x);
      const bool same = get(own, x) == expected;
      EXPECT_TRUE(same) << "rank " << r << " of " << size << ", " << rows << "x" << cols;
    });
  }
}

TEST_P(RanksConformance, BroadcastAndGather) {
  const int size = GetParam();
  constexpr int64_t kRows = 5;
  for (const int64_t cols : {size + 1, 1536, 129280}) {
    const std::vector<float> whole = values_of(7, kRows * cols);
    ops_->ranks()->run([&](int r) {
      Ops& own = ops_->ranks()->ops(r);
      Workspace workspace(own.memory());
      const TensorView x = put(workspace, r == 0 ? whole : values_of(r, kRows * cols), kRows);
      own.broadcast(x);
      const bool same = get(own, x) == whole;
      EXPECT_TRUE(same) << "rank " << r << " of " << size << ", " << cols << " columns";
      const int64_t begin = column_border(cols, r, size), end = column_border(cols, r + 1, size);
      std::vector<float> columns;
      for (int64_t i = 0; i < kRows; ++i)
        columns.insert(columns.end(), whole.begin() + i * cols + begin,
                       whole.begin() + i * cols + end);
      const TensorView part = put(workspace, columns, kRows);
      const TensorView out = put(workspace, values_of(9, kRows * cols), kRows);
      own.gather_columns({.part = part, .out = r == 0 ? out : TensorView{}});
      const bool gathered = r != 0 || get(own, out) == whole;
      EXPECT_TRUE(gathered) << size << " ranks, " << cols << " columns";
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, RanksConformance, testing::Values(1, 2, 3, 4, 8));

}  // namespace
}  // namespace fathom::test
