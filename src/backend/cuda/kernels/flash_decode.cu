// Attention of generated rows on the tensor cores, for grouped queries and a bfloat16 cache
// ("flash decoding": keys in splits, https://pytorch.org/blog/flash-decoding).
//
// A block takes one row, up to eight heads of one KV head, and one split: kSplitKeys keys counted
// from the sequence's first. Its warps take tiles of 16 keys in turn and keep what they sum apart.
// Warps are joined in order, then splits, by the block of the row that arrives last.
//
// Products are transposed, so that the heads are the eight columns of a tensor core product:
//   scores [16 keys, 8 heads] = K · qᵀ,   out [16 channels, 8 heads] += Vᵀ · p.
// Which channel is which column of the first product, or row of the second, is free: threads take
// 16 neighbouring bytes of the cache straight to the registers that the product wants them in.
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace fathom::cuda {
namespace {

constexpr int kHeads = 8;
constexpr int kTile = 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What was summed for a head: the maximum, the sum of the weights, two unused, the values' sums.
template <int kDim>
constexpr int kRecord = 4 + kDim;

// 16 bytes that are read once.
__device__ uint4 load_once(const void* p) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// An 8 × 8 matrix of 16-bit values, transposed: thread 4g + t holds columns 2t, 2t + 1 of row g.
__device__ uint32_t transpose(uint32_t v) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(v));
  return out;
}

// A tile as thread 4g + t holds it. Keys: those of g and g + 8; chunk j is channels 32j + 8t….
// Values: keys 2t, 2t + 1, 2t + 8, 2t + 9; chunk j is channels 64j + 8g….
template <int kDim>
struct KeyTile {
  uint4 of[2][kDim / 32];
};
template <int kDim>
struct ValueTile {
  uint4 of[4][kDim / 64];
};

template <int kDim>
__device__ void load(KeyTile<kDim>& k, const uint8_t* const* rows, int offset, int g, int t) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint8_t* const row = rows[g + 8 * i] + offset + 16 * t;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) k.of[i][j] = load_once(row + 64 * j);
  }
}
template <int kDim>
__device__ void load(ValueTile<kDim>& v, const uint8_t* const* rows, int offset, int g, int t) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint8_t* const row = rows[2 * t + i % 2 + i / 2 * 8] + offset + 16 * g;
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j) v.of[i][j] = load_once(row + 128 * j);
  }
}

__device__ uint32_t word(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Four channels of the sum over `count` records, in order.
struct Joined {
  float top = -kInfinity, sum = 0;
  float4 out = {0, 0, 0, 0};
};
__device__ Joined join(const float* records, int count, int64_t step, int channel) {
  constexpr int kAtOnce = 8;
  Joined a;
  for (int first = 0; first < count; first += kAtOnce) {
    float2 head[kAtOnce];
    float4 v[kAtOnce];
    float top = a.top;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      head[i] = {-kInfinity, 0};
      v[i] = {};
      if (first + i >= count) continue;
      const float* const from = records + (first + i) * step;
      head[i] = *reinterpret_cast<const float2*>(from);
      v[i] = *reinterpret_cast<const float4*>(from + 4 + channel);
      top = fmaxf(top, head[i].x);
    }
    const float shrink = __expf(a.top - top);
    a = {top,
         a.sum * shrink,
         {a.out.x * shrink, a.out.y * shrink, a.out.z * shrink, a.out.w * shrink}};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float weight = __expf(head[i].x - top);
      a.sum += head[i].y * weight;
      a.out.x += v[i].x * weight;
      a.out.y += v[i].y * weight;
      a.out.z += v[i].z * weight;
      a.out.w += v[i].w * weight;
    }
  }
  return a;
}

__device__ void write(const FlashDecodeArgs& a, int64_t r, int64_t at, const Joined& v) {
  const float scale = 1.0f / v.sum;
  const float4 out = {v.out.x * scale, v.out.y * scale, v.out.z * scale, v.out.w * scale};
  *reinterpret_cast<float4*>(a.out.row(r) + at) = out;
  if (a.rounded != nullptr) {
    *reinterpret_cast<uint2*>(a.rounded + r * a.out.cols + at) =
        uint2{pack(out.x, out.y), pack(out.z, out.w)};
  }
  if (a.int8.q != nullptr) quantize_four(a.int8, a.out.cols, r, at, out);
}

// Rotates the channels of a query that thread 4g + t has: x[j] those from 32j + 8t on.
template <int kDim>
__device__ void rotate_query(float4 (&x)[kDim / 32][2], const float* angles, bool pairs, int t) {
  const auto turn = [](float& u, float& v, float cosine, float sine) {
    const float2 turned = rotate_pair(u, v, cosine, sine);
    u = turned.x;
    v = turned.y;
  };
  constexpr int kHalf = kDim / 2;
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int c = 32 * j + 8 * t + 4 * h;
      float4& u = x[j][h];
      if (pairs) {
        const float2 cosine = *reinterpret_cast<const float2*>(angles + c / 2);
        const float2 sine = *reinterpret_cast<const float2*>(angles + kHalf + c / 2);
        turn(u.x, u.y, cosine.x, sine.x);
        turn(u.z, u.w, cosine.y, sine.y);
      } else if (j < kDim / 64) {
        float4& v = x[j + kDim / 64][h];
        const float4 cosine = *reinterpret_cast<const float4*>(angles + c);
        const float4 sine = *reinterpret_cast<const float4*>(angles + kHalf + c);
        turn(u.x, v.x, cosine.x, sine.x);
        turn(u.y, v.y, cosine.y, sine.y);
        turn(u.z, v.z, cosine.z, sine.z);
        turn(u.w, v.w, cosine.w, sine.w);
      }
    }
  }
}

// Two channels of a row's own key or value as the cache holds them, in shared memory and, with
// `cached`, there.
template <int kDim>
__device__ void take_own(const OwnRows& own, int64_t r, int kv_head, int i, bool value,
                         __nv_bfloat16* to, __nv_bfloat16* cached) {
  constexpr int kHalf = kDim / 2;
  const float* const from = (value ? own.v : own.k).row(r) + kv_head * kDim;
  const bool halves = !value && !own.pairs;
  const int first = halves ? i : 2 * i, second = halves ? i + kHalf : 2 * i + 1;
  float2 x = {from[first], from[second]};
  if (!value) {
    const float* const angles = own.angles.row(r);
    x = rotate_pair(x.x, x.y, angles[i], angles[kHalf + i]);
  }
  to[first] = __float2bfloat16_rn(x.x);
  to[second] = __float2bfloat16_rn(x.y);
  if (cached == nullptr) return;
  cached[first] = to[first];
  cached[second] = to[second];
}

template <int kDim, bool kOwn, int kSplitKeys, int kWarps, int kBlocks>
__global__ void __launch_bounds__(kWarps * 32, kBlocks)
    flash_decode_kernel(FlashDecodeArgs a, int splits) {
  constexpr int kThreads = kWarps * 32, kQuads = kDim / 4, kWords = kRecord<kDim>;
  __shared__ uint8_t* rows[kSplitKeys];
  __shared__ __align__(16) __nv_bfloat16 own_row[2][kDim];  // key and value
  __shared__ __align__(16) float records[kWarps][kHeads][kWords];
  __shared__ bool last;
  let_next_begin();
  // The step's tables are older than the kernel before this one, and stay.
  const int64_t r = blockIdx.x;
  const RowInfo info = a.tables.rows[r];
  const int split = blockIdx.z, begin = split * kSplitKeys, keys = info.position + 1 - begin;
  if (keys <= 0) return wait_for_others();
  const int tiles = (min(keys, kSplitKeys) + kTile - 1) / kTile;
  for (int i = threadIdx.x; i < tiles * kTile; i += kThreads)
    rows[i] = cached_row(a.kv, a.tables, info, begin + min(i, keys - 1));
  __syncthreads();
  wait_for_others();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int group = a.heads / a.kv_heads, parts = (group + kHeads - 1) / kHeads;
  const int kv_head = blockIdx.y / parts, first = blockIdx.y % parts * kHeads;
  const int heads = min(kHeads, group - first), head0 = kv_head * group + first;
  const int key0 = kv_head * kDim * 2, value0 = (a.kv_heads + kv_head) * kDim * 2;
  const int mine = kOwn ? keys - 1 : kSplitKeys;  // the row's own key, if this split has it
  KeyTile<kDim> k;
  ValueTile<kDim> v;
  if (warp < tiles) {
    load<kDim>(k, rows + warp * kTile, key0, g, t);
    load<kDim>(v, rows + warp * kTile, value0, g, t);
  }
  if constexpr (kOwn) {
    static_assert(kDim <= kThreads);
    if (mine < kSplitKeys && threadIdx.x < kDim) {
      const bool value = threadIdx.x >= kDim / 2;
      auto* const cached =
          reinterpret_cast<__nv_bfloat16*>(rows[mine] + (value ? value0 : key0));
      take_own<kDim>(a.own, r, kv_head, static_cast<int>(threadIdx.x) % (kDim / 2), value,
                     own_row[value ? 1 : 0], first == 0 ? cached : nullptr);
    }
  }
  float4 x[kDim / 32][2] = {};
  if (g < heads) {
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      const float* const from = a.q.row(r) + (head0 + g) * kDim + 32 * j + 8 * t;
      x[j][0] = *reinterpret_cast<const float4*>(from);
      x[j][1] = *reinterpret_cast<const float4*>(from + 4);
    }
    if constexpr (kOwn) rotate_query<kDim>(x, a.own.angles.row(r), a.own.pairs, t);
  }
  uint32_t q[kDim / 16][2];
#pragma unroll
  for (int i = 0; i < kDim / 16; ++i) {
    const float4 v = x[i / 2][i % 2];
    q[i][0] = pack(v.x * a.scale, v.y * a.scale);
    q[i][1] = pack(v.z * a.scale, v.w * a.scale);
  }
  if constexpr (kOwn) __syncthreads();
  // Of heads 2t and 2t + 1; the sums of this thread's keys alone.
  float top[2] = {-kInfinity, -kInfinity}, sum[2] = {}, out[kDim / 16][4] = {};
  for (int tile = warp; tile < tiles; tile += kWarps) {
    if (kOwn && (tile + 1) * kTile > mine) {  // and what stands behind it counts nothing
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (tile * kTile + g + 8 * i < mine) continue;
#pragma unroll
        for (int j = 0; j < kDim / 32; ++j)
          k.of[i][j] = *reinterpret_cast<const uint4*>(own_row[0] + 32 * j + 8 * t);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (tile * kTile + 2 * t + i % 2 + i / 2 * 8 < mine) continue;
#pragma unroll
        for (int j = 0; j < kDim / 64; ++j)
          v.of[i][j] = *reinterpret_cast<const uint4*>(own_row[1] + 64 * j + 8 * g);
      }
    }
    float score[4] = {};
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
      const uint4 &low = k.of[0][s / 2], &high = k.of[1][s / 2];
      const int i = s % 2 * 2;
      mma(score, {word(low, i), word(high, i), word(low, i + 1), word(high, i + 1)}, q[s][0],
          q[s][1]);
    }
    const bool more = tile + kWarps < tiles;
    if (more) load<kDim>(k, rows + (tile + kWarps) * kTile, key0, g, t);
    if (tile * kTile + g >= keys) score[0] = score[1] = -kInfinity;
    if (tile * kTile + g + 8 >= keys) score[2] = score[3] = -kInfinity;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float best = fmaxf(score[i], score[i + 2]);
#pragma unroll
      for (int o = 4; o < 32; o *= 2) best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, o));
      best = fmaxf(best, top[i]);
      const float shrink = __expf(top[i] - best);  // 0 for the first tile, else finite
      top[i] = best;
      score[i] = __expf(score[i] - best);
      score[i + 2] = __expf(score[i + 2] - best);
      sum[i] = sum[i] * shrink + (score[i] + score[i + 2]);
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        out[d][i] *= shrink;
        out[d][i + 2] *= shrink;
      }
    }
    const uint32_t p0 = transpose(pack(score[0], score[1]));
    const uint32_t p1 = transpose(pack(score[2], score[3]));
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {  // channels 64 (d / 4) + 8g + 2 (d % 4) and the next
      uint32_t w[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) w[i] = word(v.of[i][d / 4], d % 4);
      mma(out[d],
          {__byte_perm(w[0], w[1], 0x5410), __byte_perm(w[0], w[1], 0x7632),
           __byte_perm(w[2], w[3], 0x5410), __byte_perm(w[2], w[3], 0x7632)},
          p0, p1);
    }
    if (more) load<kDim>(v, rows + (tile + kWarps) * kTile, value0, g, t);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int o = 4; o < 32; o *= 2) sum[i] += __shfl_xor_sync(0xFFFFFFFFu, sum[i], o);
    float* const to = records[warp][2 * t + i];
    if (g == 0) to[0] = top[i], to[1] = sum[i];
#pragma unroll
    for (int d = 0; d < kDim / 16; d += 2) {
      *reinterpret_cast<float4*>(to + 4 + d / 4 * 64 + 8 * g + d % 4 * 2) =
          float4{out[d][i], out[d][i + 2], out[d + 1][i], out[d + 1][i + 2]};
    }
  }
  __syncthreads();
  const int own = (info.position + kSplitKeys) / kSplitKeys;
  const int64_t pair = r * gridDim.y + blockIdx.y;
  float* const partials = a.partials + (r * a.heads + head0) * splits * kWords;
  for (int i = threadIdx.x; i < heads * kQuads; i += kThreads) {
    const int h = i / kQuads, c = i % kQuads * 4;
    const Joined v = join(records[0][h], min(kWarps, tiles), kHeads * kWords, c);
    if (own == 1) {
      write(a, r, (head0 + h) * kDim + c, v);
      continue;
    }
    float* const to = partials + (static_cast<int64_t>(h) * splits + split) * kWords;
    if (c == 0) *reinterpret_cast<float2*>(to) = float2{v.top, v.sum};
    *reinterpret_cast<float4*>(to + 4 + c) = v.out;
  }
  if (own == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(a.arrived + pair, 1) == own - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  for (int i = threadIdx.x; i < heads * kQuads; i += kThreads) {
    const int h = i / kQuads, c = i % kQuads * 4;
    write(a, r, (head0 + h) * kDim + c,
          join(partials + static_cast<int64_t>(h) * splits * kWords, own, kWords, c));
  }
  if (threadIdx.x == 0) a.arrived[pair] = 0;
}

// By measurement (bench/gpu/decode_attention.cu).
constexpr int kSplitKeys = 128;
constexpr int kWarps = 4;
constexpr int kBlocks = 3;

int parts_of(const FlashDecodeArgs& a) { return (a.heads / a.kv_heads + kHeads - 1) / kHeads; }

template <int kDim, bool kOwn>
void launch(const FlashDecodeArgs& a, cudaStream_t stream) {
  const int splits = (a.max_keys + kSplitKeys - 1) / kSplitKeys;
  const dim3 grid(static_cast<unsigned>(a.rows), static_cast<unsigned>(a.kv_heads * parts_of(a)),
                  static_cast<unsigned>(splits));
  launch_kernel(flash_decode_kernel<kDim, kOwn, kSplitKeys, kWarps, kBlocks>, grid, kWarps * 32, 0,
                stream, a, splits);
}
template <int kDim>
void launch(const FlashDecodeArgs& a, cudaStream_t stream) {
  if (a.own.k.data != nullptr) {
    launch<kDim, true>(a, stream);
  } else {
    launch<kDim, false>(a, stream);
  }
}

}  // namespace

bool flash_decode_takes(const F32Rows& q, const F32Rows& out) {
  const auto even = [](const F32Rows& x) {
    return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride % 4 == 0;
  };
  return even(q) && even(out);
}
bool flash_decode_takes(const OwnRows& own, int64_t head_dim) {
  return own.angles.cols == head_dim && own.angles.stride % 4 == 0 &&
         reinterpret_cast<uintptr_t>(own.angles.data) % 16 == 0;
}

int64_t flash_decode_scratch(const FlashDecodeArgs& a) {
  const int64_t splits = (a.max_keys + kSplitKeys - 1) / kSplitKeys;
  return splits > 1 ? a.rows * a.heads * splits * (4 + a.head_dim) : 0;
}

int64_t flash_decode_counters(const FlashDecodeArgs& a) {
  return a.rows * a.kv_heads * parts_of(a);
}

void flash_decode(const FlashDecodeArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  if (a.head_dim == 64) {
    launch<64>(a, stream);
  } else {
    launch<128>(a, stream);
  }
}

}  // namespace fathom::cuda
