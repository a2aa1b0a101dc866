#include "io/weight_source.h"

#include <fmt/format.h>

#include <cstring>

#include "tensor/float_formats.h"

namespace fathom {
namespace {

Error missing(const WeightSource& source, const std::string& name, std::string_view shape) {
  return invalid_argument(fmt::format(
      "{}: tensor '{}' is missing, expected one of shape {}: the configuration needs it",
      source.description(), name, shape));
}

Error wrong_shape(const StoredTensor& t, const std::string& name, std::string_view expected) {
  return invalid_argument(fmt::format("{}: tensor '{}' has shape {}, expected {}", t.file, name,
                                      shape_string(t.shape), expected));
}

}  // namespace

std::string shape_string(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

const std::byte* WeightSource::aligned(const StoredTensor& t) const {
  const auto address = reinterpret_cast<std::uintptr_t>(t.data.data());
  if (t.data.empty() || is_block_quantized(t.dtype) || address % dtype_bytes(t.dtype) == 0)
    return t.data.data();
  std::vector<float>& copy = aligned_[t.data.data()];
  if (copy.empty()) {
    copy.resize((t.data.size() + sizeof(float) - 1) / sizeof(float));
    std::memcpy(copy.data(), t.data.data(), t.data.size());
  }
  return reinterpret_cast<const std::byte*>(copy.data());
}

Result<WeightView> WeightSource::matrix(const std::string& name, int64_t rows, int64_t cols) const {
  const StoredTensor* t = find(name);
  const std::string expected = fmt::format("[{}, {}]", rows, cols);
  if (t == nullptr) return missing(*this, name, expected);
  if (t->shape.size() != 2 || t->shape[0] != rows || t->shape[1] != cols)
    return wrong_shape(*t, name, expected);
  WeightView w;
  w.dtype = t->dtype;
  w.rows = rows;
  w.cols = cols;
  w.data = aligned(*t);
  switch (t->dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return w;
    case DType::kF8E4M3:
      break;
    default:
      if (is_block_quantized(t->dtype)) return w;
      return invalid_argument(
          fmt::format("{}: tensor '{}' has type {}, expected F32, F16, BF16, F8_E4M3 or a block "
                      "format",
                      t->file, name, dtype_name(t->dtype)));
  }
  if (scale_block_rows_ <= 0 || scale_block_cols_ <= 0) {
    return invalid_argument(fmt::format(
        "{}: tensor '{}' is F8_E4M3, but config.json has no quantization_config with quant_method "
        "fp8 and weight_block_size",
        t->file, name));
  }
  const std::string scale_name = name + "_scale_inv";
  const StoredTensor* s = find(scale_name);
  if (s == nullptr) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' is F8_E4M3, but '{}' is missing, expected its scales", t->file,
                    name, scale_name));
  }
  const int64_t scale_rows = (rows + scale_block_rows_ - 1) / scale_block_rows_;
  const int64_t scale_cols = (cols + scale_block_cols_ - 1) / scale_block_cols_;
  if (s->shape.size() != 2 || s->shape[0] != scale_rows || s->shape[1] != scale_cols)
    return wrong_shape(*s, scale_name, fmt::format("[{}, {}]", scale_rows, scale_cols));
  FATHOM_TRY(const WeightView scales, vector(scale_name, scale_rows * scale_cols));
  w.scales = reinterpret_cast<const float*>(scales.data);
  w.scale_stride = scale_cols;
  w.scale_block_rows = scale_block_rows_;
  w.scale_block_cols = scale_block_cols_;
  return w;
}

Result<WeightView> WeightSource::vector(const std::string& name, int64_t size) const {
  const StoredTensor* t = find(name);
  if (t == nullptr) return missing(*this, name, fmt::format("[{}]", size));
  int64_t elements = 1;  // cannot overflow: the product has as many bytes as the file
  for (const int64_t d : t->shape) elements *= d;
  if (elements != size) return wrong_shape(*t, name, fmt::format("[{}]", size));
  WeightView w;
  w.dtype = DType::kF32;
  w.rows = 1;
  w.cols = size;
  w.data = aligned(*t);
  if (t->dtype == DType::kF32 || size == 0) return w;
  if (t->dtype != DType::kBF16 && t->dtype != DType::kF16) {
    return invalid_argument(fmt::format("{}: tensor '{}' has type {}, expected F32, F16 or BF16",
                                        t->file, name, dtype_name(t->dtype)));
  }
  const auto* raw = reinterpret_cast<const uint16_t*>(w.data);
  // Filled once: views handed out before stay valid.
  std::vector<float>& widened = widened_[t->data.data()];
  if (widened.empty()) {
    widened.reserve(static_cast<std::size_t>(size));
    for (int64_t i = 0; i < size; ++i)
      widened.push_back(t->dtype == DType::kBF16 ? bf16_to_f32(raw[i]) : f16_to_f32(raw[i]));
  }
  w.data = reinterpret_cast<const std::byte*>(widened.data());
  return w;
}

}  // namespace fathom
