#include "apps/bench_machine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace fathom {

double BenchMachine::Arithmetic::best() const {
  return samples.empty() ? 0 : *std::max_element(samples.begin(), samples.end());
}

Result<std::unique_ptr<BenchMachine>> BenchMachine::create(int threads,
                                                           std::vector<int> processors) {
  std::unique_ptr<BenchMachine> machine(new BenchMachine(threads, std::move(processors)));
  FATHOM_TRY(machine->read_probe_, cpu::ReadProbe::create(machine->pool_));
  for (const cpu::ArithmeticProbe& probe : cpu::arithmetic_probes())
    machine->arithmetic_.push_back({.probe = probe, .samples = {}});
  machine->probe_all();
  return machine;
}

void BenchMachine::probe_all() {
  for (const auto& sample : read_probe_->measure_all(pool_)) reads_.push_back(sample);
  for (Arithmetic& a : arithmetic_) a.samples.push_back(cpu::measure_arithmetic(a.probe, pool_));
}

void BenchMachine::probe_again() {
  for (const auto& sample : read_probe_->measure_fastest(pool_, 2)) reads_.push_back(sample);
  for (const cpu::ProbeType type :
       {cpu::ProbeType::kInt8, cpu::ProbeType::kBF16, cpu::ProbeType::kF32}) {
    const Arithmetic* best = best_arithmetic(type);
    for (Arithmetic& a : arithmetic_)
      if (&a == best) a.samples.push_back(cpu::measure_arithmetic(a.probe, pool_));
  }
}

cpu::ReadProbe::Sample BenchMachine::best_read() const {
  cpu::ReadProbe::Sample best;
  for (const auto& sample : reads_)
    if (sample.bytes_per_second > best.bytes_per_second) best = sample;
  return best;
}

const BenchMachine::Arithmetic* BenchMachine::best_arithmetic(cpu::ProbeType type) const {
  const Arithmetic* best = nullptr;
  for (const Arithmetic& a : arithmetic_)
    if (a.probe.type == type && (best == nullptr || a.best() > best->best())) best = &a;
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
