// TensorView: a non-owning matrix of activations. Buffer and Workspace own memory.
//
// Activations of one step are matrices [rows, cols] whose rows may be strided (a view of some
// columns of a wider matrix). Heads are folded into the columns: [tokens, heads * head_dim].
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/memory.h"

namespace fathom {

struct TensorView {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // elements from one row to the next

  template <typename T>
  T* row(int64_t r) const {
    return reinterpret_cast<T*>(data) + r * row_stride;
  }
  float* f32(int64_t r) const {
    FATHOM_CHECK(dtype == DType::kF32) << dtype_name(dtype);
    return row<float>(r);
  }
  int32_t* i32(int64_t r) const {
    FATHOM_CHECK(dtype == DType::kI32) << dtype_name(dtype);
    return row<int32_t>(r);
  }
  bool empty() const { return rows == 0 || cols == 0; }

  // Columns [begin, begin + count) of every row.
  TensorView columns(int64_t begin, int64_t count) const {
    FATHOM_CHECK(begin >= 0 && count >= 0 && begin + count <= cols)
        << begin << "+" << count << " of " << cols;
    TensorView v = *this;
    v.data += static_cast<std::size_t>(begin) * dtype_bytes(dtype);
    v.cols = count;
    return v;
  }
  // Rows [begin, begin + count).
  TensorView row_range(int64_t begin, int64_t count) const {
    FATHOM_CHECK(begin >= 0 && count >= 0 && begin + count <= rows)
        << begin << "+" << count << " of " << rows;
    TensorView v = *this;
    v.data += static_cast<std::size_t>(begin * row_stride) * dtype_bytes(dtype);
    v.rows = count;
    return v;
  }
  // The same memory as [rows * parts, cols / parts]; needs contiguous rows.
  TensorView split_columns(int64_t parts) const {
    FATHOM_CHECK(row_stride == cols && cols % parts == 0) << row_stride << " " << cols;
    TensorView v = *this;
    v.rows = rows * parts;
    v.cols = v.row_stride = cols / parts;
    return v;
  }
};

// Memory of one step's activations: a bump allocator that grows to the largest step it has seen.
// reset() frees everything at once; whoever needs a value longer copies it.
class Workspace {
 public:
  explicit Workspace(Memory& memory = host_memory()) : memory_(memory) {}
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Uninitialised, 64-byte aligned, rows contiguous.
  TensorView allocate(DType dtype, int64_t rows, int64_t cols);
  TensorView f32(int64_t rows, int64_t cols) { return allocate(DType::kF32, rows, cols); }
  TensorView i32(int64_t rows, int64_t cols) { return allocate(DType::kI32, rows, cols); }
  // `size` values of a trivial type, uninitialised, 64-byte aligned.
  template <typename T>
  T* array(int64_t size) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 64);
    return reinterpret_cast<T*>(
        allocate(DType::kU8, 1, size * static_cast<int64_t>(sizeof(T))).data);
  }

  void reset();

  // Where the next tensor will stand; null before the first.
  const std::byte* next() const {
    return block_ < blocks_.size() ? blocks_[block_].data.get() + used_ : nullptr;
  }
  // How much is allocated, to be so again: whatever lies there keeps its place.
  struct Mark {
    std::size_t block = 0, used = 0;
  };
  Mark mark() const { return {block_, used_}; }
  void restore(const Mark& m) {
    FATHOM_CHECK(m.block < blocks_.size() && m.used <= blocks_[m.block].size) << m.block;
    block_ = m.block;
    used_ = m.used;
  }

  // Scope: what is allocated inside is freed at its end.
  class Scope {
   public:
    explicit Scope(Workspace& w) : w_(w), block_(w.block_), used_(w.used_) {}
    ~Scope() {
      w_.block_ = block_;
      w_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& w_;
    std::size_t block_, used_;
  };

 private:
  struct Release {
    Memory* memory;
    void operator()(std::byte* p) const { memory->release(p); }
  };
  struct Block {
    std::unique_ptr<std::byte, Release> data;
    std::size_t size;
  };
  void add_block(std::size_t size);
  Memory& memory_;
  std::vector<Block> blocks_;
  std::size_t block_ = 0;  // the block being filled
  std::size_t used_ = 0;   // bytes used of it
};

}  // namespace fathom
