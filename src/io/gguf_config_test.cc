// config.json from GGUF metadata: what each architecture's keys become, what old files leave out,
// and refusals that name the key. Vocabularies and whole models: what open_model_files makes of a
// file.
#include "io/gguf_config.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "io/gguf_test_support.h"
#include "io/gguf_vocab.h"
#include "io/gguf_weights.h"
#include "io/model_files.h"
#include "io/test_support.h"

namespace fathom {
namespace {

using nlohmann::json;
using test::f32_tensor;
using test::GgufTestFile;
using test::GgufTestKey;
using test::GgufTestTensor;
using test::key;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class GgufConfig : public ::testing::Test {
 protected:
  // Sets, replaces or (with no value) removes ARCH.name.
  void set(const std::string& name, const auto& value) { put(architecture_ + "." + name, value); }
  void put(const std::string& name, const auto& value) {
    remove(name);
    file_.keys.push_back(key(name, value));
  }
  void remove(const std::string& name) {
    std::erase_if(file_.keys, [&](const GgufTestKey& k) { return k.name == name; });
  }
  void unset(const std::string& name) { remove(architecture_ + "." + name); }
  void add_tensor(GgufTestTensor t) { file_.tensors.push_back(std::move(t)); }

  void begin(const std::string& architecture) {
    architecture_ = architecture;
    file_.keys = {key("general.architecture", architecture)};
    set("block_count", 4u);
    set("context_length", 2048u);
    set("embedding_length", 64u);
    set("feed_forward_length", 160u);
    set("attention.head_count", 4u);
    set("attention.layer_norm_rms_epsilon", 1e-6f);
    set("vocab_size", 512u);
  }
  void begin_deepseek2(const std::string& architecture = "deepseek2") {
    begin(architecture);
    set("attention.kv_lora_rank", 32u);
    set("attention.key_length", 40u);
    set("attention.value_length", 32u);
    set("attention.key_length_mla", 24u);
    set("attention.value_length_mla", 16u);
    set("rope.dimension_count", 8u);
    set("leading_dense_block_count", 1u);
    set("expert_count", 16u);
    set("expert_used_count", 4u);
    set("expert_shared_count", 1u);
    set("expert_feed_forward_length", 20u);
  }
  void begin_published(uint32_t layers, uint32_t experts) {
    begin_deepseek2();
    set("block_count", layers);
    set("expert_count", experts);
  }

  Result<json> read() {
    dir_.write("m.gguf", file_.bytes());
    FATHOM_TRY(files_, GgufFiles::open(dir_.file("m.gguf")));
    FATHOM_TRY(weights_, GgufWeights::create(*files_));
    return config_from_gguf(files_->metadata(), *weights_);
  }
  json config() {
    auto c = read();
    if (!c) ADD_FAILURE() << c.error().message;
    return c ? *c : json::object();
  }
  std::string refusal() {
    const auto c = read();
    return c ? "" : c.error().message;
  }

  std::string architecture_;
  GgufTestFile file_;
  test::TempDir dir_;
  std::unique_ptr<GgufFiles> files_;
  std::unique_ptr<GgufWeights> weights_;
};

TEST_F(GgufConfig, Llama) {
  begin("llama");
  set("attention.head_count_kv", 2u);
  set("rope.dimension_count", 16u);
  EXPECT_EQ(config(), json::parse(R"({
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512,
    "max_position_embeddings": 2048, "rms_norm_eps": 9.999999974752427e-07, "rope_theta": 10000,
    "tie_word_embeddings": true, "hidden_act": "silu", "attention_bias": false,
    "mlp_bias": false, "rope_interleaved": true})"));
  add_tensor(f32_tensor("output.weight", {64, 1}));
  add_tensor(f32_tensor("blk.0.attn_q.bias", {64}));
  add_tensor(f32_tensor("blk.0.ffn_gate.bias", {64}));
  const json c = config();
  EXPECT_EQ(c["tie_word_embeddings"], false);
  EXPECT_EQ(c["attention_bias"], true);
  EXPECT_EQ(c["mlp_bias"], true);
}

TEST_F(GgufConfig, QwenPairsHalves) {
  for (const char* name : {"qwen2", "qwen3"}) {
    begin(name);
    set("attention.key_length", 48u);
    set("attention.value_length", 48u);
    const json c = config();
    EXPECT_EQ(c["model_type"], name);
    EXPECT_EQ(c["head_dim"], 48);
    EXPECT_FALSE(c.contains("rope_interleaved"));
  }
}

TEST_F(GgufConfig, VocabularyWithoutItsSize) {
  begin("llama");
  unset("vocab_size");
  EXPECT_THAT(refusal(), HasSubstr("llama.vocab_size is missing, expected it, or a list"));
  put("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "c"});
  EXPECT_EQ(config()["vocab_size"], 3);
}

TEST_F(GgufConfig, WhatFathomDoesNotHave) {
  begin("gemma");
  EXPECT_THAT(refusal(), AllOf(StartsWith(dir_.file("m.gguf")),
                               HasSubstr("general.architecture is \"gemma\", expected llama, "
                                         "qwen2, qwen3, deepseek2, deepseek32 or "
                                         "deepseek4")));
  begin("llama");
  put("general.type", "adapter");
  EXPECT_THAT(refusal(), HasSubstr("general.type is \"adapter\", expected \"model\""));
  begin("llama");
  set("expert_count", 8u);
  EXPECT_THAT(refusal(), HasSubstr("llama.expert_count is 8, expected 0"));
  begin("llama");
  set("rope.dimension_count", 8u);
  EXPECT_THAT(refusal(), HasSubstr("llama.rope.dimension_count is 8, expected 16"));
  begin("llama");
  set("attention.value_length", 8u);
  EXPECT_THAT(refusal(), HasSubstr("llama.attention.value_length is 8, expected 16"));
  begin("llama");
  set("rope.scaling.type", "longrope");
  EXPECT_THAT(refusal(), HasSubstr("llama.rope.scaling.type is \"longrope\", expected"));
}

TEST_F(GgufConfig, KeysThatAreMissingOrOutOfRange) {
  for (const char* name :
       {"block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    begin("llama");
    unset(name);
    EXPECT_THAT(refusal(), HasSubstr("llama." + std::string(name) + " is missing")) << name;
    set(name, "x");
    EXPECT_THAT(refusal(), HasSubstr("llama." + std::string(name) + " is \"x\"")) << name;
  }
  begin("llama");
  set("embedding_length", 0u);
  EXPECT_THAT(refusal(), HasSubstr("llama.embedding_length is 0, expected an integer from 1"));
  begin("llama");
  set("nextn_predict_layers", 4u);
  EXPECT_THAT(refusal(), HasSubstr("nextn_predict_layers is 4, expected an integer from 0 to 3"));
}

TEST_F(GgufConfig, LinearScaling) {
  const json linear = {{"rope_type", "linear"}, {"factor", 4}};
  begin("llama");
  set("rope.scaling.type", "linear");
  set("rope.scaling.factor", 4.0f);
  EXPECT_EQ(config()["rope_scaling"], linear);
  unset("rope.scaling.type");
  EXPECT_EQ(config()["rope_scaling"], linear);
  unset("rope.scaling.factor");
  set("rope.scale_linear", 4.0f);
  EXPECT_EQ(config()["rope_scaling"], linear);
  set("rope.scaling.type", "none");
  EXPECT_FALSE(config().contains("rope_scaling"));
}

TEST_F(GgufConfig, FrequencyDivisors) {
  begin("llama");
  add_tensor({"rope_freqs.weight", 0, {2}, test::bytes_of<float>({1, 1})});
  EXPECT_FALSE(config().contains("rope_scaling"));
  file_.tensors[0].data = test::bytes_of<float>({1, 8});
  EXPECT_EQ(config()["rope_scaling"],
            json({{"rope_type", "frequency_divisors"}, {"frequency_divisors", {1, 8}}}));
  file_.tensors[0].data = test::bytes_of<float>({0, 8});
  EXPECT_THAT(refusal(), HasSubstr("'rope_freqs.weight': element 0 is 0, expected"));
  file_.tensors[0].data = test::bytes_of<float>({NAN, 8});
  EXPECT_THAT(refusal(), HasSubstr("element 0 is nan"));
  set("rope.scaling.factor", 2.0f);
  EXPECT_THAT(refusal(), HasSubstr("rope.scaling.factor is 2, expected none beside"));
  file_.tensors[0] = {"rope_freqs.weight", 1, {2}, "1234"};
  unset("rope.scaling.factor");
  EXPECT_THAT(refusal(), HasSubstr("'rope_freqs.weight' is F16 [2], expected F32 [n]"));
}

TEST_F(GgufConfig, Yarn) {
  begin("qwen3");
  set("rope.scaling.type", "yarn");
  EXPECT_THAT(refusal(), HasSubstr("rope.scaling.factor is missing, expected a factor"));
  set("rope.scaling.factor", 4.0f);
  set("rope.scaling.original_context_length", 512u);
  json expected = {{"rope_type", "yarn"},
                   {"factor", 4},
                   {"original_max_position_embeddings", 512},
                   {"beta_fast", 32},
                   {"beta_slow", 1}};
  EXPECT_EQ(config()["rope_scaling"], expected);
  set("rope.scaling.yarn_attn_factor", 0.875f);  // divides YaRN's magnitude away
  EXPECT_EQ(config()["rope_scaling"]["attn_factor"], 0.875);
  EXPECT_FALSE(config()["rope_scaling"].contains("attention_factor"));
  set("rope.scaling.yarn_attn_factor", 1.25f);  // is the magnitude
  EXPECT_EQ(config()["rope_scaling"]["attention_factor"], 1.25);
  EXPECT_FALSE(config()["rope_scaling"].contains("attn_factor"));
  set("rope.scaling.yarn_ext_factor", 0.5f);
  EXPECT_THAT(refusal(), HasSubstr("yarn_ext_factor is 0.5, expected 1"));
}

TEST_F(GgufConfig, YarnOfDeepseek) {
  begin_deepseek2();
  set("rope.scaling.type", "yarn");
  set("rope.scaling.factor", 40.0f);
  set("rope.scaling.yarn_log_multiplier", 0.0707f);
  const json r = config()["rope_scaling"];
  EXPECT_EQ(r["mscale"], 0.707);
  EXPECT_EQ(r["mscale_all_dim"], 0.707);
  EXPECT_FALSE(r.contains("attention_factor"));
}

TEST_F(GgufConfig, Deepseek2) {
  begin_deepseek2();
  set("nextn_predict_layers", 1u);
  set("attention.q_lora_rank", 24u);
  set("expert_weights_scale", 2.5f);
  set("expert_weights_norm", true);
  set("expert_gating_func", 2u);
  set("expert_group_count", 4u);
  set("expert_group_used_count", 2u);
  add_tensor(f32_tensor("blk.0.attn_q_a.weight", {64, 24}));
  EXPECT_EQ(config(), json::parse(R"({
    "model_type": "deepseek_v3", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_nextn_predict_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 512, "max_position_embeddings": 2048,
    "rms_norm_eps": 9.999999974752427e-07, "rope_theta": 10000, "tie_word_embeddings": true,
    "hidden_act": "silu", "attention_bias": false, "q_lora_rank": 24, "kv_lora_rank": 32,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "first_k_dense_replace": 1,
    "moe_layer_freq": 1, "n_routed_experts": 16, "num_experts_per_tok": 4, "n_shared_experts": 1,
    "moe_intermediate_size": 20, "routed_scaling_factor": 2.5, "norm_topk_prob": true,
    "n_group": 4, "topk_group": 2, "scoring_func": "sigmoid", "topk_method": "noaux_tc"})"));
}

TEST_F(GgufConfig, FilesOfBeforeTheLatentSpace) {
  begin_deepseek2();
  unset("attention.key_length_mla");
  unset("attention.value_length_mla");
  const json c = config();
  EXPECT_EQ(c["qk_nope_head_dim"], 32);
  EXPECT_EQ(c["v_head_dim"], 32);
  EXPECT_FALSE(c.contains("q_lora_rank"));
  set("attention.key_length", 8u);
  EXPECT_THAT(refusal(), HasSubstr("attention.key_length is 8, expected more than "
                                   "rope.dimension_count, 8"));
}

TEST_F(GgufConfig, TheRouterOfFilesThatDoNotSay) {
  begin_published(60, 160);
  json c = config();
  EXPECT_EQ(c["model_type"], "deepseek_v2");
  EXPECT_EQ(c["scoring_func"], "softmax");
  EXPECT_EQ(c["topk_method"], "group_limited_greedy");
  EXPECT_EQ(c["n_group"], 8);
  EXPECT_EQ(c["topk_group"], 3);
  begin_published(27, 64);
  c = config();
  EXPECT_EQ(c["topk_method"], "greedy");
  EXPECT_EQ(c["n_group"], 1);
  begin_published(61, 256);
  c = config();
  EXPECT_EQ(c["model_type"], "deepseek_v3");
  EXPECT_EQ(c["n_group"], 8);
  EXPECT_EQ(c["topk_group"], 4);
  begin_published(62, 256);
  set("nextn_predict_layers", 1u);
  EXPECT_EQ(config()["model_type"], "deepseek_v3");
  begin_published(4, 16);
  EXPECT_EQ(config()["model_type"], "deepseek_v2");
  add_tensor(f32_tensor("blk.3.exp_probs_b.bias", {16}));
  EXPECT_EQ(config()["model_type"], "deepseek_v3");
  set("expert_gating_func", 1u);
  EXPECT_EQ(config()["model_type"], "deepseek_v2");
  set("expert_gating_func", 3u);
  EXPECT_THAT(refusal(), HasSubstr("expert_gating_func is 3, expected 1 (softmax) or 2 (sigmoid)"));
  set("expert_gating_func", 1u);
  set("expert_weights_norm", true);
  EXPECT_THAT(refusal(), HasSubstr("expert_weights_norm is true, expected false"));
}

class GgufVocabTest : public GgufConfig {
 protected:
  void SetUp() override {
    begin("llama");
    put("tokenizer.ggml.model", "gpt2");
    put("tokenizer.ggml.pre", "smollm");
    put("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "<|im_end|>", "<|eot_id|>"});
    put("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 3, 1});
    put("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
    put("tokenizer.ggml.bos_token_id", 0u);
    put("tokenizer.ggml.eos_token_id", 1u);
    put("tokenizer.ggml.add_bos_token", true);
  }
  Result<GgufVocab> vocab() {
    FATHOM_TRY_STATUS(read());
    return read_gguf_vocab(files_->metadata());
  }
  std::string vocab_refusal() {
    const auto v = vocab();
    return v ? "" : v.error().message;
  }
};

TEST_F(GgufVocabTest, AllKeys) {
  const auto v = vocab();
  ASSERT_TRUE(v) << v.error().message;
  EXPECT_EQ(v->model, "gpt2");
  EXPECT_EQ(v->pre, "smollm");
  EXPECT_THAT(v->tokens, ElementsAre("a", "b", "<|im_end|>", "<|eot_id|>"));
  EXPECT_EQ(v->types[2], GgufTokenType::kControl);
  EXPECT_THAT(v->merges, ElementsAre("a b"));
  EXPECT_EQ(v->bos, 0);
  EXPECT_EQ(v->eot, std::nullopt);
  EXPECT_EQ(v->add_bos, true);
  EXPECT_EQ(v->add_eos, std::nullopt);
  EXPECT_THAT(end_token_ids(*v), ElementsAre(1, 2)) << "<|eot_id|> is no control token here";
}

TEST_F(GgufVocabTest, AFileWithoutTokenizer) {
  for (const char* name : {"no_vocab", "none"}) {
    put("tokenizer.ggml.model", name);
    EXPECT_EQ(vocab()->model, "");
  }
  remove("tokenizer.ggml.model");
  EXPECT_EQ(vocab()->model, "");
}

TEST_F(GgufVocabTest, KeysThatLie) {
  put("tokenizer.ggml.eos_token_id", 4u);
  EXPECT_THAT(vocab_refusal(), HasSubstr("eos_token_id is 4, expected an id below 4"));
  put("tokenizer.ggml.eos_token_id", UINT32_MAX);
  EXPECT_EQ(vocab()->eos, std::nullopt);
  put("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1});
  EXPECT_THAT(vocab_refusal(), HasSubstr("expected 4 integers, one per token"));
  put("tokenizer.ggml.token_type", std::vector<int32_t>{1, 7, 1, 1});
  EXPECT_THAT(vocab_refusal(), HasSubstr("token_type[1] is 7, expected 0 to 6"));
  put("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 1});
  put("tokenizer.ggml.merges", "a b");
  EXPECT_THAT(vocab_refusal(), HasSubstr("merges is \"a b\", expected a list of strings"));
  remove("tokenizer.ggml.merges");
  put("tokenizer.ggml.add_bos_token", 1u);
  EXPECT_THAT(vocab_refusal(), HasSubstr("add_bos_token is 1, expected true or false"));
  put("tokenizer.ggml.tokens", std::vector<std::string>{});
  EXPECT_THAT(vocab_refusal(), HasSubstr("tokenizer.ggml.tokens is a list of 0 values"));
  remove("tokenizer.ggml.tokens");
  EXPECT_THAT(vocab_refusal(), HasSubstr("tokenizer.ggml.tokens is missing"));
}

TEST_F(GgufVocabTest, WholeModels) {
  put("general.name", "Some Model");
  put("tokenizer.chat_template.default", "named");
  put("general.sampling.temp", 0.5f);
  put("general.sampling.top_k", std::vector<int32_t>{20});
  dir_.write("m.gguf", file_.bytes());
  for (const std::string& path : {dir_.file("m.gguf"), dir_.path(), dir_.path() + "/"}) {
    const auto files = open_model_files(path);
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(files->name, "Some Model");
    EXPECT_EQ(files->directory, dir_.file("m.gguf"));
    EXPECT_EQ(files->config_path, dir_.file("m.gguf"));
    EXPECT_EQ(files->model_type, "llama");
    EXPECT_EQ(files->bos_token_id, 0);
    EXPECT_THAT(files->eos_token_ids, ElementsAre(1, 2));
    EXPECT_EQ(files->chat_template, "named");
    EXPECT_EQ(files->temperature, 0.5);
    EXPECT_EQ(files->top_k, 20);
    EXPECT_EQ(files->top_p, std::nullopt);
    EXPECT_EQ(files->tokenizer_path, "");
    EXPECT_EQ(files->gguf_vocab.pre, "smollm");
    ASSERT_NE(files->gguf, nullptr);
  }
  put("tokenizer.chat_template", "plain");
  remove("general.name");
  dir_.write("m.gguf", file_.bytes());
  EXPECT_EQ(open_model_files(dir_.file("m.gguf"))->chat_template, "plain");
  EXPECT_EQ(open_model_files(dir_.file("m.gguf"))->name, "m");
  dir_.write("config.json", "{}");
  EXPECT_THAT(open_model_files(dir_.path()).error().message, HasSubstr("config.json: model_type"))
      << "a configuration says that the directory is of the other kind";
}

TEST_F(GgufConfig, Deepseek32HasAnIndexer) {
  begin_deepseek2("deepseek32");
  set("expert_gating_func", 2u);
  EXPECT_THAT(refusal(), HasSubstr("deepseek32.attention.indexer.head_count"));
  set("attention.indexer.head_count", 16u);
  set("attention.indexer.key_length", 32u);
  set("attention.indexer.top_k", 2048u);
  const json config = read().value();
  EXPECT_EQ(config["model_type"], "deepseek_v32");
  EXPECT_EQ(config["scoring_func"], "sigmoid");
  EXPECT_EQ(config["index_n_heads"], 16);
  EXPECT_EQ(config["index_head_dim"], 32);
  EXPECT_EQ(config["index_topk"], 2048);
  EXPECT_EQ(huggingface_name("blk.3.indexer.k_norm.bias"),
            "model.layers.3.self_attn.indexer.k_norm.bias");
  EXPECT_EQ(huggingface_name("blk.3.indexer.proj.weight"),
            "model.layers.3.self_attn.indexer.weights_proj.weight");
}

TEST_F(GgufConfig, Deepseek4) {
  begin("deepseek4");
  unset("feed_forward_length");
  set("attention.key_length", 32u);
  set("attention.q_lora_rank", 24u);
  set("attention.sliding_window", 128u);
  set("attention.output_group_count", 2u);
  set("attention.output_lora_rank", 16u);
  set("attention.compress_rope_freq_base", 40000.0f);
  set("attention.indexer.head_count", 16u);
  set("attention.indexer.key_length", 16u);
  set("attention.indexer.top_k", 8u);
  set("rope.dimension_count", 8u);
  set("expert_count", 16u);
  set("expert_used_count", 4u);
  set("expert_feed_forward_length", 20u);
  set("expert_weights_norm", true);
  set("hyper_connection.count", 4u);
  set("hyper_connection.sinkhorn_iterations", 20u);
  set("hash_layer_count", 1u);
  EXPECT_THAT(refusal(), HasSubstr("deepseek4.attention.compress_ratios"));
  set("attention.compress_ratios", std::vector<int32_t>{0, 4, 128, 4});
  set("swiglu_clamp_exp", std::vector<float>{7, 7, 6, 7});
  EXPECT_THAT(refusal(), HasSubstr("expected one number, or a list of equal ones"));
  set("swiglu_clamp_exp", std::vector<float>{7, 7, 7, 7});
  const json config = read().value();
  EXPECT_EQ(config["model_type"], "deepseek_v4");
  EXPECT_EQ(config["compress_ratios"], json({0, 4, 128, 4}));
  EXPECT_EQ(config["compress_rope_theta"], 40000.0);
  EXPECT_EQ(config["head_dim"], 32);
  EXPECT_EQ(config["swiglu_limit"], 7.0);
  EXPECT_EQ(config["num_hash_layers"], 1);
  EXPECT_EQ(config["hc_mult"], 4);
  EXPECT_FALSE(config.contains("intermediate_size"));
}

TEST_F(GgufConfig, NamesOfDeepseek4) {
  for (const auto& [gguf, own] : std::vector<std::pair<std::string, std::string>>{
           {"token_embd.weight", "embed.weight"},
           {"output_hc_fn.weight", "hc_head_fn"},
           {"blk.12.attn_sinks.weight", "layers.12.attn.attn_sink"},
           {"blk.0.attn_compressor_ape.weight", "layers.0.attn.compressor.ape"},
           {"blk.0.indexer.attn_q_b.weight", "layers.0.attn.indexer.wq_b.weight"},
           {"blk.0.exp_probs_b.bias", "layers.0.ffn.gate.bias"},
           {"blk.0.ffn_gate_tid2eid.weight", "layers.0.ffn.gate.tid2eid"},
           {"blk.7.ffn_up_shexp.weight", "layers.7.ffn.shared_experts.w3.weight"},
           {"blk.7.something.weight", "blk.7.something.weight"}})
    EXPECT_EQ(deepseek_v4_name(gguf), own);
  begin("deepseek4");
  add_tensor(f32_tensor("blk.1.ffn_down_exps.weight", {2, 3, 4}));
  EXPECT_THAT(refusal(), HasSubstr("deepseek4."));
  ASSERT_NE(weights_->find("layers.1.ffn.experts.1.w2.weight"), nullptr);
  EXPECT_THAT(weights_->find("layers.1.ffn.experts.1.w2.weight")->shape, ElementsAre(3, 2));
}

}  // namespace
}  // namespace fathom
