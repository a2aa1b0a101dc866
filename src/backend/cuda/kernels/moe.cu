// The choice of experts, and what they compute.
#include "backend/cuda/kernels/decode.cuh"

namespace fathom::cuda {
namespace {

constexpr int kMaxExperts = 1024;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

__device__ float score_of(Scoring scoring, float x) {
  if (scoring == Scoring::kSigmoid) return 1.0f / (1.0f + expf(-x));
  if (scoring == Scoring::kSqrtSoftplus) return sqrtf(fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))));
  return x;
}

// The largest of choice[0, count), the lowest of equals, NaN left out; the whole warp calls it.
__device__ int arg_max(const float* choice, int count) {
  float best = -kInfinity;
  int at = count;
  for (int e = threadIdx.x; e < count; e += 32) {
    if (!isnan(choice[e]) && (at == count || choice[e] > best)) best = choice[e], at = e;
  }
#pragma unroll
  for (int o = 16; o > 0; o /= 2) {
    const float other = __shfl_xor_sync(0xFFFFFFFFu, best, o);
    const int index = __shfl_xor_sync(0xFFFFFFFFu, at, o);
    const bool better =
        index < count && (at == count || other > best || (other == best && index < at));
    if (better) best = other, at = index;
  }
  return min(at, count - 1);  // all are NaN: any will do
}

// Sets the choice of every expert outside the best groups to what the method says.
__device__ void mask_groups(const RouteKernelArgs& a, int experts, float* choice, float* groups) {
  const int lane = threadIdx.x, size = experts / a.num_groups;
  for (int g = lane; g < a.num_groups; g += 32) {
    float first = -kInfinity, second = -kInfinity;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      if (choice[e] > first) {
        second = first;
        first = choice[e];
      } else if (choice[e] > second) {
        second = choice[e];
      }
    }
    groups[g] = a.groups == Groups::kTop2Sum && size > 1 ? first + second : first;
  }
  __syncwarp();
  uint32_t kept[kMaxExperts / 32] = {};
  for (int i = 0; i < a.groups_per_token; ++i) {
    const int g = arg_max(groups, a.num_groups);
    kept[g / 32] |= 1u << (g % 32);
    __syncwarp();
    // Nothing is below minus infinity: what is taken is marked by NaN.
    if (lane == 0) groups[g] = __int_as_float(0x7FFFFFFF);
    __syncwarp();
  }
  const float masked = a.groups == Groups::kMax ? 0.0f : -kInfinity;
  for (int e = lane; e < experts; e += 32)
    if ((kept[e / size / 32] >> (e / size % 32) & 1) == 0) choice[e] = masked;
  __syncwarp();
}

__global__ void route_kernel(RouteKernelArgs a) {
  begin_kernel();
  __shared__ float scores[kMaxExperts], choice[kMaxExperts], groups[kMaxExperts];
  const int64_t t = blockIdx.x;
  const int lane = threadIdx.x, experts = static_cast<int>(a.logits.cols);
  const float* logits = a.logits.row(t);
  float max = -kInfinity, sum = 0;
  if (a.scoring == Scoring::kSoftmax) {
    for (int e = lane; e < experts; e += 32) max = fmaxf(max, logits[e]);
    max = warp_max(max);
    for (int e = lane; e < experts; e += 32) sum += scores[e] = expf(logits[e] - max);
    sum = warp_sum(sum);
    for (int e = lane; e < experts; e += 32) scores[e] /= sum;
  } else {
    for (int e = lane; e < experts; e += 32) scores[e] = score_of(a.scoring, logits[e]);
  }
  for (int e = lane; e < experts; e += 32)
    choice[e] = scores[e] + (a.bias != nullptr ? a.bias[e] : 0.0f);
  __syncwarp();
  const int k = static_cast<int>(a.ids.cols);
  int32_t* ids = a.ids.row(t);
  if (a.experts_of_token != nullptr) {
    for (int i = lane; i < k; i += 32)
      ids[i] = a.experts_of_token[static_cast<int64_t>(a.token_ids[t]) * k + i];
  } else {
    if (a.groups != Groups::kNone) mask_groups(a, experts, choice, groups);
    for (int i = 0; i < k; ++i) {
      const int e = arg_max(choice, experts);
      __syncwarp();
      if (lane == 0) {
        ids[i] = e;
        choice[e] = __int_as_float(0x7FFFFFFF);
      }
      __syncwarp();
    }
  }
  __syncwarp();
  if (lane != 0) return;
  float total = 0;
  for (int i = 0; i < k; ++i) total += scores[ids[i]];
  for (int i = 0; i < k; ++i) {
    float w = scores[ids[i]];
    if (a.normalize) w /= total + 1e-20f;
    a.weights.row(t)[i] = w * a.scaling_factor;
  }
}

constexpr int kWarps = 8;

// hidden[pair, n] = silu(min(gate, limit)) * clamp(up): a warp a column.
template <DType T>
__global__ void __launch_bounds__(kWarps * 32) gate_up_kernel(ExpertsArgs a) {
  begin_kernel();
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (n >= a.inner) return;
  const int64_t k = a.ids.cols, pair = blockIdx.y, t = pair / k;
  const DeviceExpert& e = a.experts[a.ids.row(t)[pair % k]];
  const float* x = a.x.row(t);
  const int64_t cols = e.gate.cols;
  float gate = 0, up = 0;
  for (int64_t c = threadIdx.x % 32 * 8; c < cols; c += 256) {
    float g[8], u[8];
    decode8<T>(e.gate, n, c, g);
    decode8<T>(e.up, n, c, u);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float v = c + i < cols ? x[c + i] : 0.0f;
      gate = fmaf(g[i], v, gate);
      up = fmaf(u[i], v, up);
    }
  }
  gate = warp_sum(gate);
  up = warp_sum(up);
  if (threadIdx.x % 32 == 0)
    a.hidden.row(pair)[n] = silu(fminf(gate, a.limit)) * fminf(fmaxf(up, -a.limit), a.limit);
}

// out[t, n] = Σ_k weight · (down · hidden) + shared, in that order.
template <DType T>
__global__ void __launch_bounds__(kWarps * 32) down_kernel(ExpertsArgs a) {
  begin_kernel();
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (n >= a.out.cols) return;
  const int64_t k = a.ids.cols, t = blockIdx.y;
  float total = 0;
  for (int64_t i = 0; i < k; ++i) {
    const DeviceWeight& w = a.experts[a.ids.row(t)[i]].down;
    const float* x = a.hidden.row(t * k + i);
    float sum = 0;
    for (int64_t c = threadIdx.x % 32 * 8; c < a.inner; c += 256) {
      float v[8];
      decode8<T>(w, n, c, v);
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (c + j < a.inner) sum = fmaf(v[j], x[c + j], sum);
    }
    total = fmaf(a.weights.row(t)[i], warp_sum(sum), total);
  }
  if (threadIdx.x % 32 != 0) return;
  a.out.row(t)[n] = a.shared.data != nullptr ? total + a.shared.row(t)[n] : total;
}

}  // namespace

void route(const RouteKernelArgs& a, cudaStream_t stream) {
  if (a.logits.rows == 0) return;
  launch_kernel(route_kernel, static_cast<unsigned>(a.logits.rows), 32, 0, stream, a);
}

void experts(const ExpertsArgs& all, cudaStream_t stream) {
  constexpr int64_t kMost = 65535;
  const int64_t k = all.ids.cols, step = kMost / k;
  for (int64_t first = 0; first < all.x.rows; first += step) {
    ExpertsArgs a = all;
    const int64_t rows = all.x.rows - first < step ? all.x.rows - first : step;
    a.x.data = all.x.row(first);
    a.out.data = all.out.row(first);
    a.ids.data = all.ids.row(first);
    a.weights.data = all.weights.row(first);
    a.hidden.data = all.hidden.row(first * k);
    if (all.shared.data != nullptr) a.shared.data = all.shared.row(first);
    for_weight_type(a.dtype, [&]<DType T>() {
      const dim3 grid(blocks_for(a.inner, kWarps), static_cast<unsigned>(rows * k));
      launch_kernel(gate_up_kernel<T>, grid, kWarps * 32, 0, stream, a);
    });
    for_weight_type(a.down_dtype, [&]<DType T>() {
      const dim3 grid(blocks_for(a.out.cols, kWarps), static_cast<unsigned>(rows));
      launch_kernel(down_kernel<T>, grid, kWarps * 32, 0, stream, a);
    });
  }
}

}  // namespace fathom::cuda
