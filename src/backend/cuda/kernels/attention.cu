// The paged cache: rows written to it, and softmax attention on them.
//
// A block takes one row of the step, some heads that share keys, and one split: kSplitKeys keys
// that follow each other in the row's list of keys. Splits and the tiles within are counted from
// the beginning of the list, and a second kernel joins the splits in order: what is computed for a
// row does not depend on the others.
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/keys.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = kThreads;  // keys scored at once, one a thread
constexpr int kSplitKeys = 512;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
__device__ void store(uint8_t* row, int64_t i, float v) {
  if constexpr (sizeof(T) == 4) {
    reinterpret_cast<float*>(row)[i] = v;
  } else if constexpr (std::is_same_v<T, __half>) {
    reinterpret_cast<__half*>(row)[i] = __float2half_rn(v);
  } else {
    reinterpret_cast<__nv_bfloat16*>(row)[i] = __float2bfloat16_rn(v);
  }
}

__device__ void store(DType type, uint8_t* row, int64_t i, float v) {
  if (type == DType::kF32) store<float>(row, i, v);
  if (type == DType::kF16) store<__half>(row, i, v);
  if (type == DType::kBF16) store<__nv_bfloat16>(row, i, v);
}

__device__ float appended(const AppendArgs& a, int64_t r, int64_t i) {
  const int64_t first = a.part[0].cols;
  return i < first ? a.part[0].row(r)[i] : a.part[1].row(r)[i - first];
}

// Threads of a row: a pair of q's channels each, then a pair of k's, then one other channel of the
// cached row.
__global__ void rope_append_kernel(RopeAppendKernelArgs a) {
  begin_kernel();
  const int64_t r = blockIdx.x;
  int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  const int64_t q_pairs = a.q.angles.cols / 2 * a.q.heads, k_pairs = a.k.x.cols / 2;
  if (i < q_pairs) {
    rotate(a.q, r, i);
    return;
  }
  const DevicePages& kv = a.append.kv;
  const RowInfo info = a.append.tables.rows[r];
  uint8_t* const to = cached_row(kv, a.append.tables, info, info.position / kv.tokens_per_row);
  i -= q_pairs;
  if (i < k_pairs) {
    const RopePair p = rotate(a.k, r, i);
    store(kv.dtype, to, a.k_column + p.first, p.u);
    store(kv.dtype, to, a.k_column + p.second, p.v);
    return;
  }
  i -= k_pairs;
  if (i >= a.k_column) i += a.k.x.cols;
  if (i < kv.row_elements) store(kv.dtype, to, i, appended(a.append, r, i));
}

__global__ void append_kernel(AppendArgs a) {
  begin_kernel();
  const int64_t r = blockIdx.x;
  const RowInfo info = a.tables.rows[r];
  uint8_t* to = cached_row(a.kv, a.tables, info, info.position / a.kv.tokens_per_row);
  if (a.kv.dtype == DType::kQ8_0) {
    // A warp a block of 32.
    for (int64_t b = threadIdx.x / 32; b < a.kv.row_elements / 32; b += blockDim.x / 32) {
      const float v = appended(a, r, b * 32 + threadIdx.x % 32);
      const float d = warp_max(fabsf(v)) / 127.0f;
      uint8_t* block = to + b * 34;
      if (threadIdx.x % 32 == 0) *reinterpret_cast<__half*>(block) = __float2half_rn(d);
      block[2 + threadIdx.x % 32] =
          static_cast<uint8_t>(static_cast<int8_t>(d == 0 ? 0 : roundf(v * (1.0f / d))));
    }
    return;
  }
  for (int64_t i = threadIdx.x; i < a.kv.row_elements; i += blockDim.x)
    store(a.kv.dtype, to, i, appended(a, r, i));
}

template <DType T>
__device__ void load8(const uint8_t* row, int32_t c, bool aligned, float (&v)[8]) {
  if constexpr (T == DType::kQ8_0) {
    const uint8_t* b = row + c / 32 * 34;
    const float d = half_at(b);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      v[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + (c + i) % 32]));
  } else {
    if (aligned) {
      aligned8<T>(row, c, v);
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = value_at<T>(row, c + i);
    }
  }
}
template <DType T>
__device__ float load1(const uint8_t* row, int32_t c) {
  if constexpr (T == DType::kQ8_0) return cached_value(T, row, c);
  return value_at<T>(row, c);
}

// kHeads heads of one KV head; a thread sums kChannels channels of the values, kThreads apart.
template <DType T, int kHeads, int kChannels>
__global__ void __launch_bounds__(kThreads) attend_kernel(AttendArgs a, int splits, bool aligned) {
  begin_kernel();
  extern __shared__ float shared[];
  const int64_t r = blockIdx.x;
  const RowInfo info = a.tables.rows[r];
  const KeyList list = key_list(a, r, info);
  const int split = blockIdx.z, begin = split * kSplitKeys;
  if (begin >= list.count && split > 0) return;
  const int end = min(list.count, begin + kSplitKeys);
  const int group = a.heads / a.kv_heads, parts = (group + kHeads - 1) / kHeads;
  const int kv_head = blockIdx.y / parts, first = blockIdx.y % parts * kHeads;
  const int heads = min(kHeads, group - first), head0 = kv_head * group + first;
  const int dim = a.key_dim, padded = (dim + 3) / 4 * 4;
  float* q = shared;                   // [kHeads, padded]
  float* p = q + kHeads * padded;      // [kHeads, kTile]
  float* reduce = p + kHeads * kTile;  // [2, kThreads / 32, kHeads]
  auto** rows = reinterpret_cast<const uint8_t**>(reduce + 2 * kThreads / 32 * kHeads);  // [kTile]
  for (int i = threadIdx.x; i < kHeads * padded; i += kThreads) {
    const int h = i / padded, c = i % padded;
    q[i] = h < heads && c < dim ? a.q.row(r)[(head0 + h) * dim + c] * a.scale : 0.0f;
  }
  float max[kHeads], sum[kHeads] = {}, out[kHeads][kChannels] = {};
#pragma unroll
  for (int h = 0; h < kHeads; ++h) max[h] = -kInfinity;
  const int key0 = kv_head * a.key_stride, value0 = a.value_offset + kv_head * a.key_stride;
  for (int tile = begin; tile < end; tile += kTile) {
    const int count = min(kTile, end - tile);
    __syncthreads();
    float score[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) score[h] = -kInfinity;
    if (static_cast<int>(threadIdx.x) < count) {
      const uint8_t* row = key_row(a, list, r, info, tile + static_cast<int>(threadIdx.x));
      rows[threadIdx.x] = row;
      float dot[kHeads] = {};
      int c = 0;
      for (; c + 8 <= dim; c += 8) {
        float k[8];
        load8<T>(row, key0 + c, aligned, k);
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
#pragma unroll
          for (int i = 0; i < 8; ++i) dot[h] = fmaf(k[i], q[h * padded + c + i], dot[h]);
        }
      }
      for (; c < dim; ++c) {
        const float k = load1<T>(row, key0 + c);
#pragma unroll
        for (int h = 0; h < kHeads; ++h) dot[h] = fmaf(k, q[h * padded + c], dot[h]);
      }
#pragma unroll
      for (int h = 0; h < kHeads; ++h) score[h] = dot[h];
    }
    // Maximum and sum over the block, all heads together.
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    float* const sums = reduce + kThreads / 32 * kHeads;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float best = warp_max(score[h]);
      if (lane == 0) reduce[warp * kHeads + h] = best;
    }
    __syncthreads();
    float shrink[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float top = max[h];
#pragma unroll
      for (int w = 0; w < kThreads / 32; ++w) top = fmaxf(top, reduce[w * kHeads + h]);
      const float e = score[h] == -kInfinity ? 0.0f : __expf(score[h] - top);
      p[h * kTile + threadIdx.x] = e;
      shrink[h] = max[h] == -kInfinity ? 0.0f : __expf(max[h] - top);
      max[h] = top;
      const float total = warp_sum(e);
      if (lane == 0) sums[warp * kHeads + h] = total;
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < kThreads / 32; ++w) total += sums[w * kHeads + h];
      sum[h] = sum[h] * shrink[h] + total;
#pragma unroll
      for (int v = 0; v < kChannels; ++v) out[h][v] *= shrink[h];
    }
    for (int j = 0; j < count; ++j) {
      const uint8_t* row = rows[j];
#pragma unroll
      for (int v = 0; v < kChannels; ++v) {
        const int c = static_cast<int>(threadIdx.x) + v * kThreads;
        if (c < a.value_dim) {
          const float x = load1<T>(row, value0 + c);
#pragma unroll
          for (int h = 0; h < kHeads; ++h) out[h][v] = fmaf(p[h * kTile + j], x, out[h][v]);
        }
      }
    }
  }
  // Partials: [rows, heads, splits, 2 + value_dim]: the maximum, the sum, and what was summed.
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (h >= heads) continue;
    if (splits == 1) {  // as join_kernel, to the bit
      const float sink = a.sinks != nullptr ? a.sinks[head0 + h] : -kInfinity;
      const float top = fmaxf(sink, max[h]);
      const float total =
          (a.sinks != nullptr ? __expf(sink - top) : 0.0f) + sum[h] * __expf(max[h] - top);
#pragma unroll
      for (int v = 0; v < kChannels; ++v) {
        const int c = static_cast<int>(threadIdx.x) + v * kThreads;
        if (c < a.value_dim) {
          a.out.row(r)[(head0 + h) * a.value_dim + c] = out[h][v] * __expf(max[h] - top) / total;
        }
      }
      continue;
    }
    float* to = a.partials + ((r * a.heads + head0 + h) * splits + split) * (2 + a.value_dim);
    if (threadIdx.x == 0) to[0] = max[h], to[1] = sum[h];
#pragma unroll
    for (int v = 0; v < kChannels; ++v) {
      const int c = static_cast<int>(threadIdx.x) + v * kThreads;
      if (c < a.value_dim) to[2 + c] = out[h][v];
    }
  }
}

__global__ void join_kernel(AttendArgs a, int splits) {
  begin_kernel();
  const int64_t r = blockIdx.x;
  const int h = blockIdx.y;
  const int count = key_list(a, r, a.tables.rows[r]).count;
  const int own = max((count + kSplitKeys - 1) / kSplitKeys, 1);
  const float* from = a.partials + (r * a.heads + h) * splits * (2 + a.value_dim);
  const int64_t step = 2 + a.value_dim;
  float top = a.sinks != nullptr ? a.sinks[h] : -kInfinity;
  for (int s = 0; s < own; ++s) top = fmaxf(top, from[s * step]);
  float sum = a.sinks != nullptr ? __expf(a.sinks[h] - top) : 0.0f;
  for (int s = 0; s < own; ++s)
    if (from[s * step] != -kInfinity) sum += from[s * step + 1] * __expf(from[s * step] - top);
  for (int c = threadIdx.x; c < a.value_dim; c += blockDim.x) {
    float v = 0;
    for (int s = 0; s < own; ++s)
      if (from[s * step] != -kInfinity) v += from[s * step + 2 + c] * __expf(from[s * step] - top);
    a.out.row(r)[h * a.value_dim + c] = v / sum;
  }
}

int splits_of(const AttendArgs& a) {
  const int splits = (a.max_keys + kSplitKeys - 1) / kSplitKeys;
  return splits > 1 ? splits : 1;
}

template <DType T, int kHeads, int kChannels>
void launch(const AttendArgs& a, cudaStream_t stream) {
  const int splits = splits_of(a), group = a.heads / a.kv_heads;
  const int padded = (a.key_dim + 3) / 4 * 4;
  const std::size_t bytes =
      (static_cast<std::size_t>(kHeads) * (padded + kTile + 2 * kThreads / 32)) * sizeof(float) +
      kTile * sizeof(void*);
  auto* kernel = attend_kernel<T, kHeads, kChannels>;
  const auto even = [](const DevicePages& p, int64_t element) {
    return p.data == nullptr ||
           (reinterpret_cast<uintptr_t>(p.data) % 16 == 0 && p.row_bytes % 16 == 0 &&
            p.page_stride_bytes % 16 == 0 && element % 16 == 0);
  };
  const int64_t head_bytes = T == DType::kF32 ? a.key_stride * 4 : a.key_stride * 2;
  const bool one = a.kv_heads == 1;
  const bool aligned = even(a.window, one ? 0 : head_bytes) && even(a.keys, one ? 0 : head_bytes);
  const dim3 grid(static_cast<unsigned>(a.rows),
                  static_cast<unsigned>(a.kv_heads * ((group + kHeads - 1) / kHeads)),
                  static_cast<unsigned>(splits));
  launch_kernel(kernel, grid, kThreads, bytes, stream, a, splits, aligned);
}

// How many heads a block takes changes no bit of theirs. Many share what is read of the cache; few
// make more blocks, where there are too few to fill the device.
template <DType T, int kChannels>
void launch_heads(const AttendArgs& a, cudaStream_t stream) {
  constexpr int64_t kManyBlocks = 256;
  const int group = a.heads / a.kv_heads;
  const int64_t blocks = a.rows * a.kv_heads * splits_of(a);
  const auto enough = [&](int heads) {
    return group <= heads || blocks * ((group + 2 * heads - 1) / (2 * heads)) >= kManyBlocks;
  };
  if (group == 1) return launch<T, 1, kChannels>(a, stream);
  if (group == 2 || (group > 2 && !enough(2))) return launch<T, 2, kChannels>(a, stream);
  if (group <= 4 || !enough(4)) return launch<T, 4, kChannels>(a, stream);
  launch<T, 8, kChannels>(a, stream);
}

template <DType T>
void launch_type(const AttendArgs& a, cudaStream_t stream) {
  if (a.value_dim <= kThreads) return launch_heads<T, 1>(a, stream);
  if (a.value_dim <= 2 * kThreads) return launch_heads<T, 2>(a, stream);
  launch_heads<T, 4>(a, stream);
}

}  // namespace

void kv_append(const AppendArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  launch_kernel(append_kernel, static_cast<unsigned>(a.rows), 128, 0, stream, a);
}

void rope_append(const RopeAppendKernelArgs& a, cudaStream_t stream) {
  if (a.append.rows == 0) return;
  constexpr int kEach = 256;
  const int64_t items = a.q.angles.cols / 2 * a.q.heads + a.append.kv.row_elements - a.k.x.cols / 2;
  const dim3 grid(static_cast<unsigned>(a.append.rows), blocks_for(items, kEach));
  launch_kernel(rope_append_kernel, grid, kEach, 0, stream, a);
}

int64_t attend_scratch(const AttendArgs& a) {
  return a.rows * a.heads * splits_of(a) * (2 + a.value_dim);
}

void attend(const AttendArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  switch (a.keys.data != nullptr ? a.keys.dtype : a.window.dtype) {
    case DType::kF32:
      launch_type<DType::kF32>(a, stream);
      break;
    case DType::kF16:
      launch_type<DType::kF16>(a, stream);
      break;
    case DType::kBF16:
      launch_type<DType::kBF16>(a, stream);
      break;
    default:
      launch_type<DType::kQ8_0>(a, stream);
  }
  if (splits_of(a) == 1) return;
  const dim3 grid(static_cast<unsigned>(a.rows), static_cast<unsigned>(a.heads));
  launch_kernel(join_kernel, grid, 64, 0, stream, a, splits_of(a));
}

}  // namespace fathom::cuda
