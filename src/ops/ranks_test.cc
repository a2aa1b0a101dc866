#include "ops/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "ops/reference/reference_ops.h"

namespace fathom {
namespace ranks_test {

Result<std::unique_ptr<Ranks>> make_ranks(int size) {
  auto communicators = make_host_communicators(size);
  return Ranks::create(size, [&](int r) -> Result<Rank> {
    return Rank{std::make_unique<ReferenceOps>(),
                std::move(communicators[static_cast<std::size_t>(r)])};
  });
}

TEST(RanksTest, SumsAreInOrderOfRankAndTheSameEverywhere) {
  // In another order 1e8 swallows the 1.
  const std::array<float, 3> values = {1e8f, -1e8f, 1.0f};
  const float expected = (values[0] + values[1]) + values[2];
  ASSERT_NE(expected, (values[2] + values[1]) + values[0]);
  const auto ranks = *make_ranks(3);
  std::vector<std::vector<float>> x(3);
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (std::size_t r = 0; r < 3; ++r) x[r].assign(35, values[r]);
    ranks->run([&](int r) {
      TensorView view{.rows = 5, .cols = 7, .row_stride = 7};
      view.data = reinterpret_cast<std::byte*>(x[static_cast<std::size_t>(r)].data());
      ranks->ops(r).all_reduce(view);
    });
    for (const auto& v : x) EXPECT_EQ(v, std::vector<float>(35, expected));
  }
}

TEST(RanksTest, BroadcastAndGather) {
  const auto ranks = *make_ranks(3);
  std::array<std::vector<float>, 3> shared, parts;
  std::vector<float> out(2 * 5);
  for (std::size_t r = 0; r < 3; ++r) {
    shared[r].assign(4, static_cast<float>(r + 1));
    parts[r].assign(2 * (r == 0 ? 1 : 2), static_cast<float>(10 * r));  // of 5 columns 1, 2, 2
  }
  ranks->run([&](int r) {
    const auto i = static_cast<std::size_t>(r);
    const auto view = [](std::vector<float>& v, int64_t cols) {
      return TensorView{.data = reinterpret_cast<std::byte*>(v.data()),
                        .rows = 2,
                        .cols = cols,
                        .row_stride = cols};
    };
    ranks->ops(r).broadcast(view(shared[i], 2));
    ranks->ops(r).gather_columns(
        {.part = view(parts[i], r == 0 ? 1 : 2), .out = r == 0 ? view(out, 5) : TensorView{}});
  });
  for (const auto& v : shared) EXPECT_EQ(v, std::vector<float>(4, 1));
  EXPECT_EQ(out, (std::vector<float>{0, 10, 10, 20, 20, 0, 10, 10, 20, 20}));
}

TEST(RanksTest, MirroredMemoryStandsOnEveryRank) {
  const auto ranks = *make_ranks(2);
  Memory& memory = ranks->mirrored_memory();
  EXPECT_FALSE(memory.on_host());
  std::byte* const first = memory.allocate(256);
  std::byte* const second = memory.allocate(128);
  KvPages pages{.data = second + 64, .page_rows = 4, .row_elements = 2};
  const KvPages mine = ranks->pages_of(0, pages), other = ranks->pages_of(1, pages);
  EXPECT_EQ(mine.data, second + 64);
  EXPECT_NE(other.data, mine.data);
  EXPECT_EQ(other.page_rows, 4);
  std::memset(other.data, 1, 64);
  memory.zero(second + 72, 56);
  EXPECT_EQ(std::to_integer<int>(other.data[7]), 1);
  EXPECT_EQ(std::to_integer<int>(other.data[8]), 0);
  EXPECT_EQ(ranks->pages_of(1, {}).data, nullptr);
  memory.release(first);
  memory.release(second);
}

TEST(RanksTest, RanksHaveThreadsOfTheirOwnForGood) {
  const auto ranks = *make_ranks(3);
  std::array<std::thread::id, 3> ids, again;
  ranks->run([&](int r) { ids[static_cast<std::size_t>(r)] = std::this_thread::get_id(); });
  ranks->run([&](int r) { again[static_cast<std::size_t>(r)] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_NE(ids[1], ids[2]);
  EXPECT_EQ(ids, again);
}

TEST(RanksTest, ARankThatCannotBeMadeIsTheError) {
  const auto ranks = Ranks::create(2, [](int r) -> Result<Rank> {
    if (r == 1) return not_found("no device for rank 1");
    auto communicators = make_host_communicators(2);
    return Rank{std::make_unique<ReferenceOps>(), std::move(communicators[0])};
  });
  ASSERT_FALSE(ranks.has_value());
  EXPECT_EQ(ranks.error().message, "no device for rank 1");
}

TEST(RanksTest, TheEngineSeesRankZeroWithTheOthersBehind) {
  ParallelOps ops(*make_ranks(2));
  EXPECT_EQ(std::string(ops.description()).rfind("2 ranks of ", 0), 0u);
  EXPECT_EQ(ops.ranks()->size(), 2);
  EXPECT_TRUE(ops.memory().on_host());
  EXPECT_FALSE(ops.cache_memory().on_host());
  OpsDecorator decorated(static_cast<Ops&>(ops));
  EXPECT_EQ(decorated.ranks(), ops.ranks());
  EXPECT_EQ(&decorated.cache_memory(), &ops.cache_memory());
}

TEST(RanksTest, OneBackendAloneHasNobodyToAddUpWith) {
  ReferenceOps ops;
  EXPECT_EQ(ops.ranks(), nullptr);
  EXPECT_DEATH(ops.all_reduce({}), "tensor_parallel");
}

}  // namespace ranks_test
}  // namespace fathom
