// A backend (support/backend.h) against ReferenceOps on the ops that read and write the paged
// cache: ragged sequences, shuffled pages, page sizes that do not divide the lengths.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "engine/kv_cache.h"
#include "ops/reference/reference_ops.h"
#include "support/backend.h"
#include "support/cached_step.h"

namespace fathom::test {
namespace {

TEST(AttentionTest, GroupedQueries) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(7);
  for_each_target([&] {
    for (const auto& batch : kBatches) {
      for (const int64_t page_tokens : {16, 64}) {
        for (const auto& [heads, kv_heads, dim] :
             {std::array<int64_t, 3>{4, 4, 6}, std::array<int64_t, 3>{6, 2, 24}}) {
          CachedStep f(rng, 2 * kv_heads * dim, page_tokens, batch);
          Matrix q(f.rows, heads * dim), k(f.rows, kv_heads * dim, 1), v(f.rows, kv_heads * dim);
          Matrix expected(f.rows, heads * dim), actual(f.rows, heads * dim);
          q.fill(rng);
          k.fill(rng);
          v.fill(rng);
          backend.kv_append({std::array{k.view(), v.view()}, f.kv, f.sequences});
          AttentionArgs args{q.view(), f.kv, f.sequences, heads,
                             kv_heads, dim,  0.3f,        expected.view()};
          reference.attention(args);
          args.out = actual.view();
          backend.attention(args);
          expect_close(actual.view(), expected.view(), 1e-5, "attention");
          args.out = q.view();  // in place, as ops.h allows
          backend.attention(args);
          expect_close(q.view(), expected.view(), 1e-5, "attention in place");
        }
      }
    }
  });
}

TEST(AttentionTest, Latent) {
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  std::mt19937 rng(8);
  const int64_t heads = 3, nope = 20, rope = 8, v_dim = 12, rank = 150;
  for_each_target([&] {
    for (const auto& [dtype, block] : {std::pair{DType::kF32, 0}, std::pair{DType::kBF16, 0},
                                       std::pair{DType::kF16, 0}, std::pair{DType::kF8E4M3, 64}}) {
      const Weight kv_b(rng, dtype, heads * (nope + v_dim), rank, block);
      for (const auto& batch : kBatches) {
        CachedStep f(rng, rank + rope, 16, batch);
        Matrix q(f.rows, heads * (nope + rope), 1), row(f.rows, rank + rope);
        Matrix expected(f.rows, heads * v_dim), actual(f.rows, heads * v_dim, 2);
        q.fill(rng, 0.2f);
        row.fill(rng);
        backend.kv_append({std::span(&row.view(), 1), f.kv, f.sequences});
        MlaAttentionArgs args{.q = q.view(),
                              .kv_b = kv_b,
                              .kv = f.kv,
                              .sequences = f.sequences,
                              .heads = heads,
                              .qk_nope_head_dim = nope,
                              .qk_rope_head_dim = rope,
                              .v_head_dim = v_dim,
                              .kv_lora_rank = rank,
                              .scale = 0.2f,
                              .out = expected.view()};
        reference.mla_attention(args);
        args.out = actual.view();
        backend.mla_attention(args);
        expect_close(actual.view(), expected.view(), 1e-4, std::string(dtype_name(dtype)));

        // The same weights apart, the keys' half transposed.
        const Weight k_b(rng, DType::kF32, heads * rank, nope, 0);
        const Weight v_b(rng, DType::kF32, heads * v_dim, rank, 0);
        std::vector<float> joined(static_cast<std::size_t>(heads * (nope + v_dim) * rank));
        const auto at = [](const WeightView& w, int64_t r, int64_t c) {
          return reinterpret_cast<const float*>(w.data)[r * w.cols + c];
        };
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t i = 0; i < nope + v_dim; ++i)
            for (int64_t c = 0; c < rank; ++c)
              joined[static_cast<std::size_t>((h * (nope + v_dim) + i) * rank + c)] =
                  i < nope ? at(k_b, h * rank + c, i) : at(v_b, h * v_dim + i - nope, c);
        }
        args.kv_b = {.data = reinterpret_cast<const std::byte*>(joined.data()),
                     .rows = heads * (nope + v_dim),
                     .cols = rank};
        args.out = expected.view();
        reference.mla_attention(args);
        args.kv_b = {};
        args.k_b = k_b;
        args.v_b = v_b;
        args.out = actual.view();
        backend.mla_attention(args);
        expect_close(actual.view(), expected.view(), 1e-4, "apart");
      }
    }
  });
}

// The cache's other types against a float32 cache: what they lose by rounding and no more. Pages of
// 64 and even widths take the way of many queries at once where the machine has it.
TEST(AttentionTest, CacheTypes) {
  OpBackend backend({.threads = 2});
  std::mt19937 rng(10);
  const int64_t heads = 6, kv_heads = 2, dim = 64;
  for (const auto& [type, tolerance] : {std::pair{DType::kF16, 2e-3}, std::pair{DType::kBF16, 2e-2},
                                        std::pair{DType::kQ8_0, 2e-2}}) {
    for (const std::vector<std::pair<int64_t, int64_t>>& batch :
         {std::vector<std::pair<int64_t, int64_t>>{{0, 1}},
          {{0, 70}},
          {{1030, 1}},
          {{0, 9}, {1300, 3}, {31, 1}}}) {
      CachedStep exact(rng, 2 * kv_heads * dim, 64, batch);
      KvCache cache = *KvCache::create(std::array{KvLayerSpec{2 * kv_heads * dim}},
                                       {.capacity_tokens = 4096, .type = type});
      KvPages kv = cache.layers()[0];
      for (const SequenceRows& s : exact.sequences)
        for (int64_t p = 0; p < s.start_position; ++p)
          cpu::encode_kv_row(type, reinterpret_cast<float*>(exact.kv.row(s.pages, p)),
                             kv.row_elements, kv.row(s.pages, p));
      Matrix q(exact.rows, heads * dim), k(exact.rows, kv_heads * dim),
          v(exact.rows, kv_heads * dim);
      Matrix expected(exact.rows, heads * dim), actual(exact.rows, heads * dim);
      q.fill(rng);
      k.fill(rng);
      v.fill(rng);
      AttentionArgs args{q.view(), exact.kv, exact.sequences, heads,
                         kv_heads, dim,      0.125f,          expected.view()};
      backend.kv_append({std::array{k.view(), v.view()}, exact.kv, exact.sequences});
      backend.attention(args);
      backend.kv_append({std::array{k.view(), v.view()}, kv, exact.sequences});
      args.kv = kv;
      args.out = actual.view();
      backend.attention(args);
      expect_close(actual.view(), expected.view(), tolerance, std::string(dtype_name(type)));
    }
  }
}

// Generated rows with a bfloat16 cache, of many lengths in one call: close to a float32 cache, and
// the same bits alone.
TEST(AttentionTest, GeneratedRowsOfManyLengths) {
  OpBackend backend({.threads = 2});
  std::mt19937 rng(11);
  std::vector<std::pair<int64_t, int64_t>> batch;
  for (const int64_t length : {1, 63, 64, 255, 256, 257, 511, 512, 513, 1500})
    batch.push_back({length - 1, 1});
  for (const auto& [heads, kv_heads, dim] :
       {std::array<int64_t, 3>{14, 2, 128}, std::array<int64_t, 3>{4, 4, 64},
        std::array<int64_t, 3>{10, 1, 64}}) {
    CachedStep exact(rng, 2 * kv_heads * dim, 16, batch);
    for (SequenceRows& s : exact.sequences) s.position_class = PositionClass::kGenerated;
    KvCache cache =
        *KvCache::create(std::array{KvLayerSpec{2 * kv_heads * dim}},
                         {.capacity_tokens = 4096, .page_tokens = 16, .type = DType::kBF16});
    const KvPages kv = cache.layers()[0];
    for (const SequenceRows& s : exact.sequences)
      for (int64_t p = 0; p < s.start_position; ++p)
        cpu::encode_kv_row(DType::kBF16, reinterpret_cast<float*>(exact.kv.row(s.pages, p)),
                           kv.row_elements, kv.row(s.pages, p));
    Matrix q(exact.rows, heads * dim), k(exact.rows, kv_heads * dim), v(exact.rows, kv_heads * dim);
    Matrix expected(exact.rows, heads * dim), actual(exact.rows, heads * dim);
    Matrix alone(1, heads * dim);
    q.fill(rng);
    k.fill(rng);
    v.fill(rng);
    backend.kv_append({std::array{k.view(), v.view()}, exact.kv, exact.sequences});
    backend.kv_append({std::array{k.view(), v.view()}, kv, exact.sequences});
    AttentionArgs args{q.view(), exact.kv, exact.sequences, heads, kv_heads,
                       dim,      0.1f,     expected.view()};
    backend.attention(args);
    args.kv = kv;
    args.out = actual.view();
    backend.attention(args);
    for (SequenceRows s : exact.sequences) {
      const int64_t row = std::exchange(s.first_row, 0);
      expect_close(actual.view().row_range(row, 1), expected.view().row_range(row, 1), 2e-2,
                   std::to_string(s.start_position + 1));
      args.q = q.view().row_range(row, 1);
      args.out = alone.view();
      args.sequences = std::span(&s, 1);
      backend.attention(args);
      EXPECT_EQ(std::memcmp(alone.view().f32(0), actual.view().f32(row),
                            static_cast<std::size_t>(heads * dim) * sizeof(float)),
                0)
          << s.start_position + 1 << " keys, " << heads << " heads of " << dim;
    }
  }
}

// Latent rows of DeepSeek-V2's and V3's width in bfloat16, of many lengths in one call: close to a
// float32 cache, and the same bits alone. `selected`: as many of the rows as the list holds.
TEST(AttentionTest, LatentRowsOfManyLengths) {
  OpBackend backend({.threads = 2});
  std::mt19937 rng(13);
  std::vector<std::pair<int64_t, int64_t>> batch;
  for (const int64_t length : {1, 511, 512, 513, 64, 2000}) batch.push_back({length - 1, 1});
  batch.push_back({70, 3});
  const int64_t nope = 32, rope = 64, v_dim = 16, rank = 512;
  for (const auto& [heads, chosen] :
       {std::pair<int64_t, int64_t>{16, 0}, {5, 0}, {72, 0}, {16, 100}, {72, 100}}) {
    CachedStep exact(rng, rank + rope, 16, batch);
    KvCache cache =
        *KvCache::create(std::array{KvLayerSpec{rank + rope}},
                         {.capacity_tokens = 4096, .page_tokens = 16, .type = DType::kBF16});
    const KvPages kv = cache.layers()[0];
    for (SequenceRows& s : exact.sequences) {
      s.position_class = PositionClass::kGenerated;
      for (int64_t p = 0; p < s.start_position; ++p)
        cpu::encode_kv_row(DType::kBF16, reinterpret_cast<float*>(exact.kv.row(s.pages, p)),
                           kv.row_elements, kv.row(s.pages, p));
    }
    const Weight kv_b(rng, DType::kF32, heads * (nope + v_dim), rank);
    Matrix q(exact.rows, heads * (nope + rope)), row(exact.rows, rank + rope);
    Matrix expected(exact.rows, heads * v_dim), actual(exact.rows, heads * v_dim);
    Matrix alone(1, heads * v_dim);
    q.fill(rng, 0.05f);
    row.fill(rng);
    // Every seventh row that is seen, then −1.
    std::vector<int32_t> list(static_cast<std::size_t>(exact.rows * std::max<int64_t>(chosen, 1)),
                              -1);
    for (const SequenceRows& s : exact.sequences)
      for (int64_t i = 0; i < s.num_rows; ++i)
        for (int64_t j = 0; j < chosen && 7 * j <= s.start_position + i; ++j)
          list[static_cast<std::size_t>((s.first_row + i) * chosen + j)] =
              static_cast<int32_t>(7 * j);
    TensorView selected;
    if (chosen > 0)
      selected = {reinterpret_cast<std::byte*>(list.data()), DType::kI32, exact.rows, chosen,
                  chosen};
    backend.kv_append({std::span(&row.view(), 1), exact.kv, exact.sequences});
    backend.kv_append({std::span(&row.view(), 1), kv, exact.sequences});
    MlaAttentionArgs args{.q = q.view(),
                          .kv_b = kv_b,
                          .kv = exact.kv,
                          .sequences = exact.sequences,
                          .heads = heads,
                          .qk_nope_head_dim = nope,
                          .qk_rope_head_dim = rope,
                          .v_head_dim = v_dim,
                          .kv_lora_rank = rank,
                          .scale = 0.1f,
                          .selected = selected,
                          .out = expected.view()};
    backend.mla_attention(args);
    args.kv = kv;
    args.out = actual.view();
    backend.mla_attention(args);
    for (SequenceRows s : exact.sequences) {
      if (s.num_rows > 1) continue;
      const int64_t r = std::exchange(s.first_row, 0);
      const std::string what = std::to_string(s.start_position + 1) + " rows, " +
                               std::to_string(heads) + " heads, " + std::to_string(chosen);
      expect_close(actual.view().row_range(r, 1), expected.view().row_range(r, 1), 2e-2, what);
      args.q = q.view().row_range(r, 1);
      if (chosen > 0) args.selected = selected.row_range(r, 1);
      args.out = alone.view();
      args.sequences = std::span(&s, 1);
      backend.mla_attention(args);
      EXPECT_EQ(std::memcmp(alone.view().f32(0), actual.view().f32(r),
                            static_cast<std::size_t>(heads * v_dim) * sizeof(float)),
                0)
          << what;
    }
  }
}

// In one operation what three do, to the bit: of k a part of its own, or the last channels of one.
TEST(AttentionTest, RopeAndAppend) {
  OpBackend backend({.threads = 2});
  std::mt19937 rng(12);
  const int64_t heads = 3, kv_heads = 2, dim = 8, nope = 4, rank = 10;
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const bool latent : {false, true}) {
      for (const RopeLayout layout : {RopeLayout::kHalf, RopeLayout::kPairs}) {
        const int64_t width = latent ? rank + dim : 2 * kv_heads * dim;
        const int64_t offset = latent ? nope : 0, k_heads = latent ? 1 : kv_heads;
        CachedStep f(rng, width, 16, {{15, 3}, {0, 40}});
        KvCache caches[2] = {
            *KvCache::create(std::array{KvLayerSpec{width}},
                             {.capacity_tokens = 4096, .page_tokens = 16, .type = type}),
            *KvCache::create(std::array{KvLayerSpec{width}},
                             {.capacity_tokens = 4096, .page_tokens = 16, .type = type})};
        Matrix q(f.rows, heads * (dim + offset)), row(f.rows, latent ? width : kv_heads * dim, 1);
        Matrix v(f.rows, kv_heads * dim), angles(f.rows, dim);
        for (Matrix* m : {&q, &row, &v, &angles}) m->fill(rng);
        Matrix q2(f.rows, heads * (dim + offset)), row2(f.rows, row.view().cols, 1);
        q2.copy(q);
        row2.copy(row);
        const auto args = [&](const Matrix& of, const Matrix& r, KvCache& cache,
                              std::span<const TensorView> parts) {
          const TensorView k = latent ? r.view().columns(rank, dim) : r.view();
          return RopeAppendArgs{
              .q = {of.view(), angles.view(), heads, offset, layout},
              .k = {k, angles.view(), k_heads, 0, layout},
              .append = {parts.first(latent ? 1 : 2), cache.layers()[0], f.sequences}};
        };
        const std::array parts{row.view(), v.view()}, parts2{row2.view(), v.view()};
        const RopeAppendArgs one = args(q, row, caches[0], parts);
        backend.rope_append(one);
        const RopeAppendArgs apart = args(q2, row2, caches[1], parts2);
        backend.rope(apart.q);
        backend.rope(apart.k);
        backend.kv_append(apart.append);
        for (int64_t r = 0; r < f.rows; ++r) {
          EXPECT_EQ(std::memcmp(q.view().f32(r), q2.view().f32(r),
                                static_cast<std::size_t>(q.view().cols) * sizeof(float)),
                    0);
        }
        const KvPages &a = one.append.kv, &b = apart.append.kv;
        for (const SequenceRows& s : f.sequences) {
          for (int64_t p = s.start_position; p < s.start_position + s.num_rows; ++p) {
            EXPECT_EQ(
                std::memcmp(a.row(s, p), b.row(s, p), static_cast<std::size_t>(a.row_bytes())), 0)
                << dtype_name(type) << (latent ? ", latent, " : ", ") << p;
          }
        }
      }
    }
  }
}

// In one operation what rope, append and attention do, to the bit: of sequences with one row each,
// which a backend may take in one kernel, and of others.
TEST(AttentionTest, AppendAttention) {
  OpBackend backend({.threads = 2});
  std::mt19937 rng(14);
  std::vector<std::pair<int64_t, int64_t>> one_each;
  for (const int64_t length : {1, 2, 15, 16, 17, 64, 127, 128, 129, 130, 256, 700})
    one_each.push_back({length - 1, 1});
  struct Shape {
    int64_t heads, kv_heads, dim;
  };
  for (const Shape& shape : {Shape{14, 2, 128}, Shape{4, 4, 64}, Shape{10, 1, 64}}) {
    for (const RopeLayout layout : {RopeLayout::kHalf, RopeLayout::kPairs}) {
      for (const auto& batch : {one_each, {{15, 3}, {130, 1}}}) {
        const auto& [heads, kv_heads, dim] = shape;
        CachedStep step(rng, 2 * kv_heads * dim, 16, batch);
        for (SequenceRows& s : step.sequences) s.position_class = PositionClass::kGenerated;
        KvCache caches[2] = {
            *KvCache::create(std::array{KvLayerSpec{2 * kv_heads * dim}},
                             {.capacity_tokens = 4096, .page_tokens = 16, .type = DType::kBF16}),
            *KvCache::create(std::array{KvLayerSpec{2 * kv_heads * dim}},
                             {.capacity_tokens = 4096, .page_tokens = 16, .type = DType::kBF16})};
        for (KvCache& cache : caches) {
          const KvPages kv = cache.layers()[0];
          // What was never written may be anything.
          std::memset(kv.data, 0xFF, static_cast<std::size_t>(4096 / 16 * kv.page_stride_bytes));
          for (const SequenceRows& s : step.sequences)
            for (int64_t p = 0; p < s.start_position; ++p)
              cpu::encode_kv_row(DType::kBF16, reinterpret_cast<float*>(step.kv.row(s.pages, p)),
                                 kv.row_elements, kv.row(s.pages, p));
        }
        Matrix q(step.rows, heads * dim), k(step.rows, kv_heads * dim), v(step.rows, kv_heads * dim);
        Matrix angles(step.rows, dim);
        for (Matrix* m : {&q, &k, &v, &angles}) m->fill(rng);
        Matrix q2(step.rows, heads * dim), k2(step.rows, kv_heads * dim);
        q2.copy(q);
        k2.copy(k);
        const auto args = [&](const Matrix& queries, const Matrix& keys, KvCache& cache,
                              std::span<const TensorView> parts) {
          const KvPages kv = cache.layers()[0];
          return AppendAttentionArgs{
              .rows = {.q = {.x = queries.view(), .angles = angles.view(), .heads = heads,
                             .layout = layout},
                       .k = {.x = keys.view(), .angles = angles.view(), .heads = kv_heads,
                             .layout = layout},
                       .append = {parts, kv, step.sequences}},
              .attention = {queries.view(), kv, step.sequences, heads, kv_heads, dim, 0.1f,
                            queries.view()}};
        };
        const std::array parts{k.view(), v.view()}, parts2{k2.view(), v.view()};
        const AppendAttentionArgs one = args(q, k, caches[0], parts);
        backend.append_attention(one);
        const AppendAttentionArgs apart = args(q2, k2, caches[1], parts2);
        backend.rope_append(apart.rows);
        backend.attention(apart.attention);
        for (const SequenceRows& s : step.sequences) {
          for (int64_t i = 0; i < s.num_rows; ++i) {
            const int64_t r = s.first_row + i, p = s.start_position + i;
            EXPECT_EQ(std::memcmp(q.view().f32(r), q2.view().f32(r),
                                  static_cast<std::size_t>(heads * dim) * sizeof(float)),
                      0)
                << p + 1 << " keys, " << heads << " heads of " << dim;
            const KvPages &a = one.attention.kv, &b = apart.attention.kv;
            EXPECT_EQ(
                std::memcmp(a.row(s, p), b.row(s, p), static_cast<std::size_t>(a.row_bytes())), 0)
                << p;
          }
        }
      }
    }
  }
}

TEST(AttentionTest, AppendWritesExactlyItsRows) {
  std::mt19937 rng(9);
  ReferenceOps reference;
  OpBackend backend({.threads = 2});
  for (Ops* ops : {static_cast<Ops*>(&reference), static_cast<Ops*>(&backend)}) {
    CachedStep f(rng, 5, 16, {{15, 3}, {0, 40}});
    Matrix a(f.rows, 2), b(f.rows, 3, 1);
    a.fill(rng);
    b.fill(rng);
    std::vector<float> before(5);
    std::memcpy(before.data(), f.kv.row(f.tables[0], 14), 20);
    ops->kv_append({std::array{a.view(), b.view()}, f.kv, f.sequences});
    EXPECT_EQ(std::memcmp(before.data(), f.kv.row(f.tables[0], 14), 20), 0);
    for (const SequenceRows& s : f.sequences) {
      for (int64_t i = 0; i < s.num_rows; ++i) {
        const auto* row = reinterpret_cast<const float*>(f.kv.row(s.pages, s.start_position + i));
        EXPECT_EQ(row[1], a.view().f32(s.first_row + i)[1]);
        EXPECT_EQ(row[4], b.view().f32(s.first_row + i)[2]);
      }
    }
  }
}

}  // namespace
}  // namespace fathom::test
