// GGUF models in several files, in directories, and under HuggingFace's names.
#include "io/gguf_files.h"

#include <gmock/gmock.h>

#include <set>

#include "base/limits.h"
#include "io/gguf_test_support.h"
#include "io/gguf_weights.h"
#include "io/test_support.h"

namespace fathom {
namespace {

using test::f32_tensor;
using test::GgufTestFile;
using test::GgufTestKey;
using test::GgufTestTensor;
using test::key;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class GgufShards : public ::testing::Test {
 protected:
  // Shard `number` (from 0) of `count`, with one tensor of its own.
  GgufTestFile shard(uint32_t number, uint32_t count) const {
    GgufTestFile f{.keys = {key("split.no", number), key("split.count", count),
                            key("split.tensors.count", 3u)},
                   .tensors = {f32_tensor("t" + std::to_string(number), {4})}};
    if (number == 0) f.keys.push_back(key("general.architecture", "llama"));
    return f;
  }
  void write(const std::string& name, const GgufTestFile& file) { dir_.write(name, file.bytes()); }
  void write_three() {
    for (uint32_t i = 0; i < 3; ++i) write(name(i + 1, 3), shard(i, 3));
  }
  static std::string name(uint32_t number, uint32_t count) {
    return fmt::format("m-{:05}-of-{:05}.gguf", number, count);
  }
  std::string refusal_of(const std::string& name) const {
    const auto files = GgufFiles::open(dir_.file(name));
    return files ? "" : files.error().message;
  }
  test::TempDir dir_;
};

TEST_F(GgufShards, AnyShardOpensThemAll) {
  write_three();
  for (uint32_t i = 1; i <= 3; ++i) {
    const auto files = GgufFiles::open(dir_.file(name(i, 3)));
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ((*files)->shards(), 3u);
    EXPECT_EQ((*files)->path(), dir_.file(name(1, 3)));
    EXPECT_EQ(*(*files)->metadata().string("general.architecture"), "llama");
    EXPECT_EQ((*files)->tensors().size(), 3u);
    EXPECT_EQ((*files)->tensors().at("t2").data.size(), 16u);
    EXPECT_EQ((*files)->tensors().at("t2").file, dir_.file(name(3, 3)));
  }
  EXPECT_EQ(*find_gguf(dir_.path()), dir_.file(name(1, 3)));
}

TEST_F(GgufShards, MissingAndMisplacedShards) {
  write_three();
  std::filesystem::remove(dir_.file(name(2, 3)));
  EXPECT_THAT(refusal_of(name(1, 3)),
              AllOf(StartsWith(dir_.file(name(2, 3))), HasSubstr("shard 2 of 3")));
  write(name(2, 3), shard(2, 3));
  EXPECT_THAT(refusal_of(name(1, 3)),
              AllOf(StartsWith(dir_.file(name(2, 3))),
                    HasSubstr("split.no is 2 and split.count is 3, expected 1 and 3")));
  write(name(2, 3), GgufTestFile{.tensors = {f32_tensor("x", {1})}});
  EXPECT_THAT(refusal_of(name(1, 3)), HasSubstr("split.no is 0 and split.count is 1, expected"));
  EXPECT_THAT(refusal_of(name(2, 3)), "") << "by its own word a single file";
  dir_.write(name(2, 3), "GGUF");
  EXPECT_THAT(refusal_of(name(1, 3)), StartsWith(dir_.file(name(2, 3))));
}

TEST_F(GgufShards, CountsAndDuplicates) {
  write_three();
  GgufTestFile twice = shard(2, 3);
  twice.tensors = {f32_tensor("t0", {4})};
  write(name(3, 3), twice);
  EXPECT_THAT(refusal_of(name(1, 3)),
              AllOf(StartsWith(dir_.file(name(3, 3))),
                    HasSubstr("tensor \"t0\" stands in " + dir_.file(name(1, 3)))));
  GgufTestFile more = shard(2, 3);
  more.tensors.push_back(f32_tensor("t3", {4}));
  write(name(3, 3), more);
  EXPECT_THAT(refusal_of(name(1, 3)),
              HasSubstr("split.tensors.count is 3, but the 3 shards have 4"));
  GgufTestFile endless = shard(0, 3);
  endless.keys[1] = key("split.count", 100'000u);
  write("endless.gguf", endless);
  EXPECT_THAT(refusal_of("endless.gguf"), HasSubstr("split.count is 100000, expected"));
  GgufTestFile outside = shard(0, 3);
  outside.keys[0] = key("split.no", 3u);
  write("outside.gguf", outside);
  EXPECT_THAT(refusal_of("outside.gguf"), HasSubstr("split.no is 3, expected an integer from 0"));
}

TEST_F(GgufShards, AShardUnderAnotherName) {
  for (const char* name :
       {"m.gguf", "m-00002-of-00003.gguf", "m-00001-of-00004.gguf", "m-0001-of-0003.gguf"}) {
    write(name, shard(0, 3));
    EXPECT_THAT(refusal_of(name),
                AllOf(HasSubstr("shard 1 of 3"), HasSubstr("-00001-of-00003.gguf")))
        << name;
  }
}

TEST_F(GgufShards, DirectoriesWithNoneAndWithSeveral) {
  EXPECT_EQ(*find_gguf(dir_.path()), "");
  dir_.write("notes.txt", "");
  dir_.write("a.gguf", "");
  EXPECT_EQ(*find_gguf(dir_.path()), dir_.file("a.gguf"));
  write_three();
  EXPECT_THAT(find_gguf(dir_.path()).error().message,
              AllOf(StartsWith(dir_.path() + ": 2 GGUF models (a.gguf, m-00001-of-00003.gguf)"),
                    HasSubstr("name the file")));
}

TEST(GgufNames, EveryTensorOfTheArchitectures) {
  EXPECT_EQ(huggingface_name("token_embd.weight"), "model.embed_tokens.weight");
  EXPECT_EQ(huggingface_name("output.weight"), "lm_head.weight");
  EXPECT_EQ(huggingface_name("output_norm.weight"), "model.norm.weight");
  EXPECT_EQ(huggingface_name("blk.0.attn_q.bias"), "model.layers.0.self_attn.q_proj.bias");
  EXPECT_EQ(huggingface_name("blk.61.nextn.shared_head_norm.weight"),
            "model.layers.61.shared_head.norm.weight");
  const std::string bias = "model.layers.3.mlp.gate.e_score_correction_bias";
  EXPECT_EQ(huggingface_name("blk.3.exp_probs_b.bias"), bias);
  EXPECT_EQ(huggingface_name("blk.3.exp_probs_b"), bias);
  for (const char* same : {"rope_freqs.weight", "blk.0.other.weight", "blk.x.attn_q.weight",
                           "blk..attn_q.weight", "blk.01.attn_q.weight",
                           "blk.1234567.attn_q.weight", "attn_q.weight", "blk.0", "", ".weight"})
    EXPECT_EQ(huggingface_name(same), same);
}

class GgufStacks : public GgufShards {
 protected:
  Result<std::unique_ptr<GgufWeights>> weights_of(std::vector<GgufTestTensor> tensors) {
    write("m.gguf", {.tensors = std::move(tensors)});
    auto files = GgufFiles::open(dir_.file("m.gguf"));
    if (!files) return std::move(files).error();
    files_ = *std::move(files);
    return GgufWeights::create(*files_);
  }
  std::string refusal_of(std::vector<GgufTestTensor> tensors) {
    const auto weights = weights_of(std::move(tensors));
    return weights ? "" : weights.error().message;
  }
  // 1, 2, 3, … as I8 (type 24).
  static GgufTestTensor counting(std::string name, std::vector<uint64_t> dims) {
    std::size_t n = 1;
    for (const uint64_t d : dims) n *= d;
    std::string data;
    for (std::size_t i = 0; i < n; ++i) data += static_cast<char>(i + 1);
    return {std::move(name), 24, std::move(dims), data};
  }
  static std::string text(const StoredTensor* t) {
    if (t == nullptr) return "none";
    std::string out = shape_string(t->shape);
    for (const std::byte b : t->data) out += " " + std::to_string(std::to_integer<int>(b));
    return out;
  }
  std::unique_ptr<GgufFiles> files_;
};

TEST_F(GgufStacks, ExpertsBecomeMatrices) {
  const auto w = weights_of({counting("blk.1.ffn_down_exps.weight", {2, 3, 2}),
                             counting("blk.1.ffn_gate_up_exps.weight", {1, 4, 2}),
                             counting("blk.2.ffn_up_exps.weight", {2, 1, 1})});
  ASSERT_TRUE(w) << w.error().message;
  const std::string e = "model.layers.1.mlp.experts.";
  EXPECT_EQ(text((*w)->find(e + "0.down_proj.weight")), "[3, 2] 1 2 3 4 5 6");
  EXPECT_EQ(text((*w)->find(e + "1.down_proj.weight")), "[3, 2] 7 8 9 10 11 12");
  EXPECT_EQ(text((*w)->find(e + "0.gate_proj.weight")), "[2, 1] 1 2");
  EXPECT_EQ(text((*w)->find(e + "0.up_proj.weight")), "[2, 1] 3 4");
  EXPECT_EQ(text((*w)->find(e + "1.gate_proj.weight")), "[2, 1] 5 6");
  EXPECT_EQ(text((*w)->find("model.layers.2.mlp.experts.0.up_proj.weight")), "[1, 2] 1 2");
  std::set<std::string> names;
  (*w)->for_each([&](const std::string& name, const StoredTensor&) { names.insert(name); });
  EXPECT_EQ(names.size(), 7u);
  EXPECT_EQ((*w)->description(), dir_.file("m.gguf"));
}

TEST_F(GgufStacks, HalvesOfKvB) {
  const auto w = weights_of({counting("blk.0.attn_k_b.weight", {2, 3, 2}),
                             counting("blk.0.attn_v_b.weight", {3, 1, 2}),
                             counting("blk.1.attn_k_b.weight", {2, 6})});
  ASSERT_TRUE(w) << w.error().message;
  EXPECT_EQ(text((*w)->find("model.layers.0.self_attn.k_b_proj.weight")),
            "[6, 2] 1 2 3 4 5 6 7 8 9 10 11 12");
  EXPECT_EQ(text((*w)->find("model.layers.0.self_attn.v_b_proj.weight")), "[2, 3] 1 2 3 4 5 6");
  EXPECT_EQ((*w)->find("model.layers.1.self_attn.k_b_proj.weight")->shape,
            (std::vector<int64_t>{6, 2}));
}

TEST_F(GgufStacks, StacksThatAreNone) {
  EXPECT_THAT(refusal_of({counting("blk.0.ffn_up_exps.weight", {2, 3})}),
              AllOf(HasSubstr("'blk.0.ffn_up_exps.weight' has shape [3, 2]"),
                    HasSubstr("expected [experts, rows, columns]")));
  EXPECT_THAT(refusal_of({counting("blk.0.ffn_gate_up_exps.weight", {2, 3, 2})}),
              HasSubstr("gate's rows and as many of up"));
  EXPECT_THAT(refusal_of({{"blk.0.ffn_up_exps.weight", 24, {1, 1, 65537}, std::string(65537, 1)}}),
              HasSubstr("65537 experts, the limit is 65536"));
  EXPECT_THAT(refusal_of({{"blk.0.ffn_up_exps.weight", 24, {0, 1, uint64_t{1} << 40}, ""}}),
              HasSubstr("1099511627776 experts, the limit"));
  EXPECT_THAT(
      refusal_of({counting("blk.3.exp_probs_b.bias", {2}), counting("blk.3.exp_probs_b", {2})}),
      HasSubstr("two tensors have the meaning 'model.layers.3.mlp.gate.e_score"));
}

TEST_F(GgufStacks, ExpertsOfAllLayersAreBounded) {
  std::vector<GgufTestTensor> tensors;
  for (int layer = 0; layer < 16; ++layer)
    tensors.push_back({fmt::format("blk.{}.ffn_up_exps.weight", layer), 24, {0, 1, 65536}, ""});
  EXPECT_THAT(refusal_of(std::move(tensors)),
              HasSubstr("more than 1000000 tensors, each expert counted"));
}

}  // namespace
}  // namespace fathom
