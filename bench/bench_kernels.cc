// Speed of the CPU's kernels one by one, on one thread but for `linear`, with the sizes of real
// layers.
//
//   block_dot/TYPE/KERNEL/SHAPE/ROWS   products with block-quantised weights and FP4: every type,
//                                      every instruction set that this machine has
//   dot_rows/TYPE/SHAPE/ROWS           products with float weights and FP4, inputs in float32
//   linear/TYPE/SHAPE/ROWS             a whole product on all physical cores beside the memory's
//                                      read bandwidth; "share" is the one over the other
//   attend/…                           attention over the cache of one sequence
//   quantize_row, rms_norm, silu_mul   element by element
//
// GB/s counts what has to come from memory: weights, or the cache's rows, or inputs and outputs.
// Gop/s counts a multiply-add as two, keys/s a key once for every query. Weights rotate through 128
// MB, so that no cache serves what in a model would come from memory. Run with a filter: all takes
// long.
//   build/bench/bench/bench_kernels --benchmark_filter='block_dot/Q4_K/.*/1$'
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/kernels/attend.h"
#include "backend/cpu/kernels/block_dot.h"
#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/probes/probes.h"
#include "ops/kv_pages.h"
#include "tensor/dtype.h"

namespace fathom::cpu {
namespace {

struct Shape {
  int64_t rows = 0, cols = 0;
};
// Gate and up projections of the 1.5B Qwen2 and of an expert of DeepSeek-V2-Lite; those and the
// down projection of an expert of DeepSeek-V4-Flash.
constexpr Shape kShapes[] = {{.rows = 8960, .cols = 1536}, {.rows = 1408, .cols = 2048}};
constexpr Shape kV4Shapes[] = {{.rows = 2048, .cols = 4096}, {.rows = 4096, .cols = 2048}};
constexpr int64_t kMemoryBytes = int64_t{128} << 20;

std::string shape_name(const Shape& s) { return fmt::format("{}x{}", s.rows, s.cols); }

std::vector<float> random_floats(int64_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& v : out) v = normal(random);
  return out;
}

// Random bytes with the bits `keep`, the others as in `set`.
std::vector<uint64_t> random_words(int64_t bytes, uint64_t keep, uint64_t set) {
  std::mt19937_64 random(2);
  std::vector<uint64_t> out(static_cast<std::size_t>(bytes) / sizeof(uint64_t));
  for (uint64_t& w : out) w = (random() & keep) | set;
  return out;
}

// What weights and caches are views of: bytes that are harmless in every format. 0x2x2x is a half
// of ordinary size, no NaN in FP8, nothing subnormal in F32 or BF16, and 2^-95 and above as an
// exponent.
const std::byte* memory() {
  static const std::vector<uint64_t> words =
      random_words(kMemoryBytes, 0x0F0F0F0F0F0F0F0Fu, 0x2020202020202020u);
  return reinterpret_cast<const std::byte*>(words.data());
}
// The scales of F4_E2M1 in memory(), a byte for 16: 2^-9 and 2^-8.
const uint8_t* memory_exponents() {
  static const std::vector<uint64_t> words =
      random_words(kMemoryBytes / 16, 0x0101010101010101u, 0x7676767676767676u);
  return reinterpret_cast<const uint8_t*>(words.data());
}

double per_second(int64_t each, const benchmark::State& state) {
  return static_cast<double>(each) * static_cast<double>(state.iterations());
}

void count(benchmark::State& state, const char* name, double total) {
  state.counters[name] = benchmark::Counter(total * 1e-9, benchmark::Counter::kIsRate);
}

// Matrices of one type and shape, taken in turn from memory().
class Matrices {
 public:
  Matrices(DType type, const Shape& s)
      : type_(type),
        shape_(s),
        data_(memory()),
        scales_(static_cast<std::size_t>(s.rows / 128 * (s.cols / 128)), 1.0f) {}
  // With the scales of F4_E2M1.
  int64_t bytes() const { return data_bytes() + (type_ == DType::kF4E2M1 ? data_bytes() / 16 : 0); }
  WeightView next() {
    at_ = (at_ + 1) % (kMemoryBytes / data_bytes());
    WeightView w{.data = data_ + at_ * data_bytes(),
                 .dtype = type_,
                 .rows = shape_.rows,
                 .cols = shape_.cols};
    if (type_ == DType::kF4E2M1) w.exponents = memory_exponents() + at_ * data_bytes() / 16;
    if (type_ != DType::kF8E4M3) return w;
    w.scales = scales_.data();
    w.scale_block_rows = w.scale_block_cols = 128;
    w.scale_stride = shape_.cols / 128;
    return w;
  }

 private:
  int64_t data_bytes() const { return shape_.rows * dtype_row_bytes(type_, shape_.cols); }

  DType type_;
  Shape shape_;
  const std::byte* data_;
  std::vector<float> scales_;
  int64_t at_ = 0;
};

// `rows` rows of `cols` floats, one behind another.
class Rows {
 public:
  Rows(int64_t rows, int64_t cols) : data_(random_floats(rows * cols)) {
    for (int64_t i = 0; i < rows; ++i) pointers_.push_back(data_.data() + i * cols);
  }
  float* const* get() const { return pointers_.data(); }
  const float* row(int64_t i) const { return pointers_[static_cast<std::size_t>(i)]; }

 private:
  std::vector<float> data_;
  std::vector<float*> pointers_;
};

class Int8Rows {
 public:
  Int8Rows(int64_t rows, int64_t cols, DType weights = DType::kQ8_0)
      : cols_(cols),
        order_(input_order(weights)),
        q_(static_cast<std::size_t>(rows * cols)),
        scales_(static_cast<std::size_t>(rows * blocks(cols))),
        sums32_(q_.size() / 32),
        sums16_(q_.size() / 16) {
    for (int64_t i = 0; i < rows; ++i)
      views_.push_back({.q = q_.data() + i * cols,
                        .scales = scales_.data() + i * blocks(cols),
                        .sums32 = sums32_.data() + i * cols / 32,
                        .sums16 = sums16_.data() + i * cols / 16});
  }
  void quantize(int64_t row, const float* x) {
    quantize_row(x, cols_, order_, q_.data() + row * cols_, scales_.data() + row * blocks(cols_),
                 sums32_.data() + row * cols_ / 32, sums16_.data() + row * cols_ / 16);
  }
  const Int8Row* get() const { return views_.data(); }

 private:
  static int64_t blocks(int64_t cols) { return (cols + kInputBlock - 1) / kInputBlock; }
  int64_t cols_;
  InputOrder order_;
  std::vector<int8_t> q_;
  std::vector<float> scales_;
  std::vector<int16_t> sums32_, sums16_;
  std::vector<Int8Row> views_;
};

void count_product(benchmark::State& state, const Shape& s, int64_t m, int64_t weight_bytes) {
  count(state, "weights_GB/s", per_second(weight_bytes, state));
  count(state, "Gop/s", per_second(2 * m * s.rows * s.cols, state));
}

void bench_block_dot(benchmark::State& state, BlockDot kernel, DType type, const Shape& s,
                     int64_t m) {
  Matrices weights(type, s);
  const Rows inputs(m, s.cols), y(m, s.rows);
  Int8Rows x(m, s.cols, type);
  for (int64_t i = 0; i < m; ++i) x.quantize(i, inputs.row(i));
  for (auto step : state) {
    const WeightView w = weights.next();
    kernel({.type = type,
            .weights = reinterpret_cast<const uint8_t*>(w.data),
            .exponents = w.exponents,
            .row_bytes = dtype_row_bytes(type, s.cols),
            .cols = s.cols,
            .rows = s.rows,
            .n0 = 0,
            .n1 = s.rows,
            .x = x.get(),
            .m = m,
            .y = y.get()});
    benchmark::ClobberMemory();
  }
  count_product(state, s, m, weights.bytes());
}

void bench_dot_rows(benchmark::State& state, DType type, const Shape& s, int64_t m) {
  Matrices weights(type, s);
  const Rows x(m, s.cols), y(m, s.rows);
  for (auto step : state) {
    dot_rows(x.get(), m, weights.next(), 0, s.rows, y.get());
    benchmark::ClobberMemory();
  }
  count_product(state, s, m, weights.bytes());
}

// What reading the memory takes on all cores, by the probe of `fathom bench`: the best of all
// passes so far, since a shared machine can only make a pass slower.
double read_bandwidth(ThreadPool& pool) {
  static const std::unique_ptr<ReadProbe> probe = [&] {
    auto made = ReadProbe::create(pool);
    if (made) (*made)->measure_all(pool);
    return made ? *std::move(made) : nullptr;
  }();
  static double best = 0;
  if (probe == nullptr) return 0;
  for (const ReadProbe::Sample& s : probe->measure_fastest(pool, 2))
    best = std::max(best, s.bytes_per_second);
  return best;
}

// A whole product on all physical cores, its inputs' conversion included, beside the memory's speed
// in the same run. The product is timed pass by pass and its best pass counts, as the probe's does.
void bench_linear(benchmark::State& state, DType type, const Shape& s, int64_t m) {
  static CpuOps ops;
  static ThreadPool pool(ops.num_threads());
  Matrices weights(type, s);
  const Rows x(m, s.cols), y(m, s.rows);
  const auto view = [m](const Rows& rows, int64_t cols) {
    return TensorView{.data = reinterpret_cast<std::byte*>(rows.get()[0]),
                      .dtype = DType::kF32,
                      .rows = m,
                      .cols = cols,
                      .row_stride = cols};
  };
  const TensorView in = view(x, s.cols), out = view(y, s.rows);
  double read = read_bandwidth(pool);
  // As many products a pass as read the probe's buffer: enough for the memory to show its speed.
  const int64_t products = std::max<int64_t>(1, (int64_t{256} << 20) / weights.bytes());
  double best = 0;
  for (auto step : state) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < products; ++i)
      ops.linear({.x = in, .weight = weights.next(), .bias = {}, .out = out});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::max(best, static_cast<double>(products * weights.bytes()) / took.count());
  }
  read = read_bandwidth(pool);
  state.counters["weights_GB/s"] = best * 1e-9;
  state.counters["read_GB/s"] = read * 1e-9;
  state.counters["share"] = read > 0 ? best / read : 0;
  state.counters["Gop/s"] =
      2e-9 * best * static_cast<double>(m * s.rows * s.cols) / static_cast<double>(weights.bytes());
}

// What one KV head's queries read: `queries` heads over the same keys and values.
// Tokens of a cache page: what the engine uses.
constexpr int64_t kPageTokens = 64;

struct AttendShape {
  const char* name;
  int64_t row_elements, key_dim, value_offset, value_dim;
  int queries;
};
// Qwen2-1.5B: 6 heads share a key and value of 128. DeepSeek's MLA: all heads share the latent and
// the rope key, and the latent is the value.
constexpr AttendShape kAttendShapes[] = {{.name = "gqa128",
                                          .row_elements = 512,
                                          .key_dim = 128,
                                          .value_offset = 256,
                                          .value_dim = 128,
                                          .queries = 6},
                                         {.name = "mla576",
                                          .row_elements = 576,
                                          .key_dim = 576,
                                          .value_offset = 0,
                                          .value_dim = 512,
                                          .queries = 16}};

// A sequence of `keys` tokens in the pages of one layer, their order mixed as after some use.
class Cache {
 public:
  Cache(DType type, const AttendShape& s, int64_t keys) {
    const int64_t pages = keys / kPageTokens;
    const int64_t page_bytes = kPageTokens * dtype_row_bytes(type, s.row_elements);
    for (int64_t i = 0; i < pages; ++i) pages_.push_back(static_cast<int32_t>(i));
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937(3));
    // Read only, whatever the view allows.
    view_ = {.data = const_cast<std::byte*>(memory()),
             .dtype = type,
             .page_rows = kPageTokens,
             .page_stride_bytes = page_bytes,
             .row_elements = s.row_elements};
  }
  const KvPages& view() const { return view_; }
  const std::vector<int32_t>& pages() const { return pages_; }

 private:
  std::vector<int32_t> pages_;
  KvPages view_;
};

// Keys and values that lie over one another are read once.
void count_attention(benchmark::State& state, DType type, const AttendShape& s, int64_t keys,
                     int64_t queries) {
  const bool apart = s.value_offset >= s.key_dim;
  const int64_t elements = apart ? s.key_dim + s.value_dim : s.key_dim;
  count(state, "cache_GB/s", per_second(keys * dtype_row_bytes(type, elements), state));
  state.counters["keys/s"] =
      benchmark::Counter(per_second(keys * queries, state), benchmark::Counter::kIsRate);
}

void bench_attend(benchmark::State& state, DType type, const AttendShape& s, int64_t keys) {
  const Cache cache(type, s, keys);
  const AttendKernel& kernel = attend_kernel({.dtype = type,
                                              .page_tokens = cache.view().page_rows,
                                              .key_dim = s.key_dim,
                                              .value_dim = s.value_dim});
  const Rows q(s.queries, s.key_dim), out(s.queries, s.value_dim);
  std::vector<AttendQuery> queries;
  for (int i = 0; i < s.queries; ++i)
    queries.push_back({.q = q.row(i), .num_keys = keys, .out = out.get()[i]});
  const AttendRows rows{.data = reinterpret_cast<const uint8_t*>(cache.view().data),
                        .pages = cache.pages().data(),
                        .dtype = type,
                        .page_tokens = cache.view().page_rows,
                        .page_stride_bytes = cache.view().page_stride_bytes,
                        .row_bytes = cache.view().row_bytes(),
                        .key_dim = s.key_dim,
                        .value_offset = s.value_offset,
                        .value_dim = s.value_dim};
  struct alignas(64) Line {
    float values[16];
  };
  std::vector<Line> panel(static_cast<std::size_t>(s.key_dim));
  std::vector<Line> memory(2 * static_cast<std::size_t>(s.value_dim + 2));
  const auto state_at = [&](std::size_t i) {
    Line* const first = &memory[i * static_cast<std::size_t>(s.value_dim + 2)];
    return AttendState{first[0].values, first[1].values, first[2].values};
  };
  const AttendState total = state_at(0), next = state_at(1);
  auto* const packed = reinterpret_cast<std::byte*>(panel.data());
  for (auto step : state) {
    kernel.pack(queries.data(), s.queries, s.key_dim, 0.05f, packed);
    for (int64_t begin = 0; begin < keys; begin += kAttendChunk) {
      const AttendState& part = begin == 0 ? total : next;
      kernel.chunk(rows, queries.data(), s.queries, packed, begin,
                   std::min(begin + kAttendChunk, keys), part);
      if (begin > 0) kernel.merge(s.queries, s.value_dim, total, next);
    }
    kernel.finish(queries.data(), s.queries, s.value_dim, total);
    benchmark::ClobberMemory();
  }
  count_attention(state, type, s, keys, s.queries);
}

// Kernels on one row of `cols` elements.
struct RowKernel {
  const char* name;
  int64_t arrays;  // of floats that are read or written
  void (*run)(const Rows& rows, int64_t cols);
};
constexpr RowKernel kRowKernels[] = {
    {"rms_norm", 3,
     [](const Rows& r, int64_t cols) {
       rms_norm_row(r.row(0), r.row(1), cols, 1e-6f, r.get()[2]);
     }},
    // Into a third row, since gates that are multiplied again and again vanish.
    {"silu_mul", 2,
     [](const Rows& r, int64_t cols) {
       std::copy_n(r.row(0), cols, r.get()[2]);
       silu_mul_row(r.get()[2], r.row(1), cols);
     }},
};

void bench_row(benchmark::State& state, const RowKernel& kernel, int64_t cols) {
  const Rows rows(3, cols);
  for (auto step : state) {
    kernel.run(rows, cols);
    benchmark::ClobberMemory();
  }
  count(state, "GB/s", per_second(kernel.arrays * cols * 4, state));
  count(state, "Gelements/s", per_second(cols, state));
}

void bench_quantize(benchmark::State& state, int64_t cols) {
  const Rows x(1, cols);
  Int8Rows out(1, cols);
  for (auto step : state) {
    out.quantize(0, x.row(0));
    benchmark::ClobberMemory();
  }
  count(state, "Gelements/s", per_second(cols, state));
}

template <class F, class... Args>
void add(const std::string& name, F function, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& s) {
    function(s, args...);
  })->Unit(benchmark::kMicrosecond);
}

void register_block_dot(DType type, std::span<const Shape> shapes) {
  for (const BlockDotKernel& kernel : block_dot_kernels())
    for (const Shape& s : shapes)
      for (const int64_t m : {1, 2, 8, 64, 256})
        add(fmt::format("block_dot/{}/{}/{}/{}", dtype_name(type), kernel.name, shape_name(s), m),
            bench_block_dot, kernel.function, type, s, m);
}

void register_dot_rows(DType type, std::span<const Shape> shapes) {
  for (const Shape& s : shapes)
    for (const int64_t m : {1, 8, 64})
      add(fmt::format("dot_rows/{}/{}/{}", dtype_name(type), shape_name(s), m), bench_dot_rows,
          type, s, m);
}

void register_products() {
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                           DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K})
    register_block_dot(type, kShapes);
  for (const DType type : {DType::kF4E2M1, DType::kMXFP4}) register_block_dot(type, kV4Shapes);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3})
    register_dot_rows(type, kShapes);
  for (const DType type : {DType::kF4E2M1, DType::kF8E4M3}) register_dot_rows(type, kV4Shapes);
  for (const DType type : {DType::kF4E2M1, DType::kMXFP4, DType::kF8E4M3, DType::kBF16})
    for (const Shape& s : kV4Shapes)
      for (const int64_t m : {1, 2, 8, 64})
        add(fmt::format("linear/{}/{}/{}", dtype_name(type), shape_name(s), m), bench_linear, type,
            s, m);
}

void register_attention() {
  for (const AttendShape& s : kAttendShapes) {
    for (const int64_t keys : {512, 4096, 16384}) {
      for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0})
        add(fmt::format("attend/{}/{}/{}", s.name, dtype_name(type), keys), bench_attend, type, s,
            keys);
    }
  }
}

void register_rows() {
  for (const int64_t cols : {1408, 1536, 2048, 8960}) {
    for (const RowKernel& kernel : kRowKernels)
      add(fmt::format("{}/{}", kernel.name, cols), bench_row, kernel, cols);
    add(fmt::format("quantize_row/{}", cols), bench_quantize, cols);
  }
}

[[maybe_unused]] const bool registered = [] {
  register_products();
  register_attention();
  register_rows();
  return true;
}();

}  // namespace
}  // namespace fathom::cpu
