#include "quant/recipe.h"

#include <gtest/gtest.h>

#include <fmt/format.h>
#include <map>
#include <vector>

namespace fathom::quant {
namespace {

DType type_of(std::string_view recipe, std::string_view name, const ModelShape& model,
              int64_t cols = 4096) {
  const Recipe* r = find_recipe(recipe);
  EXPECT_NE(r, nullptr) << recipe;
  return recipe_type(*r, model, name, cols);
}

// How many of 32 layers have each type.
std::map<DType, int> count(std::string_view recipe, std::string_view stem, int64_t heads_per_kv) {
  std::map<DType, int> out;
  for (int64_t i = 0; i < 32; ++i)
    ++out[type_of(recipe, fmt::format("blk.{}.{}.weight", i, stem),
                  {.layers = 32, .heads_per_kv = heads_per_kv})];
  return out;
}

TEST(Recipe, NamesAndTypes) {
  EXPECT_EQ(find_recipe("Q4_K_M")->gguf_type, 15u);
  EXPECT_EQ(find_recipe("q4_k_m")->base, DType::kQ4_K);
  EXPECT_EQ(find_recipe("q7_0"), nullptr);
  EXPECT_EQ(type_from_name("Q6_K"), DType::kQ6_K);
  EXPECT_EQ(type_from_name("bf16"), DType::kBF16);
  EXPECT_EQ(type_from_name("q2_k"), DType::kQ2_K);
  EXPECT_EQ(type_from_name("q4_k_m"), std::nullopt);
  EXPECT_EQ(type_from_name("i32"), std::nullopt);
  EXPECT_NE(recipe_names().find("q5_k_s"), std::string::npos);
}

TEST(Recipe, WhatIsQuantised) {
  EXPECT_TRUE(is_quantized_tensor("blk.0.attn_q.weight", 2));
  EXPECT_TRUE(is_quantized_tensor("blk.0.ffn_down_exps.weight", 3));
  EXPECT_TRUE(is_quantized_tensor("token_embd.weight", 2));
  EXPECT_FALSE(is_quantized_tensor("blk.0.attn_norm.weight", 1));
  EXPECT_FALSE(is_quantized_tensor("blk.0.attn_q_norm.weight", 2));
  EXPECT_FALSE(is_quantized_tensor("blk.0.ffn_gate_inp.weight", 2));
  EXPECT_FALSE(is_quantized_tensor("blk.0.exp_probs_b.bias", 1));
  EXPECT_FALSE(is_quantized_tensor("blk.0.attn_q.bias", 2));
}

TEST(Recipe, TheOutputGetsSixBits) {
  const ModelShape model{.layers = 32};
  for (const char* r : {"q4_0", "q4_1", "q5_0", "q2_k", "q3_k", "q4_k", "q4_k_m", "q5_k_s", "q6_k"})
    EXPECT_EQ(type_of(r, "output.weight", model), DType::kQ6_K) << r;
  EXPECT_EQ(type_of("q8_0", "output.weight", model), DType::kQ8_0);
  EXPECT_EQ(type_of("bf16", "output.weight", model), DType::kBF16);
  EXPECT_EQ(type_of("q4_k", "output.weight", model, 576), DType::kQ8_0);  // no whole blocks
  EXPECT_EQ(type_of("q4_k", "token_embd.weight", model), DType::kQ4_K);
  EXPECT_EQ(type_of("q4_k", "token_embd.weight", {.layers = 32, .tied_embeddings = true}),
            DType::kQ6_K);
}

TEST(Recipe, PlainTypesAreTheSameThroughout) {
  for (const char* r : {"q4_0", "q8_0", "q3_k", "q4_k", "q5_k", "q6_k"})
    for (const char* stem : {"attn_v", "ffn_down", "attn_output", "attn_q", "ffn_up_exps"})
      EXPECT_EQ(count(r, stem, 8), (std::map<DType, int>{{find_recipe(r)->base, 32}})) << r << stem;
}

// The counts follow from the published rule: 4 first, 4 last and every third of 24 between.
TEST(Recipe, Mixes) {
  using Counts = std::map<DType, int>;
  const Counts half = {{DType::kQ4_K, 16}, {DType::kQ6_K, 16}};
  EXPECT_EQ(count("q4_k_m", "attn_v", 1), half);
  EXPECT_EQ(count("q4_k_m", "ffn_down", 1), half);
  EXPECT_EQ(count("q4_k_m", "ffn_down_exps", 1), half);
  EXPECT_EQ(count("q4_k_m", "ffn_up", 1), (Counts{{DType::kQ4_K, 32}}));
  EXPECT_EQ(count("q5_k_m", "attn_v", 1), (Counts{{DType::kQ5_K, 16}, {DType::kQ6_K, 16}}));
  EXPECT_EQ(count("q4_k_s", "attn_v", 1), (Counts{{DType::kQ4_K, 28}, {DType::kQ5_K, 4}}));
  EXPECT_EQ(count("q4_k_s", "ffn_down", 1), (Counts{{DType::kQ4_K, 28}, {DType::kQ5_K, 4}}));
  EXPECT_EQ(count("q3_k_m", "attn_v", 1), (Counts{{DType::kQ4_K, 30}, {DType::kQ5_K, 2}}));
  EXPECT_EQ(count("q3_k_m", "ffn_down", 1), (Counts{{DType::kQ4_K, 30}, {DType::kQ5_K, 2}}));
  EXPECT_EQ(count("q3_k_m", "attn_output", 1), (Counts{{DType::kQ4_K, 32}}));
  EXPECT_EQ(count("q3_k_l", "ffn_down", 1), (Counts{{DType::kQ5_K, 32}}));
  EXPECT_EQ(count("q3_k_s", "attn_v", 1), (Counts{{DType::kQ3_K, 32}}));
  EXPECT_EQ(count("q2_k", "attn_v", 1), (Counts{{DType::kQ3_K, 32}}));
  EXPECT_EQ(count("q2_k", "attn_v", 4), (Counts{{DType::kQ4_K, 32}}));
  EXPECT_EQ(count("q2_k", "ffn_down", 1), (Counts{{DType::kQ3_K, 32}}));
  const ModelShape big{.layers = 80, .heads_per_kv = 8};
  EXPECT_EQ(type_of("q4_k_m", "blk.11.attn_v.weight", big), DType::kQ5_K);
  EXPECT_EQ(type_of("q4_k", "blk.11.attn_v.weight", big), DType::kQ4_K);
}

// As llama.cpp's MXFP4_MOE.
TEST(Recipe, Mxfp4IsForExperts) {
  using Counts = std::map<DType, int>;
  for (const char* stem : {"ffn_up_exps", "ffn_down_exps", "ffn_gate_exps", "ffn_gate_up_exps"})
    EXPECT_EQ(count("mxfp4", stem, 8), (Counts{{DType::kMXFP4, 32}})) << stem;
  for (const char* stem : {"attn_q", "attn_v", "ffn_down", "ffn_up_shexp"})
    EXPECT_EQ(count("mxfp4", stem, 8), (Counts{{DType::kQ8_0, 32}})) << stem;
  const ModelShape model{.layers = 32};
  EXPECT_EQ(type_of("mxfp4", "output.weight", model), DType::kQ8_0);
  EXPECT_EQ(type_of("mxfp4", "token_embd.weight", model), DType::kQ8_0);
  EXPECT_EQ(type_from_name("mxfp4"), DType::kMXFP4);
}

TEST(Recipe, Fallbacks) {
  EXPECT_EQ(fallback_type(DType::kQ4_K, 512), DType::kQ4_K);
  EXPECT_EQ(fallback_type(DType::kQ2_K, 64), DType::kQ4_0);
  EXPECT_EQ(fallback_type(DType::kQ3_K, 96), DType::kQ4_0);
  EXPECT_EQ(fallback_type(DType::kQ4_K, 576), DType::kQ5_0);
  EXPECT_EQ(fallback_type(DType::kQ5_K, 576), DType::kQ5_1);
  EXPECT_EQ(fallback_type(DType::kQ6_K, 576), DType::kQ8_0);
  EXPECT_EQ(fallback_type(DType::kQ4_K, 48), DType::kF16);
  EXPECT_EQ(fallback_type(DType::kQ8_0, 33), DType::kF16);
  EXPECT_EQ(fallback_type(DType::kF32, 33), DType::kF32);
  EXPECT_EQ(fallback_type(DType::kMXFP4, 48), DType::kF16);
}

}  // namespace
}  // namespace fathom::quant
