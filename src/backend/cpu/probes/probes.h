// Probes of the machine: how fast its memory is read and how fast its multiply-add units run, with
// the threads that a model would use. What speed is compared with (`fathom bench`).
//
// Owns the loops and their choice by CPUID. Does not own when to measure, nor what to make of it.
// Every number is the best that one pass reached: a shared machine can only make a pass slower.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "backend/cpu/probes/probe_set.h"
#include "base/result.h"
#include "base/thread_pool.h"

namespace fathom::cpu {

std::string_view probe_type_name(ProbeType type);  // "int8", "bf16", "f32"

// Those that this processor has.
std::vector<ArithmeticProbe> arithmetic_probes();
// Operations a second of all threads of `pool` together, in one pass of about 10 ms.
double measure_arithmetic(const ArithmeticProbe& probe, ThreadPool& pool);

// A buffer much larger than the caches, and what reading it takes.
class ReadProbe {
 public:
  struct Sample {
    const char* pattern = "";
    double bytes_per_second = 0;
  };

  // At least 1 GiB; less only where half of the available memory is less.
  static Result<std::unique_ptr<ReadProbe>> create(ThreadPool& pool);
  ~ReadProbe();
  ReadProbe(const ReadProbe&) = delete;
  ReadProbe& operator=(const ReadProbe&) = delete;

  int64_t bytes() const { return bytes_; }
  // One pass with every pattern.
  std::vector<Sample> measure_all(ThreadPool& pool);
  // One pass with each of the `count` patterns that were the fastest so far.
  std::vector<Sample> measure_fastest(ThreadPool& pool, int count);

 private:
  ReadProbe() = default;
  Sample measure(std::size_t pattern, ThreadPool& pool);

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  std::vector<ReadPattern> patterns_;
  std::vector<double> best_;  // bytes a second, by pattern
};

}  // namespace fathom::cpu
