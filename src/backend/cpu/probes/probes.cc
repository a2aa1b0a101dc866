#include "backend/cpu/probes/probes.h"

#include <fmt/format.h>
#include <sys/mman.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <numeric>

#include "backend/cpu/probes/loops.h"
#include "backend/cpu/topology.h"

namespace fathom::cpu {
namespace {

// What the loops computed: nobody reads it, but the compiler cannot know that.
std::atomic<uint64_t> sink{0};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<ProbeSet> usable_sets() {
  std::vector<ProbeSet> sets = {baseline_probes()};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    sets.push_back(avx2_probes());
  if (__builtin_cpu_supports("avxvnni")) sets.push_back(avxvnni_probes());
  if (avx512) sets.push_back(avx512_probes());
  if (avx512 && __builtin_cpu_supports("avx512vnni")) sets.push_back(avx512vnni_probes());
  if (avx512 && __builtin_cpu_supports("avx512bf16")) sets.push_back(avx512bf16_probes());
#elif defined(__aarch64__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) sets.push_back(neon_probes());
#endif
  return sets;
}

}  // namespace

std::string_view probe_type_name(ProbeType type) {
  switch (type) {
    case ProbeType::kInt8:
      return "int8";
    case ProbeType::kBF16:
      return "bf16";
    case ProbeType::kF32:
      return "f32";
  }
  return "";
}

std::vector<ArithmeticProbe> arithmetic_probes() {
  std::vector<ArithmeticProbe> all;
  for (const ProbeSet& s : usable_sets())
    all.insert(all.end(), s.arithmetic, s.arithmetic + s.num_arithmetic);
  return all;
}

double measure_arithmetic(const ArithmeticProbe& probe, ThreadPool& pool) {
  constexpr double kPassSeconds = 0.01;
  constexpr int kTasksPerThread = 4;
  // A first guess of the iterations that a task's share of the time holds, from a short run.
  constexpr int64_t kTrial = 20'000;
  const auto trial = std::chrono::steady_clock::now();
  sink += static_cast<uint64_t>(probe.run(kTrial) != 0);
  const double per_iteration = std::max(seconds_since(trial), 1e-7) / static_cast<double>(kTrial);
  const auto iterations = static_cast<int64_t>(kPassSeconds / kTasksPerThread / per_iteration) + 1;
  const int64_t tasks = int64_t{kTasksPerThread} * pool.num_threads();
  const auto begin = std::chrono::steady_clock::now();
  pool.parallel_for(
      tasks, [&](int64_t, int) { sink += static_cast<uint64_t>(probe.run(iterations) != 0); });
  return static_cast<double>(tasks * iterations * probe.operations_per_iteration) /
         seconds_since(begin);
}

Result<std::unique_ptr<ReadProbe>> ReadProbe::create(ThreadPool& pool) {
  constexpr int64_t kBuffer = int64_t{1} << 30;
  const int64_t unit = kReadUnit * pool.num_threads();
  const int64_t wanted = std::min(kBuffer, available_memory_bytes() / 2);
  std::unique_ptr<ReadProbe> probe(new ReadProbe);
  probe->bytes_ = std::max<int64_t>(1, (wanted + unit - 1) / unit) * unit;
  void* p = ::mmap(nullptr, static_cast<std::size_t>(probe->bytes_), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    return resource_limit(fmt::format("cannot map {} bytes to measure the memory with: {}",
                                      probe->bytes_, std::strerror(errno)));
  }
  probe->data_ = static_cast<std::byte*>(p);
  // Large pages where the system has them: the memory's speed is wanted, not the page tables'.
  ::madvise(p, static_cast<std::size_t>(probe->bytes_), MADV_HUGEPAGE);
  std::byte* data = probe->data_;
  pool.parallel_for(probe->bytes_ / kReadUnit, [data](int64_t task, int) {
    std::memset(data + task * kReadUnit, static_cast<int>(task & 0x7F) + 1, kReadUnit);
  });
  for (const ProbeSet& s : usable_sets())
    probe->patterns_.insert(probe->patterns_.end(), s.patterns, s.patterns + s.num_patterns);
  probe->best_.assign(probe->patterns_.size(), 0.0);
  return probe;
}

ReadProbe::~ReadProbe() {
  if (data_ != nullptr) ::munmap(data_, static_cast<std::size_t>(bytes_));
}

ReadProbe::Sample ReadProbe::measure(std::size_t pattern, ThreadPool& pool) {
  const ReadPattern& p = patterns_[pattern];
  const int64_t threads = pool.num_threads();
  const auto begin = std::chrono::steady_clock::now();
  pool.parallel_for(bytes_ / kReadUnit, [&](int64_t task, int) {
    // Page by page in turn: `threads` tasks share as many units.
    const std::byte* data =
        p.pages ? data_ + task / threads * threads * kReadUnit + task % threads * kPage
                : data_ + task * kReadUnit;
    sink += p.read(data, kReadUnit, p.pages ? threads * kPage : 0);
  });
  const double rate = static_cast<double>(bytes_) / seconds_since(begin);
  best_[pattern] = std::max(best_[pattern], rate);
  return {.pattern = p.name, .bytes_per_second = rate};
}

std::vector<ReadProbe::Sample> ReadProbe::measure_all(ThreadPool& pool) {
  std::vector<Sample> samples;
  for (std::size_t i = 0; i < patterns_.size(); ++i) samples.push_back(measure(i, pool));
  return samples;
}

std::vector<ReadProbe::Sample> ReadProbe::measure_fastest(ThreadPool& pool, int count) {
  std::vector<std::size_t> order(patterns_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return best_[a] > best_[b]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
  std::vector<Sample> samples;
  for (const std::size_t i : order) samples.push_back(measure(i, pool));
  return samples;
}

}  // namespace fathom::cpu
