// Attention of one layer on latent rows in bfloat16 (DeepSeek-V2 and V3, absorbed), a generated row
// for each sequence: checks the tensor core kernels against float64, and times them. Shares are of
// what the same GPU copies and multiplies (cuda::Probes).
//   cmake --build build/cuda --target bench_mla_decode && build/cuda/bench/gpu/bench_mla_decode
//   --quick: short contexts
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/probes.h"

namespace fathom::cuda {
namespace {

constexpr int kDim = 576, kValues = 512, kPageRows = 64;

void check(cudaError_t e) {
  if (e == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(e));
  std::exit(1);
}
template <typename T>
T* allocate(std::size_t count) {
  void* p = nullptr;
  check(cudaMalloc(&p, std::max<std::size_t>(count, 1) * sizeof(T)));
  return static_cast<T*>(p);
}
template <typename T>
T* upload(const std::vector<T>& v) {
  T* p = allocate<T>(v.size());
  check(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  return p;
}
float bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float f = 0;
  std::memcpy(&f, &wide, sizeof f);
  return f;
}

// A cache, and queries for rows of their own sequences, keys[i] cached rows each.
struct Problem {
  std::vector<int> keys;
  int heads = 16;
  std::vector<uint16_t> block;  // the cache repeats it: whole pages
  std::vector<float> q;
  std::vector<RowInfo> infos;
  std::vector<int32_t> pages;
  AttendArgs args;

  Problem(std::vector<int> lengths, int head_count) : keys(std::move(lengths)), heads(head_count) {
    std::mt19937 rng(1);
    std::normal_distribution<float> normal(0, 1);
    block.resize(std::size_t{61} * kPageRows * kDim);
    for (uint16_t& b : block) {
      const float v = normal(rng);
      uint32_t bits = 0;
      std::memcpy(&bits, &v, sizeof bits);
      b = static_cast<uint16_t>(bits >> 16);
    }
    int32_t count = 0;
    for (const int n : keys) {
      infos.push_back({.position = n - 1, .table = count});
      count += (n + kPageRows - 1) / kPageRows;
    }
    pages.resize(static_cast<std::size_t>(count));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), rng);
    const auto rows = static_cast<int64_t>(keys.size());
    q.resize(static_cast<std::size_t>(rows * heads * kDim));
    for (float& x : q) x = normal(rng);
    const std::size_t all = pages.size() * kPageRows * kDim;
    auto* cache = allocate<uint16_t>(all);
    for (std::size_t at = 0; at < all; at += block.size())
      check(cudaMemcpy(cache + at, block.data(), std::min(block.size(), all - at) * 2,
                       cudaMemcpyHostToDevice));
    args = {.q = {upload(q), rows, heads * kDim, heads * kDim},
            .out = {allocate<float>(static_cast<std::size_t>(rows * heads * kValues)), rows,
                    heads * kValues, heads * kValues},
            .keys = {.data = reinterpret_cast<uint8_t*>(cache),
                     .dtype = DType::kBF16,
                     .page_rows = kPageRows,
                     .row_elements = kDim,
                     .page_stride_bytes = kPageRows * kDim * 2,
                     .row_bytes = kDim * 2},
            .tables = {upload(infos), upload(pages)},
            .rows = rows,
            .heads = heads,
            .kv_heads = 1,
            .key_dim = kDim,
            .value_dim = kValues,
            .max_keys = *std::max_element(keys.begin(), keys.end()),
            .scale = 0.05f};
    args.partials = allocate<float>(static_cast<std::size_t>(mla_scratch(args)));
  }
  ~Problem() {
    cudaFree(args.q.data);
    cudaFree(args.out.data);
    cudaFree(args.keys.data);
    cudaFree(const_cast<RowInfo*>(args.tables.rows));
    cudaFree(const_cast<int32_t*>(args.tables.pages));
    cudaFree(args.partials);
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  std::vector<float> result() const {
    std::vector<float> out(keys.size() * static_cast<std::size_t>(heads * kValues));
    check(cudaDeviceSynchronize());
    check(
        cudaMemcpy(out.data(), args.out.data, out.size() * sizeof(float), cudaMemcpyDeviceToHost));
    return out;
  }
  const uint16_t* key(std::size_t row, int i) const {
    const auto table = static_cast<std::size_t>(infos[row].table);
    const auto page =
        static_cast<std::size_t>(pages[table + static_cast<std::size_t>(i / kPageRows)]);
    return &block[(page % 61 * kPageRows + static_cast<std::size_t>(i % kPageRows)) * kDim];
  }
};

// The largest difference from float64, relative to a head's RMS.
double error(const Problem& p) {
  const std::vector<float> out = p.result();
  double worst = 0;
  for (std::size_t r = 0; r < p.keys.size(); ++r) {
    for (const int h : {0, p.heads / 2, p.heads - 1}) {
      const std::size_t head = r * static_cast<std::size_t>(p.heads) + static_cast<std::size_t>(h);
      std::vector<double> scores, o(kValues, 0.0);
      double top = -1e300, sum = 0, squares = 0;
      for (int i = 0; i < p.keys[r]; ++i) {
        double dot = 0;
        for (std::size_t c = 0; c < kDim; ++c) dot += p.q[head * kDim + c] * bf16(p.key(r, i)[c]);
        scores.push_back(dot * p.args.scale);
        top = std::max(top, scores.back());
      }
      for (int i = 0; i < p.keys[r]; ++i) {
        const double e = std::exp(scores[static_cast<std::size_t>(i)] - top);
        sum += e;
        for (std::size_t c = 0; c < kValues; ++c) o[c] += e * bf16(p.key(r, i)[c]);
      }
      for (double& x : o) x /= sum, squares += x * x;
      for (std::size_t c = 0; c < kValues; ++c) {
        const double d = std::fabs(o[c] - out[head * kValues + c]) / std::sqrt(squares / kValues);
        if (!(d <= worst)) worst = d;
      }
    }
  }
  return worst;
}

// Seconds of the fastest of some calls.
double seconds(const Problem& p) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  float best = 1e30f;
  for (int i = 0; i < 8; ++i) {
    check(cudaEventRecord(begin));
    mla(p.args, nullptr);
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end));
    if (i > 0) best = std::min(best, ms);
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  return static_cast<double>(best) * 1e-3;
}

int run(bool quick) {
  double copy = 0, matrix = 0;
  {
    auto probes = Probes::create();
    if (!probes.has_value()) {
      std::printf("%s\n", probes.error().message.c_str());
      return 1;
    }
    copy = (*probes)->copy_bytes_per_second();
    matrix = (*probes)->matrix_operations();
  }
  std::printf("copy %.2f TB/s, matrix peak %.0f TFLOP/s\n", copy * 1e-12, matrix * 1e-12);
  bool good = true;
  for (const int heads : {16, 128}) {
    const Problem p({1, 64, 511, 512, 513, 2000, 4097}, heads);
    if (!mla_takes(p.args)) {
      std::printf("mla_takes() says no\n");
      return 1;
    }
    mla(p.args, nullptr);
    const double e = error(p);
    good = good && e < 0.03;
    std::printf("%d heads: error %.5f of the RMS\n", heads, e);
  }
  const std::vector<int> contexts =
      quick ? std::vector<int>{8192} : std::vector<int>{8192, 16384, 32768, 65536};
  for (const int heads : {16, 128}) {
    for (const int keys : contexts) {
      const Problem p(std::vector<int>(64, keys), heads);
      const double s = seconds(p), all = 64.0 * keys;
      std::printf("%d heads, 64 x %d: %.3f ms, %.3f of copy, %.3f of peak\n", heads, keys, s * 1e3,
                  all * kDim * 2 / s / copy, 2.0 * heads * all * (kDim + kValues) / s / matrix);
    }
  }
  std::printf(good ? "good\n" : "WRONG\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace fathom::cuda

int main(int argc, char** argv) {
  return fathom::cuda::run(argc > 1 && std::string_view(argv[1]) == "--quick");
}
