// Fuzzes the reader of safetensors files and the views that models take of the tensors.
//
// The input is a whole file; its bytes are copied so that the sanitizers see every read behind the
// end. Properties beyond "no crash": a tensor's data have the size of its shape and type, lie in
// the file and overlap no other's; matrix() and vector() of the stored shape succeed or say why; a
// second call gives the same view.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "io/safetensors.h"

namespace fathom {
namespace {

using TensorMap = std::map<std::string, StoredTensor, std::less<>>;

class FuzzedWeights : public WeightSource {
 public:
  explicit FuzzedWeights(TensorMap tensors) : tensors_(std::move(tensors)) {}
  const StoredTensor* find(std::string_view name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }
  void for_each(
      const std::function<void(const std::string&, const StoredTensor&)>& visit) const override {
    for (const auto& [name, tensor] : tensors_) visit(name, tensor);
  }
  std::string description() const override { return "fuzz.safetensors"; }

 private:
  TensorMap tensors_;
};

// Reads the ends of memory: the sanitizers complain if it is not there.
uint32_t touch(const std::byte* data, int64_t bytes) {
  if (bytes == 0) return 0;
  FATHOM_CHECK(data != nullptr);
  return std::to_integer<uint32_t>(data[0]) + std::to_integer<uint32_t>(data[bytes - 1]);
}

void check_message(const Error& error) {
  FATHOM_CHECK(!error.message.empty() && utf8_is_valid(error.message)) << error.message;
}

void check_view(const Result<WeightView>& first, const Result<WeightView>& again) {
  FATHOM_CHECK_EQ(first.has_value(), again.has_value());
  if (!first) {
    check_message(first.error());
    return;
  }
  FATHOM_CHECK_EQ(first->data, again->data);
  FATHOM_CHECK_EQ(reinterpret_cast<std::uintptr_t>(first->data) % dtype_bytes(first->dtype), 0u);
  touch(first->data, first->bytes());
  if (first->scales == nullptr || first->bytes() == 0) return;
  const int64_t last_row = (first->rows - 1) / first->scale_block_rows;
  const int64_t last_col = (first->cols - 1) / first->scale_block_cols;
  const float last = first->scales[last_row * first->scale_stride + last_col];
  FATHOM_CHECK(last == last || last != last);  // read, whatever its value
}

void check_tensors(const TensorMap& tensors, std::span<const std::byte> file) {
  std::vector<std::span<const std::byte>> parts;
  for (const auto& [name, t] : tensors) {
    int64_t bytes = static_cast<int64_t>(dtype_bytes(t.dtype));
    for (const int64_t d : t.shape) bytes *= d;
    FATHOM_CHECK_EQ(static_cast<int64_t>(t.data.size()), bytes);
    FATHOM_CHECK(t.data.data() >= file.data() + 8 &&
                 t.data.data() + t.data.size() <= file.data() + file.size());
    touch(t.data.data(), bytes);
    if (!t.data.empty()) parts.push_back(t.data);
  }
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return a.data() < b.data(); });
  for (std::size_t i = 1; i < parts.size(); ++i)
    FATHOM_CHECK(parts[i - 1].data() + parts[i - 1].size() == parts[i].data());
}

void run(std::span<const std::byte> input) {
  // At the very end of an allocation of its own, and aligned as a mapping is.
  const auto copy = std::make_unique<std::byte[]>(input.size());
  std::copy(input.begin(), input.end(), copy.get());
  const std::span<const std::byte> file(copy.get(), input.size());
  auto tensors = parse_safetensors(file, "fuzz.safetensors");
  if (!tensors) {
    check_message(tensors.error());
    return;
  }
  check_tensors(*tensors, file);
  FuzzedWeights weights(*std::move(tensors));
  // The last byte of the file decides over the blocks, and whether there are any.
  const int64_t block = file.empty() ? 0 : std::to_integer<int64_t>(file.back()) % 5;
  weights.set_scale_block(block, block * 2);
  for (int pass = 0; pass < 2; ++pass) {  // the second finds every view of the first still valid
    weights.for_each([&](const std::string& name, const StoredTensor& t) {
      const int64_t rows = !t.shape.empty() ? t.shape[0] : 1;
      const int64_t cols = t.shape.size() > 1 ? t.shape[1] : 1;
      const auto matrix = weights.matrix(name, rows, cols);
      check_view(matrix, weights.matrix(name, rows, cols));
      const auto elements = static_cast<int64_t>(t.data.size() / dtype_bytes(t.dtype));
      const auto vector = weights.vector(name, elements);
      check_view(vector, weights.vector(name, elements));
      FATHOM_CHECK(!weights.vector(name, elements + 1));
      check_view(matrix, matrix);
      check_view(vector, vector);
    });
  }
}

}  // namespace
}  // namespace fathom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  fathom::run(std::as_bytes(std::span(data, size)));
  return 0;
}
