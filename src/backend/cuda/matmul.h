// Matmul: products of large matrices on the tensor cores, by cuBLASLt.
//
// The algorithm is chosen once for a weight's shape, not for a number of rows, and takes no sums
// apart: a row's bits do not depend on how many others there are.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace fathom::cuda {

class Matmul {
 public:
  Matmul();
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // out = x · weightᵀ + bias in bfloat16 with float32 sums. x: [rows, in] bf16; weight: [out, in]
  // bf16; out: [rows, out], `out_stride` values from row to row. All begin at multiples of 16
  // bytes, and rows are multiples of 16 bytes.
  struct Product {
    const void* x = nullptr;
    const void* weight = nullptr;
    const float* bias = nullptr;  // [out], or none
    void* out = nullptr;          // float32, or bfloat16 if
    bool bf16_out = false;
    int64_t rows = 0, in = 0, columns = 0, out_stride = 0;
  };
  // False, and nothing done, if the library has no way to add the bias.
  bool run(const Product& product, cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::cuda
