// A step over a paged cache whose earlier rows are random, for tests of the ops that read it.
#pragma once

#include <algorithm>
#include <array>
#include <random>
#include <utility>
#include <vector>

#include "engine/kv_cache.h"
#include "support/random_data.h"

namespace fathom::test {

// Sequences of a step over a cache whose earlier rows are random.
struct CachedStep {
  CachedStep(std::mt19937& rng, int64_t row_elements, int64_t page_tokens,
             std::vector<std::pair<int64_t, int64_t>> start_and_rows)
      : cache(
            *KvCache::create(std::array{KvLayerSpec{.row_elements = 3}, KvLayerSpec{row_elements}},
                             {.capacity_tokens = 4096, .page_tokens = page_tokens})),
        kv(cache.layers()[1]) {
    tables.resize(start_and_rows.size());
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const auto [start, count] = start_and_rows[i];
      EXPECT_TRUE(cache.pages().take(cache.pages_for(start + count), tables[i]));
      std::shuffle(tables[i].begin(), tables[i].end(), rng);
      sequences.push_back(
          {.first_row = rows, .num_rows = count, .start_position = start, .pages = tables[i]});
      rows += count;
      for (int64_t p = 0; p < start; ++p) {
        std::normal_distribution<float> normal(0, 1);
        auto* row = reinterpret_cast<float*>(kv.row(tables[i], p));
        std::generate_n(row, row_elements, [&] { return normal(rng); });
      }
    }
  }
  KvCache cache;
  KvPages kv;
  std::vector<std::vector<int32_t>> tables;
  std::vector<SequenceRows> sequences;
  int64_t rows = 0;
};

// Start and number of rows of each sequence.
inline const std::vector<std::vector<std::pair<int64_t, int64_t>>> kBatches = {
    {{0, 1}}, {{0, 70}}, {{65, 1}}, {{0, 9}, {130, 3}, {31, 1}, {0, 1}}};

}  // namespace fathom::test
