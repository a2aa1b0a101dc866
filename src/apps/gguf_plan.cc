#include "apps/gguf_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "base/limits.h"
#include "io/gguf_files.h"
#include "io/gguf_weights.h"
#include "model/model.h"
#include "model/rope.h"
#include "quant/codec.h"
#include "tensor/float_formats.h"

namespace fathom {
namespace {

// One element of a stored weight, as float32.
float element(const WeightView& w, int64_t row, int64_t col) {
  const std::byte* p = w.data + row * w.row_bytes();
  if (w.dtype == DType::kF8E4M3) {
    const int64_t block =
        (w.scale_row0 + row) / w.scale_block_rows * w.scale_stride + col / w.scale_block_cols;
    return f8e4m3_to_f32(std::to_integer<uint8_t>(p[col])) * w.scales[block];
  }
  if (w.dtype == DType::kF4E2M1) {
    const auto two = std::to_integer<uint8_t>(p[col / 2]);
    return f4e2m1_to_f32(static_cast<uint8_t>(two >> (col % 2 * 4))) *
           f8e8m0_to_f32(w.exponents[(row * w.cols + col) / kF4Block]);
  }
  float out = 0;
  quant::decode(w.dtype, p + col * static_cast<int64_t>(dtype_bytes(w.dtype)), 1, &out);
  return out;
}

// Whether the bytes are all: FP8 and FP4 have their scales elsewhere, and no type in GGUF.
bool stands_alone(DType type) { return type != DType::kF8E4M3 && type != DType::kF4E2M1; }

using NamePair = std::pair<std::string_view, std::string_view>;

// Behind "model.layers.N." and "blk.N."; each may come with .weight and .bias.
constexpr std::array<NamePair, 30> kLayerNames = {{
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},  // written in two halves
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.indexer.wq_b", "indexer.attn_q_b"},
    {"self_attn.indexer.wk", "indexer.attn_k"},
    {"self_attn.indexer.k_norm", "indexer.k_norm"},
    {"self_attn.indexer.weights_proj", "indexer.proj"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {"eh_proj", "nextn.eh_proj"},
    {"enorm", "nextn.enorm"},
    {"hnorm", "nextn.hnorm"},
    {"shared_head.norm", "nextn.shared_head_norm"},
    {"shared_head.head", "nextn.shared_head_head"},
}};

class HuggingFacePlan {
 public:
  explicit HuggingFacePlan(const ModelFiles& files)
      : files_(files), config_(*files.config, files.config_path) {}
  Result<GgufPlan> build();

 private:
  Status read_config();
  Status add_layer(int64_t layer);
  Status add_named(const std::string& from, const std::string& to);
  Status add_experts(const std::string& from, const std::string& to);
  Status add_v4();
  void add_expert_table(const std::string& from, const std::string& to);
  Status add_split_kv_b(const std::string& from, const std::string& to);
  Status add_rope_freqs();
  Status add_if_different(const std::string& from, const std::string& to,
                          const std::string& shared);
  Status check_all_used() const;
  Result<WeightView> matrix(const std::string& name);
  void add_matrix(std::string name, const WeightView& w, std::vector<int64_t> shape);

  const ModelFiles& files_;
  JsonReader config_;
  GgufPlan plan_;
  std::set<std::string, std::less<>> used_;
  int64_t layers_ = 0, heads_ = 0, kv_heads_ = 0, experts_ = 0, nope_ = 0, v_head_ = 0;
  int64_t head_dim_ = 0;
  bool has_mtp_ = false;
};

Status HuggingFacePlan::read_config() {
  FATHOM_TRY(layers_, config_.integer("num_hidden_layers", 1, limits::kMaxLayers));
  FATHOM_TRY(heads_, config_.integer("num_attention_heads", 1, limits::kMaxHeads));
  FATHOM_TRY(kv_heads_, config_.integer_or("num_key_value_heads", heads_, 1, limits::kMaxHeads));
  FATHOM_TRY(const int64_t hidden, config_.integer("hidden_size", 1, limits::kMaxHiddenSize));
  FATHOM_TRY(head_dim_, config_.integer_or("head_dim", hidden / heads_, 1, limits::kMaxHiddenSize));
  FATHOM_TRY(experts_, config_.integer_or("n_routed_experts", 0, 0, limits::kMaxExperts));
  FATHOM_TRY(nope_, config_.integer_or("qk_nope_head_dim", 0, 0, limits::kMaxHiddenSize));
  FATHOM_TRY(v_head_, config_.integer_or("v_head_dim", 0, 0, limits::kMaxHiddenSize));
  has_mtp_ = files_.weights->has(fmt::format("model.layers.{}.eh_proj.weight", layers_));
  plan_.shape.layers = layers_;
  // Latent attention has one key for all heads, but no attn_v to be spared.
  plan_.shape.heads_per_kv = heads_ / kv_heads_;
  FATHOM_TRY(plan_.shape.tied_embeddings, config_.boolean_or("tie_word_embeddings", false));
  return {};
}

Result<WeightView> HuggingFacePlan::matrix(const std::string& name) {
  used_.insert(name);
  const StoredTensor* t = files_.weights->find(name);
  FATHOM_CHECK(t != nullptr) << name;
  if (t->dtype == DType::kF8E4M3 || t->dtype == DType::kI8)
    used_.insert(files_.weights->scale_name(name));
  // I8 is FP4, two to a byte.
  if (t->shape.size() == 2)
    return files_.weights->matrix(name, t->shape[0],
                                  t->dtype == DType::kI8 ? 2 * t->shape[1] : t->shape[1]);
  if (t->shape.size() == 1) return files_.weights->vector(name, t->shape[0]);
  return invalid_argument(
      fmt::format("{}: tensor '{}' has shape {}, expected one or two dimensions", t->file, name,
                  shape_string(t->shape)));
}

void HuggingFacePlan::add_matrix(std::string name, const WeightView& w,
                                 std::vector<int64_t> shape) {
  PlannedTensor t{.name = std::move(name), .shape = std::move(shape), .source_type = w.dtype};
  t.matrices = {w.data};
  t.read_row = [w](int64_t row, float* out) { quant::decode_row(w, row, out); };
  if (stands_alone(w.dtype)) t.raw = {w.data, static_cast<std::size_t>(w.bytes())};
  plan_.tensors.push_back(std::move(t));
}

// GGUF's Llama pairs neighbouring channels for rope, HuggingFace's channel i with i + d/2: within
// each head, rows (and biases) i and i + d/2 go to 2i and 2i + 1.
Status HuggingFacePlan::add_named(const std::string& from, const std::string& to) {
  if (!files_.weights->has(from)) return {};
  FATHOM_TRY(const WeightView w, matrix(from));
  const bool vector = files_.weights->find(from)->shape.size() == 1;
  const bool permuted =
      files_.model_type == "llama" && (from.find("self_attn.q_proj.") != std::string::npos ||
                                       from.find("self_attn.k_proj.") != std::string::npos);
  add_matrix(to, w, vector ? std::vector{w.cols} : std::vector{w.rows, w.cols});
  if (!permuted) return {};
  PlannedTensor& t = plan_.tensors.back();
  const int64_t d = head_dim_;
  const auto source = [d](int64_t i) { return i / d * d + i % 2 * (d / 2) + i % d / 2; };
  t.raw = {};
  if (vector) {
    t.read_row = [w, source](int64_t, float* out) {
      for (int64_t i = 0; i < w.cols; ++i) out[i] = element(w, 0, source(i));
    };
  } else {
    t.read_row = [w, source](int64_t row, float* out) { quant::decode_row(w, source(row), out); };
  }
  return {};
}

// The experts of a layer become one tensor [experts, rows, cols].
Status HuggingFacePlan::add_experts(const std::string& from, const std::string& to) {
  const bool v4 = files_.model_type == "deepseek_v4";
  for (const auto& [projection, stem] : {NamePair{v4 ? "w1" : "gate_proj", "ffn_gate_exps"},
                                         NamePair{v4 ? "w3" : "up_proj", "ffn_up_exps"},
                                         NamePair{v4 ? "w2" : "down_proj", "ffn_down_exps"}}) {
    std::vector<WeightView> experts;
    for (int64_t e = 0; e < experts_; ++e) {
      const std::string name =
          fmt::format("{}{}.experts.{}.{}.weight", from, v4 ? "ffn" : "mlp", e, projection);
      if (!files_.weights->has(name)) break;
      FATHOM_TRY(const WeightView w, matrix(name));
      experts.push_back(w);
    }
    if (experts.empty()) return {};
    FATHOM_CHECK_EQ(static_cast<int64_t>(experts.size()), experts_);  // the model has loaded
    const int64_t rows = experts[0].rows;
    PlannedTensor t{.name = fmt::format("{}{}.weight", to, stem),
                    .shape = {experts_, rows, experts[0].cols},
                    .source_type = experts[0].dtype};
    for (const WeightView& w : experts) t.matrices.push_back(w.data);
    t.read_row = [experts = std::move(experts), rows](int64_t row, float* out) {
      quant::decode_row(experts[static_cast<std::size_t>(row / rows)], row % rows, out);
    };
    plan_.tensors.push_back(std::move(t));
  }
  return {};
}

// kv_b_proj's rows are, head by head, the keys' and the values'. GGUF has them apart, the keys'
// transposed: attn_k_b [heads, kv_lora, nope], attn_v_b [heads, v, kv_lora].
Status HuggingFacePlan::add_split_kv_b(const std::string& from, const std::string& to) {
  FATHOM_TRY(const WeightView w, matrix(from));
  const int64_t nope = nope_, v = v_head_, rank = w.cols;
  PlannedTensor k{
      .name = to + "attn_k_b.weight", .shape = {heads_, rank, nope}, .source_type = w.dtype};
  k.read_row = [=](int64_t row, float* out) {
    const int64_t first = row / rank * (nope + v);
    for (int64_t i = 0; i < nope; ++i) out[i] = element(w, first + i, row % rank);
  };
  PlannedTensor values{
      .name = to + "attn_v_b.weight", .shape = {heads_, v, rank}, .source_type = w.dtype};
  values.read_row = [=](int64_t row, float* out) {
    quant::decode_row(w, row / v * (nope + v) + nope + row % v, out);
  };
  k.matrices = values.matrices = {w.data};
  plan_.tensors.push_back(std::move(k));
  plan_.tensors.push_back(std::move(values));
  return {};
}

// MTP modules come with copies of the embedding and the head: written only if they differ.
Status HuggingFacePlan::add_if_different(const std::string& from, const std::string& to,
                                         const std::string& shared) {
  const StoredTensor* own = files_.weights->find(from);
  if (own == nullptr) return {};
  const StoredTensor* other = files_.weights->find(shared);
  const bool same = other != nullptr && other->dtype == own->dtype &&
                    own->data.size() == other->data.size() &&
                    std::memcmp(own->data.data(), other->data.data(), own->data.size()) == 0;
  if (!same) return add_named(from, to);
  used_.insert(from);
  return {};
}

Status HuggingFacePlan::add_layer(int64_t layer) {
  const std::string from = fmt::format("model.layers.{}.", layer);
  const std::string to = fmt::format("blk.{}.", layer);
  for (const auto& [hf, gguf] : kLayerNames) {
    const std::string source = fmt::format("{}{}", from, hf);
    if (hf == "self_attn.kv_b_proj") {
      if (files_.weights->has(source + ".weight"))
        FATHOM_TRY_STATUS(add_split_kv_b(source + ".weight", to));
      continue;
    }
    if (hf == "shared_head.head") {
      FATHOM_TRY_STATUS(add_if_different(source + ".weight", fmt::format("{}{}.weight", to, gguf),
                                         "lm_head.weight"));
      continue;
    }
    for (const char* suffix : {".weight", ".bias"})
      FATHOM_TRY_STATUS(add_named(source + suffix, fmt::format("{}{}{}", to, gguf, suffix)));
  }
  FATHOM_TRY_STATUS(add_named(from + "mlp.gate.e_score_correction_bias", to + "exp_probs_b.bias"));
  if (experts_ > 0) FATHOM_TRY_STATUS(add_experts(from, to));
  return add_if_different(from + "embed_tokens.weight", to + "nextn.embed_tokens.weight",
                          "model.embed_tokens.weight");
}

// Integers: GGUF has them in 32 bits.
void HuggingFacePlan::add_expert_table(const std::string& from, const std::string& to) {
  const StoredTensor* t = files_.weights->find(from);
  used_.insert(from);
  PlannedTensor out{.name = to, .shape = t->shape, .source_type = DType::kI32};
  if (t->dtype == DType::kI64) {
    out.owned.resize(t->data.size() / 2);
    for (std::size_t i = 0; i < t->data.size() / sizeof(int64_t); ++i) {
      int64_t wide = 0;
      std::memcpy(&wide, t->data.data() + i * sizeof(wide), sizeof(wide));
      const auto narrow = static_cast<int32_t>(wide);  // an expert's number: the model has loaded
      std::memcpy(out.owned.data() + i * sizeof(narrow), &narrow, sizeof(narrow));
    }
    out.raw = out.owned;
  } else {
    out.raw = t->data;
  }
  plan_.tensors.push_back(std::move(out));
}

// V4's names are whole, and its MTP module has a file of its own in GGUF: it is left out.
Status HuggingFacePlan::add_v4() {
  std::vector<std::string> names;
  files_.weights->for_each([&](const std::string& name, const StoredTensor&) {
    if (name.starts_with("mtp.")) used_.insert(name);
    if (!gguf_v4_name(name).empty()) names.push_back(name);
  });
  for (const std::string& name : names) {
    const std::string to = gguf_v4_name(name);
    if (name.ends_with(".tid2eid")) {
      add_expert_table(name, to);
    } else {
      FATHOM_TRY_STATUS(add_named(name, to));
    }
  }
  for (int64_t i = 0; i < layers_; ++i)
    FATHOM_TRY_STATUS(add_experts(fmt::format("layers.{}.", i), fmt::format("blk.{}.", i)));
  return {};
}

// Llama 3's scaling is stored as the numbers that divide the frequencies.
Status HuggingFacePlan::add_rope_freqs() {
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    FATHOM_TRY(const auto rope, config_.object(field));
    if (!rope) continue;
    FATHOM_TRY(const std::string type, rope->string_or("rope_type", ""));
    FATHOM_TRY(const std::string old, rope->string_or("type", type));
    if (old != "llama3") continue;
    FATHOM_TRY(const RopeTable table, read_rope(config_, head_dim_));
    FATHOM_TRY(const double top, config_.number_or("rope_theta", 10000, 1, 1e12));
    FATHOM_TRY(const double theta, rope->number_or("rope_theta", top, 1, 1e12));
    std::vector<float> divisors;
    for (std::size_t i = 0; i < table.inverse_frequencies.size(); ++i) {
      const double plain =
          std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim_));
      divisors.push_back(static_cast<float>(plain / table.inverse_frequencies[i]));
    }
    PlannedTensor t{.name = "rope_freqs.weight",
                    .shape = {static_cast<int64_t>(divisors.size())},
                    .source_type = DType::kF32};
    t.read_row = [divisors = std::move(divisors)](int64_t, float* out) {
      std::copy(divisors.begin(), divisors.end(), out);
    };
    plan_.tensors.push_back(std::move(t));
    return {};
  }
  return {};
}

Status HuggingFacePlan::check_all_used() const {
  std::string unknown, file;
  int64_t count = 0;
  files_.weights->for_each([&](const std::string& name, const StoredTensor& t) {
    if (used_.contains(name) || name.ends_with("rotary_emb.inv_freq")) return;
    // Copies that tied models carry.
    if (plan_.shape.tied_embeddings && name == "lm_head.weight") return;
    if (count++ == 0) {
      unknown = name;
      file = t.file;
    }
  });
  if (count == 0) return {};
  return invalid_argument(fmt::format(
      "{}: tensor '{}'{} has no name in GGUF's {}, expected none besides the model's", file,
      unknown, count > 1 ? fmt::format(" (and {} more)", count - 1) : "", files_.model_type));
}

Result<GgufPlan> HuggingFacePlan::build() {
  FATHOM_TRY_STATUS(read_config());
  FATHOM_TRY(const int64_t vocab, config_.integer("vocab_size", 1, limits::kMaxVocab));
  FATHOM_TRY_STATUS(add_architecture_keys(files_, has_mtp_, plan_.metadata));
  FATHOM_TRY_STATUS(add_tokenizer_keys(files_, vocab, plan_.metadata));
  if (files_.model_type == "deepseek_v4") {
    FATHOM_TRY_STATUS(add_v4());
    FATHOM_TRY_STATUS(check_all_used());
    return std::move(plan_);
  }
  FATHOM_TRY_STATUS(add_rope_freqs());
  FATHOM_TRY_STATUS(add_named("model.embed_tokens.weight", "token_embd.weight"));
  for (int64_t i = 0; i < layers_ + (has_mtp_ ? 1 : 0); ++i) FATHOM_TRY_STATUS(add_layer(i));
  FATHOM_TRY_STATUS(add_named("model.norm.weight", "output_norm.weight"));
  if (!plan_.shape.tied_embeddings) FATHOM_TRY_STATUS(add_named("lm_head.weight", "output.weight"));
  FATHOM_TRY_STATUS(check_all_used());
  return std::move(plan_);
}

}  // namespace

int64_t PlannedTensor::rows() const {
  int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

Result<GgufPlan> plan_from_huggingface(const ModelFiles& files) {
  // Loading checks that every tensor is there and has the shape that the configuration says.
  FATHOM_TRY(const auto model, load_model(files));
  return HuggingFacePlan(files).build();
}

Result<GgufPlan> plan_from_gguf(const ModelFiles& files) {
  GgufPlan plan;
  const GgufMetadata& metadata = files.gguf->metadata();
  metadata.for_each([&](std::string_view key, const GgufValue& value) {
    // The split and the alignment are the input's own.
    if (!key.starts_with("split.") && key != "general.alignment") plan.metadata.copy(key, value);
  });
  const JsonReader config(*files.config, files.config_path);
  FATHOM_TRY(plan.shape.layers, config.integer("num_hidden_layers", 1, limits::kMaxLayers));
  FATHOM_TRY(const int64_t heads, config.integer("num_attention_heads", 1, limits::kMaxHeads));
  FATHOM_TRY(const int64_t kv_heads,
             config.integer_or("num_key_value_heads", heads, 1, limits::kMaxHeads));
  plan.shape.heads_per_kv = heads / kv_heads;
  plan.shape.tied_embeddings = !files.gguf->tensors().contains("output.weight");
  // In the order of the input, which loaders read fastest.
  std::vector<const std::pair<const std::string, StoredTensor>*> order;
  for (const auto& entry : files.gguf->tensors())
    if (!entry.second.data.empty()) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const auto key = [](const StoredTensor& t) { return std::pair(t.file, t.data.data()); };
    return key(a->second) < key(b->second);
  });
  for (const auto* entry : order) {
    const auto& [name, tensor] = *entry;
    PlannedTensor t{
        .name = name, .shape = tensor.shape, .source_type = tensor.dtype, .raw = tensor.data};
    const std::byte* data = tensor.data.data();
    const DType type = tensor.dtype;
    const int64_t cols = t.cols(), bytes = dtype_row_bytes(type, cols);
    const int64_t stack = name.find("_exps.") != std::string::npos ? t.shape[0] : 1;
    for (int64_t i = 0; i < stack; ++i) t.matrices.push_back(data + i * (t.rows() / stack) * bytes);
    t.read_row = [=](int64_t row, float* out) {
      quant::decode(type, data + row * bytes, cols, out);
    };
    plan.tensors.push_back(std::move(t));
  }
  return plan;
}

}  // namespace fathom
