// What is computed row by row: norms, sums, rope, lookups.
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/fp8.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;

constexpr int kNormThreads = 512;

// The sum over all threads of the block, warp by warp.
__device__ float norm_sum(float v) {
  __shared__ float shared[kNormThreads / 32];
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  float total = 0;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) total += shared[i];
  return total;
}

__global__ void __launch_bounds__(kNormThreads) rms_norm_kernel(NormArgs a) {
  begin_kernel();
  const int64_t r = blockIdx.x, cols = a.x.cols;
  float* x = a.x.row(r);
  const float* delta = a.delta.data != nullptr ? a.delta.row(r) : nullptr;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
    if (delta != nullptr) x[i] += delta[i];
    squares += x[i] * x[i];
  }
  const float scale = 1.0f / sqrtf(norm_sum(squares) / static_cast<float>(cols) + a.eps);
  for (int64_t i = threadIdx.x; i < cols; i += blockDim.x)
    a.out.row(r)[i] = x[i] * scale * (a.weight != nullptr ? a.weight[i] : 1.0f);
}

// The same where a thread takes four neighbouring values kRounds times, all under way at once: with
// few rows what counts is how long one takes.
template <int kRounds>
__global__ void __launch_bounds__(kNormThreads) rms_norm_kernel4(NormArgs a) {
  let_next_begin();
  const int64_t r = blockIdx.x, cols = a.x.cols;
  const int step = static_cast<int>(blockDim.x) * 4, first = static_cast<int>(threadIdx.x) * 4;
  float4 w[kRounds], v[kRounds], d[kRounds];
#pragma unroll
  for (int k = 0; k < kRounds; ++k) {
    w[k] = {1, 1, 1, 1};
    v[k] = d[k] = {0, 0, 0, 0};
    const int i = first + k * step;
    if (a.weight != nullptr && i < cols) w[k] = *reinterpret_cast<const float4*>(a.weight + i);
  }
  wait_for_others();
  float* const x = a.x.row(r);
  const bool adds = a.delta.data != nullptr;
#pragma unroll
  for (int k = 0; k < kRounds; ++k) {
    const int i = first + k * step;
    if (i >= cols) continue;
    v[k] = *reinterpret_cast<const float4*>(x + i);
    if (adds) d[k] = *reinterpret_cast<const float4*>(a.delta.row(r) + i);
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kRounds; ++k) {
    const int i = first + k * step;
    if (adds) {
      v[k] = {v[k].x + d[k].x, v[k].y + d[k].y, v[k].z + d[k].z, v[k].w + d[k].w};
      if (i < cols) *reinterpret_cast<float4*>(x + i) = v[k];
    }
    squares += v[k].x * v[k].x + v[k].y * v[k].y + v[k].z * v[k].z + v[k].w * v[k].w;
  }
  const float scale = 1.0f / sqrtf(norm_sum(squares) / static_cast<float>(cols) + a.eps);
#pragma unroll
  for (int k = 0; k < kRounds; ++k) {
    const int i = first + k * step;
    if (i >= cols) continue;
    const float4 y = {v[k].x * scale * w[k].x, v[k].y * scale * w[k].y, v[k].z * scale * w[k].z,
                      v[k].w * scale * w[k].w};
    *reinterpret_cast<float4*>(a.out.row(r) + i) = y;
    if (a.rounded != nullptr) {
      *reinterpret_cast<uint2*>(a.rounded + r * cols + i) = {pack(y.x, y.y), pack(y.z, y.w)};
    }
    if (a.int8.q != nullptr) quantize_four(a.int8, cols, r, i, y);
    if (a.fp8.q != nullptr) {
      float fp8_scale;
      const uint32_t codes = fp8_four(y, fp8_scale);
      *reinterpret_cast<uint32_t*>(a.fp8.q + r * cols + i) = codes;
      if (i % 128 == 0) a.fp8.scales[i / 128 * a.fp8.rows + r] = fp8_scale;
    }
  }
}

__global__ void layer_norm_kernel(NormArgs a) {
  begin_kernel();
  __shared__ float shared[32];
  const int64_t r = blockIdx.x;
  const float* x = a.x.row(r);
  float* out = a.out.row(r);
  const auto cols = static_cast<float>(a.x.cols);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < a.x.cols; i += blockDim.x) sum += x[i];
  const float mean = block_sum(sum, shared) / cols;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < a.x.cols; i += blockDim.x)
    squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / sqrtf(block_sum(squares, shared) / cols + a.eps);
  for (int64_t i = threadIdx.x; i < a.x.cols; i += blockDim.x)
    out[i] = (x[i] - mean) * scale * a.weight[i] + a.bias[i];
}

__global__ void add_kernel(F32Rows x, F32Rows delta) {
  begin_kernel();
  float* to = x.row(blockIdx.y);
  const float* from = delta.row(blockIdx.y);
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < x.cols) to[i] += from[i];
}

template <DType T>
__global__ void embed_kernel(DeviceWeight table, const int32_t* ids, F32Rows out) {
  begin_kernel();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
  if (c >= out.cols) return;
  float v[8];
  decode8<T>(table, ids[blockIdx.y], c, v);
  float* to = out.row(blockIdx.y) + c;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (c + i < out.cols) to[i] = v[i];
}

__global__ void gather_kernel(F32Rows x, const int32_t* rows, F32Rows out) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < out.cols) out.row(blockIdx.y)[i] = x.row(rows[blockIdx.y])[i];
}

__global__ void angles_kernel(AnglesArgs a) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= a.half) return;
  const double angle = static_cast<double>(a.positions[blockIdx.y]) * a.frequencies[i];
  float* out = a.out.row(blockIdx.y);
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  out[i] = static_cast<float>(cosine * a.factor);
  out[a.half + i] = static_cast<float>(sine * a.factor);
}

__global__ void rope_kernel(RopeKernelArgs a) {
  begin_kernel();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at < a.angles.cols / 2 * a.heads) rotate(a, blockIdx.y, at);
}

__global__ void silu_mul_kernel(F32Rows gate, F32Rows up, float limit) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= gate.cols) return;
  float& g = gate.row(blockIdx.y)[i];
  const float u = up.row(blockIdx.y)[i];
  g = silu(fminf(g, limit)) * fminf(fmaxf(u, -limit), limit);
}

__global__ void copy_columns_kernel(CopyColumnsArgs a) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x, t = blockIdx.x;
  if (i >= a.groups * a.columns) return;
  const int64_t g = i / a.columns, c = i % a.columns;
  a.to.row(t)[g * a.to_step + a.to_offset + c] = a.from.row(t)[g * a.from_step + a.from_offset + c];
}

// One block row for each row of the matrix.
dim3 grid(int64_t cols, int64_t rows, int64_t per_thread = 1) {
  return {blocks_for(cols, kThreads * per_thread), static_cast<unsigned>(rows)};
}

// Rows beyond what a grid's second dimension can be go in a further launch.
template <typename F>
void in_row_chunks(int64_t rows, const F& launch) {
  constexpr int64_t kMost = 65535;
  for (int64_t first = 0; first < rows; first += kMost)
    launch(first, rows - first < kMost ? rows - first : kMost);
}
template <typename T>
Rows<T> part(Rows<T> x, int64_t first, int64_t count) {
  x.data = x.row(first);
  x.rows = count;
  return x;
}

}  // namespace

bool launches_early() {
  static const bool early = [] {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return major >= 9;
  }();
  return early;
}

// Columns that rms_norm_kernel4 takes.
constexpr int64_t kMostNormColumns = 8 * kNormThreads * 4;

bool norm_takes_copies(const NormArgs& a) {
  const auto even = [](const void* p, int64_t stride) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 4 == 0;
  };
  return a.x.cols % 32 == 0 && a.x.cols <= kMostNormColumns && even(a.x.data, a.x.stride) &&
         even(a.out.data, a.out.stride) && even(a.delta.data, a.delta.stride) && even(a.weight, 0);
}

void rms_norm(const NormArgs& a, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(a.x.rows);
  if (!norm_takes_copies(a)) {
    launch_kernel(rms_norm_kernel, rows, kNormThreads, 0, stream, a);
    return;
  }
  // By the width alone: the order of the sum is the same for every row.
  const int64_t fours = a.x.cols / 4;
  const int64_t rounds = (fours + kNormThreads - 1) / kNormThreads;
  const int64_t warps = (fours + rounds * 32 - 1) / (rounds * 32);
  const auto threads = static_cast<unsigned>(warps * 32);
  const auto launch = [&](auto kernel) { launch_kernel(kernel, rows, threads, 0, stream, a); };
  switch (rounds) {
    case 1:
      return launch(rms_norm_kernel4<1>);
    case 2:
      return launch(rms_norm_kernel4<2>);
    case 3:
      return launch(rms_norm_kernel4<3>);
    case 4:
      return launch(rms_norm_kernel4<4>);
    default:
      return launch(rms_norm_kernel4<8>);
  }
}

void layer_norm(const NormArgs& a, cudaStream_t stream) {
  launch_kernel(layer_norm_kernel, static_cast<unsigned>(a.x.rows), 128, 0, stream, a);
}

void add(const F32Rows& x, const F32Rows& delta, cudaStream_t stream) {
  in_row_chunks(x.rows, [&](int64_t first, int64_t count) {
    launch_kernel(add_kernel, grid(x.cols, count), kThreads, 0, stream, part(x, first, count),
                  part(delta, first, count));
  });
}

void embed(const DeviceWeight& table, const int32_t* ids, const F32Rows& out, cudaStream_t stream) {
  in_row_chunks(out.rows, [&](int64_t first, int64_t count) {
    for_weight_type(table.dtype, [&]<DType T>() {
      launch_kernel(embed_kernel<T>, grid(out.cols, count, 8), kThreads, 0, stream, table,
                    ids + first, part(out, first, count));
    });
  });
}

void gather_rows(const F32Rows& x, const int32_t* rows, const F32Rows& out, cudaStream_t stream) {
  in_row_chunks(out.rows, [&](int64_t first, int64_t count) {
    launch_kernel(gather_kernel, grid(out.cols, count), kThreads, 0, stream, x, rows + first,
                  part(out, first, count));
  });
}

void rope_angles(const AnglesArgs& a, cudaStream_t stream) {
  in_row_chunks(a.out.rows, [&](int64_t first, int64_t count) {
    AnglesArgs some = a;
    some.positions += first;
    some.out = part(a.out, first, count);
    launch_kernel(angles_kernel, grid(a.half, count), kThreads, 0, stream, some);
  });
}

void rope(const RopeKernelArgs& a, cudaStream_t stream) {
  in_row_chunks(a.x.rows, [&](int64_t first, int64_t count) {
    RopeKernelArgs some = a;
    some.x = part(a.x, first, count);
    some.angles = part(a.angles, first, count);
    launch_kernel(rope_kernel, grid(a.heads * a.angles.cols / 2, count), kThreads, 0, stream, some);
  });
}

void copy_columns(const CopyColumnsArgs& a, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(a.from.rows), blocks_for(a.groups * a.columns, kThreads));
  launch_kernel(copy_columns_kernel, blocks, kThreads, 0, stream, a);
}

void silu_mul(const F32Rows& gate, const F32Rows& up, float limit, cudaStream_t stream) {
  in_row_chunks(gate.rows, [&](int64_t first, int64_t count) {
    launch_kernel(silu_mul_kernel, grid(gate.cols, count), kThreads, 0, stream,
                  part(gate, first, count), part(up, first, count), limit);
  });
}

}  // namespace fathom::cuda
