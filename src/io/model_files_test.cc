// Model directories: every file that may be missing, of the wrong kind or full of nonsense, and
// which of two files counts where both speak.
#include "io/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/utf8.h"
#include "io/test_support.h"

namespace fathom {
namespace {

using test::bytes_of;
using test::safetensors_file;
using test::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

const char* const kIndex = "model.safetensors.index.json";

class ModelDirectory : public ::testing::Test {
 protected:
  ModelDirectory() {
    dir_.write("config.json", R"({"model_type":"llama"})");
    dir_.write("model.safetensors", safetensors_file({{"x", "U8", {1}, "1"}}));
  }
  ModelFiles opened() {
    auto r = open_model_files(dir_.path());
    EXPECT_TRUE(r) << r.error().message;
    return r ? *std::move(r) : ModelFiles();
  }
  std::string refusal(const std::string& path) {
    const auto r = open_model_files(path);
    if (r) return "";
    EXPECT_TRUE(utf8_is_valid(r.error().message)) << r.error().message;
    EXPECT_LT(r.error().message.size(), 800u) << r.error().message;
    return r.error().message;
  }
  std::string refusal() { return refusal(dir_.path()); }
  // The message with which the directory is refused once `name` has this content; the file is put
  // back as it was.
  std::string refusal_with(const std::string& name, std::string_view content) {
    dir_.write(name, content);
    const std::string message = refusal();
    EXPECT_THAT(message, StartsWith(dir_.file(name))) << content;
    remove(name);
    if (name == "config.json") dir_.write("config.json", R"({"model_type":"llama"})");
    return message;
  }
  void remove(const std::string& name) { std::filesystem::remove(dir_.file(name)); }
  void link(const std::string& target, const std::string& name) {
    ASSERT_EQ(::symlink(target.c_str(), dir_.file(name).c_str()), 0);
  }

  TempDir dir_;
};

TEST_F(ModelDirectory, OpensWhatIsThere) {
  const ModelFiles files = opened();
  EXPECT_EQ(files.model_type, "llama");
  EXPECT_EQ(files.directory, dir_.path());
  EXPECT_EQ(files.config_path, dir_.file("config.json"));
  EXPECT_EQ(files.name, dir_.path().substr(dir_.path().rfind('/') + 1));
  EXPECT_TRUE(files.weights->has("x"));
  EXPECT_EQ(files.tokenizer_path, "");
  EXPECT_EQ(files.chat_template, "");
  EXPECT_FALSE(files.bos_token_id);
  EXPECT_THAT(files.eos_token_ids, IsEmpty());
  EXPECT_TRUE(files.do_sample);
  EXPECT_FALSE(files.temperature || files.top_p || files.top_k);
  // Slashes at the end, and the name through "." and a link, are the same directory.
  for (const std::string& path : {dir_.path() + "///", dir_.path() + "/."}) {
    const auto r = open_model_files(path);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->name, files.name) << path;
  }
  dir_.write("tokenizer.json", "{}");
  EXPECT_EQ(opened().tokenizer_path, dir_.file("tokenizer.json"));
}

TEST_F(ModelDirectory, OpensASingleFileBesideItsConfig) {
  dir_.write("other.safetensors", safetensors_file({{"y", "U8", {1}, "1"}}));
  const auto r = open_model_files(dir_.file("other.safetensors"));
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_TRUE(r->weights->has("y"));
  EXPECT_FALSE(r->weights->has("x"));
  EXPECT_EQ(r->config_path, dir_.file("config.json"));
  remove("config.json");
  EXPECT_THAT(refusal(dir_.file("other.safetensors")),
              AllOf(StartsWith(dir_.file("config.json")), HasSubstr("No such file")));
}

TEST_F(ModelDirectory, PathsThatAreNoModel) {
  const auto missing = open_model_files(dir_.file("none"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message,
              AllOf(StartsWith(dir_.file("none")), HasSubstr("expected a directory")));
  EXPECT_THAT(refusal(""), HasSubstr("no such model"));
  EXPECT_THAT(refusal(dir_.file("none.safetensors")), HasSubstr("no such model"));
  EXPECT_THAT(refusal(dir_.file("config.json")),
              AllOf(StartsWith(dir_.file("config.json")),
                    HasSubstr("expected a model directory, a .gguf or a .safetensors file")));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("expected a model directory"));
}

TEST_F(ModelDirectory, MissingFiles) {
  remove("model.safetensors");
  EXPECT_THAT(refusal(), AllOf(StartsWith(dir_.path()), HasSubstr("no weights"),
                               HasSubstr("expected model.safetensors or " + std::string(kIndex))));
  remove("config.json");
  EXPECT_THAT(refusal(), AllOf(StartsWith(dir_.file("config.json")), HasSubstr("No such file")));
}

// What is no regular file is refused at once: a FIFO would block, a link to nothing is a download
// that was cut off, and neither may pass for an optional file that is absent.
TEST_F(ModelDirectory, NamesThatAreNoRegularFile) {
  const TempDir saved;
  for (const char* name : {"config.json", "model.safetensors", kIndex, "generation_config.json",
                           "tokenizer_config.json", "chat_template.jinja"}) {
    const std::string path = dir_.file(name);
    const bool was_there = std::filesystem::exists(path);
    if (was_there) std::filesystem::rename(path, saved.file(name));
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(refusal(), path + ": not a regular file");
    remove(name);
    ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
    EXPECT_EQ(refusal(), path + ": not a regular file");
    remove(name);
    link("/nowhere/at/all", name);
    EXPECT_THAT(refusal(), AllOf(StartsWith(path), HasSubstr("No such file"))) << name;
    remove(name);
    link(name, name);
    EXPECT_THAT(refusal(), AllOf(StartsWith(path), HasSubstr("cannot open"))) << name;
    remove(name);
    if (was_there) std::filesystem::rename(saved.file(name), path);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(ModelDirectory, LinksToRegularFilesAreFollowed) {
  const TempDir blobs;
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::rename(dir_.file(name), blobs.file(name));
    link(blobs.file(name), name);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(ModelDirectory, TheIndexCountsBeforeTheSingleFile) {
  dir_.write("s.safetensors", safetensors_file({{"y", "U8", {1}, "2"}}));
  dir_.write(kIndex, R"({"weight_map":{"y":"s.safetensors"}})");
  EXPECT_TRUE(opened().weights->has("y"));
  EXPECT_THAT(refusal_with(kIndex, "[]"), HasSubstr("expected an object"));
}

TEST_F(ModelDirectory, ConfigsThatAreNoConfig) {
  const struct {
    const char* text;
    std::vector<std::string> named;
  } cases[] = {
      {"", {"not valid JSON"}},
      {"null", {"the top level is null", "expected an object"}},
      {"[{}]", {"the top level is [{}]", "expected an object"}},
      {"\"llama\"", {"the top level is \"llama\"", "expected an object"}},
      {R"({"model_type":"llama","hidden_size":NaN})", {"hidden_size", "not valid JSON"}},
      {R"({"model_type":"llama","rope_theta":Infinity})", {"rope_theta", "not valid JSON"}},
      {R"({"model_type":"llama","rope_theta":-Infinity})", {"rope_theta", "not valid JSON"}},
      {R"({"model_type":"llama","rope_theta":1e999})", {"rope_theta", "1e999", "fits a double"}},
      {R"({"model_type":"llama","model_type":"llama"})", {"model_type", "twice", "once"}},
      {R"({"a":{"b":1,"b":1}})", {"a.b", "twice"}},
      {R"({"model_type":"llama",})", {"not valid JSON"}},
      {R"({"model_type":"lla)", {"not valid JSON", "model_type"}},
      {"{}", {"model_type is missing", "expected a string"}},
      {R"({"model_type":null})", {"model_type is missing", "expected a string"}},
      {R"({"model_type":3})", {"model_type is 3", "expected a string"}},
      {R"({"model_type":["llama"]})", {"model_type is [\"llama\"]", "expected a string"}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal_with("config.json", c.text);
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.text;
  }
}

TEST_F(ModelDirectory, ConfigFilesAreBounded) {
  const std::string deep(100, '[');
  EXPECT_THAT(refusal_with("config.json", R"({"a":)" + deep), HasSubstr("nested deeper than"));
  std::string many = R"({"a":[0)";
  for (int64_t i = 0; i < limits::kMaxConfigValues; ++i) many += ",0";
  for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json"})
    EXPECT_THAT(refusal_with(name, many + "]}"), HasSubstr("more than 1000000 values")) << name;
  // Sparse: the file claims more than the limit and takes no room.
  for (const char* name : {"config.json", "tokenizer_config.json", "chat_template.jinja"}) {
    dir_.write(name, "{}");
    std::filesystem::resize_file(dir_.file(name), uint64_t{1} << 40);
    EXPECT_THAT(refusal(), AllOf(StartsWith(dir_.file(name)), HasSubstr("1099511627776 bytes"),
                                 HasSubstr("limit is 16777216")));
    dir_.write(name, R"({"model_type":"llama"})");
  }
}

TEST_F(ModelDirectory, QuantizationConfigs) {
  const struct {
    const char* value;
    std::vector<std::string> named;
  } cases[] = {
      {"7", {"quantization_config is 7", "expected an object"}},
      {"[]", {"quantization_config is []", "expected an object"}},
      {"{}", {"quantization_config.quant_method is missing"}},
      {R"({"quant_method":"awq"})", {"quant_method is \"awq\"", "expected \"fp8\""}},
      {R"({"quant_method":8})", {"quant_method is 8", "expected a string"}},
      {R"({"quant_method":"fp8"})", {"weight_block_size is missing", "[128, 128]"}},
      {R"({"quant_method":"fp8","weight_block_size":128})", {"weight_block_size is 128"}},
      {R"({"quant_method":"fp8","weight_block_size":[128]})", {"is [128]", "two integers"}},
      {R"({"quant_method":"fp8","weight_block_size":[1,2,3]})", {"is [1,2,3]", "two integers"}},
      {R"({"quant_method":"fp8","weight_block_size":[0,128]})",
       {"is [0,128]", "from 1 to 1048576"}},
      {R"({"quant_method":"fp8","weight_block_size":[-1,128]})", {"is [-1,128]", "from 1 to"}},
      {R"({"quant_method":"fp8","weight_block_size":[128,2097152]})", {"is [128,2097152]"}},
      {R"({"quant_method":"fp8","weight_block_size":[128,9223372036854775808]})", {"92233720368"}},
      {R"({"quant_method":"fp8","weight_block_size":[128.5,128]})", {"is [128.5,128]", "integer"}},
      {R"({"quant_method":"fp8","weight_block_size":"128"})", {"is \"128\"", "an integer"}},
      {R"({"quant_method":"fp8","fmt":"e5m2","weight_block_size":[128,128]})",
       {"fmt is \"e5m2\"", "expected \"e4m3\""}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal_with(
        "config.json", fmt::format(R"({{"model_type":"x","quantization_config":{}}})", c.value));
    EXPECT_THAT(message, HasSubstr("config.json: quantization_config")) << c.value;
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.value;
  }
}

TEST_F(ModelDirectory, Fp8WeightsNeedTheConfigAndTheirScales) {
  const std::string with_config =
      R"({"model_type":"x","quantization_config":{"quant_method":"fp8","fmt":"e4m3",)"
      R"("activation_scheme":"dynamic","weight_block_size":[2,4]}})";
  dir_.write("model.safetensors",
             safetensors_file({{"a", "F8_E4M3", {3, 5}, std::string(15, '\x38')},
                               {"a_scale_inv", "F32", {2, 2}, bytes_of<float>({1, 2, 3, 4})},
                               {"no_scale", "F8_E4M3", {1, 1}, "\x38"},
                               {"plain", "BF16", {1, 2}, bytes_of<uint16_t>({0x3F80, 0x4000})}}));
  const auto error = [&](const std::string& name, int64_t rows, int64_t cols) {
    const ModelFiles files = opened();
    const auto r = files.weights->matrix(name, rows, cols);
    return r ? "" : r.error().message;
  };
  EXPECT_THAT(error("a", 3, 5),
              AllOf(StartsWith(dir_.file("model.safetensors")), HasSubstr("tensor 'a' is F8_E4M3"),
                    HasSubstr("config.json has no quantization_config")));
  dir_.write("config.json", with_config);
  EXPECT_EQ(error("a", 3, 5), "");
  EXPECT_EQ(error("plain", 1, 2), "");  // stayed BF16: needs no scale
  EXPECT_THAT(error("no_scale", 1, 1),
              HasSubstr("neither 'no_scale_scale_inv' nor 'no_scale.scale' is there"));
}

TEST_F(ModelDirectory, TokenIdsComeAsANumberOrAList) {
  const auto config = [&](const std::string& eos) {
    dir_.write("config.json",
               fmt::format(R"({{"model_type":"x","bos_token_id":5,"eos_token_id":{}}})", eos));
  };
  config("7");
  EXPECT_THAT(opened().eos_token_ids, ElementsAre(7));
  EXPECT_EQ(opened().bos_token_id, 5);
  config("[7,8]");
  EXPECT_THAT(opened().eos_token_ids, ElementsAre(7, 8));
  config("null");
  EXPECT_THAT(opened().eos_token_ids, IsEmpty());
  for (const char* bad :
       {"-1", "\"7\"", "7.5", "[\"7\"]", "[7,-1]", "[7.0]", "[[7]]", "[null]", "{}", "true",
        "16777217", "9223372036854775808", "[18446744073709551615]"}) {
    const std::string message =
        refusal_with("config.json", fmt::format(R"({{"model_type":"x","eos_token_id":{}}})", bad));
    EXPECT_THAT(message, AllOf(HasSubstr("config.json: eos_token_id is "), HasSubstr("expected")))
        << bad;
  }
}

TEST_F(ModelDirectory, GenerationConfigCountsBeforeConfig) {
  dir_.write("config.json", R"({"model_type":"x","bos_token_id":1,"eos_token_id":2})");
  dir_.write("generation_config.json",
             R"({"bos_token_id":3,"eos_token_id":[4,5],"do_sample":false,"temperature":0.6,)"
             R"("top_p":0.95,"top_k":20,"_from_model_config":true})");
  ModelFiles files = opened();
  EXPECT_EQ(files.bos_token_id, 3);
  EXPECT_THAT(files.eos_token_ids, ElementsAre(4, 5));
  EXPECT_FALSE(files.do_sample);
  EXPECT_EQ(files.temperature, 0.6);
  EXPECT_EQ(files.top_p, 0.95);
  EXPECT_EQ(files.top_k, 20);
  // What it does not say stays config.json's.
  dir_.write("generation_config.json", R"({"eos_token_id":null,"temperature":null})");
  files = opened();
  EXPECT_EQ(files.bos_token_id, 1);
  EXPECT_THAT(files.eos_token_ids, ElementsAre(2));
  EXPECT_TRUE(files.do_sample);
  EXPECT_FALSE(files.temperature);
}

TEST_F(ModelDirectory, GenerationConfigsOfNonsense) {
  const struct {
    const char* text;
    std::vector<std::string> named;
  } cases[] = {
      {"[]", {"the top level is []", "expected an object"}},
      {R"({"temperature":NaN})", {"temperature", "not valid JSON"}},
      {R"({"temperature":1e400})", {"temperature", "1e400"}},
      {R"({"temperature":-0.1})", {"temperature is -0.1", "from 0 to 100"}},
      {R"({"temperature":"hot"})", {"temperature is \"hot\"", "a number"}},
      {R"({"temperature":1e30})", {"temperature is 1e+30", "from 0 to 100"}},
      {R"({"top_p":1.01})", {"top_p is 1.01", "from 0 to 1"}},
      {R"({"top_k":-1})", {"top_k is -1", "from 0"}},
      {R"({"top_k":2.5})", {"top_k is 2.5", "an integer"}},
      {R"({"top_k":1e30})", {"top_k is 1e+30", "an integer"}},
      {R"({"do_sample":1})", {"do_sample is 1", "true or false"}},
      {R"({"eos_token_id":"</s>"})", {"eos_token_id is \"</s>\"", "an integer"}},
      {R"({"bos_token_id":[-2]})", {"bos_token_id is [-2]", "from 0"}},
      {R"({"top_p":1,"top_p":1})", {"top_p", "twice"}},
  };
  for (const auto& c : cases) {
    const std::string message = refusal_with("generation_config.json", c.text);
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.text;
  }
}

TEST_F(ModelDirectory, ChatTemplates) {
  const auto with = [&](const std::string& value) {
    dir_.write("tokenizer_config.json", fmt::format(R"({{"chat_template":{}}})", value));
    return opened().chat_template;
  };
  EXPECT_EQ(with("\"one\""), "one");
  EXPECT_EQ(with("null"), "");
  EXPECT_EQ(with("[]"), "");
  EXPECT_EQ(with(R"([{"name":"tool_use","template":"t"},{"name":"default","template":"d"}])"), "d");
  EXPECT_EQ(with(R"([{"name":"tool_use","template":"t"}])"), "");
  dir_.write("chat_template.jinja", "{{ jinja }}\n");
  EXPECT_EQ(with("\"one\""), "{{ jinja }}\n");
  remove("tokenizer_config.json");
  EXPECT_EQ(opened().chat_template, "{{ jinja }}\n");
}

TEST_F(ModelDirectory, ChatTemplatesOfOtherTypes) {
  const struct {
    const char* value;
    std::vector<std::string> named;
  } cases[] = {
      {"7", {"chat_template is 7", "expected a string or a list"}},
      {"{}", {"chat_template is {}", "expected a string or a list"}},
      {"false", {"chat_template is false", "expected a string or a list"}},
      {"[7]", {"chat_template[0] is 7", "expected an object {name, template}"}},
      {R"([{"name":"a","template":"b"},"c"])", {"chat_template[1] is \"c\""}},
      {R"([{"template":"b"}])", {"chat_template[0].name is missing", "a string"}},
      {R"([{"name":"a"}])", {"chat_template[0].template is missing", "a string"}},
      {R"([{"name":"a","template":{"a":1}}])", {"chat_template[0].template is {", "a string"}},
      {R"([{"name":"a","name":"a"}])", {"chat_template[0].name", "twice"}},
  };
  for (const auto& c : cases) {
    const std::string message =
        refusal_with("tokenizer_config.json", fmt::format(R"({{"chat_template":{}}})", c.value));
    for (const std::string& part : c.named) EXPECT_THAT(message, HasSubstr(part)) << c.value;
  }
  EXPECT_THAT(refusal_with("tokenizer_config.json", "7"), HasSubstr("the top level is 7"));
}

}  // namespace
}  // namespace fathom
