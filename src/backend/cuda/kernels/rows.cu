// What is computed row by row: norms, sums, rope, lookups.
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/fp8.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;

// Four inputs in int8 (gemv.cu: quantize_kernel): eight neighbouring threads have 32.
__device__ void quantize_four(const NormArgs& a, int64_t r, int64_t i, float4 v) {
  const unsigned mask = __activemask();  // whole groups of eight: the columns are blocks of 32
  float top = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int o = 4; o > 0; o /= 2) top = fmaxf(top, __shfl_xor_sync(mask, top, o));
  const float scale = top / 127.0f;
  const auto part = [&](float x) { return scale > 0 ? __float2int_rn(x / scale) : 0; };
  const int q[4] = {part(v.x), part(v.y), part(v.z), part(v.w)};
  const int64_t cols = a.x.cols;
  *reinterpret_cast<char4*>(a.q + r * cols + i) =
      char4{static_cast<signed char>(q[0]), static_cast<signed char>(q[1]),
            static_cast<signed char>(q[2]), static_cast<signed char>(q[3])};
  int sum = q[0] + q[1] + q[2] + q[3];
#pragma unroll
  for (int o = 2; o > 0; o /= 2) sum += __shfl_xor_sync(mask, sum, o);
  if (i % 32 == 0) a.q_scales[r * (cols / 32) + i / 32] = scale;
  if (i % 16 == 0) a.q_sums[r * (cols / 16) + i / 16] = scale * static_cast<float>(sum);
}

// Four neighbouring values a thread and round, all in registers.
constexpr int kNormThreads = 512;
constexpr int kNormRounds = 4;

template <bool kFour>
__global__ void __launch_bounds__(kNormThreads) rms_norm_kernel(NormArgs a) {
  __shared__ float shared[kNormThreads / 32];
  begin_kernel();
  constexpr int kEach = kFour ? 4 : 1;
  const int64_t r = blockIdx.x, cols = a.x.cols, stride = static_cast<int64_t>(blockDim.x) * kEach;
  float* x = a.x.row(r);
  float* out = a.out.row(r);
  const float* delta = a.delta.data != nullptr ? a.delta.row(r) : nullptr;
  const auto add4 = [](float4 u, float4 v) {
    return float4{u.x + v.x, u.y + v.y, u.z + v.z, u.w + v.w};
  };
  float4 kept[kNormRounds];
  float squares = 0;
  int round = 0;
  for (int64_t i = threadIdx.x * kEach; i < cols; i += stride, ++round) {
    float4 v;
    if constexpr (kFour) {
      v = *reinterpret_cast<const float4*>(x + i);
      if (delta != nullptr) {
        v = add4(v, *reinterpret_cast<const float4*>(delta + i));
        *reinterpret_cast<float4*>(x + i) = v;
      }
      squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    } else {
      v = {x[i], 0, 0, 0};
      if (delta != nullptr) x[i] = v.x += delta[i];
      squares += v.x * v.x;
    }
#pragma unroll
    for (int k = 0; k < kNormRounds; ++k)
      if (k == round) kept[k] = v;
  }
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) total += shared[i];
  const float scale = 1.0f / sqrtf(total / static_cast<float>(cols) + a.eps);
  round = 0;
  for (int64_t i = threadIdx.x * kEach; i < cols; i += stride, ++round) {
    float4 v;
    // What did not fit the registers is read again: each thread what itself wrote.
    if (round >= kNormRounds) {
      if constexpr (kFour)
        v = *reinterpret_cast<const float4*>(x + i);
      else
        v = {x[i], 0, 0, 0};
    }
#pragma unroll
    for (int k = 0; k < kNormRounds; ++k)
      if (k == round) v = kept[k];
    if constexpr (kFour) {
      float4 w{1, 1, 1, 1};
      if (a.weight != nullptr) w = *reinterpret_cast<const float4*>(a.weight + i);
      v = {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w};
      *reinterpret_cast<float4*>(out + i) = v;
      if (a.rounded != nullptr) {
        const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y);
        const __nv_bfloat162 high = __floats2bfloat162_rn(v.z, v.w);
        uint2 bits;
        bits.x = *reinterpret_cast<const uint32_t*>(&low);
        bits.y = *reinterpret_cast<const uint32_t*>(&high);
        *reinterpret_cast<uint2*>(a.rounded + r * cols + i) = bits;
      }
      if (a.q != nullptr) quantize_four(a, r, i, v);
      if (a.fp8.q != nullptr) {
        float fp8_scale;
        const uint32_t codes = fp8_four(v, fp8_scale);
        *reinterpret_cast<uint32_t*>(a.fp8.q + r * cols + i) = codes;
        if (i % 128 == 0) a.fp8.scales[i / 128 * a.fp8.rows + r] = fp8_scale;
      }
    } else {
      out[i] = v.x * scale * (a.weight != nullptr ? a.weight[i] : 1.0f);
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

bool norm_takes_copies(const NormArgs& a) {
  const auto even = [](const void* p, int64_t stride) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 4 == 0;
  };
  return a.x.cols % 32 == 0 && even(a.x.data, a.x.stride) && even(a.out.data, a.out.stride) &&
         even(a.delta.data, a.delta.stride) && even(a.weight, 0);
}

void rms_norm(const NormArgs& a, cudaStream_t stream) {
  const bool four = norm_takes_copies(a);
  const int64_t each = four ? 4 : 1;
  // By the width alone: the order of the sum is the same for every row.
  int threads = 32;
  while (threads < kNormThreads && threads * each < a.x.cols) threads *= 2;
  const auto rows = static_cast<unsigned>(a.x.rows);
  if (four) {
    launch_kernel(rms_norm_kernel<true>, rows, threads, 0, stream, a);
  } else {
    launch_kernel(rms_norm_kernel<false>, rows, threads, 0, stream, a);
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
