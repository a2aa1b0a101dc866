// A backend (support/backend.h) against ReferenceOps on selection, compressed rows and the residual
// streams.
#include <gtest/gtest.h>

#include <numeric>

#include "ops/reference/reference_ops.h"
#include "support/backend.h"
#include "support/cached_step.h"

namespace fathom::test {
namespace {

// Sequences over a cache of several kinds of rows, all filled with random values.
struct SparseStep {
  SparseStep(std::mt19937& rng, std::span<const KvLayerSpec> specs,
             const std::vector<std::pair<int64_t, int64_t>>& start_and_rows,
             DType type = DType::kF32)
      : cache(*KvCache::create(specs, {.capacity_tokens = 4096,
                                       .page_tokens = 16,
                                       .type = type,
                                       .window_tokens = 40,
                                       .window_sequences = 4})),
        tables(start_and_rows.size()) {
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const auto [start, count] = start_and_rows[i];
      EXPECT_TRUE(cache.cover(start + count, tables[i]));
      std::shuffle(tables[i].pages.begin(), tables[i].pages.end(), rng);
      std::shuffle(tables[i].window_pages.begin(), tables[i].window_pages.end(), rng);
      sequences.push_back({.first_row = rows,
                           .num_rows = count,
                           .start_position = start,
                           .pages = tables[i].pages,
                           .window_pages = tables[i].window_pages});
      rows += count;
      for (const KvPages& kv : cache.layers()) {
        std::normal_distribution<float> normal(0, 1);
        for (int64_t r = 0; r < (start + count) / kv.tokens_per_row; ++r) {
          auto* row = reinterpret_cast<float*>(kv.row(sequences.back(), r));
          std::generate_n(row, kv.row_elements, [&] { return normal(rng); });
        }
      }
    }
  }
  KvCache cache;
  std::vector<PageTables> tables;
  std::vector<SequenceRows> sequences;
  int64_t rows = 0;
};

struct Ids {
  Ids(int64_t rows, int64_t cols)
      : values(static_cast<std::size_t>(rows * cols), -7),
        view{reinterpret_cast<std::byte*>(values.data()), DType::kI32, rows, cols, cols} {}
  std::vector<int32_t> values;
  TensorView view;
};

TEST(SparseTest, SelectsTheBestRows) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(3);
  for_each_target([&] {
    for (const int64_t tokens_per_row : {1, 4}) {
      for (const auto& [heads, dim] : {std::pair{3, 5}, std::pair{16, 32}, std::pair{70, 17}}) {
        for (const auto& batch : kBatches) {
          for (const bool ties : {false, true}) {
            SparseStep step(
                rng, std::array{KvLayerSpec{.row_elements = dim, .tokens_per_row = tokens_per_row}},
                batch);
            Matrix q(step.rows, heads * dim, 1), w(step.rows, heads, 1);
            q.fill(rng);
            w.fill(rng);
            if (ties) {  // many scores are exactly 0
              for (int64_t t = 0; t < step.rows; ++t)
                std::fill_n(q.view().f32(t), heads * dim, t % 2 == 0 ? 0.0f : 1.0f);
            }
            Ids expected(step.rows, 9), actual(step.rows, 9);
            SelectRowsArgs args{.q = q.view(),
                                .weights = w.view(),
                                .keys = step.cache.layers()[0],
                                .sequences = step.sequences,
                                .heads = heads,
                                .out = expected.view};
            reference.select_rows(args);
            args.out = actual.view;
            backend.select_rows(args);
            // Sums in another order may swap two rows of nearly the same score; random ones are
            // far enough apart.
            EXPECT_EQ(actual.values, expected.values) << heads << " " << ties;
          }
        }
      }
    }
  });
}

TEST(SparseTest, CompressesWholeWindows) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(4);
  const std::vector<double> frequencies = {1.0, 0.1, 0.003};
  for_each_target([&] {
    for (const auto& [rate, overlap] : {std::pair{4, true}, std::pair{16, false}}) {
      const int64_t entry = 11, width = overlap ? 2 * entry : entry;
      const Weight ape(rng, DType::kF32, rate, width), norm(rng, DType::kF32, 1, entry);
      for (const auto& batch : kBatches) {
        const std::array specs = {
            KvLayerSpec{.row_elements = 2 * width, .window = true, .exact = true},
            KvLayerSpec{.row_elements = entry, .tokens_per_row = rate}};
        SparseStep step(rng, specs, batch);
        CompressArgs args{.source = step.cache.layers()[0],
                          .out = step.cache.layers()[1],
                          .sequences = step.sequences,
                          .overlap = overlap,
                          .ape = ape,
                          .norm = norm,
                          .eps = 1e-6f,
                          .inverse_frequencies = frequencies};
        const auto entries = [&] {
          std::vector<float> out;
          for (const SequenceRows& s : step.sequences) {
            for (int64_t r = 0; r < (s.start_position + s.num_rows) / rate; ++r) {
              const auto* row = reinterpret_cast<const float*>(args.out.row(s, r));
              out.insert(out.end(), row, row + entry);
            }
          }
          return out;
        };
        const std::vector<float> before = entries();
        reference.compress(args);
        const std::vector<float> expected = entries();
        for (const SequenceRows& s : step.sequences)  // undone, so that it is computed again
          for (int64_t r = s.start_position / rate; r < (s.start_position + s.num_rows) / rate; ++r)
            std::fill_n(reinterpret_cast<float*>(args.out.row(s, r)), entry, 99.0f);
        backend.compress(args);
        const std::vector<float> actual = entries();
        ASSERT_EQ(actual.size(), expected.size());
        std::size_t changed = 0;
        for (std::size_t i = 0; i < actual.size(); ++i) {
          ASSERT_NEAR(actual[i], expected[i], 1e-4) << i;
          changed += expected[i] != before[i];
        }
        int64_t complete = 0;
        for (const SequenceRows& s : step.sequences)
          complete += (s.start_position + s.num_rows) / rate - s.start_position / rate;
        EXPECT_EQ(changed, static_cast<std::size_t>(complete * entry));
      }
    }
  });
}

TEST(SparseTest, SharedKeysWithSinks) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(5);
  const int64_t dim = 32;
  for_each_target([&] {
    for (const int64_t heads : {1, 5, 40}) {
      for (const auto& batch : kBatches) {
        const std::array specs = {KvLayerSpec{.row_elements = dim, .window = true},
                                  KvLayerSpec{.row_elements = dim, .tokens_per_row = 4}};
        SparseStep step(rng, specs, batch);
        const Weight sinks(rng, DType::kF32, 1, heads);
        Matrix q(step.rows, heads * dim, 1);
        Matrix expected(step.rows, heads * dim), actual(step.rows, heads * dim, 1);
        q.fill(rng);
        SharedKvAttentionArgs args{.q = q.view(),
                                   .window = step.cache.layers()[0],
                                   .sinks = sinks,
                                   .sequences = step.sequences,
                                   .heads = heads,
                                   .head_dim = dim,
                                   .window_tokens = 24,
                                   .scale = 0.2f};
        const auto compare = [&](const char* what) {
          args.out = expected.view();
          reference.shared_kv_attention(args);
          args.out = actual.view();
          backend.shared_kv_attention(args);
          expect_close(actual.view(), expected.view(), 1e-4, what);
        };
        compare("window");
        args.compressed = step.cache.layers()[1];
        compare("all entries");
        Ids selected(step.rows, 6);
        for (const SequenceRows& s : step.sequences) {
          for (int64_t i = 0; i < s.num_rows; ++i) {
            const int64_t visible = (s.start_position + i + 1) / 4;
            std::vector<int32_t> rows(static_cast<std::size_t>(visible));
            std::iota(rows.begin(), rows.end(), 0);
            std::shuffle(rows.begin(), rows.end(), rng);
            rows.resize(6, -1);
            if (visible > 6)
              std::copy(rows.begin(), rows.end(), selected.view.i32(s.first_row + i));
          }
        }
        args.selected = selected.view;
        compare("selected entries");
      }
    }
  });
}

// Tokens that see few positions attend to all, others in the same step to their selection.
TEST(SparseTest, LatentAttentionOnSelectedPositions) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(6);
  const int64_t heads = 3, nope = 20, rope = 8, v_dim = 12, rank = 150;
  const Weight kv_b(rng, DType::kF32, heads * (nope + v_dim), rank);
  for_each_target([&] {
    for (const auto& batch : kBatches) {
      SparseStep step(rng, std::array{KvLayerSpec{.row_elements = rank + rope}}, batch);
      Ids selected(step.rows, 7);
      for (const SequenceRows& s : step.sequences) {
        for (int64_t i = 0; i < s.num_rows; ++i) {
          std::vector<int32_t> rows(static_cast<std::size_t>(s.start_position + i + 1));
          if (rows.size() <= 7) continue;
          std::iota(rows.begin(), rows.end(), 0);
          std::shuffle(rows.begin(), rows.end(), rng);
          std::copy_n(rows.begin(), 7, selected.view.i32(s.first_row + i));
        }
      }
      Matrix q(step.rows, heads * (nope + rope), 1);
      Matrix expected(step.rows, heads * v_dim), actual(step.rows, heads * v_dim, 2);
      q.fill(rng, 0.2f);
      MlaAttentionArgs args{.q = q.view(),
                            .kv_b = kv_b,
                            .kv = step.cache.layers()[0],
                            .sequences = step.sequences,
                            .heads = heads,
                            .qk_nope_head_dim = nope,
                            .qk_rope_head_dim = rope,
                            .v_head_dim = v_dim,
                            .kv_lora_rank = rank,
                            .scale = 0.2f,
                            .selected = selected.view,
                            .out = expected.view()};
      reference.mla_attention(args);
      args.out = actual.view();
      backend.mla_attention(args);
      expect_close(actual.view(), expected.view(), 1e-4, "selected");
    }
  });
}

TEST(SparseTest, Streams) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(7);
  for_each_target([&] {
    for (const int64_t n : {1, 2, 4}) {
      for (const int64_t tokens : {0, 1, 9}) {
        const int64_t hidden = 37, outputs = (2 + n) * n;
        const Weight base(rng, DType::kF32, 1, outputs), scale(rng, DType::kF32, 1, 3);
        Matrix z(tokens, outputs, 1), streams(tokens, n * hidden), copy(tokens, n * hidden);
        z.fill(rng, 2);
        streams.fill(rng);
        Matrix pre(tokens, n), post(tokens, n), mix(tokens, n * n), x(tokens, hidden);
        Matrix pre2(tokens, n), post2(tokens, n), mix2(tokens, n * n), x2(tokens, hidden);
        StreamWeightsArgs args{.z = z.view(),
                               .base = base,
                               .scale = scale,
                               .streams = n,
                               .iterations = 20,
                               .eps = 1e-6f,
                               .pre = pre.view(),
                               .post = post.view(),
                               .mix = mix.view()};
        reference.stream_weights(args);
        args.pre = pre2.view();
        args.post = post2.view();
        args.mix = mix2.view();
        backend.stream_weights(args);
        expect_close(pre2.view(), pre.view(), 1e-6, "pre");
        expect_close(post2.view(), post.view(), 1e-6, "post");
        expect_close(mix2.view(), mix.view(), 1e-6, "mix");
        for (int64_t t = 0; t < tokens; ++t) {  // doubly stochastic
          for (int64_t i = 0; i < n; ++i) {
            float row = 0, column = 0;
            for (int64_t j = 0; j < n; ++j) {
              row += mix.view().f32(t)[i * n + j];
              column += mix.view().f32(t)[j * n + i];
            }
            EXPECT_NEAR(row, 1, 0.05);
            EXPECT_NEAR(column, 1, 1e-4);
          }
        }
        reference.read_streams({streams.view(), pre.view(), x.view()});
        backend.read_streams({streams.view(), pre.view(), x2.view()});
        expect_close(x2.view(), x.view(), 1e-6, "read");
        copy.copy(streams);
        reference.write_streams({streams.view(), post.view(), mix.view(), x.view()});
        backend.write_streams({copy.view(), post.view(), mix.view(), x.view()});
        expect_close(copy.view(), streams.view(), 1e-6, "write");
        reference.copy_to_streams({x.view(), streams.view()});
        backend.copy_to_streams({x.view(), copy.view()});
        expect_close(copy.view(), streams.view(), 0, "copy");
      }
    }
  });
}

}  // namespace
}  // namespace fathom::test
