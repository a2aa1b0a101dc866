#include "tensor/tensor_view.h"

#include <algorithm>
#include <new>

namespace fathom {
namespace {
constexpr std::size_t kAlign = 64;
constexpr std::size_t kMinBlock = std::size_t{1} << 20;
}  // namespace

void Workspace::add_block(std::size_t size) {
  std::byte* const p = memory_.allocate(size);
  if (p == nullptr) throw std::bad_alloc();
  blocks_.push_back({std::unique_ptr<std::byte, Release>(p, Release{&memory_}), size});
}

TensorView Workspace::allocate(DType dtype, int64_t rows, int64_t cols) {
  FATHOM_CHECK(rows >= 0 && cols >= 0) << rows << "x" << cols;
  std::size_t bytes =
      static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) * dtype_bytes(dtype);
  bytes = std::max((bytes + kAlign - 1) / kAlign * kAlign, kAlign);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    const std::size_t last = blocks_.empty() ? kMinBlock / 2 : blocks_.back().size;
    const std::size_t size = std::max(bytes, last * 2) / kAlign * kAlign;
    add_block(size);
    used_ = 0;
  }
  TensorView v{blocks_[block_].data.get() + used_, dtype, rows, cols, cols};
  used_ += bytes;
  return v;
}

void Workspace::reset() {
  block_ = 0;
  used_ = 0;
  if (blocks_.size() > 1) {  // next time one block is enough
    std::size_t total = 0;
    for (const Block& b : blocks_) total += b.size;
    blocks_.clear();
    add_block(total);
  }
}

}  // namespace fathom
