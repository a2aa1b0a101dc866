// What DeepSeek-V4-Flash's cache takes at 128k tokens, against the formula in docs/cache.md.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/kv_cache.h"
#include "model/v4_attention.h"

namespace fathom {
namespace v4_cache_test {

constexpr int64_t kContext = 128 << 10;

// 43 layers: two of the window alone, then both rates in turn.
V4Config flash() {
  nlohmann::json ratios = {0, 0};
  for (int i = 2; i < 43; ++i) ratios.push_back(i % 2 == 0 ? 4 : 128);
  const nlohmann::json config = {{"hidden_size", 4096},
                                 {"num_hidden_layers", 43},
                                 {"vocab_size", 129280},
                                 {"num_attention_heads", 64},
                                 {"head_dim", 512},
                                 {"qk_rope_head_dim", 64},
                                 {"q_lora_rank", 1024},
                                 {"o_groups", 8},
                                 {"o_lora_rank", 1024},
                                 {"sliding_window", 128},
                                 {"compress_ratios", ratios},
                                 {"index_n_heads", 64},
                                 {"index_head_dim", 128},
                                 {"index_topk", 512},
                                 {"n_routed_experts", 256},
                                 {"num_experts_per_tok", 6},
                                 {"moe_intermediate_size", 2048},
                                 {"hc_mult", 4}};
  return read_v4_config(JsonReader(config, "flash")).value();
}

TEST(V4Cache, PagesTakeWhatTheFormulaSays) {
  const V4Config config = flash();
  std::vector<KvLayerSpec> layers;
  int64_t window_tokens = 0;
  // What has to be kept: entries for good, keys of the window, and what will become an entry.
  double formula = 0;
  for (const int64_t rate : config.compress_rates) {
    for (const KvLayerSpec& spec : V4Attention::kv_rows(config, rate)) layers.push_back(spec);
    window_tokens = std::max(window_tokens, V4Attention::window_tokens(config, rate));
    constexpr double kBF16 = 2, kF32 = 4;
    const auto entries = [&](int64_t width) {
      return kBF16 * static_cast<double>(width * (kContext / rate));
    };
    formula += kBF16 * static_cast<double>((config.sliding_window - 1) * config.head_dim);
    if (rate == 128) formula += entries(config.head_dim) + kF32 * 127.0 * 2.0 * 512.0;
    if (rate == 4) {
      formula += entries(config.head_dim + config.index_dim);
      formula += kF32 * 7.0 * 4.0 * static_cast<double>(config.head_dim + config.index_dim);
    }
  }
  KvCache cache = *KvCache::create(layers, {.capacity_tokens = kContext + 512,
                                            .type = DType::kBF16,
                                            .window_tokens = window_tokens,
                                            .step_tokens = 512});
  PageTables tables;
  const int64_t pages = cache.pages().free(), window_pages = cache.window_pages().free();
  int64_t most = 0;
  const auto step = [&](int64_t computed, int64_t tokens) {
    ASSERT_TRUE(cache.cover(computed + tokens, tables));
    cache.slide(computed + tokens, tables);
    const int64_t bytes = (pages - cache.pages().free()) * cache.page_bytes() +
                          (window_pages - cache.window_pages().free()) * cache.window_page_bytes();
    if (computed + tokens >= kContext) most = std::max(most, bytes);
  };
  for (int64_t at = 0; at < kContext; at += 512) step(at, 512);
  for (int64_t at = kContext; at < kContext + 127; ++at) step(at, 1);
  RecordProperty("bytes", std::to_string(most));
  RecordProperty("formula", std::to_string(static_cast<int64_t>(formula)));
  EXPECT_LT(static_cast<double>(most), 1.05 * formula);
  EXPECT_GT(static_cast<double>(most), formula);
}

}  // namespace v4_cache_test
}  // namespace fathom
