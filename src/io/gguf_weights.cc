#include "io/gguf_weights.h"

#include <fmt/format.h>

#include <array>

#include "base/limits.h"

namespace fathom {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;

constexpr std::array<NamePair, 3> kTopNames = {{
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
}};

// Behind "blk.N." and "model.layers.N.", without ".weight" or ".bias".
constexpr std::array<NamePair, 33> kLayerNames = {{
    {"attn_norm", "input_layernorm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"attn_k_b", "self_attn.k_b_proj"},
    {"attn_v_b", "self_attn.v_b_proj"},
    {"indexer.attn_q_b", "self_attn.indexer.wq_b"},
    {"indexer.attn_k", "self_attn.indexer.wk"},
    {"indexer.k_norm", "self_attn.indexer.k_norm"},
    {"indexer.proj", "self_attn.indexer.weights_proj"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
    {"nextn.eh_proj", "eh_proj"},
    {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},
    {"nextn.embed_tokens", "embed_tokens"},
    {"nextn.shared_head_norm", "shared_head.norm"},
    {"nextn.shared_head_head", "shared_head.head"},
}};

// deepseek4's, whose checkpoints have names of their own. Whole names, for some have no suffix.
constexpr std::array<NamePair, 6> kV4TopNames = {{
    {"token_embd.weight", "embed.weight"},
    {"output_norm.weight", "norm.weight"},
    {"output.weight", "head.weight"},
    {"output_hc_fn.weight", "hc_head_fn"},
    {"output_hc_base.weight", "hc_head_base"},
    {"output_hc_scale.weight", "hc_head_scale"},
}};
// Behind "blk.N." and "layers.N.".
constexpr std::array<NamePair, 35> kV4LayerNames = {{
    {"attn_norm.weight", "attn_norm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight"},
    {"attn_sinks.weight", "attn.attn_sink"},
    {"attn_q_a.weight", "attn.wq_a.weight"},
    {"attn_q_b.weight", "attn.wq_b.weight"},
    {"attn_q_a_norm.weight", "attn.q_norm.weight"},
    {"attn_kv.weight", "attn.wkv.weight"},
    {"attn_kv_a_norm.weight", "attn.kv_norm.weight"},
    {"attn_output_a.weight", "attn.wo_a.weight"},
    {"attn_output_b.weight", "attn.wo_b.weight"},
    {"attn_compressor_kv.weight", "attn.compressor.wkv.weight"},
    {"attn_compressor_gate.weight", "attn.compressor.wgate.weight"},
    {"attn_compressor_ape.weight", "attn.compressor.ape"},
    {"attn_compressor_norm.weight", "attn.compressor.norm.weight"},
    {"indexer.attn_q_b.weight", "attn.indexer.wq_b.weight"},
    {"indexer.proj.weight", "attn.indexer.weights_proj.weight"},
    {"indexer_compressor_kv.weight", "attn.indexer.compressor.wkv.weight"},
    {"indexer_compressor_gate.weight", "attn.indexer.compressor.wgate.weight"},
    {"indexer_compressor_ape.weight", "attn.indexer.compressor.ape"},
    {"indexer_compressor_norm.weight", "attn.indexer.compressor.norm.weight"},
    {"hc_attn_fn.weight", "hc_attn_fn"},
    {"hc_attn_base.weight", "hc_attn_base"},
    {"hc_attn_scale.weight", "hc_attn_scale"},
    {"hc_ffn_fn.weight", "hc_ffn_fn"},
    {"hc_ffn_base.weight", "hc_ffn_base"},
    {"hc_ffn_scale.weight", "hc_ffn_scale"},
    {"ffn_gate_inp.weight", "ffn.gate.weight"},
    {"exp_probs_b.bias", "ffn.gate.bias"},
    {"ffn_gate_tid2eid.weight", "ffn.gate.tid2eid"},
    {"ffn_gate_shexp.weight", "ffn.shared_experts.w1.weight"},
    {"ffn_up_shexp.weight", "ffn.shared_experts.w3.weight"},
    {"ffn_down_shexp.weight", "ffn.shared_experts.w2.weight"},
    {"nextn.enorm.weight", "nextn.enorm.weight"},
    {"nextn.hnorm.weight", "nextn.hnorm.weight"},
    {"nextn.shared_head_norm.weight", "nextn.shared_head_norm.weight"},
}};

std::string_view lookup(std::span<const NamePair> names, std::string_view name) {
  for (const auto& [gguf, huggingface] : names)
    if (gguf == name) return huggingface;
  return {};
}

// "blk.12.ffn_up.weight" taken apart: {"12", "ffn_up", ".weight"}. Layer "" if it has none.
struct NameParts {
  std::string_view layer, stem, suffix;
};

NameParts take_apart(std::string_view name) {
  NameParts parts;
  for (const std::string_view suffix : {".weight", ".bias"})
    if (name.ends_with(suffix)) parts.suffix = suffix;
  name.remove_suffix(parts.suffix.size());
  parts.stem = name;
  if (!name.starts_with("blk.")) return parts;
  const std::size_t dot = name.find('.', 4);
  if (dot == std::string_view::npos) return parts;
  const std::string_view layer = name.substr(4, dot - 4);
  const bool number = !layer.empty() && layer.size() <= 6 &&
                      layer.find_first_not_of("0123456789") == std::string_view::npos &&
                      (layer == "0" || layer[0] != '0');
  if (!number) return parts;
  parts.layer = layer;
  parts.stem = name.substr(dot + 1);
  return parts;
}

// Part `index` of `count` equal parts along the outermost dimension of `t`, which is dropped if
// each part is one entry of it.
StoredTensor part(const StoredTensor& t, int64_t index, int64_t count) {
  StoredTensor out = t;
  const auto bytes = static_cast<int64_t>(t.data.size()) / count;
  out.data =
      t.data.subspan(static_cast<std::size_t>(index * bytes), static_cast<std::size_t>(bytes));
  out.shape[0] /= count;
  if (out.shape[0] == 1 && out.shape.size() > 2) out.shape.erase(out.shape.begin());
  return out;
}

Error bad_shape(const std::string& name, const StoredTensor& t, std::string_view expected) {
  return invalid_argument(fmt::format("{}: tensor '{}' has shape {}, expected {}", t.file, name,
                                      shape_string(t.shape), expected));
}

}  // namespace

std::string deepseek_v4_name(std::string_view gguf_name) {
  const NameParts parts = take_apart(gguf_name);
  if (parts.layer.empty()) {
    const std::string_view top = lookup(kV4TopNames, gguf_name);
    return std::string(top.empty() ? gguf_name : top);
  }
  const std::string stem = fmt::format("{}{}", parts.stem, parts.suffix);
  const std::string_view inner = lookup(kV4LayerNames, stem);
  return inner.empty() ? std::string(gguf_name) : fmt::format("layers.{}.{}", parts.layer, inner);
}

std::string gguf_v4_name(std::string_view name) {
  for (const auto& [gguf, huggingface] : kV4TopNames)
    if (huggingface == name) return std::string(gguf);
  constexpr std::string_view kLayers = "layers.";
  const std::size_t dot = name.find('.', kLayers.size());
  if (!name.starts_with(kLayers) || dot == std::string_view::npos) return "";
  for (const auto& [gguf, huggingface] : kV4LayerNames)
    if (huggingface == name.substr(dot + 1))
      return fmt::format("blk.{}.{}", name.substr(kLayers.size(), dot - kLayers.size()), gguf);
  return "";
}

std::string huggingface_name(std::string_view gguf_name) {
  const NameParts parts = take_apart(gguf_name);
  if (parts.layer.empty()) {
    const std::string_view top = lookup(kTopNames, parts.stem);
    return top.empty() ? std::string(gguf_name) : fmt::format("{}{}", top, parts.suffix);
  }
  // Converters of early 2025 wrote it without ".bias".
  if (parts.stem == "exp_probs_b")
    return fmt::format("model.layers.{}.{}", parts.layer, kCorrectionBias);
  const std::string_view inner = lookup(kLayerNames, parts.stem);
  if (inner.empty()) return std::string(gguf_name);
  return fmt::format("model.layers.{}.{}{}", parts.layer, inner, parts.suffix);
}

Status GgufWeights::insert(std::string name, StoredTensor tensor) {
  if (tensors_.size() >= static_cast<std::size_t>(limits::kMaxTensorsPerModel)) {
    return resource_limit(fmt::format("{}: more than {} tensors, each expert counted as three",
                                      description_, limits::kMaxTensorsPerModel));
  }
  const auto [it, fresh] = tensors_.emplace(std::move(name), std::move(tensor));
  if (!fresh) {
    return invalid_argument(
        fmt::format("{}: two tensors have the meaning '{}'", description_, it->first));
  }
  return {};
}

// Stacks are [experts, rows, cols]; gate and up may be stacked on each other: [experts, 2 rows,
// cols].
Status GgufWeights::add_experts(const std::string& layer, std::string_view kind,
                                const StoredTensor& stack) {
  const std::string gguf_name = fmt::format("blk.{}.{}.weight", layer, kind);
  if (stack.shape.size() != 3) return bad_shape(gguf_name, stack, "[experts, rows, columns]");
  const int64_t experts = stack.shape[0];
  if (experts > limits::kMaxExperts) {
    return resource_limit(fmt::format("{}: tensor '{}' has {} experts, the limit is {}", stack.file,
                                      gguf_name, experts, limits::kMaxExperts));
  }
  const bool fused = kind == "ffn_gate_up_exps";
  if (fused && stack.shape[1] % 2 != 0)
    return bad_shape(gguf_name, stack, "[experts, gate's rows and as many of up, columns]");
  const std::string_view gate = v4_ ? "w1" : "gate_proj", up = v4_ ? "w3" : "up_proj";
  const std::string_view projection = kind == "ffn_gate_exps" ? gate
                                      : kind == "ffn_up_exps" ? up
                                      : v4_                   ? "w2"
                                                              : "down_proj";
  for (int64_t e = 0; e < experts; ++e) {
    StoredTensor expert = part(stack, e, experts);
    const std::string prefix = v4_ ? fmt::format("layers.{}.ffn.experts.{}.", layer, e)
                                   : fmt::format("model.layers.{}.mlp.experts.{}.", layer, e);
    if (fused) {
      FATHOM_TRY_STATUS(insert(fmt::format("{}{}.weight", prefix, gate), part(expert, 0, 2)));
      FATHOM_TRY_STATUS(insert(fmt::format("{}{}.weight", prefix, up), part(expert, 1, 2)));
    } else {
      FATHOM_TRY_STATUS(insert(fmt::format("{}{}.weight", prefix, projection), expert));
    }
  }
  return {};
}

Status GgufWeights::add(const std::string& gguf_name, const StoredTensor& tensor) {
  const NameParts parts = take_apart(gguf_name);
  const bool weight = parts.suffix == ".weight";
  const bool stack = parts.stem == "ffn_gate_exps" || parts.stem == "ffn_up_exps" ||
                     parts.stem == "ffn_down_exps" || parts.stem == "ffn_gate_up_exps";
  if (weight && stack && !parts.layer.empty())
    return add_experts(std::string(parts.layer), parts.stem, tensor);
  StoredTensor out = tensor;
  // [heads, rows, columns]; early converters wrote [heads * rows, columns].
  if ((parts.stem == "attn_k_b" || parts.stem == "attn_v_b") && out.shape.size() == 3) {
    out.shape[1] *= out.shape[0];
    out.shape.erase(out.shape.begin());
  }
  return insert(v4_ ? deepseek_v4_name(gguf_name) : huggingface_name(gguf_name), std::move(out));
}

Result<std::unique_ptr<GgufWeights>> GgufWeights::create(const GgufFiles& files) {
  auto weights = std::make_unique<GgufWeights>();
  weights->description_ = files.path();
  const auto architecture = files.metadata().string_or("general.architecture", "");
  weights->v4_ = architecture && *architecture == "deepseek4";
  for (const auto& [name, tensor] : files.tensors()) FATHOM_TRY_STATUS(weights->add(name, tensor));
  return weights;
}

const StoredTensor* GgufWeights::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

void GgufWeights::for_each(
    const std::function<void(const std::string&, const StoredTensor&)>& visit) const {
  for (const auto& [name, tensor] : tensors_) visit(name, tensor);
}

}  // namespace fathom
