// Configurations against real weights: the fixtures of tests/golden/data, each with one field of
// config.json changed. A model loads, or the error names the field or the tensor that contradicts
// it; nothing crashes and nothing is allocated for a number that no tensor backs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "model/model.h"

namespace fathom {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kData = FATHOM_SOURCE_DIR "/tests/golden/data/";

// A fixture whose weights stay as they are under any configuration.
class Fixture {
 public:
  explicit Fixture(const std::string& name) {
    auto files = open_model_files(kData + name);
    if (!files) ADD_FAILURE() << files.error().message;
    files_ = *std::move(files);
    config_ = *files_.config;
  }
  const json& config() const { return config_; }

  // The message with which load_model refuses `config`, "" if it loads.
  std::string refusal(const json& config) {
    files_.config = std::make_shared<const json>(config);
    files_.model_type = config.value("model_type", "");
    const auto r = load_model(files_);
    if (r) return "";
    EXPECT_TRUE(utf8_is_valid(r.error().message)) << r.error().message;
    EXPECT_EQ(r.error().code, ErrorCode::kInvalidArgument) << r.error().message;
    return r.error().message;
  }
  // The same with one field changed. `field`: a JSON pointer, such as "/rope_scaling/factor".
  std::string refusal_with(const std::string& field, const json& value) {
    json changed = config_;
    changed[json::json_pointer(field)] = value;
    return refusal(changed);
  }

 private:
  ModelFiles files_;
  json config_;
};

// "/rope_scaling/factor" as messages have it: "rope_scaling.factor".
std::string dotted(const std::string& pointer) {
  std::string out = pointer.substr(1);
  for (char& c : out)
    if (c == '/') c = '.';
  return out;
}

// JSON pointers of all numbers of config.json that a model reads.
std::vector<std::string> numeric_fields(const json& config) {
  // Training's and other programs' fields, and those that open_model_files reads.
  const std::set<std::string> not_ours = {
      "/attention_dropout", "/aux_loss_alpha", "/bos_token_id",      "/eos_token_id",  "/ep_size",
      "/initializer_range", "/pretraining_tp", "/max_window_layers", "/sliding_window"};
  std::vector<std::string> out;
  const json flat = config.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (value.is_number() && !not_ours.contains(pointer) &&
        !pointer.starts_with("/quantization_config"))
      out.push_back(pointer);
  }
  return out;
}

class ConfigFields : public ::testing::TestWithParam<const char*> {};

TEST_P(ConfigFields, ValuesThatNoModelHas) {
  Fixture f(GetParam());
  ASSERT_EQ(f.refusal(f.config()), "");
  const std::vector<std::string> fields = numeric_fields(f.config());
  EXPECT_GE(fields.size(), 9u);
  const json absurd[] = {-1,
                         int64_t{1} << 62,
                         1e30,
                         -1e300,
                         uint64_t{1} << 63,
                         "7",
                         "NaN",
                         "",
                         json::array(),
                         json::array({7}),
                         true,
                         json::object()};
  for (const std::string& field : fields) {
    for (const json& value : absurd) {
      EXPECT_THAT(f.refusal_with(field, value), AllOf(HasSubstr("config.json: " + dotted(field) +
                                                                " is " + value.dump().substr(0, 3)),
                                                      HasSubstr(", expected ")))
          << field << " = " << value;
    }
  }
}

TEST_P(ConfigFields, ZeroAndNullAreDefaultsOrErrors) {
  Fixture f(GetParam());
  const std::set<std::string> may_be_zero = {"/rms_norm_eps",
                                             "/routed_scaling_factor",
                                             "/num_nextn_predict_layers",
                                             "/rope_scaling/beta_fast",
                                             "/rope_scaling/beta_slow",
                                             "/rope_scaling/mscale",
                                             "/rope_scaling/mscale_all_dim"};
  for (const std::string& field : numeric_fields(f.config())) {
    const std::string zero = f.refusal_with(field, 0);
    EXPECT_EQ(zero == "", may_be_zero.contains(field)) << field << ": " << zero;
    const std::string null = f.refusal_with(field, nullptr);
    for (const bool defaulted : {false, true}) {
      const std::string& message = defaulted ? null : zero;
      if (message.empty()) continue;
      // A default may contradict a neighbour: then it is that one's name.
      EXPECT_THAT(message, AnyOf(HasSubstr("config.json: " + (defaulted ? "" : dotted(field))),
                                 HasSubstr("tensor '")))
          << field;
      EXPECT_THAT(message, HasSubstr("expected")) << field;
    }
  }
}

TEST_P(ConfigFields, FractionsAreNoCounts) {
  Fixture f(GetParam());
  const std::set<std::string> real = {"/rms_norm_eps", "/rope_theta", "/routed_scaling_factor"};
  for (const std::string& field : numeric_fields(f.config())) {
    if (real.contains(field)) continue;
    if (field.starts_with("/rope_scaling") && !field.ends_with("embeddings")) continue;
    EXPECT_THAT(f.refusal_with(field, 7.5),
                AllOf(HasSubstr(dotted(field) + " is 7.5"), HasSubstr("expected an integer from")));
  }
}

TEST_P(ConfigFields, SizesThatTheTensorsContradict) {
  Fixture f(GetParam());
  const std::vector<std::string> sizes = {"hidden_size",
                                          "intermediate_size",
                                          "num_hidden_layers",
                                          "num_attention_heads",
                                          "vocab_size",
                                          "head_dim",
                                          "q_lora_rank",
                                          "kv_lora_rank",
                                          "qk_nope_head_dim",
                                          "qk_rope_head_dim",
                                          "v_head_dim",
                                          "n_routed_experts",
                                          "moe_intermediate_size",
                                          "first_k_dense_replace",
                                          "n_shared_experts"};
  const bool mla = f.config().contains("kv_lora_rank");
  std::vector<std::string> present;
  for (const std::string& field : sizes)
    if (f.config().contains(field) && f.config()[field].is_number()) present.push_back(field);
  if (!mla) present.push_back("num_key_value_heads");
  for (const std::string& field : present) {
    const auto value = f.config()[field].get<int64_t>();
    for (const int64_t wrong : {value + 1, value - 1, value * 2, value * 2 + 2, value / 2}) {
      const std::string message = f.refusal_with("/" + field, wrong);
      // Either the number itself does not go with its neighbours, or a tensor has another shape.
      EXPECT_THAT(
          message,
          AnyOf(HasSubstr("config.json: "),
                AllOf(HasSubstr("tensor '"), HasSubstr(" has shape ["), HasSubstr(", expected [")),
                AllOf(HasSubstr("tensor '"), HasSubstr("' is missing, expected")),
                AllOf(HasSubstr("tensor '"), HasSubstr("is there, expected none"))))
          << field << " = " << wrong;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ConfigFields,
                         ::testing::Values("llama_mha", "llama_gqa_llama3rope", "llama_linear_f32",
                                           "qwen2", "qwen2_tied_f16", "qwen3", "deepseek_v2_lite",
                                           "deepseek_v2", "deepseek_v3", "deepseek_v3_fp8"),
                         [](const auto& instance) { return std::string(instance.param); });

struct Change {
  const char* field;
  json value;
  std::vector<std::string> named;
};

void expect_refused(const char* fixture, const std::vector<Change>& changes) {
  Fixture f(fixture);
  for (const Change& c : changes) {
    const std::string message = f.refusal_with(c.field, c.value);
    EXPECT_THAT(message, StartsWith(kData + fixture)) << c.field << " = " << c.value;
    for (const std::string& part : c.named)
      EXPECT_THAT(message, HasSubstr(part)) << c.field << " = " << c.value;
  }
}

TEST(Config, TensorsOfAnotherShapeAreShownWithBothShapes) {
  expect_refused(
      "llama_gqa_llama3rope",
      {{"/vocab_size",
        511,
        {"'model.embed_tokens.weight' has shape [512, 144], expected [511, 144]"}},
       {"/hidden_size",
        150,
        {"'model.embed_tokens.weight' has shape [512, 144], expected [512, 150]"}},
       {"/intermediate_size",
        290,
        {"'model.layers.0.mlp.gate_proj.weight' has shape [288, 144]", "expected [290, 144]"}},
       {"/head_dim", 48, {"q_proj.weight' has shape [144, 144], expected [288, 144]"}},
       {"/num_key_value_heads", 3, {"k_proj.weight' has shape [48, 144], expected [72, 144]"}},
       {"/num_hidden_layers",
        4,
        {"tensor 'model.layers.3.input_layernorm.weight' is missing",
         "expected one of shape [144]"}},
       {"/num_hidden_layers",
        2,
        {"num_hidden_layers is 2, expected more", "'model.layers.2.input_layernorm.weight'"}}});
}

TEST(Config, GroupedQueryAttention) {
  expect_refused(
      "qwen2",
      {{"/num_key_value_heads",
        4,
        {"num_key_value_heads is 4", "a divisor of num_attention_heads"}},
       {"/num_attention_heads", 10, {"num_attention_heads is 10", "a divisor of hidden_size"}},
       {"/use_sliding_window", true, {"use_sliding_window is true", "expected false"}},
       {"/use_sliding_window", 0, {"use_sliding_window is 0", "expected true or false"}},
       {"/head_dim", 15, {"head_dim is 15", "an even number"}},
       {"/head_dim", 1, {"head_dim is 1", "from 2 to"}},
       {"/hidden_act", "gelu", {"hidden_act is \"gelu\"", "\"silu\""}},
       {"/hidden_act", 1, {"hidden_act is 1", "a string"}},
       {"/tie_word_embeddings", "no", {"tie_word_embeddings is \"no\"", "true or false"}}});
  // A head_dim that follows from the sizes is checked as one that is written.
  Fixture f("qwen2");
  json config = f.config();
  config["num_attention_heads"] = 96;
  config["num_key_value_heads"] = 96;
  EXPECT_THAT(f.refusal(config), AnyOf(HasSubstr("head_dim"), HasSubstr("num_attention_heads")));
}

TEST(Config, BiasesMustAgreeWithTheFile) {
  // Asked for and absent; there and not asked for.
  expect_refused("llama_mha", {{"/attention_bias", true, {"q_proj.bias' is missing"}},
                               {"/mlp_bias", true, {"gate_proj.bias' is missing"}},
                               {"/model_type", "qwen3", {"q_norm.weight' is missing"}},
                               {"/model_type", "qwen2", {"q_proj.bias' is missing"}}});
  expect_refused(
      "qwen2",
      {{"/model_type", "llama", {"q_proj.bias' of shape [96] is there", "expected none"}}});
  expect_refused(
      "qwen3",
      {{"/model_type", "llama", {"q_norm.weight' of shape [48] is there", "expected none"}}});
  expect_refused("deepseek_v3", {{"/attention_bias", true, {"q_a_proj.bias' is missing"}}});
  expect_refused("qwen2_tied_f16",
                 {{"/tie_word_embeddings", false, {"'lm_head.weight' is missing"}}});
}

TEST(Config, LatentAttention) {
  expect_refused("deepseek_v2",
                 {{"/qk_rope_head_dim", 15, {"qk_rope_head_dim is 15", "an even number"}},
                  {"/qk_rope_head_dim", 1, {"qk_rope_head_dim is 1", "from 2 to"}},
                  {"/q_lora_rank", nullptr, {"q_proj.weight' is missing"}},
                  {"/scoring_func", "sigmoid", {"scoring_func is \"sigmoid\"", "\"softmax\""}},
                  {"/topk_method", "noaux_tc", {"topk_method is \"noaux_tc\"", "\"greedy\""}}});
  expect_refused("deepseek_v2_lite", {{"/q_lora_rank", 48, {"q_a_proj.weight' is missing"}}});
  expect_refused("deepseek_v3",
                 {{"/scoring_func", "softmax", {"scoring_func is \"softmax\"", "\"sigmoid\""}},
                  {"/topk_method", "greedy", {"topk_method is \"greedy\"", "\"noaux_tc\""}},
                  {"/rope_interleave", "yes", {"rope_interleave is \"yes\"", "true or false"}}});
}

TEST(Config, MixtureOfExperts) {
  // 16 experts in 4 groups of which 2 count, 4 experts a token.
  expect_refused(
      "deepseek_v3",
      {{"/n_group", 3, {"n_group is 3", "a divisor of n_routed_experts"}},
       {"/n_group", 17, {"n_group is 17", "from 1 to 16"}},
       {"/topk_group", 5, {"topk_group is 5", "from 1 to 4"}},
       {"/num_experts_per_tok", 9, {"num_experts_per_tok is 9", "at most 8"}},
       {"/num_experts_per_tok", 17, {"num_experts_per_tok is 17", "from 1 to 16"}},
       {"/n_routed_experts", 12, {"gate.weight' has shape [16, 96], expected [12, 96]"}},
       {"/n_shared_experts",
        0,
        {"shared_experts.gate_proj.weight' is there", "n_shared_experts is 0"}},
       {"/moe_layer_freq", 2, {"'model.layers.1.mlp.gate_proj.weight' is missing"}},
       {"/num_nextn_predict_layers", 17, {"num_nextn_predict_layers is 17", "from 0 to 16"}}});
}

TEST(Config, TheMtpModuleIsNoLayer) {
  expect_refused("deepseek_v3",
                 {{"/num_hidden_layers",
                   4,
                   {"num_hidden_layers is 4, expected fewer", "layers.3.eh_proj.weight"}},
                  {"/num_hidden_layers",
                   2,
                   {"num_hidden_layers is 2, expected more", "layers.2.input_layernorm"}}});
}

TEST(Config, ChangesThatAreLegal) {
  const struct {
    const char* fixture;
    const char* field;
    json value;
  } changes[] = {
      {"llama_mha", "/rms_norm_eps", 1e-5},
      {"llama_mha", "/max_position_embeddings", 1},
      {"llama_mha", "/hidden_size", 128.0},  // an integer, written as a float
      {"llama_mha", "/rope_scaling", {{"type", "linear"}, {"factor", 2}}},
      {"llama_mha", "/some_field_of_another_program", {{"a", json::array({1, nullptr})}}},
      {"qwen2", "/sliding_window", 7},  // not used, as use_sliding_window is false
      {"qwen3", "/tie_word_embeddings", true},
      {"deepseek_v3", "/routed_scaling_factor", 1},
      {"deepseek_v3", "/num_experts_per_tok", 8},
      {"deepseek_v3", "/n_group", 16},  // groups of one expert
      {"deepseek_v3", "/num_nextn_predict_layers", 0},
  };
  for (const auto& c : changes) {
    Fixture f(c.fixture);
    json config = f.config();
    config[json::json_pointer(c.field)] = c.value;
    if (config["n_group"] == 16) config["topk_group"] = 4;
    EXPECT_EQ(f.refusal(config), "") << c.fixture << c.field << " = " << c.value;
  }
}

TEST(Config, TheNanoModelLoads) {
  Fixture f("../../../models/nano");
  EXPECT_EQ(f.refusal(f.config()), "");
}

TEST(Registry, UnknownArchitecturesAreNamedWithTheKnownOnes) {
  Fixture f("llama_mha");
  for (const char* type : {"gpt2", "Llama", "llama ", ""}) {
    EXPECT_THAT(f.refusal_with("/model_type", type),
                AllOf(StartsWith(kData + "llama_mha/config.json: model_type is \"" + type + "\""),
                      HasSubstr("llama"), HasSubstr("qwen2"), HasSubstr("qwen3"),
                      HasSubstr("deepseek_v2"), HasSubstr("deepseek_v3")));
  }
}

}  // namespace
}  // namespace fathom
