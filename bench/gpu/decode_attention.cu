// Attention of one layer for generated rows: checks the tensor core kernel against float64 and
// times it, and the general one. Shape: Qwen2 7B's (28 heads, 4 KV heads of 128), the cache in
// bfloat16. Layers are rotated, so that keys and values come from the device's memory.
//   cmake --build build/cuda --target bench_decode_attention &&
//   build/cuda/bench/gpu/bench_decode_attention
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "backend/cuda/kernels/kernels.h"

namespace fathom::cuda {
namespace {

constexpr int kPageRows = 64;

void check(cudaError_t e) {
  if (e == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(e));
  std::exit(1);
}
template <typename T>
T* allocate(int64_t count) {
  T* p = nullptr;
  check(cudaMalloc(&p, static_cast<std::size_t>(std::max<int64_t>(count, 1)) * sizeof(T)));
  check(cudaMemset(p, 0, static_cast<std::size_t>(std::max<int64_t>(count, 1)) * sizeof(T)));
  return p;
}
template <typename T>
T* upload(const std::vector<T>& v) {
  T* p = allocate<T>(static_cast<int64_t>(v.size()));
  check(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  return p;
}

// In [−1, 1): the same on the host and the device.
__host__ __device__ float noise(uint64_t i) {
  i = (i + 1) * 0x9E3779B97F4A7C15ull;
  i = (i ^ (i >> 31)) * 0xD6E8FEB86659FD93ull;
  return static_cast<float>(static_cast<int32_t>(i >> 32)) * 4.656612873e-10f;
}
__global__ void fill_kernel(__nv_bfloat16* p, int64_t count) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x)
    p[i] = __float2bfloat16(noise(static_cast<uint64_t>(i)));
}

struct Shape {
  int heads = 28, kv_heads = 4, dim = 128;
  std::vector<int> keys;  // of each row
  int row_elements() const { return 2 * kv_heads * dim; }
};

// A cache of some layers for rows of their own sequences, and what both kernels take.
struct Problem {
  Shape shape;
  int64_t layers = 1, layer_elements = 0;
  __nv_bfloat16* cache = nullptr;
  std::vector<float> q;
  std::vector<std::vector<int32_t>> pages;  // of each row
  float *device_q = nullptr, *out = nullptr, *partials = nullptr;
  uint16_t* rounded = nullptr;
  int32_t *arrived = nullptr, *device_pages = nullptr;
  RowInfo* rows = nullptr;

  Problem(const Shape& s, int64_t min_bytes) : shape(s) {
    std::vector<int32_t> table;
    std::vector<RowInfo> infos;
    int32_t count = 0;
    for (const int n : s.keys) count += (n + kPageRows - 1) / kPageRows;
    int32_t next = 0;
    for (const int n : s.keys) {
      infos.push_back({n - 1, static_cast<int32_t>(table.size()), 0});
      pages.emplace_back();
      for (int i = 0; i < (n + kPageRows - 1) / kPageRows; ++i, ++next) {
        const auto page = static_cast<int32_t>(count % 7 != 0 ? int64_t{next} * 7 % count : next);
        table.push_back(page);
        pages.back().push_back(page);
      }
    }
    layer_elements = int64_t{count} * kPageRows * s.row_elements();
    layers = std::clamp<int64_t>(min_bytes / (layer_elements * 2), 1, 640);
    cache = allocate<__nv_bfloat16>(layers * layer_elements);
    fill_kernel<<<1024, 256>>>(cache, layers * layer_elements);
    const auto rows_count = static_cast<int64_t>(s.keys.size());
    const int64_t width = int64_t{s.heads} * s.dim;
    for (int64_t i = 0; i < rows_count * width; ++i)
      q.push_back(3.0f * noise(static_cast<uint64_t>(i) + (uint64_t{1} << 40)));
    device_q = upload(q);
    out = allocate<float>(rows_count * width);
    rounded = allocate<uint16_t>(rows_count * width);
    rows = upload(infos);
    device_pages = upload(table);
    arrived = allocate<int32_t>(rows_count * s.heads);
    const int64_t splits = (*std::max_element(s.keys.begin(), s.keys.end()) + 1024) / 128 + 8;
    partials = allocate<float>(rows_count * s.heads * splits * (4 + s.dim));
  }
  ~Problem() {
    for (void* p :
         {static_cast<void*>(cache), static_cast<void*>(device_q), static_cast<void*>(out),
          static_cast<void*>(partials), static_cast<void*>(rounded), static_cast<void*>(arrived),
          static_cast<void*>(device_pages), static_cast<void*>(rows)})
      cudaFree(p);
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  FlashDecodeArgs args(int64_t layer) const {
    const int64_t count = static_cast<int64_t>(shape.keys.size()),
                  width = int64_t{shape.heads} * shape.dim;
    return {.q = {device_q, count, width, width},
            .out = {out, count, width, width},
            .rounded = rounded,
            .kv = {.data = reinterpret_cast<uint8_t*>(cache + layer * layer_elements),
                   .dtype = DType::kBF16,
                   .page_rows = kPageRows,
                   .row_elements = shape.row_elements(),
                   .page_stride_bytes = int64_t{kPageRows} * shape.row_elements() * 2,
                   .row_bytes = int64_t{shape.row_elements()} * 2},
            .tables = {rows, device_pages},
            .rows = count,
            .heads = shape.heads,
            .kv_heads = shape.kv_heads,
            .head_dim = shape.dim,
            .max_keys = *std::max_element(shape.keys.begin(), shape.keys.end()),
            .scale = 1.0f / std::sqrt(static_cast<float>(shape.dim)),
            .partials = partials,
            .arrived = arrived};
  }
  double bytes() const {
    double sum = 0;
    for (const int n : shape.keys) sum += n;
    return sum * shape.row_elements() * 2;
  }
  std::vector<float> result() const {
    std::vector<float> v(q.size());
    check(cudaDeviceSynchronize());
    check(cudaMemcpy(v.data(), out, v.size() * sizeof(float), cudaMemcpyDeviceToHost));
    return v;
  }
};

using Kernel = std::function<void(const FlashDecodeArgs&, cudaStream_t)>;

void general(const FlashDecodeArgs& a, cudaStream_t stream) {
  attend({.q = a.q,
          .out = a.out,
          .keys = a.kv,
          .tables = a.tables,
          .rows = a.rows,
          .heads = a.heads,
          .kv_heads = a.kv_heads,
          .key_dim = a.head_dim,
          .key_stride = a.head_dim,
          .value_offset = a.kv_heads * a.head_dim,
          .value_dim = a.head_dim,
          .max_keys = a.max_keys,
          .scale = a.scale,
          .partials = a.partials},
         stream);
}

double cached(const Problem& p, std::size_t row, int key, int element) {
  const int64_t page = p.pages[row][static_cast<std::size_t>(key / kPageRows)];
  const int64_t i = (page * kPageRows + key % kPageRows) * p.shape.row_elements() + element;
  return __bfloat162float(__float2bfloat16(noise(static_cast<uint64_t>(i))));
}

// The largest difference from float64 of some heads of some rows, relative to a head's RMS; of
// layer 0.
double error(const Problem& p, const std::vector<float>& out) {
  const Shape& s = p.shape;
  double worst = 0;
  for (std::size_t r = 0; r < s.keys.size(); r += std::max<std::size_t>(s.keys.size() / 6, 1)) {
    for (int h = 0; h < s.heads; h += 3) {
      const int kv = h / (s.heads / s.kv_heads);
      const std::size_t at = (r * static_cast<std::size_t>(s.heads) + static_cast<std::size_t>(h)) *
                             static_cast<std::size_t>(s.dim);
      std::vector<double> score, o(static_cast<std::size_t>(s.dim), 0.0);
      double top = -1e300, sum = 0, squares = 0;
      for (int j = 0; j < s.keys[r]; ++j) {
        double dot = 0;
        for (int c = 0; c < s.dim; ++c)
          dot += p.q[at + static_cast<std::size_t>(c)] * cached(p, r, j, kv * s.dim + c);
        score.push_back(dot / std::sqrt(static_cast<double>(s.dim)));
        top = std::max(top, score.back());
      }
      for (int j = 0; j < s.keys[r]; ++j) {
        const double e = std::exp(score[static_cast<std::size_t>(j)] - top);
        sum += e;
        for (int c = 0; c < s.dim; ++c)
          o[static_cast<std::size_t>(c)] += e * cached(p, r, j, (s.kv_heads + kv) * s.dim + c);
      }
      for (double& x : o) x /= sum, squares += x * x;
      const double rms = std::sqrt(squares / s.dim);
      for (int c = 0; c < s.dim; ++c) {
        const auto i = static_cast<std::size_t>(c);
        const double d = std::fabs(o[i] - out[at + i]) / rms;
        if (!(d <= worst)) worst = d;
      }
    }
  }
  return worst;
}

bool agree(const char* name, const Kernel& kernel) {
  bool good = true;
  const auto one = [&](int heads, int kv_heads, int dim) {
    const Shape shape{
        heads, kv_heads, dim, {1, 15, 16, 17, 63, 64, 255, 256, 257, 511, 512, 513, 1500}};
    const Problem p(shape, 0);
    kernel(p.args(0), nullptr);
    const std::vector<float> all = p.result();
    const double e = error(p, all);
    std::vector<uint16_t> bits(all.size());
    check(cudaMemcpy(bits.data(), p.rounded, bits.size() * 2, cudaMemcpyDeviceToHost));
    int rounded = 0, alone = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const __nv_bfloat16 want = __float2bfloat16(all[i]);
      rounded += std::memcmp(&want, &bits[i], 2) != 0;
    }
    const auto width = static_cast<std::size_t>(heads * dim);
    for (std::size_t r = 0; r < shape.keys.size(); ++r) {  // alone, and with further splits
      FlashDecodeArgs a = p.args(0);
      a.q.data += r * width, a.out.data += r * width, a.tables.rows += r;
      a.rows = 1;
      a.max_keys = (shape.keys[r] + 511) / 512 * 512;
      kernel(a, nullptr);
      const std::vector<float> again = p.result();
      alone += std::memcmp(again.data() + r * width, all.data() + r * width, width * 4) != 0;
    }
    good = good && e < 0.03 && alone == 0;
    std::printf("%s: %d/%d heads of %d: error %.5f, other bits alone: %d, rounded differs: %d\n",
                name, heads, kv_heads, dim, e, alone, rounded);
  };
  one(28, 4, 128);
  one(32, 8, 64);
  one(24, 2, 128);
  one(4, 4, 64);
  return good;
}

double microseconds(const Problem& p, const Kernel& kernel) {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t run = nullptr;
  const int64_t launches = std::max<int64_t>(p.layers, 16);
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int64_t i = 0; i < launches; ++i) kernel(p.args(i % p.layers), stream);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&run, graph, 0));
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  double best = 1e30;
  for (int i = 0; i < 6; ++i) {
    check(cudaEventRecord(begin, stream));
    check(cudaGraphLaunch(run, stream));
    check(cudaEventRecord(end, stream));
    check(cudaEventSynchronize(end));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end));
    best = std::min(best, ms * 1e3 / static_cast<double>(launches));
  }
  cudaGraphExecDestroy(run);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return best;
}

void copy_speed() {
  constexpr int64_t kBytes = int64_t{1} << 30;
  char *from = allocate<char>(kBytes), *to = allocate<char>(kBytes);
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  float best = 1e30f;
  for (int i = 0; i < 5; ++i) {
    check(cudaEventRecord(begin));
    check(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice));
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end));
    best = std::min(best, ms);
  }
  cudaFree(from);
  cudaFree(to);
  std::printf("copy: %.0f GB/s read and written\n", 2e-6 * static_cast<double>(kBytes) / best);
}

int run() {
  std::vector<std::pair<std::string, Kernel>> kernels = {{"general", general},
                                                         {"flash_decode", flash_decode}};
#ifdef TRIAL
  add_trials(kernels);
#endif
  bool good = true;
  for (const auto& [name, kernel] : kernels) good = agree(name.c_str(), kernel) && good;
  copy_speed();
  const auto time = [&](const char* what, std::vector<int> keys) {
    const Problem p({.keys = std::move(keys)}, int64_t{256} << 20);
    for (const auto& [name, kernel] : kernels) {
      const double us = microseconds(p, kernel);
      std::printf("%s, %s: %.2f us, %.0f GB/s\n", what, name.c_str(), us, p.bytes() / us * 1e-3);
    }
  };
  time("64 x 1024", std::vector<int>(64, 1024));
  std::vector<int> mixed;
  for (int i = 0; i < 64; ++i) mixed.push_back(600 + i * 13);
  time("64 x 600 to 1419", mixed);
  time("16 x 1024", std::vector<int>(16, 1024));
  for (const int n : {128, 300, 512, 600, 1024, 4096, 32768})
    time(("1 x " + std::to_string(n)).c_str(), {n});
  std::printf(good ? "good\n" : "WRONG\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace fathom::cuda

int main() { return fathom::cuda::run(); }
