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

float widen(DType type, const std::byte* data, int64_t i) {
  if (type == DType::kF8E8M0) return f8e8m0_to_f32(std::to_integer<uint8_t>(data[i]));
  const uint16_t raw = reinterpret_cast<const uint16_t*>(data)[i];
  return type == DType::kBF16 ? bf16_to_f32(raw) : f16_to_f32(raw);
}

// "X.weight" -> "X.scale"
std::string v4_scale_name(const std::string& name) {
  constexpr std::string_view kWeight = ".weight";
  return (name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name) + ".scale";
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
  // DeepSeek's FP4: two to a byte, as I8.
  const bool packed = t->dtype == DType::kI8;
  if (packed && cols % kF4Block != 0) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' is I8 of {} columns, expected a multiple of {}", t->file, name,
                    cols, kF4Block));
  }
  const int64_t stored = packed ? cols / 2 : cols;
  if (t->shape.size() != 2 || t->shape[0] != rows || t->shape[1] != stored)
    return wrong_shape(*t, name, fmt::format("[{}, {}]", rows, stored));
  WeightView w;
  w.dtype = packed ? DType::kF4E2M1 : t->dtype;
  w.rows = rows;
  w.cols = cols;
  w.data = aligned(*t);
  switch (t->dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return w;
    case DType::kF8E4M3:
      FATHOM_TRY_STATUS(add_block_scales(*t, name, w));
      return w;
    case DType::kI8:
      FATHOM_TRY_STATUS(add_exponents(*t, name, w));
      return w;
    default:
      if (is_block_quantized(t->dtype)) return w;
      return invalid_argument(
          fmt::format("{}: tensor '{}' has type {}, expected F32, F16, BF16, F8_E4M3, I8 (two FP4 "
                      "weights a byte) or a block format",
                      t->file, name, dtype_name(t->dtype)));
  }
}

std::string WeightSource::scale_name(const std::string& name) const {
  for (const std::string& candidate : {name + "_scale_inv", v4_scale_name(name)})
    if (has(candidate)) return candidate;
  return "";
}

// FP8: one scale for a block of rows and columns, X.weight_scale_inv as V3 has it, or X.scale as
// V4.
Status WeightSource::add_block_scales(const StoredTensor& t, const std::string& name,
                                      WeightView& w) const {
  if (scale_block_rows_ <= 0 || scale_block_cols_ <= 0) {
    return invalid_argument(fmt::format(
        "{}: tensor '{}' is F8_E4M3, but config.json has no quantization_config with quant_method "
        "fp8 and weight_block_size",
        t.file, name));
  }
  const std::string scales_of = scale_name(name);
  const StoredTensor* s = find(scales_of);
  if (s == nullptr) {
    return invalid_argument(fmt::format(
        "{}: tensor '{}' is F8_E4M3, but neither '{}_scale_inv' nor '{}' is there, expected its "
        "scales",
        t.file, name, name, v4_scale_name(name)));
  }
  const int64_t scale_rows = (w.rows + scale_block_rows_ - 1) / scale_block_rows_;
  const int64_t scale_cols = (w.cols + scale_block_cols_ - 1) / scale_block_cols_;
  if (s->shape.size() != 2 || s->shape[0] != scale_rows || s->shape[1] != scale_cols)
    return wrong_shape(*s, scales_of, fmt::format("[{}, {}]", scale_rows, scale_cols));
  FATHOM_TRY(const WeightView scales, vector(scales_of, scale_rows * scale_cols));
  w.scales = scales.f32();
  w.scale_stride = scale_cols;
  w.scale_block_rows = scale_block_rows_;
  w.scale_block_cols = scale_block_cols_;
  return {};
}

// FP4: X.scale with an exponent for 32 of a row.
Status WeightSource::add_exponents(const StoredTensor& t, const std::string& name,
                                   WeightView& w) const {
  const std::string scales_of = v4_scale_name(name);
  const StoredTensor* s = find(scales_of);
  if (s == nullptr) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' is I8, but '{}' is missing, expected the scales of two FP4 "
                    "weights a byte",
                    t.file, name, scales_of));
  }
  const int64_t cols = w.cols / kF4Block;
  if (s->shape.size() != 2 || s->shape[0] != w.rows || s->shape[1] != cols)
    return wrong_shape(*s, scales_of, fmt::format("[{}, {}]", w.rows, cols));
  if (s->dtype != DType::kF8E8M0) {
    return invalid_argument(fmt::format("{}: tensor '{}' has type {}, expected F8_E8M0", s->file,
                                        scales_of, dtype_name(s->dtype)));
  }
  w.exponents = reinterpret_cast<const uint8_t*>(s->data.data());
  return {};
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
  if (t->dtype != DType::kBF16 && t->dtype != DType::kF16 && t->dtype != DType::kF8E8M0) {
    return invalid_argument(
        fmt::format("{}: tensor '{}' has type {}, expected F32, F16 or BF16, or F8_E8M0 for scales",
                    t->file, name, dtype_name(t->dtype)));
  }
  // Filled once: views handed out before stay valid.
  std::vector<float>& widened = widened_[t->data.data()];
  if (widened.empty()) {
    widened.reserve(static_cast<std::size_t>(size));
    for (int64_t i = 0; i < size; ++i) widened.push_back(widen(t->dtype, w.data, i));
  }
  w.data = reinterpret_cast<const std::byte*>(widened.data());
  return w;
}

}  // namespace fathom
