// Recipes: which type each tensor of a model gets when the whole is quantised to, say, q4_k_m.
//
// The mixes are those that llama.cpp publishes (src/llama-quant.cpp; facts only), so that a file of
// a name has the size and quality that the name has elsewhere. Knows GGUF's tensor names; does not
// encode (codec.h) nor write (io/gguf_writer.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace fathom::quant {

struct Recipe {
  std::string_view name;   // "q4_k_m"
  DType base;              // of every matrix that the mix does not single out
  uint32_t gguf_type;      // general.file_type; of q3_k, q4_k, q5_k that of their _s mixes
  std::string_view about;  // one line for --help
};

// nullptr if there is no such recipe. Case does not matter.
const Recipe* find_recipe(std::string_view name);
// "f32, f16, …"
std::string recipe_names();
// A single type by its recipe's name ("q6_k", not "q4_k_m"); nullopt if it is none.
std::optional<DType> type_from_name(std::string_view name);

// What the mixes look at besides names.
struct ModelShape {
  int64_t layers = 0;            // without MTP modules
  int64_t heads_per_kv = 1;      // query heads that share a key: 4 and more make attn_v small
  bool tied_embeddings = false;  // no output.weight: token_embd.weight serves as both
};

// Whether `name` is quantised at all: matrices named *.weight, but not the router's
// (ffn_gate_inp) nor norms. What is not stays float32.
bool is_quantized_tensor(std::string_view name, int64_t rank);

// The type of tensor `name` with rows of `cols`, before fallback_type.
DType recipe_type(const Recipe& recipe, const ModelShape& model, std::string_view name,
                  int64_t cols);

// `type`, if rows of `cols` are whole blocks of it; else the nearest type that is not smaller and
// fits: for K formats one of 32 weights a block, and F16 where not even those fit.
DType fallback_type(DType type, int64_t cols);

}  // namespace fathom::quant
