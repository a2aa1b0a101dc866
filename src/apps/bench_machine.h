// BenchMachine: what this machine can do at best, measured beside the model's runs with as many
// threads (backend/cpu/probes).
//
// Shared machines change from second to second, so probes run before, between and after the runs,
// and the best of all counts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/probes/probes.h"
#include "base/thread_pool.h"

namespace fathom {

class BenchMachine {
 public:
  struct Arithmetic {
    cpu::ArithmeticProbe probe;
    std::vector<double> samples;  // operations a second
    double best() const;
  };

  // Measures everything once. Threads and processors as ThreadPool takes them.
  static Result<std::unique_ptr<BenchMachine>> create(int threads, std::vector<int> processors);

  // The fastest patterns and instructions again; about a tenth of a second.
  void probe_again();
  // All of them again.
  void probe_all();

  ThreadPool& pool() { return pool_; }
  const std::vector<cpu::ReadProbe::Sample>& read_samples() const { return reads_; }
  const std::vector<Arithmetic>& arithmetic() const { return arithmetic_; }
  cpu::ReadProbe::Sample best_read() const;
  // The fastest instruction for `type`; nullptr if the processor has none.
  const Arithmetic* best_arithmetic(cpu::ProbeType type) const;
  int64_t read_buffer_bytes() const { return read_probe_->bytes(); }

 private:
  BenchMachine(int threads, std::vector<int> processors) : pool_(threads, std::move(processors)) {}

  ThreadPool pool_;
  std::unique_ptr<cpu::ReadProbe> read_probe_;
  std::vector<cpu::ReadProbe::Sample> reads_;
  std::vector<Arithmetic> arithmetic_;
};

// Seconds of processor time, of this process and of the whole machine: the rest is somebody else's.
struct CpuClock {
  double own = 0;
  double machine = 0;  // busy, or taken away by the hypervisor
  static CpuClock now();
};

}  // namespace fathom
