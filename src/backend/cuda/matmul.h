// Matmul: products of large matrices on the tensor cores, by cuBLASLt.
//
// The algorithm is chosen once for a weight's shape, not for a number of rows, and takes no sums
// apart: a row's bits do not depend on how many others there are.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace fathom::cuda {

// What lies between two rows of a weight's scales for 128 x 128 (cuBLAS documentation, "Scaling
// factors layouts").
constexpr int64_t fp8_scale_stride(int64_t in) { return (in + 511) / 512 * 4; }

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

  // The same of E4M3 with scales, sums of 128 products taken apart and scaled in float32. x: [rows,
  // in], a scale for 128 columns (Fp8Codes); weight: [columns, in], scales [columns / 128, in /
  // 128], both rounded up, their rows fp8_scale_stride(in) apart; out: [rows, columns] without
  // gaps. Rows are a multiple of kFp8Rows. All begin at multiples of 16 bytes.
  struct Fp8Product {
    const uint8_t* x = nullptr;
    const float* x_scales = nullptr;
    const uint8_t* weight = nullptr;
    const float* weight_scales = nullptr;
    const float* bias = nullptr;  // [columns], or none
    void* out = nullptr;          // float32, or bfloat16 if
    bool bf16_out = false;
    int64_t rows = 0, in = 0, columns = 0;
  };
  // Whether the library has a way for weights of this shape on this device.
  bool takes_fp8(int64_t in, int64_t columns);
  // False, and nothing done, if the library has no way to add the bias. Needs takes_fp8().
  bool run(const Fp8Product& product, cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::cuda
