// Matrix products of up to 64 rows on the tensor cores: what decoding does, at the speed at which
// the weights are read, alone and in a batch.
//
// A warp multiplies tiles of 16 weight rows (the operand of 16 rows of mma) with 8 · kColumns rows
// of inputs (the operand of 8 columns). The eight warps of a block divide the weight's columns,
// a few chunks of Tile<T>::kChunk columns to each in turn. Each sums its chunks in order, and the
// warps' sums are added in order: the result of a row depends on the weight alone, not on the rows
// beside it, nor on how many tiles a block takes.
//
// Within a chunk a thread takes neighbouring columns, as many as make wide loads, and gives them to
// mma as those it wants: the order of columns is free as long as both operands agree.
//
// BF16 and FP8 weights are multiplied with inputs in bfloat16, block-quantised ones with inputs in
// int8, each 32 of a row with a scale of their own.
#include <algorithm>

#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace fathom::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

// A copy of kBytes (4, 8 or 16) to shared memory that nobody waits for yet.
template <int kBytes>
__device__ inline void copy_part(void* shared, const void* global) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(address), "l"(global));
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(global),
                 "n"(kBytes));
  }
}
// Value i of this thread in its warp's slot: those of a warp are neighbours.
template <typename V>
__device__ inline V* lane_value(uint8_t* slot, int i) {
  return reinterpret_cast<V*>(slot) + i * 32 + threadIdx.x % 32;
}

// A thread has two rows of a tile of weights: g and g + 8 (PTX ISA: mma). Of each, where its own
// part of chunk 0 is, and the row's scales.
template <DType T>
struct WeightRow {
  const uint8_t* quants;
  const uint8_t* scales;
  __device__ WeightRow() {}
  __device__ WeightRow(const DeviceWeight& w, int64_t row, int t) : quants(w.row(row)) {
    if constexpr (T != DType::kQ4_K) quants += 16 * t;
    if constexpr (T == DType::kQ8_0) {
      scales = w.block_scales + row * (w.cols / 32) * 2;
    }
    if constexpr (T == DType::kF8E4M3) {
      scales = reinterpret_cast<const uint8_t*>(w.scales + (w.scale_row0 + row) /
                                                               w.scale_block_rows * w.scale_stride);
    }
  }
};

// The inputs as a thread sees them: rows g + 8n as mma's operand, rows 8n + 2t and one more in its
// result.
struct Inputs {
  const uint16_t* rounded;
  const int8_t* q;
  const float *scales, *sums;
  int cols;
  int rows, g, t;
  uint8_t* slot = nullptr;  // of a chunk, where the type has one
};

// Of a chunk: Raw, what a thread has of it, kSlot bytes a warp in shared memory; load(), which
// starts the copies there; read(); and multiply(), which adds the products with kColumns · 8 rows
// to sum; kResults: 1 if there is one row of inputs, and of the two results of a thread one counts.
template <DType T>
struct Tile;

template <>
struct Tile<DType::kBF16> {
  static constexpr bool kInt8 = false;
  static constexpr int kChunk = 32;
  static constexpr int kSlot = 1024;
  struct Raw {
    uint4 w[2];
  };
  using Row = WeightRow<DType::kBF16>;
  __device__ static void load(const Row (&r)[2], int chunk, int, uint8_t* slot) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      copy_part<16>(lane_value<uint4>(slot, i), r[i].quants + chunk * (kChunk * 2));
  }
  __device__ static Raw read(int, uint8_t* slot) {
    return {{*lane_value<uint4>(slot, 0), *lane_value<uint4>(slot, 1)}};
  }
  // Of 8 rows of inputs.
  static constexpr int kInputSlot = 512;
  __device__ static void load_inputs(const Inputs& x, int n, int chunk, uint8_t* slot) {
    const int row = x.g + 8 * n;
    if (row >= x.rows) return;
    copy_part<16>(lane_value<uint4>(slot, n), x.rounded + row * x.cols + chunk * kChunk + 8 * x.t);
  }
  template <int kResults, int kTiles, int kColumns>
  __device__ static void multiply(const Raw (&raw)[kTiles], const Inputs& x, int,
                                  float (&sum)[kTiles][kColumns][4]) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const uint4 b = x.g + 8 * n < x.rows ? *lane_value<uint4>(x.slot, n) : uint4{};
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        const uint4 &u = raw[m].w[0], &v = raw[m].w[1];
        mma(sum[m][n], {u.x, v.x, u.y, v.y}, b.x, b.y);
        mma(sum[m][n], {u.z, v.z, u.w, v.w}, b.z, b.w);
      }
    }
  }
};

// Two E4M3 values, in the low bytes of both halves, as bfloat16: their exponent's bits stand for
// 2^120 less there.
__device__ inline uint32_t fp8_pair(uint32_t halves) {
  const uint32_t bits = (halves & 0x00800080u) << 8 | (halves & 0x007F007Fu) << 4;
  const uint32_t power = 0x7B807B80u;  // 2^120
  uint32_t out;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(bits), "r"(power), "r"(0x80008000u));
  return out;
}

template <>
struct Tile<DType::kF8E4M3> {
  static constexpr bool kInt8 = false;
  static constexpr int kChunk = 64;
  static constexpr int kSlot = 1024 + 64;
  struct Raw {
    uint4 w[2];
    float scale[2];
  };
  using Row = WeightRow<DType::kF8E4M3>;
  __device__ static void load(const Row (&r)[2], int chunk, int scale_chunks, uint8_t* slot) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_part<16>(lane_value<uint4>(slot, i), r[i].quants + chunk * kChunk);
      if (lane % 4 == 0) {
        copy_part<4>(slot + 1024 + (8 * i + lane / 4) * 4, r[i].scales + chunk / scale_chunks * 4);
      }
    }
  }
  __device__ static Raw read(int, const uint8_t* slot) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Raw raw;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      raw.w[i] = reinterpret_cast<const uint4*>(slot)[32 * i + lane];
      raw.scale[i] = *reinterpret_cast<const float*>(slot + 1024 + (8 * i + lane / 4) * 4);
    }
    return raw;
  }
  static constexpr int kInputSlot = 1024;
  __device__ static void load_inputs(const Inputs& x, int n, int chunk, uint8_t* slot) {
    const int row = x.g + 8 * n;
    if (row >= x.rows) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_part<16>(lane_value<uint4>(slot, 2 * n + i),
                    x.rounded + row * x.cols + chunk * kChunk + 16 * x.t + 8 * i);
    }
  }
  template <int kResults, int kTiles, int kColumns>
  __device__ static void multiply(const Raw (&raw)[kTiles], const Inputs& x, int,
                                  float (&sum)[kTiles][kColumns][4]) {
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      float part[kColumns][4] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t u = i == 0   ? raw[m].w[0].x
                           : i == 1 ? raw[m].w[0].y
                           : i == 2 ? raw[m].w[0].z
                                    : raw[m].w[0].w;
        const uint32_t v = i == 0   ? raw[m].w[1].x
                           : i == 1 ? raw[m].w[1].y
                           : i == 2 ? raw[m].w[1].z
                                    : raw[m].w[1].w;
        const uint32_t a[4] = {
            fp8_pair(__byte_perm(u, 0, 0x4140)), fp8_pair(__byte_perm(v, 0, 0x4140)),
            fp8_pair(__byte_perm(u, 0, 0x4342)), fp8_pair(__byte_perm(v, 0, 0x4342))};
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          uint2 b{};
          if (x.g + 8 * n < x.rows)
            b = reinterpret_cast<const uint2*>(lane_value<uint4>(x.slot, 2 * n + i / 2))[i % 2];
          mma(part[n], a, b.x, b.y);
        }
      }
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[m][n][i] = fmaf(raw[m].scale[i / 2], part[n][i], sum[m][n][i]);
        }
      }
    }
  }
};

// c = a · b of 16 × 8 × 32 in int8: thread 4g + t holds of a: rows g and g + 8, columns 4t … and
// those 16 behind; of b the same of column g.
__device__ inline void mma_int8(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%10,%10,%10};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

__device__ inline uint2 int8_operand(const Inputs& x, int n, int c) {
  const int row = x.g + 8 * n;
  if (row >= x.rows) return {};
  return *reinterpret_cast<const uint2*>(x.q + row * x.cols + c + 8 * x.t);
}
// Of result column i (0, 1) of column tile n; with one row of inputs all threads take that.
__device__ inline int result_row(const Inputs& x, int n, int i) {
  const int row = 8 * n + 2 * x.t + i;
  return row < x.rows ? row : x.rows - 1;
}

template <>
struct Tile<DType::kQ8_0> {
  static constexpr bool kInt8 = true;
  static constexpr int kChunk = 64;
  static constexpr int kSlot = 1024 + 64;
  struct Raw {
    uint2 w[2][2];  // [row][block]
    uint32_t d[2];  // the scales of both blocks
  };
  using Row = WeightRow<DType::kQ8_0>;
  // Row g of the slot is that of threads 4g …: 64 bytes of each of the two.
  __device__ static void load(const Row (&r)[2], int chunk, int t, uint8_t* slot) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_part<16>(slot + (8 * i + g) * 64 + 16 * t, r[i].quants + chunk * kChunk);
      if (t == 0) copy_part<4>(slot + 1024 + (8 * i + g) * 4, r[i].scales + chunk * 4);
    }
  }
  __device__ static Raw read(int t, const uint8_t* slot) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    Raw raw;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint8_t* const row = slot + (8 * i + g) * 64 + 8 * t;
      raw.w[i][0] = *reinterpret_cast<const uint2*>(row);
      raw.w[i][1] = *reinterpret_cast<const uint2*>(row + 32);
      raw.d[i] = *reinterpret_cast<const uint32_t*>(slot + 1024 + (8 * i + g) * 4);
    }
    return raw;
  }
  // Of 8 rows of inputs: 64 bytes of each, then the scales of both blocks.
  static constexpr int kInputSlot = 512 + 64;
  __device__ static void load_inputs(const Inputs& x, int n, int chunk, uint8_t* slot) {
    const int row = x.g + 8 * n;
    if (row >= x.rows) return;
    uint8_t* const to = slot + n * kInputSlot;
    copy_part<16>(to + x.g * 64 + 16 * x.t, x.q + row * x.cols + chunk * kChunk + 16 * x.t);
    if (x.t == 0)
      copy_part<8>(to + 512 + x.g * 8, x.scales + row * (x.cols / 32) + chunk * (kChunk / 32));
  }
  template <int kResults, int kTiles, int kColumns>
  __device__ static void multiply(const Raw (&raw)[kTiles], const Inputs& x, int,
                                  float (&sum)[kTiles][kColumns][4]) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const uint8_t* const from = x.slot + n * kInputSlot;
      uint2 b[2] = {};
      if (x.g + 8 * n < x.rows) {
        b[0] = *reinterpret_cast<const uint2*>(from + x.g * 64 + 8 * x.t);
        b[1] = *reinterpret_cast<const uint2*>(from + x.g * 64 + 32 + 8 * x.t);
      }
      float2 dx[2];  // of a result column, both blocks; of rows that there are
#pragma unroll
      for (int i = 0; i < kResults; ++i) {
        const int row = kResults == 1 ? 0 : 2 * x.t + i;
        dx[i] = *reinterpret_cast<const float2*>(from + 512 + row * 8);
      }
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        const Raw& w = raw[m];
        const float2 d[2] = {__half22float2(*reinterpret_cast<const __half2*>(&w.d[0])),
                             __half22float2(*reinterpret_cast<const __half2*>(&w.d[1]))};
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          int whole[4];
          mma_int8(whole, {w.w[0][k].x, w.w[1][k].x, w.w[0][k].y, w.w[1][k].y}, b[k].x, b[k].y);
#pragma unroll
          for (int i = 0; i < 4; i += 3 - kResults) {
            const float scale =
                (k == 0 ? d[i / 2].x : d[i / 2].y) * (k == 0 ? dx[i % 2].x : dx[i % 2].y);
            sum[m][n][i] = fmaf(scale, static_cast<float>(whole[i]), sum[m][n][i]);
          }
        }
      }
    }
  }
};

template <>
struct Tile<DType::kQ4_K> {
  static constexpr bool kInt8 = true;
  static constexpr int kChunk = 256;
  static constexpr int kInputSlot = 0;  // read where they are
  static constexpr int kSlot = 16 * 160;
  struct Raw {
    uint4 head[2];  // d, dmin, and the scales of 8 groups
    uint2 w[2][4];  // [row][pair of groups]: eight weights of one in the low bits, of the other in
                    // the high ones
  };
  using Row = WeightRow<DType::kQ4_K>;
  static constexpr int kStride = 160;  // of a row in the slot: the quants, then the head
  __device__ static void load(const Row (&r)[2], int chunk, int t, uint8_t* slot) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint8_t* const block = r[i].quants + chunk * 144;
      uint8_t* const row = slot + (8 * i + g) * kStride;
#pragma unroll
      for (int j = 0; j < 2; ++j)
        copy_part<16>(row + 64 * j + 16 * t, block + 16 + 64 * j + 16 * t);
      if (t == 0) copy_part<16>(row + 128, block);
    }
  }
  __device__ static Raw read(int t, const uint8_t* slot) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    Raw raw;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint8_t* const row = slot + (8 * i + g) * kStride;
      raw.head[i] = *reinterpret_cast<const uint4*>(row + 128);
#pragma unroll
      for (int p = 0; p < 4; ++p)
        raw.w[i][p] = *reinterpret_cast<const uint2*>(row + 32 * p + 8 * t);
    }
    return raw;
  }
  // The 6-bit scales and minima of groups 0–3 and 4–7, one a byte.
  struct Scales {
    uint32_t scale[2], min[2];
  };
  __device__ static Scales unpack(const uint4& h) {
    Scales s;
    s.scale[0] = h.y & 0x3F3F3F3Fu;
    s.min[0] = h.z & 0x3F3F3F3Fu;
    s.scale[1] = (h.w & 0x0F0F0F0Fu) | (h.y >> 2 & 0x30303030u);
    s.min[1] = (h.w >> 4 & 0x0F0F0F0Fu) | (h.z >> 2 & 0x30303030u);
    return s;
  }
  template <int kResults, int kTiles, int kColumns>
  __device__ static void multiply(const Raw (&raw)[kTiles], const Inputs& x, int c,
                                  float (&sum)[kTiles][kColumns][4]) {
    constexpr uint32_t kLow = 0x0F0F0F0Fu;
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      const Raw& w = raw[m];
      const Scales s[2] = {unpack(w.head[0]), unpack(w.head[1])};
      const float2 d[2] = {__half22float2(*reinterpret_cast<const __half2*>(&w.head[0].x)),
                           __half22float2(*reinterpret_cast<const __half2*>(&w.head[1].x))};
      float scaled[kColumns][4] = {}, least[kColumns][4] = {};
#pragma unroll
      for (int group = 0; group < 8; ++group) {
        const uint2 u = w.w[0][group / 2], v = w.w[1][group / 2];
        const int shift = group % 2 * 4;
        const uint32_t a[4] = {u.x >> shift & kLow, v.x >> shift & kLow, u.y >> shift & kLow,
                               v.y >> shift & kLow};
        float scale[2], min[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          scale[i] = static_cast<float>(s[i].scale[group / 4] >> (group % 4 * 8) & 255);
          min[i] = static_cast<float>(s[i].min[group / 4] >> (group % 4 * 8) & 255);
        }
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          const uint2 b = int8_operand(x, n, c + group * 32);
          int whole[4];
          mma_int8(whole, a, b.x, b.y);
#pragma unroll
          for (int i = 0; i < kResults; ++i) {
            const int row = result_row(x, n, i);
            const float dx = x.scales[row * (x.cols / 32) + c / 32 + group];
            const float2 two =
                *reinterpret_cast<const float2*>(x.sums + row * (x.cols / 16) + c / 16 + group * 2);
            const float total = two.x + two.y;
#pragma unroll
            for (int j = 0; j < 2; ++j) {
              scaled[n][2 * j + i] =
                  fmaf(scale[j] * dx, static_cast<float>(whole[2 * j + i]), scaled[n][2 * j + i]);
              least[n][2 * j + i] = fmaf(min[j], total, least[n][2 * j + i]);
            }
          }
        }
      }
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; i += 3 - kResults) {
          sum[m][n][i] += d[i / 2].x * scaled[n][i] - d[i / 2].y * least[n][i];
        }
      }
    }
  }
};

// A warp copies bursts of neighbouring chunks, one while it multiplies another: much of a row at
// once is what the memory is fast at. kUnit chunks that follow each other are one warp's.
constexpr int kUnit = 2;
template <DType T, int kTiles, int kColumns>
constexpr int chunk_bytes() {
  return kTiles * Tile<T>::kSlot + kColumns * Tile<T>::kInputSlot;
}
template <int kTiles, int kColumns>
constexpr int kBurst = kTiles * kColumns >= 8 ? 1 : kUnit;
// Of bursts, as many as fit the shared memory that a block may take.
template <DType T, int kTiles, int kColumns>
constexpr int bursts() {
  constexpr int kBytes = kTiles * kColumns == 1 ? 8 << 10 : kColumns == 8 ? 18 << 10 : 10 << 10;
  return std::max(kBytes / (kBurst<kTiles, kColumns> * chunk_bytes<T, kTiles, kColumns>()), 2);
}

// Shared memory that a block may take on Hopper (CUDA Programming Guide: compute capabilities).
constexpr int kSharedMemory = 227 << 10;
// Rows of inputs that one launch takes.
template <DType T>
constexpr int64_t most_rows() {
  return T == DType::kQ4_K || T == DType::kF8E4M3 ? 32 : 64;
}
// Blocks that an SM is to hold at once. (Of FP8 it has room for two; three were measured to be
// faster.)
template <DType T, int kTiles, int kColumns>
constexpr int blocks_held() {
  if (kTiles * kColumns == 1) return T == DType::kQ4_K ? 2 : 3;
  return kTiles * kColumns <= 4 ? 2 : 1;
}

// kGated: a tile's rows are eight of the gate and the same eight of `up`, and what is written is
// silu(min(gate, limit)) * clamp(up).
template <DType T, int kResults, int kTiles, int kColumns, bool kGated>
__global__ void __launch_bounds__(kThreads, blocks_held<T, kTiles, kColumns>())
    narrow_kernel(GemvArgs a) {
  using P = Tile<T>;
  constexpr int kWide = kColumns * 8 + 1;    // one more: sums are read across
  constexpr int kOutputs = kGated ? 8 : 16;  // of a tile
  constexpr int kBursts = bursts<T, kTiles, kColumns>();
  constexpr int kChunks = kBurst<kTiles, kColumns>, kSlots = kBursts * kChunks;
  constexpr int kChunkBytes = chunk_bytes<T, kTiles, kColumns>();
  extern __shared__ __align__(16) uint8_t memory[];  // the warps' slots, then the sums
  using Sums = float[2][kWarps][16][kWide];
  Sums& parts = *reinterpret_cast<Sums*>(memory + kWarps * kSlots * kChunkBytes);
  let_next_begin();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  uint8_t* const slots = memory + warp * kSlots * kChunkBytes;
  Inputs x{.rounded = a.rounded,
           .q = a.q,
           .scales = a.q_scales,
           .sums = a.q_sums,
           .cols = static_cast<int>(a.x.cols),
           .rows = static_cast<int>(a.rows),
           .g = lane / 4,
           .t = lane % 4};
  int64_t out_row = 0;
  const DeviceExpert* expert = nullptr;
  if (a.experts != nullptr) {  // one row: a token's choice of expert
    wait_for_others();
    out_row = blockIdx.y;
    const int64_t k = a.ids.cols;
    expert = &a.experts[a.ids.row(out_row / k)[out_row % k]];
    const int64_t row = kGated ? out_row / k : out_row;
    x.rows = 1;
    if (P::kInt8) {
      x.q += row * a.x.cols;
      x.scales += row * (a.x.cols / 32);
      x.sums += row * (a.x.cols / 16);
    } else {
      x.rounded += row * a.x.cols;
    }
  }
  // A group of tiles: its part, and its first output there.
  struct Place {
    int part = 0;
    int64_t first = 0;
  };
  const auto place_of = [&](unsigned group) {
    Place p;
    if constexpr (!kGated)
      while (p.part + 1 < a.num_parts && group >= a.parts[p.part].blocks)
        group -= a.parts[p.part++].blocks;
    p.first = static_cast<int64_t>(group) * kTiles * kOutputs;
    return p;
  };
  const auto weight_of = [&](int part, bool second) -> const DeviceWeight& {
    if (expert == nullptr) return a.parts[kGated && second ? 1 : part].weight;
    return !kGated ? expert->down : second ? expert->up : expert->gate;
  };
  typename P::Row rows[kTiles][2];
  const auto go_to = [&](unsigned group) {
    const Place p = place_of(group);
    const DeviceWeight &u = weight_of(p.part, false), &v = weight_of(p.part, true);
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      const int64_t first = p.first + m * kOutputs + x.g, last = u.rows - 1;
      rows[m][0] = typename P::Row(u, min(first, last), x.t);
      rows[m][1] = typename P::Row(v, min(kGated ? first : first + 8, last), x.t);
    }
  };
  // This warp's chunks, in order.
  const int chunks = static_cast<int>(a.x.cols / P::kChunk);
  const int units = (chunks + kUnit - 1) / kUnit;
  int count = (units - warp + kWarps - 1) / kWarps * kUnit;
  if ((units - 1) % kWarps == warp) count -= units * kUnit - chunks;
  const auto chunk_of = [&](int i) { return (i / kUnit * kWarps + warp) * kUnit + i % kUnit; };
  // What load() wants to know beside: of FP8 how many chunks have one scale.
  int more = x.t;
  if constexpr (T == DType::kF8E4M3)
    more = static_cast<int>(weight_of(0, false).scale_block_cols / P::kChunk);
  // The next burst to copy, over all groups of this block.
  unsigned load_group = blockIdx.x;
  int load_at = 0, load_slot = 0;
  go_to(load_group);
  bool inputs_ready = false;
  const auto load_next = [&] {
    while (load_at >= count && load_group < a.groups) {
      load_at = 0;
      load_group += gridDim.x;
      if (load_group < a.groups) go_to(load_group);
    }
    if (load_group < a.groups) {
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        if (load_at + i >= count) break;
        uint8_t* const to = slots + (load_slot + i) * kChunkBytes;
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
          P::load(rows[m], chunk_of(load_at + i), more, to + m * P::kSlot);
        if constexpr (P::kInputSlot > 0) {
          if (inputs_ready) {
#pragma unroll
            for (int n = 0; n < kColumns; ++n)
              P::load_inputs(x, n, chunk_of(load_at + i), to + kTiles * P::kSlot);
          }
        }
      }
      load_at += kChunks;
    }
    commit_copies();
    load_slot = load_slot + kChunks == kSlots ? 0 : load_slot + kChunks;
  };
#pragma unroll 1
  for (int i = 0; i < kBursts; ++i) load_next();
  // Weights wait for nobody; the inputs do.
  if (a.experts == nullptr) wait_for_others();
  if constexpr (P::kInputSlot > 0) {  // those of the bursts above
    inputs_ready = true;
    int start = 0;
    unsigned group = blockIdx.x;
#pragma unroll 1
    for (int i = 0; i < kBursts; ++i, start += kChunks) {
      if (start >= count) start = 0, group += gridDim.x;
      for (int j = 0; j < kChunks && start + j < count && group < a.groups; ++j) {
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          P::load_inputs(x, n, chunk_of(start + j),
                         slots + (i * kChunks + j) * kChunkBytes + kTiles * P::kSlot);
        }
      }
      commit_copies();
    }
  }
  int slot = 0, turn = 0;
#pragma unroll 1
  for (unsigned group = blockIdx.x; group < a.groups; group += gridDim.x) {
    const Place place = place_of(group);
    const GemvPart& to = a.parts[place.part];
    const DeviceWeight& w = weight_of(place.part, false);
    float sum[kTiles][kColumns][4] = {};
#pragma unroll 1
    for (int at = 0; at < count; at += kChunks) {
      wait_copies<kBursts - 1>();
      __syncwarp();  // some read what their neighbours copied
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        if (at + i >= count) break;
        const int chunk = chunk_of(at + i);
        typename P::Raw raw[kTiles];
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          raw[m] = P::read(x.t, slots + (slot + i) * kChunkBytes + m * P::kSlot);
        }
        x.slot = slots + (slot + i) * kChunkBytes + kTiles * P::kSlot;
        P::template multiply<kResults>(raw, x, chunk * P::kChunk, sum);
      }
      __syncwarp();
      load_next();
      slot = slot + kChunks == kSlots ? 0 : slot + kChunks;
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      // Two in turn: the other may still be read.
      float(&own)[kWarps][16][kWide] = parts[turn];
      turn ^= 1;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          own[warp][x.g + i / 2 * 8][n * 8 + 2 * x.t + i % 2] = sum[m][n][i];
      }
      __syncthreads();
      const auto total = [&](int row, int column) {
        float v = 0;
#pragma unroll
        for (int i = 0; i < kWarps; ++i) v += own[i][row][column];
        return v;
      };
      for (int i = static_cast<int>(threadIdx.x); i < kOutputs * x.rows; i += kThreads) {
        const int r = i / kOutputs, n = i % kOutputs;
        const int64_t column = place.first + m * kOutputs + n;
        if (column >= w.rows) continue;
        float v = total(n, r) + (to.bias != nullptr ? to.bias[column] : 0.0f);
        if constexpr (kGated) {
          const float* bias = a.parts[1].bias;
          const float up = total(n + 8, r) + (bias != nullptr ? bias[column] : 0.0f);
          v = silu(fminf(v, a.limit)) * fminf(fmaxf(up, -a.limit), a.limit);
        }
        if (to.out.data != nullptr) to.out.row(out_row + r)[column] = v;
        if (to.rounded != nullptr) {
          reinterpret_cast<__nv_bfloat16*>(to.rounded)[(out_row + r) * w.rows + column] =
              __float2bfloat16_rn(v);
        }
      }
    }
  }
}

// Multiprocessors of the first device asked; a number of blocks changes no bit.
unsigned multiprocessors() {
  static const unsigned count = [] {
    int device = 0, n = 1;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device);
    return static_cast<unsigned>(n);
  }();
  return count;
}

template <DType T, int kResults, int kTiles, int kColumns, bool kGated>
void launch_tiles(GemvArgs a, unsigned tall, cudaStream_t stream) {
  unsigned blocks = 0;
  for (int i = 0; i < a.num_parts; ++i) {
    GemvPart& p = a.parts[i];
    p.blocks = blocks_for(p.weight.rows, kTiles * (kGated ? 8 : 16));
    blocks = kGated ? p.blocks : blocks + p.blocks;
  }
  a.groups = blocks;
  constexpr int kBytes = kWarps * bursts<T, kTiles, kColumns>() * kBurst<kTiles, kColumns> *
                             chunk_bytes<T, kTiles, kColumns>() +
                         2 * kWarps * 16 * (kColumns * 8 + 1) * 4;
  static_assert(kBytes <= kSharedMemory);
  auto* const kernel = narrow_kernel<T, kResults, kTiles, kColumns, kGated>;
  // As many blocks as are held at once; each goes on to the next group, without a pause.
  const unsigned held = blocks_held<T, kTiles, kColumns>() * multiprocessors();
  const unsigned wide = std::max(held / tall, 1u);
  launch_kernel(kernel, dim3(std::min(blocks, wide), tall), kThreads, kBytes, stream, a);
}

template <DType T, bool kGated>
void launch_rows(const GemvArgs& a, cudaStream_t stream) {
  // Fewer tiles a block only where every multiprocessor then has one at most: more would read the
  // inputs more often.
  unsigned small = 0;
  for (int i = 0; i < a.num_parts; ++i)
    small += blocks_for(a.parts[i].weight.rows, kGated ? 16 : 32);
  if (kGated) small /= 2;
  if (a.rows == 1) return launch_tiles<T, 1, 1, 1, kGated>(a, 1, stream);
  if (a.rows <= 8) return launch_tiles<T, 2, 1, 1, kGated>(a, 1, stream);
  if (a.rows <= 16) return launch_tiles<T, 2, 1, 2, kGated>(a, 1, stream);
  if constexpr (T == DType::kQ4_K) {
    launch_tiles<T, 2, 1, 4, kGated>(a, 1, stream);
  } else {
    if (a.rows <= 32) return launch_tiles<T, 2, 2, 4, kGated>(a, 1, stream);
    if constexpr (T == DType::kBF16) {
      if (small > multiprocessors()) return launch_tiles<T, 2, 4, 8, kGated>(a, 1, stream);
    }
    if constexpr (most_rows<T>() == 64) launch_tiles<T, 2, 2, 8, kGated>(a, 1, stream);
  }
}

// Whether a block can have what the widest kernels take of shared memory.
bool has_shared_memory() {
  static const bool enough = [] {
    int device = 0, bytes = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return bytes >= kSharedMemory;
  }();
  return enough;
}

template <DType T, bool kGated>
void launch(const GemvArgs& a, cudaStream_t stream) {
  if (a.experts != nullptr) {
    launch_tiles<T, 1, 1, 1, kGated>(a, static_cast<unsigned>(a.rows), stream);
    return;
  }
  // What is wider takes more shared memory than GPUs other than Hopper and Blackwell have.
  const int64_t most = has_shared_memory() ? most_rows<T>() : T == DType::kF8E4M3 ? 8 : 16;
  for (int64_t first = 0; first < a.rows; first += most) {
    GemvArgs some = a;
    some.rows = std::min(a.rows - first, most);
    if (a.rounded != nullptr) some.rounded += first * a.x.cols;
    if (a.q != nullptr) {
      some.q += first * a.x.cols;
      some.q_scales += first * (a.x.cols / 32);
      some.q_sums += first * (a.x.cols / 16);
    }
    for (int i = 0; i < a.num_parts; ++i) {
      GemvPart& p = some.parts[i];
      if (p.out.data != nullptr) p.out.data = p.out.row(first);
      if (p.rounded != nullptr) p.rounded += first * p.weight.rows;
    }
    launch_rows<T, kGated>(some, stream);
  }
}

template <DType T>
void launch(const GemvArgs& a, cudaStream_t stream) {
  if (a.gated) {
    launch<T, true>(a, stream);
  } else {
    launch<T, false>(a, stream);
  }
}

}  // namespace

bool narrow_takes(const DeviceWeight& w) {
  switch (w.dtype) {
    case DType::kBF16:
      return w.aligned && w.cols % 32 == 0;
    case DType::kF8E4M3:
      return w.aligned && w.cols % 64 == 0 && w.scales != nullptr && w.scale_block_cols % 64 == 0;
    case DType::kQ8_0:
      return w.cols % 64 == 0;
    case DType::kQ4_K:
      return reinterpret_cast<uintptr_t>(w.data) % 16 == 0;
    default:
      return false;
  }
}

void narrow(const GemvArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  switch (a.parts[0].weight.dtype) {
    case DType::kBF16:
      return launch<DType::kBF16>(a, stream);
    case DType::kF8E4M3:
      return launch<DType::kF8E4M3>(a, stream);
    case DType::kQ8_0:
      return launch<DType::kQ8_0>(a, stream);
    case DType::kQ4_K:
      return launch<DType::kQ4_K>(a, stream);
    default:
      return;
  }
}

}  // namespace fathom::cuda
