// Tests of the paged cache: accounting of pages, rows that never overlap, refusal of absurd sizes.
#include "engine/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace fathom {
namespace kv_cache_test {

const std::vector<KvLayerSpec> kLayers = {{3}, {8}, {1}, {5}};

KvCache cache_of(int64_t tokens, int64_t page_tokens) {
  auto cache = KvCache::create(kLayers, {.capacity_tokens = tokens, .page_tokens = page_tokens});
  if (!cache) ADD_FAILURE() << cache.error().message;
  return *std::move(cache);
}

void give_back(KvCache& cache, std::vector<int32_t>& table) {
  PageTables tables{.pages = std::move(table), .window_pages = {}};
  cache.give_back(tables);
  table = std::move(tables.pages);
}

TEST(KvCacheTest, RoundsUpToWholePages) {
  const KvCache cache = cache_of(65, 16);
  EXPECT_EQ(cache.pages().total(), 5);
  EXPECT_EQ(cache.pages().free(), 5);
  EXPECT_EQ(cache.page_tokens(), 16);
  EXPECT_EQ(cache.pages_for(0), 0);
  EXPECT_EQ(cache.pages_for(1), 1);
  EXPECT_EQ(cache.pages_for(16), 1);
  EXPECT_EQ(cache.pages_for(17), 2);
  EXPECT_EQ(kv_bytes_per_token(kLayers), 4 * (3 + 8 + 1 + 5));
}

TEST(KvCacheTest, TakesAllOrNothing) {
  KvCache cache = cache_of(8 * 4, 4);
  std::vector<int32_t> a = {-7}, b;
  EXPECT_TRUE(cache.pages().take(5, a));  // appends
  EXPECT_EQ(a.size(), 6u);
  EXPECT_EQ(a[0], -7);
  EXPECT_EQ(cache.pages().free(), 3);
  EXPECT_FALSE(cache.pages().take(4, b));
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(cache.pages().free(), 3);
  EXPECT_TRUE(cache.pages().take(0, b));
  EXPECT_TRUE(cache.pages().take(3, b));
  EXPECT_EQ(cache.pages().free(), 0);
  EXPECT_FALSE(cache.pages().take(1, b));
  a.erase(a.begin());
  give_back(cache, a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(cache.pages().free(), 5);
  give_back(cache, b);
  EXPECT_EQ(cache.pages().free(), 8);
  give_back(cache, b);  // empty: nothing happens
  EXPECT_EQ(cache.pages().free(), 8);
}

// A thousand random moves: no page is in two tables, none is lost.
TEST(KvCacheTest, TablesStayDisjoint) {
  constexpr int64_t kPages = 37;
  KvCache cache = cache_of(kPages * 2, 2);
  std::vector<std::vector<int32_t>> tables(6);
  std::mt19937 rng(1);
  for (int move = 0; move < 1000; ++move) {
    std::vector<int32_t>& table = tables[rng() % tables.size()];
    if (rng() % 3 == 0) {
      give_back(cache, table);
    } else {
      cache.pages().take(static_cast<int64_t>(rng() % 12), table);
    }
    std::set<int32_t> held;
    std::size_t count = 0;
    for (const auto& t : tables) {
      held.insert(t.begin(), t.end());
      count += t.size();
    }
    ASSERT_EQ(held.size(), count) << "a page is held twice after move " << move;
    ASSERT_EQ(static_cast<int64_t>(count) + cache.pages().free(), kPages);
    if (!held.empty()) {
      ASSERT_GE(*held.begin(), 0);
      ASSERT_LT(*held.rbegin(), kPages);
    }
  }
}

// Fills every row of every layer of two interleaved sequences with its own number, then reads all
// back.
TEST(KvCacheTest, RowsOfLayersPagesAndSequencesDoNotOverlap) {
  KvCache cache = cache_of(9 * 5, 5);
  std::vector<std::vector<int32_t>> tables(2);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(cache.pages().take(1, tables[i % 2]));
  ASSERT_TRUE(cache.pages().take(5, tables[1]));
  ASSERT_EQ(cache.layers().size(), kLayers.size());
  const auto each_row = [&](const auto& f) {
    float number = 1;
    for (const auto& table : tables) {
      for (int64_t p = 0; p < static_cast<int64_t>(table.size()) * 5; ++p) {
        for (std::size_t l = 0; l < kLayers.size(); ++l) {
          ASSERT_EQ(cache.layers()[l].row_elements, kLayers[l].row_elements);
          auto* row = reinterpret_cast<float*>(cache.layers()[l].row(table, p));
          for (int64_t i = 0; i < kLayers[l].row_elements; ++i) f(row[i], number++);
        }
      }
    }
    EXPECT_EQ(number - 1, 9 * 5 * 17);
  };
  each_row([](float& cell, float number) { cell = number; });
  each_row([](float& cell, float number) { ASSERT_EQ(cell, number); });
}

// What one tenant leaves in a page is not what another one finds there.
TEST(KvCacheTest, MtpRowsBeginAsZeroesAndWipedPagesAreEmpty) {
  std::vector<KvLayerSpec> layers(std::begin(kLayers), std::end(kLayers));
  layers.back().mtp = true;
  auto cache = KvCache::create(layers, {.capacity_tokens = 8 * 4, .page_tokens = 4});
  ASSERT_TRUE(cache) << cache.error().message;
  const auto sum = [&](int32_t page) {
    int64_t out = 0;
    for (const std::byte b : cache->bytes(page)) out += std::to_integer<int64_t>(b);
    return out;
  };
  const std::size_t page_bytes = 4 * 4 * (3 + 8 + 1 + 5);
  PageTables a, b;
  ASSERT_TRUE(cache->cover(8, a, 11) && cache->cover(8, b, 22));
  for (const auto* tables : {&a, &b}) {
    for (const int32_t page : tables->pages) {
      ASSERT_EQ(cache->bytes(page).size(), page_bytes);
      std::fill(cache->bytes(page).begin(), cache->bytes(page).end(), std::byte{1});
    }
  }
  const std::vector<int32_t> pages_a = a.pages, pages_b = b.pages;
  cache->give_back(a);
  ASSERT_TRUE(cache->cover(4, a, 11));
  EXPECT_EQ(sum(a.pages[0]), 4 * 4 * (3 + 8 + 1)) << "the last layer is the MTP module's";
  cache->give_back(b);
  cache->wipe(11);
  EXPECT_EQ(sum(a.pages[0]), 4 * 4 * (3 + 8 + 1)) << "somebody holds it";
  EXPECT_EQ(sum(pages_a[0] + pages_a[1] - a.pages[0]), 0);
  for (const int32_t page : pages_b) EXPECT_EQ(sum(page), page_bytes);
}

// Memory is reserved, not touched: a large cache is ready at once and usable at both ends.
TEST(KvCacheTest, LargeReservationsAreUsableAtBothEnds) {
  const std::vector<KvLayerSpec> layers = {{576}, {576}};
  auto cache = KvCache::create(layers, {.capacity_tokens = 4'000'000});  // 18 GB
  ASSERT_TRUE(cache) << cache.error().message;
  const std::vector<int32_t> ends = {0, static_cast<int32_t>(cache->pages().total() - 1)};
  for (const KvPages& layer : cache->layers()) {
    for (const int64_t position : {int64_t{0}, 2 * kDefaultPageTokens - 1}) {
      auto* row = reinterpret_cast<float*>(layer.row(ends, position));
      EXPECT_EQ(row[0], 0);
      row[575] = 1;
    }
  }
}

TEST(KvCacheTest, AbsurdSizesAreErrors) {
  const std::vector<KvLayerSpec> deep(4096, KvLayerSpec{int64_t{1} << 40});
  for (const int64_t tokens :
       {INT64_MAX, INT64_MAX - 63, int64_t{1} << 62, int64_t{1} << 40, int64_t{1} << 34}) {
    for (const auto& layers : {kLayers, deep}) {
      const auto cache = KvCache::create(layers, {.capacity_tokens = tokens});
      ASSERT_FALSE(cache) << tokens;
      EXPECT_EQ(cache.error().code, ErrorCode::kResourceLimit);
      EXPECT_THAT(cache.error().message, testing::HasSubstr(std::to_string(tokens)));
    }
  }
  EXPECT_FALSE(KvCache::create(deep, {.capacity_tokens = 1}));  // 2^54 bytes a token
  EXPECT_FALSE(KvCache::create(deep, {.capacity_tokens = 1 << 20}));
}

}  // namespace kv_cache_test
}  // namespace fathom
