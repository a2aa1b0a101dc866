#include "quant/recipe.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace fathom::quant {
namespace {

constexpr std::array<Recipe, 21> kRecipes = {{
    {"f32", DType::kF32, 0, "float32"},
    {"f16", DType::kF16, 1, "half precision"},
    {"bf16", DType::kBF16, 32, "bfloat16"},
    {"q8_0", DType::kQ8_0, 7, "8.5 bits, practically lossless"},
    {"q4_0", DType::kQ4_0, 2, "4.5 bits, plain"},
    {"q4_1", DType::kQ4_1, 3, "5 bits, plain with minimums"},
    {"q5_0", DType::kQ5_0, 8, "5.5 bits, plain"},
    {"q5_1", DType::kQ5_1, 9, "6 bits, plain with minimums"},
    {"q2_k", DType::kQ2_K, 10, "mix of 2 and 3 bits"},
    {"q3_k", DType::kQ3_K, 11, "3.4 bits throughout"},
    {"q3_k_s", DType::kQ3_K, 11, "3.4 bits, small mix"},
    {"q3_k_m", DType::kQ3_K, 12, "mix of 3, 4 and 5 bits"},
    {"q3_k_l", DType::kQ3_K, 13, "mix of 3 and 5 bits"},
    {"q4_k", DType::kQ4_K, 14, "4.5 bits throughout"},
    {"q4_k_s", DType::kQ4_K, 14, "mix of 4 and 5 bits, small"},
    {"q4_k_m", DType::kQ4_K, 15, "mix of 4 and 6 bits: the usual choice"},
    {"q5_k", DType::kQ5_K, 16, "5.5 bits throughout"},
    {"q5_k_s", DType::kQ5_K, 16, "5.5 bits, small mix"},
    {"q5_k_m", DType::kQ5_K, 17, "mix of 5 and 6 bits"},
    {"q6_k", DType::kQ6_K, 18, "6.6 bits"},
    {"mxfp4", DType::kMXFP4, 38, "4.25 bits for experts, Q8_0 for the rest"},
}};

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// N of "blk.N.…"; −1 if the name has none.
int64_t layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return -1;
  int64_t layer = -1;
  std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The first and last eighth of the layers, and every third between.
bool deserves_more(int64_t layer, int64_t layers) {
  const int64_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

DType attention_v_type(std::string_view recipe, DType base, const ModelShape& model,
                       int64_t layer) {
  DType type = base;
  if (recipe == "q2_k") type = model.heads_per_kv >= 4 ? DType::kQ4_K : DType::kQ3_K;
  if (recipe == "q3_k_m") type = layer < 2 ? DType::kQ5_K : DType::kQ4_K;
  if (recipe == "q3_k_l") type = DType::kQ5_K;
  if (recipe == "q4_k_s" && layer < 4) type = DType::kQ5_K;
  if ((recipe == "q4_k_m" || recipe == "q5_k_m") && deserves_more(layer, model.layers))
    type = DType::kQ6_K;
  // The 70B models: attn_v is an eighth of attn_q, so more bits for it cost next to nothing.
  const bool is_mix = contains(recipe, "_k_") || recipe == "q2_k";
  if (is_mix && model.layers == 80 && model.heads_per_kv > 1 &&
      (type == DType::kQ3_K || type == DType::kQ4_K))
    type = DType::kQ5_K;
  return type;
}

DType ffn_down_type(std::string_view recipe, DType base, const ModelShape& model, int64_t layer) {
  const int64_t n = model.layers;
  if (recipe == "q2_k") return DType::kQ3_K;
  if (recipe == "q3_k_m") return layer < n / 16 ? DType::kQ5_K : DType::kQ4_K;
  if (recipe == "q3_k_l") return DType::kQ5_K;
  if (recipe == "q4_k_s" && layer < n / 8) return DType::kQ5_K;
  if ((recipe == "q4_k_m" || recipe == "q5_k_m") && deserves_more(layer, n)) return DType::kQ6_K;
  return base;
}

}  // namespace

const Recipe* find_recipe(std::string_view name) {
  const std::string wanted = lower(name);
  for (const Recipe& r : kRecipes)
    if (r.name == wanted) return &r;
  return nullptr;
}

std::string recipe_names() {
  std::string out;
  for (const Recipe& r : kRecipes) out += fmt::format("{}{}", out.empty() ? "" : ", ", r.name);
  return out;
}

std::optional<DType> type_from_name(std::string_view name) {
  const Recipe* r = find_recipe(name);
  if (r == nullptr || r->name != lower(dtype_name(r->base))) return std::nullopt;
  return r->base;
}

bool is_quantized_tensor(std::string_view name, int64_t rank) {
  return rank >= 2 && name.ends_with(".weight") && !contains(name, "_norm.") &&
         !contains(name, "ffn_gate_inp.") && !contains(name, "hc_") && !contains(name, "_ape.");
}

DType recipe_type(const Recipe& recipe, const ModelShape& model, std::string_view name,
                  int64_t cols) {
  const DType base = recipe.base;
  if (!is_block_quantized(base)) return base;
  const std::string_view r = recipe.name;
  if (base == DType::kMXFP4) return contains(name, "_exps.") ? base : DType::kQ8_0;
  if (name == "output.weight" || (model.tied_embeddings && name == "token_embd.weight")) {
    if (base == DType::kQ8_0 || cols % dtype_block(base).elements != 0) return DType::kQ8_0;
    return DType::kQ6_K;
  }
  // Which tokens are attended to hangs on it, and it is small.
  if (contains(name, "indexer")) return DType::kQ8_0;
  const int64_t layer = layer_of(name);
  if (contains(name, "attn_v.weight") || contains(name, "attn_kv_b.weight"))
    return attention_v_type(r, base, model, layer);
  if (contains(name, "ffn_down")) return ffn_down_type(r, base, model, layer);
  if (contains(name, "attn_output.weight")) {
    if (r == "q2_k") return DType::kQ3_K;
    if (r == "q3_k_m") return DType::kQ4_K;
    if (r == "q3_k_l") return DType::kQ5_K;
  }
  return base;
}

DType fallback_type(DType type, int64_t cols) {
  const auto fits = [&](DType t) { return cols % dtype_block(t).elements == 0; };
  if (fits(type)) return type;
  DType smaller = DType::kF16;
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K:
      smaller = DType::kQ4_0;
      break;
    case DType::kQ4_K:
      smaller = DType::kQ5_0;
      break;
    case DType::kQ5_K:
      smaller = DType::kQ5_1;
      break;
    case DType::kQ6_K:
      smaller = DType::kQ8_0;
      break;
    default:
      break;
  }
  return fits(smaller) ? smaller : DType::kF16;
}

}  // namespace fathom::quant
