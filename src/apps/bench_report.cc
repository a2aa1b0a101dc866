#include "apps/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "backend/cpu/topology.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

double rate(const BenchResult& r, double seconds) {
  return static_cast<double>(r.run_tokens()) / seconds;
}

// Figures of a case, at its median repeat.
struct Figures {
  double median = 0, min = 0, max = 0;  // tokens/s
  double weight_bytes_per_step = 0, cache_bytes_per_step = 0;
  double operations_per_token = 0;  // linear
  double bytes_per_second = 0;      // of weights
  double bytes_per_second_with_cache = 0;
  double operations_per_second = 0;
};

Figures figures(const BenchResult& r) {
  Figures f;
  const double seconds = median(r.seconds), steps = static_cast<double>(r.steps);
  f.median = rate(r, seconds);
  f.min = rate(r, *std::max_element(r.seconds.begin(), r.seconds.end()));
  f.max = rate(r, *std::min_element(r.seconds.begin(), r.seconds.end()));
  f.weight_bytes_per_step = static_cast<double>(r.work.weight_bytes) / steps;
  f.cache_bytes_per_step = static_cast<double>(r.work.cache_bytes) / steps;
  f.operations_per_token =
      static_cast<double>(r.work.linear_operations) / static_cast<double>(r.run_tokens());
  f.bytes_per_second = static_cast<double>(r.work.weight_bytes) / seconds;
  f.bytes_per_second_with_cache =
      static_cast<double>(r.work.weight_bytes + r.work.cache_bytes) / seconds;
  f.operations_per_second = static_cast<double>(r.work.linear_operations) / seconds;
  return f;
}

std::string case_name(const BenchCase& c) {
  std::string name = fmt::format("{} {}", c.decode ? "decode" : "prefill", c.tokens);
  if (c.depth > 0) name += fmt::format(" at {}", c.depth);
  if (c.batch > 1) name += fmt::format(" ×{}", c.batch);
  return name;
}

// Pads to `width` characters; "×" has two bytes.
std::string padded(const std::string& text, std::size_t width) {
  const auto characters =
      static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
      }));
  return text + std::string(width > characters ? width - characters : 0, ' ');
}

double best_operations(const BenchMachine& machine, cpu::ProbeType type) {
  const BenchMachine::Arithmetic* best = machine.best_arithmetic(type);
  return best == nullptr ? 0 : best->best();
}

ordered_json result_json(const BenchResult& r, const BenchMachine& machine) {
  const Figures f = figures(r);
  std::vector<double> rates;
  for (const double s : r.seconds) rates.push_back(rate(r, s));
  const double read = machine.best_read().bytes_per_second;
  ordered_json j = {
      {"test", r.test.decode ? "decode" : "prefill"},
      {"tokens", r.test.tokens},
      {"depth", r.test.depth},
      {"batch", r.test.batch},
      {"steps", r.steps},
      {"tokens_per_second",
       {{"median", f.median}, {"min", f.min}, {"max", f.max}, {"samples", rates}}},
      {"median_step_seconds", r.median_step_seconds},
      {"weight_bytes_per_step", f.weight_bytes_per_step},
      {"cache_bytes_per_step", f.cache_bytes_per_step},
      {"weight_bytes_per_second", f.bytes_per_second},
      {"bytes_per_second_with_cache", f.bytes_per_second_with_cache},
      {"share_of_read_bandwidth", f.bytes_per_second / read},
      {"share_of_read_bandwidth_with_cache", f.bytes_per_second_with_cache / read},
      {"operations_per_token", f.operations_per_token},
      {"attention_operations_per_token",
       static_cast<double>(r.work.attention_operations) / static_cast<double>(r.run_tokens())},
      {"operations_per_second", f.operations_per_second}};
  for (const auto type : {cpu::ProbeType::kInt8, cpu::ProbeType::kBF16, cpu::ProbeType::kF32}) {
    const double peak = best_operations(machine, type);
    if (peak > 0) {
      j[fmt::format("share_of_{}_peak", cpu::probe_type_name(type))] =
          f.operations_per_second / peak;
    }
  }
  j["processors_used_by_others"] = r.other_load;
  return j;
}

}  // namespace

void print_bench_machine(const BenchReport& report, const BenchMachine& machine) {
  fmt::print("model    {} ({}): {:.3f} billion weights, {:.3f} GB ({}); ready in {:.1f} s\n",
             report.model, report.architecture, static_cast<double>(report.parameters) * 1e-9,
             static_cast<double>(report.weight_bytes) * 1e-9, report.types, report.load_seconds);
  fmt::print("compute  {}, inputs {}, {} prompt rows a step\n", report.backend, report.compute,
             report.chunk);
  fmt::print("read     {:.2f} GB/s ({})\n", machine.best_read().bytes_per_second * 1e-9,
             machine.best_read().pattern);
  for (const auto type : {cpu::ProbeType::kInt8, cpu::ProbeType::kBF16, cpu::ProbeType::kF32}) {
    const BenchMachine::Arithmetic* best = machine.best_arithmetic(type);
    if (best == nullptr) continue;
    fmt::print("{:<8} {:.1f} Gop/s ({})\n", cpu::probe_type_name(type), best->best() * 1e-9,
               best->name);
  }
}

void print_bench_header() {
  fmt::print("\n{:<24} {:>10} {:>10} {:>10}   tokens/s\n", "", "median", "min", "max");
  std::fflush(stdout);
}

void print_bench_result(const BenchResult& result, const BenchMachine&) {
  const Figures f = figures(result);
  fmt::print("{} {:>10.2f} {:>10.2f} {:>10.2f}", padded(case_name(result.test), 24), f.median,
             f.min, f.max);
  if (result.other_load > 0.05)
    fmt::print("   others kept {:.2f} processors busy", result.other_load);
  fmt::print("\n");
  std::fflush(stdout);
}

void print_bench_summary(const BenchReport& report, const BenchMachine& machine) {
  const double read = machine.best_read().bytes_per_second;
  const double int8 = best_operations(machine, cpu::ProbeType::kInt8);
  const double f32 = best_operations(machine, cpu::ProbeType::kF32);
  const double peak = int8 > 0  ? int8
                      : f32 > 0 ? f32
                                : best_operations(machine, cpu::ProbeType::kBF16);
  const char* peak_name = int8 > 0 ? "int8" : f32 > 0 ? "f32" : "bf16";
  fmt::print("\nbest read {:.2f} GB/s ({}), best {} {:.1f} Gop/s over the whole run\n", read * 1e-9,
             machine.best_read().pattern, peak_name, peak * 1e-9);
  fmt::print("{:<24} {:>12} {:>10} {:>9} {:>8} {:>8} {:>12} {:>9} {:>8}\n", "", "weights/step",
             "cache/step", "GB/s", "of read", "+cache", "ops/token", "Gop/s",
             fmt::format("of {}", peak_name));
  for (const BenchResult& r : report.results) {
    const Figures f = figures(r);
    fmt::print(
        "{} {:>9.1f} MB {:>7.1f} MB {:>9.2f} {:>7.1f}% {:>7.1f}% {:>8.2f} Gop {:>9.1f} "
        "{:>7.1f}%\n",
        padded(case_name(r.test), 24), f.weight_bytes_per_step * 1e-6,
        f.cache_bytes_per_step * 1e-6, f.bytes_per_second * 1e-9, 100 * f.bytes_per_second / read,
        100 * f.bytes_per_second_with_cache / read, f.operations_per_token * 1e-9,
        f.operations_per_second * 1e-9, peak > 0 ? 100 * f.operations_per_second / peak : 0.0);
  }
}

std::string bench_json(const BenchReport& report, const BenchMachine& machine) {
  ordered_json j = {{"fathom", FATHOM_VERSION},
                    {"compiler", __VERSION__},
                    {"model",
                     {{"name", report.model},
                      {"architecture", report.architecture},
                      {"parameters", report.parameters},
                      {"weight_bytes", report.weight_bytes},
                      {"types", report.types},
                      {"load_seconds", report.load_seconds}}},
                    {"backend", report.backend},
                    {"compute", report.compute},
                    {"threads", report.threads},
                    {"prompt_rows_per_step", report.chunk}};
  if (const auto topology = cpu::read_topology()) {
    j["machine"] = {{"cpu", topology->cpu},
                    {"cores", topology->cores.size()},
                    {"processors", topology->processors},
                    {"nodes", topology->nodes.size()}};
    for (const auto& c : topology->caches) {
      if (!c.instructions)
        j["machine"]["caches"].push_back(
            {{"level", c.level}, {"bytes", c.bytes}, {"count", c.count}});
    }
  }
  j["read"] = {{"best_bytes_per_second", machine.best_read().bytes_per_second},
               {"best_pattern", machine.best_read().pattern},
               {"buffer_bytes", machine.read_buffer_bytes()}};
  for (const auto& s : machine.read_samples())
    j["read"]["samples"][s.pattern].push_back(s.bytes_per_second);
  for (const auto& a : machine.arithmetic()) {
    j["arithmetic"].push_back({{"instruction", a.name},
                               {"type", cpu::probe_type_name(a.type)},
                               {"best_operations_per_second", a.best()},
                               {"samples", a.samples}});
  }
  j["results"] = ordered_json::array();
  for (const BenchResult& r : report.results) j["results"].push_back(result_json(r, machine));
  return j.dump(2);
}

}  // namespace fathom
