// The residual streams of hyper-connections.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxStreams = 8;

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Divides the n lines of n values that begin `step` apart, `stride` from value to value.
__device__ void divide(float* mix, int n, int step, int stride, float eps) {
  for (int line = 0; line < n; ++line) {
    float sum = 0;
    for (int i = 0; i < n; ++i) sum += mix[line * step + i * stride];
    for (int i = 0; i < n; ++i) mix[line * step + i * stride] /= sum + eps;
  }
}

__global__ void weights_kernel(StreamWeightsKernelArgs a) {
  begin_kernel();
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t >= a.z.rows) return;
  const int n = a.streams;
  const float* z = a.z.row(t);
  for (int j = 0; j < n; ++j) a.pre.row(t)[j] = sigmoid(z[j] * a.scale[0] + a.base[j]) + a.eps;
  if (a.z.cols == n) return;
  for (int j = 0; j < n; ++j) a.post.row(t)[j] = 2 * sigmoid(z[n + j] * a.scale[1] + a.base[n + j]);
  float mix[kMaxStreams * kMaxStreams];
  for (int i = 0; i < n * n; ++i) mix[i] = z[2 * n + i] * a.scale[2] + a.base[2 * n + i];
  for (int i = 0; i < n; ++i) {
    float* row = mix + i * n;
    float max = row[0], sum = 0;
    for (int j = 1; j < n; ++j) max = fmaxf(max, row[j]);
    for (int j = 0; j < n; ++j) sum += row[j] = expf(row[j] - max);
    for (int j = 0; j < n; ++j) row[j] = row[j] / sum + a.eps;
  }
  divide(mix, n, 1, n, a.eps);
  for (int i = 1; i < a.iterations; ++i) {
    divide(mix, n, n, 1, a.eps);
    divide(mix, n, 1, n, a.eps);
  }
  for (int i = 0; i < n * n; ++i) a.mix.row(t)[i] = mix[i];
}

__global__ void read_kernel(F32Rows streams, F32Rows pre, F32Rows out) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x, t = blockIdx.x;
  if (i >= out.cols) return;
  float sum = 0;
  for (int64_t j = 0; j < pre.cols; ++j) sum += pre.row(t)[j] * streams.row(t)[j * out.cols + i];
  out.row(t)[i] = sum;
}

__global__ void write_kernel(F32Rows streams, F32Rows post, F32Rows mix, F32Rows y) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x, t = blockIdx.x;
  const int64_t hidden = y.cols;
  if (i >= hidden) return;
  const int n = static_cast<int>(post.cols);
  float* x = streams.row(t);
  float out[kMaxStreams];
  for (int k = 0; k < n; ++k) {
    float sum = post.row(t)[k] * y.row(t)[i];
    for (int j = 0; j < n; ++j) sum += mix.row(t)[j * n + k] * x[j * hidden + i];
    out[k] = sum;
  }
  for (int k = 0; k < n; ++k) x[k * hidden + i] = out[k];
}

__global__ void copy_kernel(F32Rows x, F32Rows streams) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x, t = blockIdx.x;
  if (i < streams.cols) streams.row(t)[i] = x.row(t)[i % x.cols];
}

dim3 grid(int64_t rows, int64_t cols) {
  return {static_cast<unsigned>(rows), blocks_for(cols, kThreads)};
}

}  // namespace

void stream_weights(const StreamWeightsKernelArgs& a, cudaStream_t stream) {
  launch_kernel(weights_kernel, blocks_for(a.z.rows, 32), 32, 0, stream, a);
}
void read_streams(const F32Rows& streams, const F32Rows& pre, const F32Rows& out, cudaStream_t s) {
  launch_kernel(read_kernel, grid(out.rows, out.cols), kThreads, 0, s, streams, pre, out);
}
void write_streams(const F32Rows& streams, const F32Rows& post, const F32Rows& mix,
                   const F32Rows& y, cudaStream_t s) {
  launch_kernel(write_kernel, grid(y.rows, y.cols), kThreads, 0, s, streams, post, mix, y);
}
void copy_to_streams(const F32Rows& x, const F32Rows& streams, cudaStream_t s) {
  launch_kernel(copy_kernel, grid(x.rows, streams.cols), kThreads, 0, s, x, streams);
}

}  // namespace fathom::cuda
