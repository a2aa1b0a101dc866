// The choice of cached rows that a token attends to, and compressed rows.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A warp a key.
__global__ void score_kernel(SelectArgs a) {
  begin_kernel();
  const int64_t r = blockIdx.x;
  const RowInfo info = a.tables.rows[r];
  const int visible = (info.position + 1) / a.keys.tokens_per_row;
  const int j = static_cast<int>(blockIdx.y * (kThreads / 32) + threadIdx.x / 32);
  if (j >= visible) return;
  const int lane = threadIdx.x % 32;
  const uint8_t* key = cached_row(a.keys, a.tables, info, j);
  float score = 0;
  for (int h = 0; h < a.heads; ++h) {
    const float* q = a.q.row(r) + static_cast<int64_t>(h) * a.dim;
    float dot = 0;
    for (int i = lane; i < a.dim; i += 32)
      dot = fmaf(q[i], cached_value(a.keys.dtype, key, i), dot);
    score += a.weights.row(r)[h] * fmaxf(warp_sum(dot), 0.0f);
  }
  if (lane == 0) a.scores[r * a.max_keys + j] = score + 0.0f;  // no −0: it equals 0
}

// The order of floats as that of integers; NaN counts as minus infinity.
__device__ uint32_t ordered(float v) {
  if (isnan(v)) v = -kInfinity;
  const uint32_t bits = __float_as_uint(v);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// A block a row: finds the k-th largest score digit by digit, then writes in ascending order what
// lies above it, and of what equals it the first.
__global__ void pick_kernel(SelectArgs a) {
  begin_kernel();
  __shared__ int counts[256];
  __shared__ uint32_t prefix;
  __shared__ int left;  // of k, among those that share the prefix
  __shared__ int warp_above[8], warp_equal[8];
  const int64_t r = blockIdx.x;
  const int visible = (a.tables.rows[r].position + 1) / a.keys.tokens_per_row;
  const int k = static_cast<int>(a.out.cols);
  int32_t* out = a.out.row(r);
  if (visible <= k) {
    for (int i = threadIdx.x; i < k; i += kThreads) out[i] = i < visible ? i : -1;
    return;
  }
  const float* scores = a.scores + r * a.max_keys;
  if (threadIdx.x == 0) prefix = 0, left = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    counts[threadIdx.x] = 0;
    __syncthreads();
    const uint32_t mask = shift == 24 ? 0 : 0xFFFFFFFFu << (shift + 8);
    for (int i = threadIdx.x; i < visible; i += kThreads) {
      const uint32_t v = ordered(scores[i]);
      if ((v & mask) == prefix) atomicAdd(&counts[v >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 255;
      while (counts[digit] < left) left -= counts[digit--];
      prefix |= static_cast<uint32_t>(digit) << shift;
    }
    __syncthreads();
  }
  const uint32_t border = prefix;
  const int wanted_equal = left, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int above_before = 0, equal_before = 0;  // of the rounds before
  for (int first = 0; first < visible; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const uint32_t v = i < visible ? ordered(scores[i]) : 0;
    const bool above = i < visible && v > border, equal = i < visible && v == border;
    const uint32_t above_mask = __ballot_sync(0xFFFFFFFFu, above);
    const uint32_t equal_mask = __ballot_sync(0xFFFFFFFFu, equal);
    if (lane == 0) warp_above[warp] = __popc(above_mask), warp_equal[warp] = __popc(equal_mask);
    __syncthreads();
    const uint32_t below = (1u << lane) - 1;
    int above_at = above_before + __popc(above_mask & below);
    int equal_at = equal_before + __popc(equal_mask & below);
    for (int w = 0; w < kThreads / 32; ++w) {
      if (w < warp) above_at += warp_above[w], equal_at += warp_equal[w];
      above_before += warp_above[w];
      equal_before += warp_equal[w];
    }
    if (above || (equal && equal_at < wanted_equal))
      out[above_at + min(equal_at, wanted_equal)] = i;
    __syncthreads();
  }
}

// The value of the type that is nearest, ties to the even code.
__device__ float nearest(SimulatedType type, float v) {
  if (type == SimulatedType::kFp8)
    return fp8_bits(__nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3));
  const float a = fabsf(v);
  const float unit = a < 2 ? 0.5f : a < 4 ? 1.0f : 2.0f;  // between codes
  return copysignf(fminf(rintf(a / unit) * unit, 6.0f), v);
}

// ops/simulation.h, on a row in shared memory; the whole block calls it.
__device__ void simulate_row(float* row, int cols, const Simulation& s) {
  __syncthreads();
  if (s.hadamard) {
    for (int step = 1; step < cols; step *= 2) {
      for (int i = threadIdx.x; i < cols / 2; i += blockDim.x) {
        const int low = i / step * 2 * step + i % step;
        const float a = row[low], b = row[low + step];
        row[low] = a + b;
        row[low + step] = a - b;
      }
      __syncthreads();
    }
    const float scale = 1.0f / sqrtf(static_cast<float>(cols));
    for (int i = threadIdx.x; i < cols; i += blockDim.x) row[i] *= scale;
    __syncthreads();
  }
  if (s.type == SimulatedType::kNone) return;
  const float max = s.type == SimulatedType::kFp8 ? 448.0f : 6.0f;
  const float least = s.type == SimulatedType::kFp8 ? 1e-4f : 0x1.8p-124f;
  const int size = static_cast<int>(s.block), lane = threadIdx.x % 32;
  for (int first = static_cast<int>(threadIdx.x) / 32 * size; first < cols;
       first += static_cast<int>(blockDim.x) / 32 * size) {
    const int end = min(first + size, cols);
    float amax = 0;
    bool finite = true;
    for (int i = first + lane; i < end; i += 32) {
      amax = fmaxf(amax, fabsf(row[i]));
      finite = finite && isfinite(row[i]);
    }
    if (!__all_sync(0xFFFFFFFFu, finite)) continue;
    // The least power of two that is not below.
    const uint32_t bits = __float_as_uint(fmaxf(warp_max(amax), least) / max);
    const float scale = __uint_as_float(((bits >> 23) + ((bits & 0x7FFFFF) != 0 ? 1 : 0)) << 23);
    for (int i = first + lane; i < end; i += 32) row[i] = nearest(s.type, row[i] / scale) * scale;
  }
  __syncthreads();
}

__global__ void simulate_kernel(F32Rows x, Simulation s) {
  extern __shared__ float row[];
  begin_kernel();
  float* const from = x.row(blockIdx.x);
  for (int64_t i = threadIdx.x; i < x.cols; i += blockDim.x) row[i] = from[i];
  simulate_row(row, static_cast<int>(x.cols), s);
  for (int64_t i = threadIdx.x; i < x.cols; i += blockDim.x) from[i] = row[i];
}

// A block a token; most have nothing to do.
__global__ void compress_kernel(CompressKernelArgs a) {
  begin_kernel();
  extern __shared__ float row[];  // [d]
  __shared__ float reduce[32];
  const RowInfo info = a.tables.rows[blockIdx.x];
  const int m = a.out.tokens_per_row, d = a.out.row_elements, width = a.source.row_elements / 2;
  if ((info.position + 1) % m != 0) return;
  const int w = info.position / m;
  float squares = 0;
  for (int c = threadIdx.x; c < d; c += blockDim.x) {
    float top = -kInfinity, sum = 0, mean = 0;
    // Twice over the window: the maximum first.
    for (int pass = 0; pass < 2; ++pass) {
      for (int part = a.overlap && w > 0 ? 0 : 1; part < 2; ++part) {
        const int channel = part == 0 || !a.overlap ? c : d + c;
        for (int j = 0; j < m; ++j) {
          const uint8_t* from = cached_row(a.source, a.tables, info, (w - 1 + part) * m + j);
          const float z =
              cached_value(a.source.dtype, from, width + channel) + a.ape[j * width + channel];
          if (pass == 0) {
            top = fmaxf(top, z);
          } else {
            const float e = expf(z - top);
            sum += e;
            mean = fmaf(e, cached_value(a.source.dtype, from, channel), mean);
          }
        }
      }
    }
    row[c] = mean / sum;
    squares += row[c] * row[c];
  }
  const float scale = 1.0f / sqrtf(block_sum(squares, reduce) / static_cast<float>(d) + a.eps);
  for (int c = threadIdx.x; c < d; c += blockDim.x) row[c] *= scale * a.norm[c];
  __syncthreads();
  float* rotated = row + d - 2 * a.half;
  for (int i = threadIdx.x; i < a.half; i += blockDim.x) {
    double sine, cosine;
    sincos(static_cast<double>(w) * m * a.frequencies[i], &sine, &cosine);
    const auto co = static_cast<float>(cosine), si = static_cast<float>(sine);
    const float u = rotated[2 * i], v = rotated[2 * i + 1];
    rotated[2 * i] = u * co - v * si;
    rotated[2 * i + 1] = v * co + u * si;
  }
  if (a.simulated > 0) simulate_row(row, a.simulated, a.simulation);
  __syncthreads();
  uint8_t* to = cached_row(a.out, a.tables, info, w);
  if (a.out.dtype == DType::kQ8_0) {
    for (int b = threadIdx.x / 32; b < d / 32; b += blockDim.x / 32) {
      const float v = row[b * 32 + threadIdx.x % 32];
      const float s = warp_max(fabsf(v)) / 127.0f;
      if (threadIdx.x % 32 == 0) *reinterpret_cast<__half*>(to + b * 34) = __float2half_rn(s);
      to[b * 34 + 2 + threadIdx.x % 32] =
          static_cast<uint8_t>(static_cast<int8_t>(s == 0 ? 0 : roundf(v * (1.0f / s))));
    }
    return;
  }
  for (int c = threadIdx.x; c < d; c += blockDim.x) {
    if (a.out.dtype == DType::kF32) reinterpret_cast<float*>(to)[c] = row[c];
    if (a.out.dtype == DType::kF16) reinterpret_cast<__half*>(to)[c] = __float2half_rn(row[c]);
    if (a.out.dtype == DType::kBF16)
      reinterpret_cast<__nv_bfloat16*>(to)[c] = __float2bfloat16_rn(row[c]);
  }
}

}  // namespace

void select_rows(const SelectArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  if (a.max_keys > 0) {
    const dim3 grid(static_cast<unsigned>(a.rows), blocks_for(a.max_keys, kThreads / 32));
    launch_kernel(score_kernel, grid, kThreads, 0, stream, a);
  }
  launch_kernel(pick_kernel, static_cast<unsigned>(a.rows), kThreads, 0, stream, a);
}

void simulate(const F32Rows& x, const Simulation& simulation, cudaStream_t stream) {
  const auto bytes = static_cast<std::size_t>(x.cols) * sizeof(float);
  launch_kernel(simulate_kernel, static_cast<unsigned>(x.rows), 128, bytes, stream, x, simulation);
}

void compress(const CompressKernelArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  const std::size_t bytes = static_cast<std::size_t>(a.out.row_elements) * sizeof(float);
  launch_kernel(compress_kernel, static_cast<unsigned>(a.rows), 128, bytes, stream, a);
}

}  // namespace fathom::cuda
