// Matrix products of few rows: what decoding does, at the speed at which the weights are read.
//
// A block takes four columns of the result and up to eight rows; its threads divide the weights'
// columns, 16 bytes of each of the four a step, so that many loads are under way at once. Which
// thread sums what, and the order in which threads are joined, depend on the weight alone.
//
// Block-quantised weights are multiplied with inputs of int8 (dp4a), each 32 of a row with a scale
// of their own; others with float32.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 4;

__device__ inline uint4 load16(const void* p) {
  return __ldcs(static_cast<const uint4*>(p));  // read once: not worth keeping
}

// What 16 bytes of a row of weights are, and their product with the row's inputs there.
// kStep: weights in them. load: those from column c on. dot: with the inputs of one row.
template <DType T>
struct Piece;

struct FloatInputs {
  using Row = const float*;
  __device__ static Row row(const GemvArgs& a, int64_t r) { return a.x.row(r); }
};

template <>
struct Piece<DType::kF32> : FloatInputs {
  static constexpr int kStep = 4;
  uint4 raw;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c * 4);
  }
  __device__ float dot(Row x, int64_t c) const {
    const float4 v = *reinterpret_cast<const float4*>(x + c);
    return fmaf(__uint_as_float(raw.w), v.w,
                fmaf(__uint_as_float(raw.z), v.z,
                     fmaf(__uint_as_float(raw.y), v.y, __uint_as_float(raw.x) * v.x)));
  }
};

// Two bytes a weight, in pairs.
template <typename Unpack>
__device__ float dot_pairs(const uint4& raw, const float* x, const Unpack& unpack) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
  const float4 v[2] = {reinterpret_cast<const float4*>(x)[0],
                       reinterpret_cast<const float4*>(x)[1]};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float2 a = unpack(words[2 * i]), b = unpack(words[2 * i + 1]);
    sum = fmaf(a.x, v[i].x, sum);
    sum = fmaf(a.y, v[i].y, sum);
    sum = fmaf(b.x, v[i].z, sum);
    sum = fmaf(b.y, v[i].w, sum);
  }
  return sum;
}

template <>
struct Piece<DType::kBF16> : FloatInputs {
  static constexpr int kStep = 8;
  uint4 raw;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c * 2);
  }
  __device__ float dot(Row x, int64_t c) const {
    return dot_pairs(raw, x + c, [](uint32_t two) {
      return float2{__uint_as_float(two << 16), __uint_as_float(two & 0xFFFF0000u)};
    });
  }
};

template <>
struct Piece<DType::kF16> : FloatInputs {
  static constexpr int kStep = 8;
  uint4 raw;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c * 2);
  }
  __device__ float dot(Row x, int64_t c) const {
    return dot_pairs(raw, x + c, [](uint32_t two) {
      return __half22float2(*reinterpret_cast<const __half2*>(&two));
    });
  }
};

template <>
struct Piece<DType::kF8E4M3> : FloatInputs {
  static constexpr int kStep = 16;
  uint4 raw;
  float scale;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c);
    scale = w.scales == nullptr
                ? 1.0f
                : w.scales[(w.scale_row0 + n) / w.scale_block_rows * w.scale_stride +
                           c / w.scale_block_cols];
  }
  __device__ float dot(Row x, int64_t c) const {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 v = reinterpret_cast<const float4*>(x + c)[i];
      const auto low = static_cast<__nv_fp8x2_storage_t>(words[i] & 0xFFFF);
      const auto high = static_cast<__nv_fp8x2_storage_t>(words[i] >> 16);
      const float2 a = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(low, __NV_E4M3)));
      const float2 b = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(high, __NV_E4M3)));
      sum = fmaf(a.x, v.x, sum);
      sum = fmaf(a.y, v.y, sum);
      sum = fmaf(b.x, v.z, sum);
      sum = fmaf(b.y, v.w, sum);
    }
    return sum * scale;
  }
};

template <>
struct Piece<DType::kF4E2M1> : FloatInputs {
  static constexpr int kStep = 32;
  uint4 raw;
  float scale;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c / 2);
    scale = exponent_bits(w.exponents[n * (w.cols / 32) + c / 32]);
  }
  __device__ float dot(Row x, int64_t c) const {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float4 v = reinterpret_cast<const float4*>(x + c)[2 * i + j];
        const uint32_t q = words[i] >> (16 * j);
        sum = fmaf(fp4_bits(q), v.x, sum);
        sum = fmaf(fp4_bits(q >> 4), v.y, sum);
        sum = fmaf(fp4_bits(q >> 8), v.z, sum);
        sum = fmaf(fp4_bits(q >> 12), v.w, sum);
      }
    }
    return sum * scale;
  }
};

// Int8 inputs: q, a scale for 32 of them, and scale · Σ q for 16.
struct Int8Inputs {
  struct Row {
    const int8_t* q;
    const float *scales, *sums;
  };
  __device__ static Row row(const GemvArgs& a, int64_t r) {
    const int64_t cols = a.x.cols;
    return {a.q + r * cols, a.q_scales + r * (cols / 32), a.q_sums + r * (cols / 16)};
  }
};

// Σ over 16 weights, one a byte.
__device__ inline int dot16(uint32_t a, uint32_t b, uint32_t c, uint32_t d, const int8_t* x) {
  const int4 v = *reinterpret_cast<const int4*>(x);
  int sum = __dp4a(static_cast<int>(a), v.x, 0);
  sum = __dp4a(static_cast<int>(b), v.y, sum);
  sum = __dp4a(static_cast<int>(c), v.z, sum);
  return __dp4a(static_cast<int>(d), v.w, sum);
}
__device__ inline int dot_low(const uint4& r, const int8_t* x) {
  constexpr uint32_t kLow = 0x0F0F0F0Fu;
  return dot16(r.x & kLow, r.y & kLow, r.z & kLow, r.w & kLow, x);
}
__device__ inline int dot_high(const uint4& r, const int8_t* x) {
  constexpr uint32_t kLow = 0x0F0F0F0Fu;
  return dot16(r.x >> 4 & kLow, r.y >> 4 & kLow, r.z >> 4 & kLow, r.w >> 4 & kLow, x);
}

template <>
struct Piece<DType::kQ8_0> : Int8Inputs {
  static constexpr int kStep = 16;
  uint4 raw;
  float d;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c);
    d = __half2float(w.block_scale(n, c / 32));
  }
  __device__ float dot(const Row& x, int64_t c) const {
    return d * x.scales[c / 32] * static_cast<float>(dot16(raw.x, raw.y, raw.z, raw.w, x.q + c));
  }
};

template <>
struct Piece<DType::kQ4_0> : Int8Inputs {
  static constexpr int kStep = 32;
  uint4 raw;
  float d;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    raw = load16(w.row(n) + c / 2);
    d = __half2float(w.block_scale(n, c / 32));
  }
  __device__ float dot(const Row& x, int64_t c) const {
    const int sum = dot_low(raw, x.q + c) + dot_high(raw, x.q + c + 16);
    const float2 sums = *reinterpret_cast<const float2*>(x.sums + c / 16);
    return d * (x.scales[c / 32] * static_cast<float>(sum) - 8.0f * (sums.x + sums.y));
  }
};

template <>
struct Piece<DType::kQ6_K> : Int8Inputs {
  // 16 bytes of low bits are 16 weights of one quarter of a half block, and those 64 behind.
  static constexpr int kStep = 32;
  uint4 low_bits, high_bits;
  float s0, s1;
  __device__ void load(const DeviceWeight& w, int64_t n, int64_t c) {
    const int64_t block = c / 256;
    const int in = static_cast<int>(c % 256), half = in / 128, quarter = in / 64 % 2;
    const int sixteen = in / 32 % 2;
    const uint8_t* ql = w.row(n) + block * 128;
    const uint8_t* qh = w.high + n * (w.cols / 4) + block * 64;
    low_bits = load16(ql + in / 2);
    high_bits = *reinterpret_cast<const uint4*>(qh + half * 32 + sixteen * 16);
    const auto* scales =
        reinterpret_cast<const int8_t*>(w.sub_scales) + n * (w.cols / 16) + block * 16;
    const float d = __half2float(w.block_scale(n, block));
    const int at = half * 8 + quarter * 2 + sixteen;
    s0 = d * static_cast<float>(scales[at]);
    s1 = d * static_cast<float>(scales[at + 4]);
    const int shift = quarter * 2;  // the bits of both halves, moved to 0–1 and 4–5
    high_bits = {high_bits.x >> shift, high_bits.y >> shift, high_bits.z >> shift,
                 high_bits.w >> shift};
  }
  __device__ static uint32_t join(uint32_t low, uint32_t high) {
    return (low & 0x0F0F0F0Fu) | (high & 0x03030303u) << 4;
  }
  __device__ float dot(const Row& x, int64_t c) const {
    const int in = static_cast<int>(c % 256), half = in / 128, quarter = in / 64 % 2;
    const int64_t at = c - in + half * 128 + quarter * 32 + in / 32 % 2 * 16;
    const uint4 &l = low_bits, &h = high_bits;
    const int a = dot16(join(l.x, h.x), join(l.y, h.y), join(l.z, h.z), join(l.w, h.w), x.q + at);
    const int b = dot16(join(l.x >> 4, h.x >> 4), join(l.y >> 4, h.y >> 4),
                        join(l.z >> 4, h.z >> 4), join(l.w >> 4, h.w >> 4), x.q + at + 64);
    return s0 * (x.scales[at / 32] * static_cast<float>(a) - 32.0f * x.sums[at / 16]) +
           s1 * (x.scales[at / 32 + 2] * static_cast<float>(b) - 32.0f * x.sums[at / 16 + 4]);
  }
};

// kGated: the four columns are two of the gate and the same two of `up`, and what is written is
// silu(min(gate, limit)) * clamp(up).
template <DType T, int kRows, bool kGated>
__global__ void __launch_bounds__(kThreads) gemv_kernel(GemvArgs a) {
  __shared__ float parts[kThreads / 32][kColumns * kRows];
  constexpr int kOutputs = kGated ? kColumns / 2 : kColumns;
  let_next_begin();
  int part = 0;
  unsigned block = blockIdx.x;
  if constexpr (!kGated) {
    while (part + 1 < a.num_parts && block >= a.parts[part].blocks) block -= a.parts[part++].blocks;
  }
  const int64_t n0 = static_cast<int64_t>(block) * kOutputs;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kRows;
  DeviceWeight w[2] = {a.parts[part].weight, a.parts[1].weight};  // the second for kGated alone
  int64_t x_row = first;
  if (a.experts != nullptr) {  // one row a block: a token's choice of expert
    wait_for_others();
    const int64_t k = a.ids.cols;
    const DeviceExpert& e = a.experts[a.ids.row(first / k)[first % k]];
    if (kGated) {
      w[0] = e.gate, w[1] = e.up;
      x_row = first / k;
    } else {
      w[0] = e.down;
    }
  }
  using P = Piece<T>;
  int64_t column[kColumns];
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    const int64_t wanted = n0 + (kGated ? n / 2 : n);
    column[n] = wanted < w[0].rows ? wanted : w[0].rows - 1;
  }
  const int64_t cols = w[0].cols;
  constexpr int64_t kStride = kThreads * P::kStep;
  int64_t c = static_cast<int64_t>(threadIdx.x) * P::kStep;
  P piece[kColumns], next[kColumns];
  const auto load = [&](P(&to)[kColumns], int64_t at) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) to[n].load(w[kGated ? n % 2 : 0], column[n], at);
  };
  if (c < cols) load(piece, c);
  // Weights wait for nobody; the inputs do.
  if (a.experts == nullptr) wait_for_others();
  typename P::Row x[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = P::row(a, first + r < a.rows ? x_row + r : x_row);
  float sum[kColumns][kRows] = {};
  for (; c < cols; c += kStride) {
    if (c + kStride < cols) load(next, c + kStride);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int n = 0; n < kColumns; ++n) sum[n][r] += piece[n].dot(x[r], c);
    }
#pragma unroll
    for (int n = 0; n < kColumns; ++n) piece[n] = next[n];
  }
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float v = warp_sum(sum[n][r]);
      if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32][n * kRows + r] = v;
    }
  }
  __syncthreads();
  if (threadIdx.x >= kOutputs * kRows) return;
  const int n = static_cast<int>(threadIdx.x) / kRows, r = static_cast<int>(threadIdx.x) % kRows;
  if (n0 + n >= w[0].rows || first + r >= a.rows) return;
  const auto total = [&](int slot) {
    float v = 0;
#pragma unroll
    for (int i = 0; i < kThreads / 32; ++i) v += parts[i][slot * kRows + r];
    return v;
  };
  float& out = a.parts[part].out.row(first + r)[n0 + n];
  if constexpr (kGated) {
    float gate = total(2 * n), up = total(2 * n + 1);
    if (a.parts[0].bias != nullptr) gate += a.parts[0].bias[n0 + n];
    if (a.parts[1].bias != nullptr) up += a.parts[1].bias[n0 + n];
    out = silu(fminf(gate, a.limit)) * fminf(fmaxf(up, -a.limit), a.limit);
  } else {
    out = total(n) + (a.parts[part].bias != nullptr ? a.parts[part].bias[n0 + n] : 0.0f);
  }
}

template <DType T, int kRows, bool kGated>
void launch_rows(const GemvArgs& a, int64_t first, int64_t rows, cudaStream_t stream) {
  GemvArgs some = a;
  some.rows = rows;
  if (a.x.data != nullptr) some.x.data = a.x.row(first);
  if (a.q != nullptr) {
    some.q += first * a.x.cols;
    some.q_scales += first * (a.x.cols / 32);
    some.q_sums += first * (a.x.cols / 16);
  }
  unsigned blocks = 0;
  for (int i = 0; i < a.num_parts; ++i) {
    GemvPart& p = some.parts[i];
    if (p.out.data != nullptr) p.out.data = p.out.row(first);
    p.blocks = blocks_for(p.weight.rows, kGated ? kColumns / 2 : kColumns);
    blocks = kGated ? p.blocks : blocks + p.blocks;
  }
  const dim3 grid(blocks, blocks_for(rows, kRows));
  launch_kernel(gemv_kernel<T, kRows, kGated>, grid, kThreads, 0, stream, some);
}

template <DType T, bool kGated>
void launch_gated(const GemvArgs& a, cudaStream_t stream) {
  if (a.experts != nullptr) return launch_rows<T, 1, kGated>(a, 0, a.rows, stream);
  constexpr int64_t kMost = 8 * 65535;
  for (int64_t first = 0; first < a.rows; first += kMost) {
    const int64_t rows = a.rows - first < kMost ? a.rows - first : kMost;
    if (rows == 1) {
      launch_rows<T, 1, kGated>(a, first, rows, stream);
    } else if (rows == 2) {
      launch_rows<T, 2, kGated>(a, first, rows, stream);
    } else if (rows <= 4) {
      launch_rows<T, 4, kGated>(a, first, rows, stream);
    } else {
      launch_rows<T, 8, kGated>(a, first, rows, stream);
    }
  }
}

template <DType T>
void launch(const GemvArgs& a, cudaStream_t stream) {
  if (a.gated) {
    launch_gated<T, true>(a, stream);
  } else {
    launch_gated<T, false>(a, stream);
  }
}

// A warp 32 inputs.
__global__ void quantize_kernel(F32Rows x, int8_t* q, float* scales, float* sums) {
  begin_kernel();
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  const int64_t blocks = x.cols / 32;
  if (warp >= x.rows * blocks) return;
  const int64_t r = warp / blocks, b = warp % blocks;
  const float v = x.row(r)[b * 32 + lane];
  const float scale = warp_max(fabsf(v)) / 127.0f;
  const int i = scale > 0 ? __float2int_rn(v / scale) : 0;
  q[r * x.cols + b * 32 + lane] = static_cast<int8_t>(i);
  int sum = i;
#pragma unroll
  for (int o = 8; o > 0; o /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, o);
  if (lane == 0) scales[warp] = scale;
  if (lane % 16 == 0) sums[warp * 2 + lane / 16] = scale * static_cast<float>(sum);
}

// Σ_k weights[t, k] · parts[t · k…] + shared, in that order.
__global__ void combine_kernel(F32Rows parts, F32Rows weights, F32Rows shared, F32Rows out) {
  begin_kernel();
  const int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x, t = blockIdx.x;
  if (i >= out.cols) return;
  float sum = 0;
  for (int64_t k = 0; k < weights.cols; ++k)
    sum = fmaf(weights.row(t)[k], parts.row(t * weights.cols + k)[i], sum);
  out.row(t)[i] = shared.data != nullptr ? sum + shared.row(t)[i] : sum;
}

}  // namespace

bool gemv_takes_int8(DType type) {
  return type == DType::kQ8_0 || type == DType::kQ4_0 || type == DType::kQ4_K ||
         type == DType::kQ6_K;
}

bool gemv_takes(const DeviceWeight& w) {
  switch (w.dtype) {
    case DType::kF32:
    case DType::kBF16:
    case DType::kF16:
      return w.aligned;
    case DType::kF8E4M3:
      return w.aligned && w.cols % 16 == 0 && (w.scales == nullptr || w.scale_block_cols % 16 == 0);
    case DType::kQ4_K:  // narrow() takes all
      return false;
    case DType::kF4E2M1:
      return w.row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(w.data) % 16 == 0;
    default:
      return gemv_takes_int8(w.dtype);
  }
}

void gemv(const GemvArgs& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  switch (a.parts[0].weight.dtype) {
    case DType::kF32:
      return launch<DType::kF32>(a, stream);
    case DType::kF16:
      return launch<DType::kF16>(a, stream);
    case DType::kBF16:
      return launch<DType::kBF16>(a, stream);
    case DType::kF8E4M3:
      return launch<DType::kF8E4M3>(a, stream);
    case DType::kF4E2M1:
      return launch<DType::kF4E2M1>(a, stream);
    case DType::kQ8_0:
      return launch<DType::kQ8_0>(a, stream);
    case DType::kQ4_0:
      return launch<DType::kQ4_0>(a, stream);
    case DType::kQ6_K:
      return launch<DType::kQ6_K>(a, stream);
    default:
      return;
  }
}

void quantize_inputs(const F32Rows& x, const Int8Codes& out, cudaStream_t stream) {
  if (x.rows == 0) return;
  launch_kernel(quantize_kernel, blocks_for(x.rows * x.cols, 256), 256, 0, stream, x, out.q,
                out.scales, out.sums);
}

void combine_experts(const F32Rows& parts, const F32Rows& weights, const F32Rows& shared,
                     const F32Rows& out, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(out.rows), blocks_for(out.cols, 256));
  launch_kernel(combine_kernel, grid, 256, 0, stream, parts, weights, shared, out);
}

}  // namespace fathom::cuda
