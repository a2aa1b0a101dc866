// Attention on latent rows (DeepSeek-V2, arXiv:2405.04434, section 2.1; absorbed) on the tensor
// cores: 576 bfloat16 values a cached row, which are the key of all heads, and the first 512 its
// value.
//
// A block takes one row of the step, up to 16 or 64 heads, and one split: split_keys() keys that
// follow each other in the row's list of keys. Splits and the tiles within are counted from the
// beginning of the list, and a second kernel joins the splits in order: what is computed for a row
// does not depend on the others.
//
// bench/gpu/mla_decode.cc checks and times it; CudaOps::attend() does not call it yet
// (docs/status.md).
#include "backend/cuda/kernels/keys.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace fathom::cuda {
namespace {

constexpr int kDim = 576, kValues = 512;
constexpr int kChunks = kDim / 8;  // of 16 bytes, of a row
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2e = 1.44269504f;

// The split of a block's row, and where its results go.
struct Split {
  RowInfo info;
  KeyList list;
  int64_t row = 0;
  int head0 = 0, heads = 0;  // of this block
  int index = 0, begin = 0, end = 0;
};
template <int kHeads>
__device__ bool find_split(const AttendArgs& a, int keys, Split& s) {
  const int groups = (a.heads + kHeads - 1) / kHeads;
  s.row = blockIdx.x / groups;
  s.info = a.tables.rows[s.row];
  s.list = key_list(a, s.row, s.info);
  s.head0 = static_cast<int>(blockIdx.x) % groups * kHeads;
  s.heads = min(kHeads, a.heads - s.head0);
  s.index = static_cast<int>(blockIdx.y);
  s.begin = s.index * keys;
  s.end = min(s.list.count, s.begin + keys);
  return s.begin < s.list.count || s.index == 0;
}

// Partials: what was summed [rows, heads, splits, kValues], then [rows, heads, splits] maximum and
// sum. With one split the result itself, as join_kernel has it, to the bit.
struct Target {
  float* values = nullptr;
  float sum = 1;
};
__device__ Target target(const AttendArgs& a, const Split& s, int splits, int h, float top,
                         float sum, bool first_thread) {
  const int64_t head = s.head0 + h;
  if (splits == 1) return {a.out.row(s.row) + head * kValues, sum};
  const int64_t at = (s.row * a.heads + head) * splits + s.index;
  if (first_thread) {
    float* stats = a.partials + a.rows * a.heads * splits * kValues + 2 * at;
    stats[0] = top;
    stats[1] = sum;
  }
  return {a.partials + at * kValues, 1.0f};
}

// Up to 16 heads: a tile of the 16 × 8 × 16 products. Warps take kTile / kWarps keys of a tile each
// for the scores, and kValues / kWarps channels each of the values.
template <int kTileKeys, int kRing, int kWarpCount>
struct Narrow {
  static constexpr int kHeads = 16, kTile = kTileKeys, kStages = kRing, kWarps = kWarpCount;
  static constexpr int kThreads = kWarps * 32;
  // Rows lie 16 bytes more apart than they are wide: ldmatrix then finds no two of its eight rows
  // in the same banks.
  static constexpr int kStride = kDim + 8;
  static constexpr int kScoreStride = kTile + 8;
  __nv_bfloat16 q[kHeads * kStride];
  __nv_bfloat16 keys[kStages][kTile * kStride];
  float scores[kHeads * kScoreStride];
};

// Where the cached row of this lane's key of the tile stands: key warp · kEach + lane.
template <int kEach>
__device__ const uint8_t* lane_row(const AttendArgs& a, const Split& s, int first, int warp,
                                   int lane) {
  const int key = first + warp * kEach + lane % kEach;
  return key_row(a, s.list, s.row, s.info, max(min(key, s.end - 1), 0));
}

template <typename S>
__global__ void __launch_bounds__(S::kThreads) narrow_kernel(AttendArgs a, int splits, int keys) {
  begin_kernel();
  extern __shared__ __align__(1024) unsigned char memory[];
  S& shared = *reinterpret_cast<S*>(memory);
  constexpr int kTile = S::kTile, kStages = S::kStages, kStride = S::kStride;
  constexpr int kEach = kTile / S::kWarps, kChannels = kValues / S::kWarps;
  static_assert(kEach % 8 == 0 && kEach <= 32);
  Split split;
  if (!find_split<S::kHeads>(a, keys, split)) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int tiles = (split.end - split.begin + kTile - 1) / kTile;

  const uint8_t* next_row = lane_row<kEach>(a, split, split.begin, warp, lane);
  const auto load = [&](int n) {  // tile n, by the rows in next_row; finds those of the next
    if (n < tiles) {
      __nv_bfloat16* to = shared.keys[n % kStages] + warp * kEach * kStride;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const auto* row = reinterpret_cast<const uint8_t*>(
            __shfl_sync(0xFFFFFFFFu, reinterpret_cast<unsigned long long>(next_row), j));
#pragma unroll
        for (int c = lane; c < kChunks; c += 32) copy_async(to + j * kStride + c * 8, row + c * 16);
      }
      if (n + 1 < tiles)
        next_row = lane_row<kEach>(a, split, split.begin + (n + 1) * kTile, warp, lane);
    }
    commit_copies();
  };
#pragma unroll
  for (int n = 0; n < kStages - 1; ++n) load(n);
  for (int i = threadIdx.x; i < S::kHeads * kDim / 2; i += S::kThreads) {
    const int h = i / (kDim / 2), c = i % (kDim / 2) * 2;
    const float* from = a.q.row(split.row) + (split.head0 + h) * kDim + c;
    *reinterpret_cast<uint32_t*>(shared.q + h * kStride + c) =
        h < split.heads ? pack(from[0], from[1]) : 0;
  }

  float out[kChannels / 8][4] = {};
  float top[2] = {-kInfinity, -kInfinity}, sum[2] = {};
  const float scale = a.scale * kLog2e;
  for (int n = 0; n < tiles; ++n) {
    wait_copies<kStages - 2>();
    __syncthreads();  // tile n is there, and nobody reads tile n - 1
    load(n + kStages - 1);
    const __nv_bfloat16* tile = shared.keys[n % kStages];
    float score[kEach / 8][2][4] = {};  // of even and of odd steps, added at last
#pragma unroll
    for (int s = 0; s < kDim / 32; ++s) {
      uint32_t q[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        load_matrices(q[i], shared.q + lane % 16 * kStride + (2 * s + i) * 16 + lane / 16 * 8);
#pragma unroll
      for (int j = 0; j < kEach / 8; ++j) {
        uint32_t b[4];
        load_matrices(b,
                      tile + (warp * kEach + j * 8 + lane % 8) * kStride + s * 32 + lane / 8 * 8);
        mma(score[j][0], q[0], b[0], b[1]);
        mma(score[j][1], q[1], b[2], b[3]);
      }
    }
#pragma unroll
    for (int j = 0; j < kEach / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float* to = shared.scores + (g + 8 * i) * S::kScoreStride + warp * kEach + j * 8 + 2 * t;
        *reinterpret_cast<float2*>(to) =
            float2{(score[j][0][2 * i] + score[j][1][2 * i]) * scale,
                   (score[j][0][2 * i + 1] + score[j][1][2 * i + 1]) * scale};
      }
    }
    __syncthreads();
    // Every warp makes all probabilities, as the product with its channels takes them.
    const int left = split.end - split.begin - n * kTile;
    float p[kTile / 16][8];  // [0, 4): row g, the rest row g + 8; columns 2t, 2t + 1 and 8 on
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float best = top[i];
#pragma unroll
      for (int j = 0; j < kTile / 8; ++j) {
        const int c = j * 8 + 2 * t;
        const float2 two =
            *reinterpret_cast<const float2*>(shared.scores + (g + 8 * i) * S::kScoreStride + c);
        float* v = p[j / 2] + 4 * i + j % 2 * 2;
        v[0] = c < left ? two.x : -kInfinity;
        v[1] = c + 1 < left ? two.y : -kInfinity;
        best = fmaxf(best, fmaxf(v[0], v[1]));
      }
      best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, 2));
      const float shrink = exp2f(top[i] - best);  // 0 for the first tile, else finite
      top[i] = best;
      float total = 0;
#pragma unroll
      for (int j = 0; j < kTile / 16; ++j) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          p[j][4 * i + c] = exp2f(p[j][4 * i + c] - best);
          total += p[j][4 * i + c];
        }
      }
      total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
      total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
      sum[i] = sum[i] * shrink + total;
#pragma unroll
      for (int d = 0; d < kChannels / 8; ++d) {
        out[d][2 * i] *= shrink;
        out[d][2 * i + 1] *= shrink;
      }
    }
#pragma unroll
    for (int j = 0; j < kTile / 16; ++j) {
      const uint32_t two[4] = {pack(p[j][0], p[j][1]), pack(p[j][4], p[j][5]),
                               pack(p[j][2], p[j][3]), pack(p[j][6], p[j][7])};
#pragma unroll
      for (int d = 0; d < kChannels / 16; ++d) {
        uint32_t b[4];  // keys 16j…, their second half; then 8 channels on
        load_transposed(b, tile + (j * 16 + lane / 8 % 2 * 8 + lane % 8) * kStride +
                               warp * kChannels + d * 16 + lane / 16 * 8);
        mma(out[2 * d], two, b[0], b[1]);
        mma(out[2 * d + 1], two, b[2], b[3]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int h = g + 8 * i;
    if (h >= split.heads) continue;
    const Target to = target(a, split, splits, h, top[i], sum[i], warp == 0 && t == 0);
#pragma unroll
    for (int d = 0; d < kChannels / 8; ++d) {
      *reinterpret_cast<float2*>(to.values + warp * kChannels + d * 8 + 2 * t) =
          float2{out[d][2 * i] / to.sum, out[d][2 * i + 1] / to.sum};
    }
  }
}

// More heads, on Hopper: 64 of them a tile of the products of a warpgroup (PTX ISA: wgmma). The
// first of two warpgroups makes the scores of a tile of 64 keys, then each sums half of the
// channels of the values.
//
// Operands lie in panels of 64 columns, 128 bytes a row, the 16 byte pieces of row r exchanged by
// r % 8 (PTX ISA: 128-byte swizzle); a panel begins at a multiple of 1024 bytes.
constexpr int kWideHeads = 64, kWideThreads = 256;
[[maybe_unused]] constexpr int kWideTile = 64;
struct Wide {
  static constexpr int kPanel = 64 * 64;
  __nv_bfloat16 q[kDim / 64][kPanel];
  __nv_bfloat16 keys[2][kDim / 64][kPanel];
  __nv_bfloat16 p[kPanel];
  float shrink[kWideHeads], top[kWideHeads], sum[kWideHeads];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// A matrix in shared memory, by 8 rows to 1024 bytes. `panels`: bytes from one panel of 64 columns
// to the next, where a product takes several.
__device__ uint64_t matrix(const void* shared, uint32_t panels) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  return uint64_t{(address & 0x3FFFF) >> 4} | uint64_t{panels >> 4} << 16 |
         uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
__device__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// c [64, 64] (+)= a [64, 16] · b [64, 16]ᵀ. Thread 4g + t of warp w holds rows 16w + g (c[4j],
// c[4j + 1]) and 8 on, columns 8j + 2t, 8j + 2t + 1.
__device__ void product_64(float (&c)[32], uint64_t a, uint64_t b, int add) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,"
      "%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, "
      "p, 1, 1, 0, 0;}\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),
        "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]),
        "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]),
        "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]),
        "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31])
      : "l"(a), "l"(b), "r"(add));
}
// c [64, 256] += a [64, 16] · b [16, 256]
__device__ void product_256(float (&c)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
      "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
      "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
      "}, %128, %129, 1, 1, 1, 0, 1;\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),
        "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]),
        "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]),
        "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]),
        "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]), "+f"(c[33]), "+f"(c[34]),
        "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]), "+f"(c[41]),
        "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
        "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]),
        "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]),
        "+f"(c[63]), "+f"(c[64]), "+f"(c[65]), "+f"(c[66]), "+f"(c[67]), "+f"(c[68]), "+f"(c[69]),
        "+f"(c[70]), "+f"(c[71]), "+f"(c[72]), "+f"(c[73]), "+f"(c[74]), "+f"(c[75]), "+f"(c[76]),
        "+f"(c[77]), "+f"(c[78]), "+f"(c[79]), "+f"(c[80]), "+f"(c[81]), "+f"(c[82]), "+f"(c[83]),
        "+f"(c[84]), "+f"(c[85]), "+f"(c[86]), "+f"(c[87]), "+f"(c[88]), "+f"(c[89]), "+f"(c[90]),
        "+f"(c[91]), "+f"(c[92]), "+f"(c[93]), "+f"(c[94]), "+f"(c[95]), "+f"(c[96]), "+f"(c[97]),
        "+f"(c[98]), "+f"(c[99]), "+f"(c[100]), "+f"(c[101]), "+f"(c[102]), "+f"(c[103]),
        "+f"(c[104]), "+f"(c[105]), "+f"(c[106]), "+f"(c[107]), "+f"(c[108]), "+f"(c[109]),
        "+f"(c[110]), "+f"(c[111]), "+f"(c[112]), "+f"(c[113]), "+f"(c[114]), "+f"(c[115]),
        "+f"(c[116]), "+f"(c[117]), "+f"(c[118]), "+f"(c[119]), "+f"(c[120]), "+f"(c[121]),
        "+f"(c[122]), "+f"(c[123]), "+f"(c[124]), "+f"(c[125]), "+f"(c[126]), "+f"(c[127])
      : "l"(a), "l"(b));
}
#endif

__global__ void __launch_bounds__(kWideThreads, 1) wide_kernel(AttendArgs a, int splits, int keys) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  begin_kernel();
  extern __shared__ __align__(1024) unsigned char memory[];
  Wide& shared = *reinterpret_cast<Wide*>(memory);
  Split split;
  if (!find_split<kWideHeads>(a, keys, split)) return;
  constexpr int kEach = kWideTile / 4;  // keys that a warp of the second warpgroup loads
  const int group = threadIdx.x / 128, warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
  const int g = lane / 4, t = lane % 4;
  const int tiles = (split.end - split.begin + kWideTile - 1) / kWideTile;

  const uint8_t* next_row = lane_row<kEach>(a, split, split.begin, warp, lane);
  const auto load = [&](int n) {
    if (n >= tiles) return;
    __nv_bfloat16(*to)[Wide::kPanel] = shared.keys[n % 2];
#pragma unroll 4
    for (int j = 0; j < kEach; ++j) {
      const auto* row = reinterpret_cast<const uint8_t*>(
          __shfl_sync(0xFFFFFFFFu, reinterpret_cast<unsigned long long>(next_row), j));
      const int r = warp * kEach + j;
#pragma unroll
      for (int c = lane; c < kChunks; c += 32)
        copy_async(to[c / 8] + r * 64 + (c % 8 ^ r % 8) * 8, row + c * 16);
    }
    commit_copies();
    if (n + 1 < tiles)
      next_row = lane_row<kEach>(a, split, split.begin + (n + 1) * kWideTile, warp, lane);
  };
  if (group == 1) load(0);
  for (int i = threadIdx.x; i < kWideHeads * kChunks; i += kWideThreads) {
    const int h = i / kChunks, c = i % kChunks;
    uint4 eight{};
    if (h < split.heads) {
      const auto* from =
          reinterpret_cast<const float4*>(a.q.row(split.row) + (split.head0 + h) * kDim + c * 8);
      const float4 low = from[0], high = from[1];
      eight = {pack(low.x, low.y), pack(low.z, low.w), pack(high.x, high.y), pack(high.z, high.w)};
    }
    *reinterpret_cast<uint4*>(shared.q[c / 8] + h * 64 + (c % 8 ^ h % 8) * 8) = eight;
  }

  float out[128] = {};
  float top[2] = {-kInfinity, -kInfinity}, sum[2] = {};
  const int rows[2] = {warp * 16 + g, warp * 16 + g + 8};
  const float scale = a.scale * kLog2e;
  for (int n = 0; n < tiles; ++n) {
    wait_copies<0>();
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();  // tile n is there, and nobody reads tile n - 1
    __nv_bfloat16(*tile)[Wide::kPanel] = shared.keys[n % 2];
    if (group == 1) {
      load(n + 1);
    } else {
      float score[32];
      begin_products();
#pragma unroll
      for (int s = 0; s < kDim / 16; ++s) {
        product_64(score, matrix(shared.q[s / 4] + s % 4 * 16, 16),
                   matrix(tile[s / 4] + s % 4 * 16, 16), s > 0);
      }
      end_products();
      const int left = split.end - split.begin - n * kWideTile;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float best = top[i];
#pragma unroll
        for (int j = 0; j < 16; ++j) {
          float& v = score[j / 2 * 4 + 2 * i + j % 2];
          v = j / 2 * 8 + 2 * t + j % 2 < left ? v * scale : -kInfinity;
          best = fmaxf(best, v);
        }
        best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, 1));
        best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, 2));
        const float shrink = exp2f(top[i] - best);  // 0 for the first tile, else finite
        top[i] = best;
        float total = 0;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float* v = score + j * 4 + 2 * i;
          v[0] = exp2f(v[0] - best);
          v[1] = exp2f(v[1] - best);
          total += v[0] + v[1];
          *reinterpret_cast<uint32_t*>(shared.p + rows[i] * 64 + (j ^ rows[i] % 8) * 8 + 2 * t) =
              pack(v[0], v[1]);
        }
        total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
        total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
        sum[i] = sum[i] * shrink + total;
        if (t == 0) shared.shrink[rows[i]] = shrink;
      }
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    const float shrink[2] = {shared.shrink[rows[0]], shared.shrink[rows[1]]};
    if (__any_sync(0xFFFFFFFFu, shrink[0] != 1 || shrink[1] != 1)) {
#pragma unroll
      for (int i = 0; i < 128; ++i) out[i] *= shrink[i / 2 % 2];
    }
    begin_products();
#pragma unroll
    for (int s = 0; s < kWideTile / 16; ++s) {
      product_256(out, matrix(shared.p + s * 16, 16),
                  matrix(tile[group * 4] + s * 16 * 64, Wide::kPanel * 2));
    }
    end_products();
  }
  if (group == 0 && t == 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      shared.top[rows[i]] = top[i];
      shared.sum[rows[i]] = sum[i];
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (rows[i] >= split.heads) continue;
    const Target to = target(a, split, splits, rows[i], shared.top[rows[i]], shared.sum[rows[i]],
                             group == 0 && t == 0);
#pragma unroll
    for (int j = 0; j < 32; ++j) {
      *reinterpret_cast<float2*>(to.values + group * 256 + j * 8 + 2 * t) =
          float2{out[4 * j + 2 * i] / to.sum, out[4 * j + 2 * i + 1] / to.sum};
    }
  }
#endif
}

// A block a row and head; a thread four channels.
constexpr int kJoinThreads = kValues / 4;
__global__ void __launch_bounds__(kJoinThreads) join_kernel(AttendArgs a, int splits, int keys) {
  begin_kernel();
  __shared__ float weights[kJoinThreads];
  const int64_t r = blockIdx.x;
  const int h = blockIdx.y;
  const int count = key_list(a, r, a.tables.rows[r]).count;
  const int own = max((count + keys - 1) / keys, 1);
  const int64_t at = (r * a.heads + h) * splits;
  const auto* stats =
      reinterpret_cast<const float2*>(a.partials + a.rows * a.heads * splits * kValues) + at;
  const auto* from = reinterpret_cast<const float4*>(a.partials + at * kValues);
  float top = -kInfinity;
  for (int s = 0; s < own; ++s) top = fmaxf(top, stats[s].x);
  float sum = 0;
  float4 out{};
  for (int first = 0; first < own; first += kJoinThreads) {
    const int some = min(own - first, kJoinThreads);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < some)
      weights[threadIdx.x] = exp2f(stats[first + threadIdx.x].x - top);
    __syncthreads();
#pragma unroll 4
    for (int s = 0; s < some; ++s) {
      const float weight = weights[s];
      const float4 v = from[(first + s) * kJoinThreads + threadIdx.x];
      sum += stats[first + s].y * weight;
      out.x += v.x * weight;
      out.y += v.y * weight;
      out.z += v.z * weight;
      out.w += v.w * weight;
    }
  }
  reinterpret_cast<float4*>(a.out.row(r) + h * kValues)[threadIdx.x] =
      float4{out.x / sum, out.y / sum, out.z / sum, out.w / sum};
}

bool is_wide(const AttendArgs& a) {
#ifdef FATHOM_CUDA_WGMMA
  static const bool hopper = [] {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return major == 9;
  }();
  return hopper && a.heads > 16;
#else
  (void)a;
  return false;
#endif
}

// Multiples of what a recorded step allows positions to grow (step_recorder.cc).
int split_keys(const AttendArgs& a) { return is_wide(a) ? 2048 : 1024; }
int splits_of(const AttendArgs& a) {
  const int splits = (a.max_keys + split_keys(a) - 1) / split_keys(a);
  return splits > 1 ? splits : 1;
}

template <int kHeads>
void launch(void (*kernel)(AttendArgs, int, int), int threads, std::size_t bytes,
            const AttendArgs& a, int splits, int keys, cudaStream_t stream) {
  const int64_t groups = (a.heads + kHeads - 1) / kHeads;
  const dim3 grid(static_cast<unsigned>(a.rows * groups), static_cast<unsigned>(splits));
  launch_kernel(kernel, grid, threads, bytes, stream, a, splits, keys);
}
template <typename S>
void launch_narrow(const AttendArgs& a, int splits, int keys, cudaStream_t stream) {
  launch<S::kHeads>(narrow_kernel<S>, S::kThreads, sizeof(S), a, splits, keys, stream);
}
void launch_wide(const AttendArgs& a, int splits, int keys, cudaStream_t stream) {
  launch<kWideHeads>(wide_kernel, kWideThreads, sizeof(Wide), a, splits, keys, stream);
}
void join(const AttendArgs& a, int splits, int keys, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(a.rows), static_cast<unsigned>(a.heads));
  launch_kernel(join_kernel, grid, kJoinThreads, 0, stream, a, splits, keys);
}

}  // namespace

bool mla_takes(const AttendArgs& a) {
  const auto even = [](const F32Rows& x) {
    return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride % 4 == 0;
  };
  return a.keys.dtype == DType::kBF16 && a.kv_heads == 1 && a.key_dim == kDim &&
         a.value_dim == kValues && a.value_offset == 0 && a.window.data == nullptr &&
         a.sinks == nullptr && a.keys.row_bytes % 16 == 0 && a.keys.page_stride_bytes % 16 == 0 &&
         reinterpret_cast<uintptr_t>(a.keys.data) % 16 == 0 && even(a.q) && even(a.out);
}

int64_t mla_scratch(const AttendArgs& a) { return a.rows * a.heads * splits_of(a) * (2 + kValues); }

void mla(const AttendArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  const int splits = splits_of(a), keys = split_keys(a);
  if (is_wide(a)) {
    launch_wide(a, splits, keys, stream);
  } else {
    launch_narrow<Narrow<32, 2, 4>>(a, splits, keys, stream);
  }
  if (splits > 1) join(a, splits, keys, stream);
}

}  // namespace fathom::cuda
