// BenchMachine: what this machine can do at best, measured beside the model's runs: on the CPU with
// as many threads (backend/cpu/probes), or on the GPU (backend/cuda/probes.h).
//
// Shared machines change from second to second, so probes run before, between and after the runs,
// and the best of all counts.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cpu/probes/probes.h"
#include "base/thread_pool.h"
#include "ops/ops.h"

namespace fathom {

class BenchMachine {
 public:
  using ReadSample = cpu::ReadProbe::Sample;
  struct Arithmetic {
    std::string name;  // of the instruction
    cpu::ProbeType type;
    std::function<double()> measure;  // operations a second
    std::vector<double> samples;
    double best() const;
  };

  // Measures everything once, on what `ops` computes with. Both must outlive it.
  static Result<std::unique_ptr<BenchMachine>> create(ThreadPool& pool, Ops& ops);

  // The fastest patterns and instructions again; about a tenth of a second.
  void probe_again();
  // All of them again.
  void probe_all();

  const std::vector<ReadSample>& read_samples() const { return reads_; }
  const std::vector<Arithmetic>& arithmetic() const { return arithmetic_; }
  ReadSample best_read() const;
  // The fastest instruction for `type`; nullptr if the processor has none.
  const Arithmetic* best_arithmetic(cpu::ProbeType type) const;
  int64_t read_buffer_bytes() const { return read_buffer_bytes_; }

 private:
  BenchMachine() = default;

  std::function<std::vector<ReadSample>()> read_all_, read_fastest_;
  int64_t read_buffer_bytes_ = 0;
  std::vector<ReadSample> reads_;
  std::vector<Arithmetic> arithmetic_;
};

// Seconds of processor time, of this process and of the whole machine: the rest is somebody else's.
struct CpuClock {
  double own = 0;
  double machine = 0;  // busy, or taken away by the hypervisor
  static CpuClock now();
};

}  // namespace fathom
