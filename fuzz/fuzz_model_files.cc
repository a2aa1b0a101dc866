// Fuzzes the reading of model directories and the loading of models from them.
//
// The input is a byte that picks one of four sets of valid weights, then the texts of config.json,
// model.safetensors.index.json, generation_config.json and tokenizer_config.json, each ended by a
// byte 0x00; an empty text is a file that is absent. Properties beyond "no crash": an error has a
// message in valid UTF-8 that names the directory; a model that loads has the sizes of its weights.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "io/test_support.h"
#include "model/model.h"

namespace fathom {
namespace {

using test::TestTensor;

// Sizes that the seeds' configurations repeat.
constexpr int64_t kHidden = 8, kVocab = 16, kInner = 12, kExperts = 4, kExpertInner = 3;

enum class Weights { kLlama, kQwen3, kDeepseekV2, kDeepseekV3 };

void add(std::vector<TestTensor>& out, const std::string& name, std::vector<int64_t> shape) {
  int64_t elements = 1;
  for (const int64_t d : shape) elements *= d;
  out.push_back({name, "BF16", std::move(shape), std::string(2 * elements, '\x3F')});
}

void add_swiglu(std::vector<TestTensor>& out, const std::string& p, int64_t inner) {
  add(out, p + "gate_proj.weight", {inner, kHidden});
  add(out, p + "up_proj.weight", {inner, kHidden});
  add(out, p + "down_proj.weight", {kHidden, inner});
}

// Two heads of 4 channels, one of them for keys and values.
void add_gqa(std::vector<TestTensor>& out, const std::string& a, bool head_norms) {
  add(out, a + "q_proj.weight", {8, kHidden});
  add(out, a + "k_proj.weight", {4, kHidden});
  add(out, a + "v_proj.weight", {4, kHidden});
  add(out, a + "o_proj.weight", {kHidden, 8});
  if (!head_norms) return;
  add(out, a + "q_norm.weight", {4});
  add(out, a + "k_norm.weight", {4});
}

// Two heads; q_lora_rank 4, kv_lora_rank 6, head dims 4 (nope), 2 (rope) and 4 (v).
void add_mla(std::vector<TestTensor>& out, const std::string& a, bool q_lora) {
  if (q_lora) {
    add(out, a + "q_a_proj.weight", {4, kHidden});
    add(out, a + "q_a_layernorm.weight", {4});
    add(out, a + "q_b_proj.weight", {12, 4});
  } else {
    add(out, a + "q_proj.weight", {12, kHidden});
  }
  add(out, a + "kv_a_proj_with_mqa.weight", {8, kHidden});
  add(out, a + "kv_a_layernorm.weight", {6});
  add(out, a + "kv_b_proj.weight", {16, 6});
  add(out, a + "o_proj.weight", {kHidden, 8});
}

void add_mixture(std::vector<TestTensor>& out, const std::string& m, bool correction_bias) {
  add(out, m + "gate.weight", {kExperts, kHidden});
  if (correction_bias) add(out, m + "gate.e_score_correction_bias", {kExperts});
  for (int64_t e = 0; e < kExperts; ++e)
    add_swiglu(out, fmt::format("{}experts.{}.", m, e), kExpertInner);
  add_swiglu(out, m + "shared_experts.", kExpertInner);
}

// Two layers (of MLA: one dense, one with experts), and V3's MTP module as a third.
std::vector<TestTensor> tensors(Weights kind) {
  std::vector<TestTensor> out;
  const bool gqa = kind == Weights::kLlama || kind == Weights::kQwen3;
  const bool v3 = kind == Weights::kDeepseekV3;
  add(out, "model.embed_tokens.weight", {kVocab, kHidden});
  add(out, "model.norm.weight", {kHidden});
  add(out, "lm_head.weight", {kVocab, kHidden});
  for (int64_t i = 0; i < (v3 ? 3 : 2); ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    add(out, p + "input_layernorm.weight", {kHidden});
    add(out, p + "post_attention_layernorm.weight", {kHidden});
    if (gqa) {
      add_gqa(out, p + "self_attn.", kind == Weights::kQwen3);
    } else {
      add_mla(out, p + "self_attn.", v3);
    }
    if (gqa || i == 0) {
      add_swiglu(out, p + "mlp.", kInner);
    } else {
      add_mixture(out, p + "mlp.", v3);
    }
    if (i < 2) continue;
    for (const char* norm : {"enorm", "hnorm", "shared_head.norm"})
      add(out, p + norm + ".weight", {kHidden});
    add(out, p + "eh_proj.weight", {kHidden, 2 * kHidden});
  }
  if (v3) {  // one matrix in FP8, with the scale of its one block
    auto w = std::find_if(out.begin(), out.end(), [](const TestTensor& t) {
      return t.name == "model.layers.0.mlp.up_proj.weight";
    });
    w->dtype = "F8_E4M3";
    w->data.resize(w->data.size() / 2);
    out.push_back({w->name + "_scale_inv", "F32", {1, 1}, test::bytes_of<float>({0.5f})});
  }
  return out;
}

// Four directories with their weights, in memory where the system has such a place.
class Directories {
 public:
  Directories() {
    for (std::size_t i = 0; i < dirs_.size(); ++i) {
      dirs_[i] = std::make_unique<test::TempDir>(std::filesystem::exists("/dev/shm") ? "/dev/shm"
                                                                                     : "/tmp");
      dirs_[i]->write("model.safetensors",
                      test::safetensors_file(tensors(static_cast<Weights>(i))));
      std::filesystem::create_symlink("model.safetensors", dirs_[i]->file("part.safetensors"));
    }
  }
  const test::TempDir& pick(uint8_t byte) const { return *dirs_[byte % dirs_.size()]; }

 private:
  std::array<std::unique_ptr<test::TempDir>, 4> dirs_;
};

void check_message(const Error& error, const std::string& directory) {
  FATHOM_CHECK(utf8_is_valid(error.message)) << error.message;
  FATHOM_CHECK(error.message.starts_with(directory)) << error.message;
  FATHOM_CHECK_LT(error.message.size(), 2000u) << error.message;
}

void check_model(const ModelFiles& files) {
  const auto model = load_model(files);
  if (!model) {
    check_message(model.error(), files.directory);
    return;
  }
  const ModelInfo& info = (*model)->info();
  FATHOM_CHECK_EQ(info.vocab_size, kVocab);
  FATHOM_CHECK_EQ(info.hidden_size, kHidden);
  FATHOM_CHECK_EQ(info.num_layers, 2);
  FATHOM_CHECK_EQ(static_cast<int64_t>((*model)->kv_layers().size()), 2 + info.mtp_layers);
  for (const KvLayerSpec& layer : (*model)->kv_layers()) FATHOM_CHECK_EQ(layer.row_elements, 8);
}

void run(std::string_view input) {
  static const Directories directories;
  if (input.empty()) return;
  const test::TempDir& dir = directories.pick(static_cast<uint8_t>(input[0]));
  input.remove_prefix(1);
  for (const char* name : {"config.json", "model.safetensors.index.json", "generation_config.json",
                           "tokenizer_config.json"}) {
    const std::size_t end = std::min(input.find('\0'), input.size());
    if (end > 0) {
      dir.write(name, input.substr(0, end));
    } else {
      std::filesystem::remove(dir.file(name));
    }
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  const auto files = open_model_files(dir.path());
  if (files) {
    check_model(*files);
  } else {
    check_message(files.error(), dir.path());
  }
}

}  // namespace
}  // namespace fathom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  fathom::run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
