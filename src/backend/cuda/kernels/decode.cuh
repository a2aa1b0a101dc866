// Eight neighbouring weights, or cached values, as float32. Internal to kernels/.
//
// Block formats: quant/blocks.h; the arithmetic is that of its reference decoder.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "backend/cuda/kernels/kernels.h"

namespace fathom::cuda {

__device__ inline float half_at(const uint8_t* p) {
  return __half2float(__ushort_as_half(*reinterpret_cast<const uint16_t*>(p)));
}
__device__ inline float bf16_bits(uint32_t bits) { return __uint_as_float(bits << 16); }
__device__ inline float fp8_bits(uint8_t bits) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3)));
}
__device__ inline float fp4_bits(uint32_t nibble) {
  // 0 .5 1 1.5 2 3 4 6, doubled so that they are whole numbers
  const uint32_t twice = (0xC8643210u >> ((nibble & 7) * 4)) & 15;
  const float v = 0.5f * static_cast<float>(twice);
  return (nibble & 8) != 0 ? -v : v;
}
__device__ inline float exponent_bits(uint8_t e) {
  if (e == 255) return __int_as_float(0x7FFFFFFF);
  return e == 0 ? __int_as_float(0x00400000) : __int_as_float(static_cast<int>(e) << 23);
}

// One value of types that are stored one by one.
template <DType T>
__device__ inline float value_at(const uint8_t* row, int64_t i) {
  if constexpr (T == DType::kF32) return reinterpret_cast<const float*>(row)[i];
  if constexpr (T == DType::kF16) return __half2float(reinterpret_cast<const __half*>(row)[i]);
  if constexpr (T == DType::kBF16) return bf16_bits(reinterpret_cast<const uint16_t*>(row)[i]);
  if constexpr (T == DType::kF8E4M3) return fp8_bits(row[i]);
  return 0;
}

template <DType T>
__device__ inline void aligned8(const uint8_t* row, int64_t c, float (&v)[8]) {
  if constexpr (T == DType::kF32) {
    const float4* p = reinterpret_cast<const float4*>(row + c * 4);
    const float4 a = p[0], b = p[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  } else if constexpr (T == DType::kF16) {
    const uint4 a = *reinterpret_cast<const uint4*>(row + c * 2);
    const uint32_t w[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 f = __half22float2(*reinterpret_cast<const __half2*>(&w[i]));
      v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
  } else if constexpr (T == DType::kBF16) {
    const uint4 a = *reinterpret_cast<const uint4*>(row + c * 2);
    const uint32_t w[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = __uint_as_float(w[i] << 16);
      v[2 * i + 1] = __uint_as_float(w[i] & 0xFFFF0000u);
    }
  } else if constexpr (T == DType::kF8E4M3) {
    const uint2 a = *reinterpret_cast<const uint2*>(row + c);
    const uint32_t w[2] = {a.x, a.y};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto two = static_cast<__nv_fp8x2_storage_t>(w[i / 2] >> (i % 2 * 16) & 0xFFFF);
      const float2 f = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(two, __NV_E4M3)));
      v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
  }
}

// The 6-bit scale and minimum of 32 weights of a Q4_K or Q5_K block.
__device__ inline void k_scale(const uint8_t* s, int j, int& scale, int& min) {
  if (j < 4) {
    scale = s[j] & 63;
    min = s[j + 4] & 63;
  } else {
    scale = (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
    min = (s[j + 4] >> 4) | (s[j] >> 6 << 4);
  }
}

// Columns [c, c + 8) of row r, c a multiple of 8; those at or behind w.cols are 0.
template <DType T>
__device__ inline void decode8(const DeviceWeight& w, int64_t r, int64_t c, float (&v)[8]) {
  const uint8_t* row = w.row(r);
  if constexpr (T == DType::kF32 || T == DType::kF16 || T == DType::kBF16 || T == DType::kF8E4M3) {
    if (w.aligned) {
      aligned8<T>(row, c, v);
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = c + i < w.cols ? value_at<T>(row, c + i) : 0.0f;
    }
    if constexpr (T == DType::kF8E4M3) {
      if (w.scales != nullptr) {
        const float* s = w.scales + (w.scale_row0 + r) / w.scale_block_rows * w.scale_stride;
        if (w.scale_block_cols % 8 == 0) {
          const float scale = s[c / w.scale_block_cols];
#pragma unroll
          for (int i = 0; i < 8; ++i) v[i] *= scale;
        } else {
          for (int i = 0; i < 8 && c + i < w.cols; ++i) v[i] *= s[(c + i) / w.scale_block_cols];
        }
      }
    }
  } else if constexpr (T == DType::kF4E2M1) {
    const uint32_t q = *reinterpret_cast<const uint32_t*>(row + c / 2);
    const float scale = exponent_bits(w.exponents[r * (w.cols / 32) + c / 32]);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = fp4_bits(q >> (4 * i)) * scale;
  } else if constexpr (T == DType::kQ8_0) {
    const float d = __half2float(w.block_scale(r, c / 32));
    const uint2 two = *reinterpret_cast<const uint2*>(row + c);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t word = i < 4 ? two.x : two.y;
      v[i] = d * static_cast<float>(static_cast<int8_t>(word >> (i % 4 * 8)));
    }
  } else if constexpr (T == DType::kQ4_0 || T == DType::kQ4_1) {
    constexpr bool kMin = T == DType::kQ4_1;
    const uint8_t* b = row + c / 32 * (kMin ? 20 : 16);
    const float d = kMin ? half_at(b) : __half2float(w.block_scale(r, c / 32));
    const float m = kMin ? half_at(b + 2) : 0.0f;
    const uint8_t* q = b + (kMin ? 4 : 0) + c % 16;
    const int shift = c % 32 < 16 ? 0 : 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int n = q[i] >> shift & 15;
      v[i] = kMin ? d * static_cast<float>(n) + m : d * static_cast<float>(n - 8);
    }
  } else if constexpr (T == DType::kQ5_0 || T == DType::kQ5_1) {
    constexpr bool kMin = T == DType::kQ5_1;
    const uint8_t* b = row + c / 32 * (kMin ? 24 : 22);
    const float d = half_at(b);
    const float m = kMin ? half_at(b + 2) : 0.0f;
    const uint8_t* h = b + (kMin ? 4 : 2);
    const uint32_t high = h[0] | h[1] << 8 | h[2] << 16 | static_cast<uint32_t>(h[3]) << 24;
    const uint8_t* q = h + 4 + c % 16;
    const int shift = c % 32 < 16 ? 0 : 4, first = static_cast<int>(c % 32);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int n = (q[i] >> shift & 15) | static_cast<int>(high >> (first + i) & 1) << 4;
      v[i] = kMin ? d * static_cast<float>(n) + m : d * static_cast<float>(n - 16);
    }
  } else if constexpr (T == DType::kMXFP4) {
    const uint8_t* b = row + c / 32 * 17;
    const float d = exponent_bits(b[0]);
    const uint8_t* q = b + 1 + c % 16;
    const int shift = c % 32 < 16 ? 0 : 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = d * fp4_bits(q[i] >> shift & 15);
  } else if constexpr (T == DType::kQ4_K || T == DType::kQ5_K) {
    constexpr bool kFive = T == DType::kQ5_K;
    const uint8_t* b = row + c / 256 * (kFive ? 176 : 144);
    const int at = static_cast<int>(c % 256), group = at / 32;
    int scale, min;
    k_scale(b + 4, group, scale, min);
    const float d = half_at(b) * static_cast<float>(scale);
    const float m = half_at(b + 2) * static_cast<float>(min);
    const uint8_t* q = b + (kFive ? 48 : 16) + group / 2 * 32 + at % 32;
    const uint8_t* h = b + 16 + at % 32;
    const int shift = group % 2 * 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      int n = q[i] >> shift & 15;
      if (kFive) n |= (h[i] >> group & 1) << 4;
      v[i] = d * static_cast<float>(n) - m;
    }
  } else if constexpr (T == DType::kQ6_K) {
    const int64_t block = c / 256;
    const int at = static_cast<int>(c % 256), half = at / 128, in = at % 128, group = in / 32;
    const uint8_t* ql = row + block * 128 + half * 64 + in % 64;
    const uint8_t* qh = w.high + r * (w.cols / 4) + block * 64 + half * 32 + in % 32;
    const auto scale = reinterpret_cast<const int8_t*>(w.sub_scales)[r * (w.cols / 16) + c / 16];
    const float d = __half2float(w.block_scale(r, block)) * static_cast<float>(scale);
    const int low = in < 64 ? 0 : 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int n = (ql[i] >> low & 15) | (qh[i] >> (2 * group) & 3) << 4;
      v[i] = d * static_cast<float>(n - 32);
    }
  } else if constexpr (T == DType::kQ2_K) {
    const uint8_t* b = row + c / 256 * 84;
    const int at = static_cast<int>(c % 256), half = at / 128, group = at % 128 / 32;
    const uint8_t s = b[at / 16];
    const float d = half_at(b + 80) * static_cast<float>(s & 15);
    const float m = half_at(b + 82) * static_cast<float>(s >> 4);
    const uint8_t* q = b + 16 + half * 32 + at % 32;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = d * static_cast<float>(q[i] >> (2 * group) & 3) - m;
  } else if constexpr (T == DType::kQ3_K) {
    const uint8_t* b = row + c / 256 * 110;
    const int at = static_cast<int>(c % 256), half = at / 128, group = at % 128 / 32;
    const uint8_t* s = b + 96;
    const int j = at / 16;
    const int low = (j < 8 ? s[j] : s[j - 8] >> 4) & 15;
    const int scale = (low | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
    const float d = half_at(b + 108) * static_cast<float>(scale);
    const uint8_t* q = b + 32 + half * 32 + at % 32;
    const uint8_t* h = b + at % 32;
    const int bit = half * 4 + group;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int n = (q[i] >> (2 * group) & 3) - ((h[i] >> bit & 1) != 0 ? 0 : 4);
      v[i] = d * static_cast<float>(n);
    }
  }
}

// Calls f.template operator()<T>() for the weight type `t`.
template <typename F>
void for_weight_type(DType t, const F& f) {
  switch (t) {
#define FATHOM_CASE(T)                 \
  case DType::T:                       \
    f.template operator()<DType::T>(); \
    return;
    FATHOM_CASE(kF32)
    FATHOM_CASE(kF16)
    FATHOM_CASE(kBF16)
    FATHOM_CASE(kF8E4M3)
    FATHOM_CASE(kF4E2M1)
    FATHOM_CASE(kQ8_0)
    FATHOM_CASE(kQ4_0)
    FATHOM_CASE(kQ4_1)
    FATHOM_CASE(kQ5_0)
    FATHOM_CASE(kQ5_1)
    FATHOM_CASE(kMXFP4)
    FATHOM_CASE(kQ2_K)
    FATHOM_CASE(kQ3_K)
    FATHOM_CASE(kQ4_K)
    FATHOM_CASE(kQ5_K)
    FATHOM_CASE(kQ6_K)
#undef FATHOM_CASE
    default:
      return;
  }
}

// Where a cached row stands.
__device__ inline uint8_t* cached_row(const DevicePages& kv, const StepTables& t,
                                      const RowInfo& row, int32_t index) {
  const int32_t* table = t.pages + (kv.window ? row.window_table : row.table);
  return kv.data + table[index / kv.page_rows] * kv.page_stride_bytes +
         (index % kv.page_rows) * kv.row_bytes;
}

// Channel i of a cached row.
__device__ inline float cached_value(DType type, const uint8_t* row, int32_t i) {
  switch (type) {
    case DType::kF32:
      return value_at<DType::kF32>(row, i);
    case DType::kF16:
      return value_at<DType::kF16>(row, i);
    case DType::kBF16:
      return value_at<DType::kBF16>(row, i);
    default: {  // Q8_0
      const uint8_t* b = row + i / 32 * 34;
      return half_at(b) * static_cast<float>(static_cast<int8_t>(b[2 + i % 32]));
    }
  }
}

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, o);
  return v;
}
__device__ inline float warp_max(float v) {
#pragma unroll
  for (int o = 16; o > 0; o /= 2) v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, o));
  return v;
}
// Over all threads of the block, of which there are a multiple of 32; every thread gets it.
// `shared`: 32 floats.
__device__ inline float block_sum(float v, float* shared) {
  v = warp_sum(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  float total = 0;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) total += shared[i];
  return total;
}
// Four neighbouring inputs of a row in int8, as quantize_inputs() makes them; i: the first's
// column. Eight neighbouring threads have the 32 of a scale, and all come here.
__device__ inline void quantize_four(const Int8Codes& to, int64_t cols, int64_t r, int64_t i,
                                     float4 v) {
  const unsigned mask = __activemask();
  float top = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int o = 4; o > 0; o /= 2) top = fmaxf(top, __shfl_xor_sync(mask, top, o));
  const float scale = top / 127.0f;
  const auto part = [&](float x) { return scale > 0 ? __float2int_rn(x / scale) : 0; };
  const int q[4] = {part(v.x), part(v.y), part(v.z), part(v.w)};
  *reinterpret_cast<char4*>(to.q + r * cols + i) =
      char4{static_cast<signed char>(q[0]), static_cast<signed char>(q[1]),
            static_cast<signed char>(q[2]), static_cast<signed char>(q[3])};
  int sum = q[0] + q[1] + q[2] + q[3];
#pragma unroll
  for (int o = 2; o > 0; o /= 2) sum += __shfl_xor_sync(mask, sum, o);
  if (i % 32 == 0) to.scales[r * (cols / 32) + i / 32] = scale;
  if (i % 16 == 0) to.sums[r * (cols / 16) + i / 16] = scale * static_cast<float>(sum);
}

__device__ inline float silu(float x) { return x / (1.0f + __expf(-x)); }

// Rounded step by step as written, so that every kernel gives the same bits.
__device__ inline float2 rotate_pair(float u, float v, float cosine, float sine) {
  return {__fmaf_rn(u, cosine, -__fmul_rn(v, sine)), __fmaf_rn(v, cosine, __fmul_rn(u, sine))};
}

// Rotates pair i (of heads · angles' half) of row r and returns where in the row it stands.
struct RopePair {
  int64_t first, second;
  float u, v;
};
__device__ inline RopePair rotate(const RopeKernelArgs& a, int64_t r, int64_t at) {
  const int64_t half = a.angles.cols / 2, h = at / half, i = at % half;
  const float cosine = a.angles.row(r)[i];
  float sine = a.angles.row(r)[half + i];
  if (a.inverse) sine = -sine;
  float* const x = a.x.row(r);
  const int64_t head = h * a.head_dim + a.offset;
  RopePair p{.first = head + (a.pairs ? 2 * i : i),
             .second = head + (a.pairs ? 2 * i + 1 : i + half)};
  const float2 turned = rotate_pair(x[p.first], x[p.second], cosine, sine);
  x[p.first] = p.u = turned.x;
  x[p.second] = p.v = turned.y;
  return p;
}

// Programmatic dependent launch (CUDA Programming Guide): the blocks of a kernel may begin while
// the kernel before it in the stream runs, and wait where they need its results. Every kernel of
// this folder calls both, so that none overtakes more than its predecessor.
__device__ inline void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}
__device__ inline void wait_for_others() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}
__device__ inline void begin_kernel() {
  let_next_begin();
  wait_for_others();
}

template <typename... Params, typename... Args>
void launch_kernel(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
                   cudaStream_t stream, Args&&... args) {
  // What every kernel has without asking (CUDA Programming Guide). Asked for at every launch: it is
  // of the current device alone. Where there is not so much, the launch fails, and is checked.
  constexpr std::size_t kGivenBytes = std::size_t{48} << 10;
  if (shared_bytes > kGivenBytes) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared_bytes));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = launches_early() ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, Params(args)...);
}

inline unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace fathom::cuda
