#include "apps/bench_machine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#ifdef FATHOM_WITH_CUDA
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/probes.h"
#endif

namespace fathom {

double BenchMachine::Arithmetic::best() const {
  return samples.empty() ? 0 : *std::max_element(samples.begin(), samples.end());
}

Result<std::unique_ptr<BenchMachine>> BenchMachine::create(ThreadPool& pool, Ops& ops) {
  std::unique_ptr<BenchMachine> machine(new BenchMachine());
#ifdef FATHOM_WITH_CUDA
  if (dynamic_cast<CudaOps*>(&ops) != nullptr) {
    FATHOM_TRY(const std::shared_ptr<cuda::Probes> probes, cuda::Probes::create());
    machine->read_all_ = machine->read_fastest_ = [probes] {
      return std::vector<ReadSample>{{"copy on the device", probes->copy_bytes_per_second()}};
    };
    machine->read_buffer_bytes_ = probes->buffer_bytes();
    machine->arithmetic_.push_back({.name = "bf16 matrix product",
                                    .type = cpu::ProbeType::kBF16,
                                    .measure = [probes] { return probes->matrix_operations(); },
                                    .samples = {}});
    machine->probe_all();
    return machine;
  }
#else
  (void)ops;
#endif
  FATHOM_TRY(const std::shared_ptr<cpu::ReadProbe> read, cpu::ReadProbe::create(pool));
  machine->read_all_ = [read, &pool] { return read->measure_all(pool); };
  machine->read_fastest_ = [read, &pool] { return read->measure_fastest(pool, 2); };
  machine->read_buffer_bytes_ = read->bytes();
  for (const cpu::ArithmeticProbe& probe : cpu::arithmetic_probes()) {
    machine->arithmetic_.push_back(
        {.name = std::string(probe.name),
         .type = probe.type,
         .measure = [probe, &pool] { return cpu::measure_arithmetic(probe, pool); },
         .samples = {}});
  }
  machine->probe_all();
  return machine;
}

void BenchMachine::probe_all() {
  for (const auto& sample : read_all_()) reads_.push_back(sample);
  for (Arithmetic& a : arithmetic_) a.samples.push_back(a.measure());
}

void BenchMachine::probe_again() {
  for (const auto& sample : read_fastest_()) reads_.push_back(sample);
  for (const cpu::ProbeType type :
       {cpu::ProbeType::kInt8, cpu::ProbeType::kBF16, cpu::ProbeType::kF32}) {
    const Arithmetic* best = best_arithmetic(type);
    for (Arithmetic& a : arithmetic_)
      if (&a == best) a.samples.push_back(a.measure());
  }
}

BenchMachine::ReadSample BenchMachine::best_read() const {
  ReadSample best;
  for (const auto& sample : reads_)
    if (sample.bytes_per_second > best.bytes_per_second) best = sample;
  return best;
}

const BenchMachine::Arithmetic* BenchMachine::best_arithmetic(cpu::ProbeType type) const {
  const Arithmetic* best = nullptr;
  for (const Arithmetic& a : arithmetic_)
    if (a.type == type && (best == nullptr || a.best() > best->best())) best = &a;
  return best;
}

CpuClock CpuClock::now() {
  CpuClock clock;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  clock.own = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  // "cpu  user nice system idle iowait irq softirq steal …", in ticks, summed over all processors.
  std::ifstream in("/proc/stat");
  std::string label;
  in >> label;
  double ticks = 0;
  for (int field = 0; field < 8; ++field) {
    double value = 0;
    in >> value;
    if (field != 3 && field != 4) ticks += value;
  }
  clock.machine = ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return clock;
}

}  // namespace fathom
