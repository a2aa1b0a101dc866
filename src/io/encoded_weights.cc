#include "io/encoded_weights.h"

#include "quant/codec.h"

namespace fathom {
namespace {

// Matrices that no published quantisation touches: embeddings, routers, and what is no linear
// layer.
bool is_linear(const std::string& name) {
  return name.ends_with(".weight") && !name.ends_with("embed_tokens.weight") &&
         name != "embed.weight" && !name.ends_with("mlp.gate.weight") &&
         !name.ends_with("ffn.gate.weight");
}

}  // namespace

Result<WeightView> EncodedWeights::matrix(const std::string& name, int64_t rows,
                                          int64_t cols) const {
  FATHOM_TRY(WeightView w, inner_->matrix(name, rows, cols));
  const bool quantized = is_block_quantized(w.dtype) || w.dtype == DType::kF4E2M1;
  if (quantized || !is_linear(name) || cols % dtype_block(type_).elements != 0) return w;
  const auto row_bytes = static_cast<std::size_t>(dtype_row_bytes(type_, cols));
  std::vector<std::byte>& bytes = encoded_[name];
  if (bytes.empty()) {
    bytes.resize(static_cast<std::size_t>(rows) * row_bytes);
    std::vector<float> row(static_cast<std::size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      quant::decode_row(w, r, row.data());
      quant::encode(type_, row.data(), cols, nullptr,
                    bytes.data() + static_cast<std::size_t>(r) * row_bytes);
    }
  }
  WeightView out;
  out.data = bytes.data();
  out.dtype = type_;
  out.rows = rows;
  out.cols = cols;
  return out;
}

}  // namespace fathom
