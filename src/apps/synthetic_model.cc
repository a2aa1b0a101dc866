#include "apps/synthetic_model.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/synthetic_blocks.h"
#include "backend/cpu/topology.h"

namespace fathom {
namespace {

using nlohmann::json;

// Where GGUF files start a tensor: kernels see the same alignment here as there.
constexpr int64_t kAlignment = 32;

struct Planned {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  float constant = 0;  // value of a vector; 0 = random
  int64_t offset = 0;
  int64_t bytes = 0;
};

// The tensors of a model in the order of its file.
class Plan {
 public:
  explicit Plan(DType type) : type_(type) {}

  void matrix(std::string name, int64_t rows, int64_t cols) { add(name, type_, rows, cols); }
  // The head: more bits where the others have few, as usual in files.
  void head(std::string name, int64_t rows, int64_t cols) {
    add(name, type_ == DType::kQ4_K ? DType::kQ6_K : outer_type(), rows, cols);
  }
  void embeddings(std::string name, int64_t rows, int64_t cols) {
    add(name, outer_type(), rows, cols);
  }
  void float_matrix(std::string name, int64_t rows, int64_t cols) {
    push({.name = std::move(name), .dtype = DType::kF32, .shape = {rows, cols}});
  }
  void vector(std::string name, int64_t size, float value) {
    push({.name = std::move(name), .dtype = DType::kF32, .shape = {size}, .constant = value});
  }

  void bf16(std::string name, int64_t rows, int64_t cols) {
    push({.name = std::move(name), .dtype = DType::kBF16, .shape = {rows, cols}});
  }
  // "X.weight" and "X.scale" as DeepSeek stores them: FP8 with an exponent for 128 x 128, FP4 with
  // one for 32 of a row.
  void fp8(const std::string& name, int64_t rows, int64_t cols) {
    push({.name = name + ".weight", .dtype = DType::kF8E4M3, .shape = {rows, cols}});
    push({.name = name + ".scale",
          .dtype = DType::kF8E8M0,
          .shape = {(rows + 127) / 128, (cols + 127) / 128}});
  }
  void fp4(const std::string& name, int64_t rows, int64_t cols) {
    push({.name = name + ".weight", .dtype = DType::kI8, .shape = {rows, cols / 2}});
    push({.name = name + ".scale", .dtype = DType::kF8E8M0, .shape = {rows, cols / 32}});
  }

  int64_t bytes() const { return bytes_; }
  std::vector<Planned>& tensors() { return tensors_; }

 private:
  // FP8 models keep the head and the embeddings in BF16.
  DType outer_type() const { return type_ == DType::kF8E4M3 ? DType::kBF16 : type_; }
  void add(const std::string& name, DType type, int64_t rows, int64_t cols) {
    if (cols % dtype_block(type).elements != 0) type = DType::kQ8_0;
    if (cols % dtype_block(type).elements != 0) type = DType::kF16;
    push({.name = name, .dtype = type, .shape = {rows, cols}});
    if (type == DType::kF8E4M3)
      float_matrix(name + "_scale_inv", (rows + 127) / 128, (cols + 127) / 128);
  }
  void push(Planned t) {
    t.bytes = dtype_row_bytes(t.dtype, t.shape.back());
    if (t.shape.size() == 2) t.bytes *= t.shape[0];
    t.offset = bytes_;
    bytes_ += (t.bytes + kAlignment - 1) / kAlignment * kAlignment;
    tensors_.push_back(std::move(t));
  }

  DType type_;
  int64_t bytes_ = 0;
  std::vector<Planned> tensors_;
};

class SyntheticSource : public WeightSource {
 public:
  static Result<std::unique_ptr<SyntheticSource>> create(std::string name, Plan plan,
                                                         ThreadPool& pool);
  ~SyntheticSource() override {
    if (memory_ != nullptr) ::munmap(memory_, static_cast<std::size_t>(bytes_));
  }
  SyntheticSource(const SyntheticSource&) = delete;
  SyntheticSource& operator=(const SyntheticSource&) = delete;

  const StoredTensor* find(std::string_view name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }
  void for_each(
      const std::function<void(const std::string&, const StoredTensor&)>& visit) const override {
    for (const auto& [name, tensor] : tensors_) visit(name, tensor);
  }
  std::string description() const override { return name_; }

 private:
  SyntheticSource() = default;
  void fill(const std::vector<Planned>& plan, ThreadPool& pool);

  std::string name_;
  std::byte* memory_ = nullptr;
  int64_t bytes_ = 0;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

Result<std::unique_ptr<SyntheticSource>> SyntheticSource::create(std::string name, Plan plan,
                                                                 ThreadPool& pool) {
  const int64_t available = cpu::available_memory_bytes();
  if (plan.bytes() > available) {
    return resource_limit(fmt::format("{} takes {:.1f} GB of memory, {:.1f} GB are available", name,
                                      static_cast<double>(plan.bytes()) * 1e-9,
                                      static_cast<double>(available) * 1e-9));
  }
  std::unique_ptr<SyntheticSource> source(new SyntheticSource);
  source->name_ = std::move(name);
  void* p = ::mmap(nullptr, static_cast<std::size_t>(plan.bytes()), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    return resource_limit(
        fmt::format("cannot map {} bytes for weights: {}", plan.bytes(), std::strerror(errno)));
  }
  source->memory_ = static_cast<std::byte*>(p);
  source->bytes_ = plan.bytes();
  // Large pages: a mapped file, whose pages the page cache holds in large pieces, is read as fast
  // as these (35.0 and 35.1 GB/s side by side), anonymous small pages a fifth slower.
  ::madvise(p, static_cast<std::size_t>(plan.bytes()), MADV_HUGEPAGE);
  source->fill(plan.tensors(), pool);
  return source;
}

void SyntheticSource::fill(const std::vector<Planned>& plan, ThreadPool& pool) {
  struct Piece {
    const Planned* tensor;
    int64_t begin, end;  // bytes of the tensor
  };
  std::vector<Piece> pieces;
  std::map<DType, std::vector<std::byte>> patterns;
  for (const Planned& t : plan) {
    int64_t step = t.bytes;
    if (t.constant == 0) {
      std::vector<std::byte>& pattern = patterns[t.dtype];
      if (pattern.empty()) pattern = random_blocks(t.dtype, synthetic_pattern_blocks(t.dtype));
      step = static_cast<int64_t>(pattern.size());
    }
    for (int64_t begin = 0; begin < t.bytes; begin += step)
      pieces.push_back({&t, begin, std::min(t.bytes, begin + step)});
    tensors_[t.name] = {.dtype = t.dtype,
                        .shape = t.shape,
                        .data = {memory_ + t.offset, static_cast<std::size_t>(t.bytes)},
                        .file = name_};
  }
  pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int) {
    const Piece& piece = pieces[static_cast<std::size_t>(i)];
    const Planned& t = *piece.tensor;
    std::byte* out = memory_ + t.offset + piece.begin;
    if (t.constant != 0) {
      std::fill(reinterpret_cast<float*>(out), reinterpret_cast<float*>(out) + t.shape[0],
                t.constant);
      return;
    }
    // The pattern from another block on in each piece, so that pieces differ.
    const std::vector<std::byte>& pattern = patterns.at(t.dtype);
    const int64_t block = dtype_block(t.dtype).bytes;
    const int64_t size = static_cast<int64_t>(pattern.size());
    const int64_t from = i * 7919 % (size / block) * block, count = piece.end - piece.begin;
    const int64_t head = std::min(count, size - from);
    std::memcpy(out, pattern.data() + from, static_cast<std::size_t>(head));
    std::memcpy(out + head, pattern.data(), static_cast<std::size_t>(count - head));
  });
}

struct Shape {
  std::string_view name;
  json (*config)();
  void (*plan)(Plan& plan);
  bool native = false;  // stored as DeepSeek does, which is the one TYPE it has
};

struct QwenShape {
  int64_t hidden, layers, heads, kv_heads, inner, vocab;
};
constexpr QwenShape kQwen1B5 = {1536, 28, 12, 2, 8960, 151936};
constexpr QwenShape kQwen7B = {3584, 28, 28, 4, 18944, 152064};

template <const QwenShape& s>
json qwen_config() {
  return {{"model_type", "qwen2"},          {"hidden_size", s.hidden},
          {"intermediate_size", s.inner},   {"num_hidden_layers", s.layers},
          {"num_attention_heads", s.heads}, {"num_key_value_heads", s.kv_heads},
          {"vocab_size", s.vocab},          {"max_position_embeddings", 131072},
          {"rms_norm_eps", 1e-6},           {"rope_theta", 10000.0},
          {"tie_word_embeddings", false}};
}

template <const QwenShape& s>
void plan_qwen(Plan& p) {
  const int64_t head_dim = s.hidden / s.heads;
  p.embeddings("model.embed_tokens.weight", s.vocab, s.hidden);
  p.vector("model.norm.weight", s.hidden, 1.0f);
  p.head("lm_head.weight", s.vocab, s.hidden);
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string l = fmt::format("model.layers.{}.", i), a = l + "self_attn.";
    p.vector(l + "input_layernorm.weight", s.hidden, 1.0f);
    p.vector(l + "post_attention_layernorm.weight", s.hidden, 1.0f);
    for (const auto& [name, width] : {std::pair<const char*, int64_t>{"q_proj", s.hidden},
                                      {"k_proj", s.kv_heads * head_dim},
                                      {"v_proj", s.kv_heads * head_dim}}) {
      p.matrix(a + name + ".weight", width, s.hidden);
      p.vector(a + name + ".bias", width, 0.01f);
    }
    p.matrix(a + "o_proj.weight", s.hidden, s.hidden);
    p.matrix(l + "mlp.gate_proj.weight", s.inner, s.hidden);
    p.matrix(l + "mlp.up_proj.weight", s.inner, s.hidden);
    p.matrix(l + "mlp.down_proj.weight", s.hidden, s.inner);
  }
}

// DeepSeek-V2-Lite (its config.json), without the scaling of rope: that costs nothing per token.
constexpr int64_t kHidden = 2048, kLayers = 27, kHeads = 16, kVocab = 102400, kInner = 10944;
constexpr int64_t kExperts = 64, kExpertInner = 1408, kShared = 2;
constexpr int64_t kLora = 512, kNope = 128, kRope = 64, kValue = 128;

json v2_lite_config() {
  return {{"model_type", "deepseek_v2"},
          {"hidden_size", kHidden},
          {"intermediate_size", kInner},
          {"num_hidden_layers", kLayers},
          {"num_attention_heads", kHeads},
          {"num_key_value_heads", kHeads},
          {"vocab_size", kVocab},
          {"max_position_embeddings", 163840},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"q_lora_rank", nullptr},
          {"kv_lora_rank", kLora},
          {"qk_nope_head_dim", kNope},
          {"qk_rope_head_dim", kRope},
          {"v_head_dim", kValue},
          {"n_routed_experts", kExperts},
          {"num_experts_per_tok", 6},
          {"n_shared_experts", kShared},
          {"moe_intermediate_size", kExpertInner},
          {"first_k_dense_replace", 1},
          {"moe_layer_freq", 1},
          {"topk_method", "greedy"},
          {"scoring_func", "softmax"},
          {"norm_topk_prob", false},
          {"routed_scaling_factor", 1.0},
          {"tie_word_embeddings", false}};
}

void plan_swiglu(Plan& p, const std::string& prefix, int64_t inner) {
  p.matrix(prefix + "gate_proj.weight", inner, kHidden);
  p.matrix(prefix + "up_proj.weight", inner, kHidden);
  p.matrix(prefix + "down_proj.weight", kHidden, inner);
}

void plan_v2_lite(Plan& p) {
  p.embeddings("model.embed_tokens.weight", kVocab, kHidden);
  p.vector("model.norm.weight", kHidden, 1.0f);
  p.head("lm_head.weight", kVocab, kHidden);
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string l = fmt::format("model.layers.{}.", i), a = l + "self_attn.", m = l + "mlp.";
    p.vector(l + "input_layernorm.weight", kHidden, 1.0f);
    p.vector(l + "post_attention_layernorm.weight", kHidden, 1.0f);
    p.vector(a + "kv_a_layernorm.weight", kLora, 1.0f);
    p.matrix(a + "q_proj.weight", kHeads * (kNope + kRope), kHidden);
    p.matrix(a + "kv_a_proj_with_mqa.weight", kLora + kRope, kHidden);
    p.matrix(a + "k_b_proj.weight", kHeads * kLora, kNope);
    p.matrix(a + "v_b_proj.weight", kHeads * kValue, kLora);
    p.matrix(a + "o_proj.weight", kHidden, kHeads * kValue);
    if (i == 0) {
      plan_swiglu(p, m, kInner);
      continue;
    }
    p.float_matrix(m + "gate.weight", kExperts, kHidden);
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
      const bool down = std::string_view(part) == "down_proj";
      for (int64_t e = 0; e < kExperts; ++e) {
        p.matrix(fmt::format("{}experts.{}.{}.weight", m, e, part), down ? kHidden : kExpertInner,
                 down ? kExpertInner : kHidden);
      }
    }
    plan_swiglu(p, m + "shared_experts.", kShared * kExpertInner);
  }
}

// DeepSeek-V4-Flash (its config.json) cut to few layers, of both compression rates, so that it
// fits a common machine. Stored as DeepSeek does: FP4 experts, FP8 and BF16 for the rest.
namespace v4 {

struct Cut {
  int64_t layers, experts, vocab;
};
constexpr Cut kFlash{.layers = 4, .experts = 256, .vocab = 129280};
// For a look on a machine of 4 GB: a token reads the same of each layer, but all is smaller.
constexpr Cut kSmall{.layers = 2, .experts = 16, .vocab = 16160};

constexpr int64_t kHidden = 4096, kHeads = 64, kDim = 512, kRope = 64;
constexpr int64_t kQLora = 1024, kGroups = 8, kOLora = 1024, kInner = 2048;
constexpr int64_t kIndexHeads = 64, kIndexDim = 128, kStreams = 4;

int64_t rate(int64_t layer) { return layer % 2 == 0 ? 4 : 128; }

template <const Cut& kCut>
json config() {
  json ratios = json::array();
  for (int64_t i = 0; i < kCut.layers; ++i) ratios.push_back(rate(i));
  return {{"model_type", "deepseek_v4"},
          {"hidden_size", kHidden},
          {"num_hidden_layers", kCut.layers},
          {"num_attention_heads", kHeads},
          {"num_key_value_heads", 1},
          {"head_dim", kDim},
          {"qk_rope_head_dim", kRope},
          {"q_lora_rank", kQLora},
          {"o_groups", kGroups},
          {"o_lora_rank", kOLora},
          {"sliding_window", 128},
          {"compress_ratios", ratios},
          {"compress_rope_theta", 160000.0},
          {"rope_theta", 10000.0},
          {"index_n_heads", kIndexHeads},
          {"index_head_dim", kIndexDim},
          {"index_topk", 512},
          {"n_routed_experts", kCut.experts},
          {"num_experts_per_tok", 6},
          {"n_shared_experts", 1},
          {"moe_intermediate_size", kInner},
          {"num_hash_layers", 0},
          {"norm_topk_prob", true},
          {"routed_scaling_factor", 1.5},
          {"swiglu_limit", 10.0},
          {"scoring_func", "sqrtsoftplus"},
          {"hc_mult", kStreams},
          {"hc_sinkhorn_iters", 20},
          {"hc_eps", 1e-6},
          {"vocab_size", kCut.vocab},
          {"max_position_embeddings", 1048576},
          {"rms_norm_eps", 1e-6},
          {"num_nextn_predict_layers", 0},
          {"tie_word_embeddings", false}};
}

void plan_streams(Plan& p, const std::string& prefix, int64_t outputs, int64_t scales) {
  p.float_matrix(prefix + "_fn", outputs, kStreams * kHidden);
  p.vector(prefix + "_base", outputs, 0.1f);
  p.vector(prefix + "_scale", scales, 0.1f);
}

void plan_compressor(Plan& p, const std::string& prefix, int64_t rate, int64_t entry) {
  const int64_t width = rate == 4 ? 2 * entry : entry;
  p.bf16(prefix + "wkv.weight", width, kHidden);
  p.bf16(prefix + "wgate.weight", width, kHidden);
  p.float_matrix(prefix + "ape", rate, width);
  p.vector(prefix + "norm.weight", entry, 1.0f);
}

template <const Cut& kCut>
void plan(Plan& p) {
  p.bf16("embed.weight", kCut.vocab, kHidden);
  p.bf16("head.weight", kCut.vocab, kHidden);
  p.vector("norm.weight", kHidden, 1.0f);
  plan_streams(p, "hc_head", kStreams, 1);
  for (int64_t i = 0; i < kCut.layers; ++i) {
    const std::string l = fmt::format("layers.{}.", i), a = l + "attn.", f = l + "ffn.";
    p.vector(l + "attn_norm.weight", kHidden, 1.0f);
    p.vector(l + "ffn_norm.weight", kHidden, 1.0f);
    plan_streams(p, l + "hc_attn", (2 + kStreams) * kStreams, 3);
    plan_streams(p, l + "hc_ffn", (2 + kStreams) * kStreams, 3);
    p.fp8(a + "wq_a", kQLora, kHidden);
    p.vector(a + "q_norm.weight", kQLora, 1.0f);
    p.fp8(a + "wq_b", kHeads * kDim, kQLora);
    p.fp8(a + "wkv", kDim, kHidden);
    p.vector(a + "kv_norm.weight", kDim, 1.0f);
    p.fp8(a + "wo_a", kGroups * kOLora, kHeads * kDim / kGroups);
    p.fp8(a + "wo_b", kHidden, kGroups * kOLora);
    p.vector(a + "attn_sink", kHeads, 0.5f);
    plan_compressor(p, a + "compressor.", rate(i), kDim);
    if (rate(i) == 4) {
      p.fp8(a + "indexer.wq_b", kIndexHeads * kIndexDim, kQLora);
      p.bf16(a + "indexer.weights_proj.weight", kIndexHeads, kHidden);
      plan_compressor(p, a + "indexer.compressor.", 4, kIndexDim);
    }
    p.bf16(f + "gate.weight", kCut.experts, kHidden);
    p.vector(f + "gate.bias", kCut.experts, 0.01f);
    for (int64_t e = 0; e < kCut.experts; ++e) {
      const std::string x = fmt::format("{}experts.{}.", f, e);
      p.fp4(x + "w1", kInner, kHidden);
      p.fp4(x + "w3", kInner, kHidden);
      p.fp4(x + "w2", kHidden, kInner);
    }
    p.fp8(f + "shared_experts.w1", kInner, kHidden);
    p.fp8(f + "shared_experts.w3", kInner, kHidden);
    p.fp8(f + "shared_experts.w2", kHidden, kInner);
  }
}

}  // namespace v4

constexpr std::array<Shape, 5> kShapes = {{
    {"r1-distill-qwen-1.5b", qwen_config<kQwen1B5>, plan_qwen<kQwen1B5>},
    {"r1-distill-qwen-7b", qwen_config<kQwen7B>, plan_qwen<kQwen7B>},
    {"v2-lite", v2_lite_config, plan_v2_lite},
    {"v4-flash", v4::config<v4::kFlash>, v4::plan<v4::kFlash>, true},
    {"v4-flash-small", v4::config<v4::kSmall>, v4::plan<v4::kSmall>, true},
}};

}  // namespace

std::string synthetic_shapes() {
  std::string names;
  for (const Shape& s : kShapes) names += (names.empty() ? "" : ", ") + std::string(s.name);
  return names;
}

Result<ModelFiles> make_synthetic_model(const std::string& spec, ThreadPool& pool) {
  const std::size_t colon = spec.find(':');
  const std::string name = spec.substr(0, colon);
  const auto shape =
      std::find_if(kShapes.begin(), kShapes.end(), [&](const Shape& s) { return s.name == name; });
  if (shape == kShapes.end() || colon == std::string::npos) {
    return invalid_argument(
        fmt::format("'{}' is no synthetic model, expected SHAPE:TYPE with one "
                    "of the shapes {}",
                    spec, synthetic_shapes()));
  }
  std::string type_name = spec.substr(colon + 1);
  std::transform(type_name.begin(), type_name.end(), type_name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (shape->native != (type_name == "NATIVE")) {
    return invalid_argument(
        fmt::format("'{}' is no synthetic model, expected {}", spec,
                    shape->native ? name + ":native" : "a type of weights behind the colon"));
  }
  const bool fp8 = type_name == "FP8";
  const auto type = shape->native ? std::optional(DType::kBF16)
                    : fp8         ? std::optional(DType::kF8E4M3)
                                  : dtype_from_name(type_name);
  if (!type || !(fp8 || has_random_blocks(*type))) {
    return invalid_argument(fmt::format(
        "'{}' in '{}' is no type of weights, expected F32, F16, BF16, FP8, Q8_0, Q4_0, Q4_K, …",
        type_name, spec));
  }
  Plan plan(*type);
  shape->plan(plan);
  ModelFiles files;
  files.name = spec;
  files.config_path = "synthetic " + spec;
  json config = shape->config();
  files.model_type = config.at("model_type").get<std::string>();
  files.config = std::make_shared<const json>(std::move(config));
  FATHOM_TRY(files.weights, SyntheticSource::create(files.config_path, std::move(plan), pool));
  files.weights->set_scale_block(128, 128);
  return files;
}

}  // namespace fathom
