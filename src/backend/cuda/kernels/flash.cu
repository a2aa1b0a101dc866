// Attention of prompt rows on the tensor cores (FlashAttention-2, arXiv:2307.08691): a block takes
// up to 64 rows of one sequence and one head, and goes through the cached keys in tiles of 64.
//
// Tiles are counted from the sequence's first key. A tile that a row does not see leaves the row's
// sums as they are, bit for bit, so that its result does not depend on the rows beside it.
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace fathom::cuda {
namespace {

constexpr int kWarps = 4;
static_assert(16 * kWarps == kFlashRows);
constexpr int kKeys = 64;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows of shared memory lie 16 bytes more apart than they are wide: ldmatrix then finds no two of
// its eight rows in the same banks.
template <int kDim>
struct Tile {
  static constexpr int kStride = kDim + 8;
  __nv_bfloat16 k[kKeys * kStride];
  __nv_bfloat16 v[kKeys * kStride];
};

template <int kDim>
__device__ void load_tile(const FlashArgs& a, const RowInfo& info, int kv_head, int first,
                          int last_key, Tile<kDim>& tile) {
  constexpr int kChunks = kDim / 8;  // of 16 bytes
  const int value0 = a.kv_heads * kDim;
  for (int i = threadIdx.x; i < kKeys * kChunks; i += kWarps * 32) {
    const int j = i / kChunks, c = i % kChunks * 8;
    const auto* row = reinterpret_cast<const __nv_bfloat16*>(
        cached_row(a.kv, a.tables, info, min(first + j, last_key)));
    copy_async(&tile.k[j * Tile<kDim>::kStride + c], row + kv_head * kDim + c);
    copy_async(&tile.v[j * Tile<kDim>::kStride + c], row + value0 + kv_head * kDim + c);
  }
}

template <int kDim>
__global__ void __launch_bounds__(kWarps * 32) flash_kernel(FlashArgs a) {
  begin_kernel();
  extern __shared__ __align__(16) unsigned char memory[];
  auto* tiles = reinterpret_cast<Tile<kDim>*>(memory);
  constexpr int kStride = Tile<kDim>::kStride;
  const FlashTile block = a.tiles[blockIdx.x];
  const int head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const RowInfo info = a.tables.rows[block.first_row];
  const int last_key = info.position + block.rows - 1;
  // This thread's two rows.
  int position[2];
  const float* q_row[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = min(warp * 16 + g + 8 * i, block.rows - 1);
    position[i] = info.position + r;
    q_row[i] = a.q.row(block.first_row + r) + head * kDim;
  }
  uint32_t q[kDim / 16][4];
#pragma unroll
  for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two =
          *reinterpret_cast<const float2*>(q_row[i % 2] + 16 * s + 2 * t + i / 2 * 8);
      q[s][i] = pack(two.x * a.scale, two.y * a.scale);
    }
  }
  float out[kDim / 8][4] = {};
  float top[2] = {-kInfinity, -kInfinity}, sum[2] = {};
  const int count = last_key / kKeys + 1;
  load_tile<kDim>(a, info, kv_head, 0, last_key, tiles[0]);
  commit_copies();
  for (int n = 0; n < count; ++n) {
    if (n + 1 < count)
      load_tile<kDim>(a, info, kv_head, (n + 1) * kKeys, last_key, tiles[(n + 1) % 2]);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const Tile<kDim>& tile = tiles[n % 2];
    float score[kKeys / 8][4] = {};
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
      for (int j = 0; j < kKeys / 16; ++j) {
        uint32_t b[4];  // keys 16j…: first half of the channels, second; then 8 keys on
        load_matrices(
            b, &tile.k[(j * 16 + lane / 16 * 8 + lane % 8) * kStride + s * 16 + lane / 8 % 2 * 8]);
        mma(score[2 * j], q[s], b[0], b[1]);
        mma(score[2 * j + 1], q[s], b[2], b[3]);
      }
    }
    const int first = n * kKeys;
    if (first + kKeys > info.position + 1) {  // some row does not see all of them
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (first + j * 8 + 2 * t + i % 2 > position[i / 2]) score[j][i] = -kInfinity;
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float best = top[i];
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
        best = fmaxf(best, fmaxf(score[j][2 * i], score[j][2 * i + 1]));
      best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xFFFFFFFFu, best, 2));
      const float shrink = __expf(top[i] - best);  // 0 for the first tile, else finite
      top[i] = best;
      float total = 0;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
        score[j][2 * i] = __expf(score[j][2 * i] - best);
        score[j][2 * i + 1] = __expf(score[j][2 * i + 1] - best);
        total += score[j][2 * i] + score[j][2 * i + 1];
      }
      total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
      total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
      sum[i] = sum[i] * shrink + total;
#pragma unroll
      for (int d = 0; d < kDim / 8; ++d) {
        out[d][2 * i] *= shrink;
        out[d][2 * i + 1] *= shrink;
      }
    }
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
      const uint32_t p[4] = {pack(score[2 * j][0], score[2 * j][1]),
                             pack(score[2 * j][2], score[2 * j][3]),
                             pack(score[2 * j + 1][0], score[2 * j + 1][1]),
                             pack(score[2 * j + 1][2], score[2 * j + 1][3])};
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        uint32_t b[4];  // keys 16j…, their second half; then 8 channels on
        load_transposed(
            b, &tile.v[(j * 16 + lane / 8 % 2 * 8 + lane % 8) * kStride + d * 16 + lane / 16 * 8]);
        mma(out[2 * d], p, b[0], b[1]);
        mma(out[2 * d + 1], p, b[2], b[3]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = warp * 16 + g + 8 * i;
    if (r >= block.rows) continue;
    float* to = a.out.row(block.first_row + r) + head * kDim;
    const float scale = 1.0f / sum[i];
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
      *reinterpret_cast<float2*>(to + d * 8 + 2 * t) =
          float2{out[d][2 * i] * scale, out[d][2 * i + 1] * scale};
    }
  }
}

template <int kDim>
void launch(const FlashArgs& a, cudaStream_t stream) {
  constexpr std::size_t kBytes = 2 * sizeof(Tile<kDim>);
  const dim3 grid(static_cast<unsigned>(a.num_tiles), static_cast<unsigned>(a.heads));
  launch_kernel(flash_kernel<kDim>, grid, kWarps * 32, kBytes, stream, a);
}

}  // namespace

bool flash_takes(const DevicePages& kv, int64_t head_dim) {
  return kv.dtype == DType::kBF16 && (head_dim == 64 || head_dim == 128) &&
         kv.row_bytes % 16 == 0 && kv.page_stride_bytes % 16 == 0 &&
         reinterpret_cast<uintptr_t>(kv.data) % 16 == 0;
}

void flash(const FlashArgs& a, cudaStream_t stream) {
  if (a.num_tiles == 0) return;
  if (a.head_dim == 64) {
    launch<64>(a, stream);
  } else {
    launch<128>(a, stream);
  }
}

}  // namespace fathom::cuda
