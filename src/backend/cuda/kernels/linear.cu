// Matrix products with float32 inputs, float32 sums, and weights decoded in registers.
//
// A warp computes some columns of the result for some rows. The order in which a sum is taken is
// that of the weight's columns alone, so that a row's bits are the same among any others.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kWarps = 8;

template <DType T, int kRows>
__global__ void __launch_bounds__(kWarps * 32) linear_kernel(LinearKernelArgs a) {
  begin_kernel();
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (n >= a.out.cols) return;
  const int64_t batch = blockIdx.z, first = static_cast<int64_t>(blockIdx.y) * kRows;
  const int lane = threadIdx.x % 32;
  const int64_t weight_row = batch * a.weight_step + n;
  const float* x[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = first + r < a.x.rows ? first + r : a.x.rows - 1;
    x[r] = a.x.row(row) + batch * a.x_step;
  }
  float sum[kRows] = {};
  const int64_t cols = a.weight.cols;
  for (int64_t c = lane * 8; c < cols; c += 256) {
    float w[8];
    decode8<T>(a.weight, weight_row, c, w);
    if (c + 8 <= cols) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[r] = fmaf(w[i], x[r][c + i], sum[r]);
      }
    } else {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (c + i < cols) sum[r] = fmaf(w[i], x[r][c + i], sum[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float total = warp_sum(sum[r]);
    if (lane == 0 && first + r < a.x.rows) {
      a.out.row(first + r)[batch * a.out_step + n] = a.bias != nullptr ? total + a.bias[n] : total;
    }
  }
}

template <DType T, int kRows>
void launch(const LinearKernelArgs& a, cudaStream_t stream) {
  constexpr int64_t kMost = 65535;  // of a grid's second dimension
  for (int64_t first = 0; first < a.x.rows; first += kMost * kRows) {
    LinearKernelArgs some = a;
    some.x.data = a.x.row(first);
    some.out.data = a.out.row(first);
    some.x.rows = some.out.rows =
        a.x.rows - first < kMost * kRows ? a.x.rows - first : kMost * kRows;
    const dim3 grid(blocks_for(a.out.cols, kWarps), blocks_for(some.x.rows, kRows),
                    static_cast<unsigned>(a.batches));
    launch_kernel(linear_kernel<T, kRows>, grid, kWarps * 32, 0, stream, some);
  }
}

// A thread takes eight columns and one of kParts stretches of the rows; the stretches are joined in
// order.
constexpr int kColumnThreads = 32, kParts = 8;

template <DType T>
__global__ void __launch_bounds__(kColumnThreads* kParts) transposed_kernel(TransposedArgs a) {
  __shared__ float parts[kParts][kColumnThreads][8];
  begin_kernel();
  const int column = static_cast<int>(threadIdx.x) % kColumnThreads;
  const int part = static_cast<int>(threadIdx.x) / kColumnThreads;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * kColumnThreads + column) * 8;
  const int64_t cols = a.weight.cols, t = blockIdx.y, h = blockIdx.z;
  const float* x = a.x.row(t) + h * a.x_step;
  const int64_t each = (a.inner + kParts - 1) / kParts, first = part * each;
  const int64_t end = first + each < a.inner ? first + each : a.inner;
  float sum[8] = {};
  if (c < cols) {
#pragma unroll 4
    for (int64_t i = first; i < end; ++i) {
      float w[8];
      decode8<T>(a.weight, h * a.weight_step + i, c, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[j] = fmaf(w[j], x[i], sum[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) parts[part][column][j] = sum[j];
  __syncthreads();
  // Thread 8n + j has column 8n + j of the block.
  const int n = static_cast<int>(threadIdx.x) / 8, j = static_cast<int>(threadIdx.x) % 8;
  const int64_t to = static_cast<int64_t>(blockIdx.x) * kColumnThreads * 8 + threadIdx.x;
  if (to >= cols) return;
  float total = 0;
#pragma unroll
  for (int p = 0; p < kParts; ++p) total += parts[p][n][j];
  a.out.row(t)[h * a.out_step + to] = total;
}

}  // namespace

void linear(const LinearKernelArgs& a, cudaStream_t stream) {
  if (a.x.rows == 0 || a.out.cols == 0) return;
  for_weight_type(a.weight.dtype, [&]<DType T>() {
    if (a.x.rows == 1) {
      launch<T, 1>(a, stream);
    } else if (a.x.rows <= 4) {
      launch<T, 4>(a, stream);
    } else {
      launch<T, 8>(a, stream);
    }
  });
}

void linear_transposed(const TransposedArgs& a, cudaStream_t stream) {
  constexpr int64_t kMost = 65535;
  for (int64_t first = 0; first < a.x.rows; first += kMost) {
    TransposedArgs some = a;
    some.x.data = a.x.row(first);
    some.out.data = a.out.row(first);
    const int64_t rows = a.x.rows - first < kMost ? a.x.rows - first : kMost;
    for_weight_type(a.weight.dtype, [&]<DType T>() {
      const dim3 grid(blocks_for(a.weight.cols, kColumnThreads * 8), static_cast<unsigned>(rows),
                      static_cast<unsigned>(a.heads));
      launch_kernel(transposed_kernel<T>, grid, kColumnThreads * kParts, 0, stream, some);
    });
  }
}

}  // namespace fathom::cuda
