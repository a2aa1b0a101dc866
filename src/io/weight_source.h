// WeightSource: named weights of a model, whatever file they come from.
//
// Speaks the canonical HuggingFace names; a reader of another format translates. Gives views into
// the mapped file wherever alignment allows.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/weight_view.h"

namespace fathom {

// A tensor as a file describes it. `data` has exactly dtype_row_bytes(dtype, product(shape)) bytes;
// the last dimension is whole blocks of dtype.
struct StoredTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
  std::string file;  // for messages
};

// "[96, 128]"
std::string shape_string(std::span<const int64_t> shape);

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // nullptr if there is no such tensor. The pointer lives as long as the source.
  virtual const StoredTensor* find(std::string_view name) const = 0;
  virtual void for_each(
      const std::function<void(const std::string& name, const StoredTensor&)>& visit) const = 0;
  // What to call the source in messages.
  virtual std::string description() const = 0;

  bool has(std::string_view name) const { return find(name) != nullptr; }
  // The tensor that holds the scales of the FP8 or FP4 weight `name`: V3 calls it
  // X.weight_scale_inv, V4 X.scale. "" if there is none of either name.
  std::string scale_name(const std::string& name) const;

  // The weight `name` of shape [rows, cols], with its scales if it is FP8 or FP4. Errors: missing,
  // wrong shape, a dtype that is no weight's, scales missing or of the wrong shape.
  virtual Result<WeightView> matrix(const std::string& name, int64_t rows, int64_t cols) const;
  // A vector of `size` elements as float32: rows 1, cols size. Other float types are widened into
  // memory owned by the source. Views of both kinds live as long as the source; not thread-safe.
  virtual Result<WeightView> vector(const std::string& name, int64_t size) const;

  // Block shape of FP8 scales (quantization_config.weight_block_size).
  void set_scale_block(int64_t rows, int64_t cols) {
    scale_block_rows_ = rows;
    scale_block_cols_ = cols;
  }

 private:
  const std::byte* aligned(const StoredTensor& t) const;
  Status add_block_scales(const StoredTensor& t, const std::string& name, WeightView& w) const;
  Status add_exponents(const StoredTensor& t, const std::string& name, WeightView& w) const;

  int64_t scale_block_rows_ = 0;
  int64_t scale_block_cols_ = 0;
  // By the tensor's address: copies of tensors that stand misaligned in their file, and vectors
  // widened to float32.
  mutable std::map<const std::byte*, std::vector<float>> aligned_;
  mutable std::map<const std::byte*, std::vector<float>> widened_;
};

}  // namespace fathom
