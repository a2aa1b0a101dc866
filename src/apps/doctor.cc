// fathom doctor: what the program sees of this machine and what it will use.
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "apps/app.h"
#include "apps/compute.h"
#include "backend/cpu/topology.h"
#include "base/thread_pool.h"

namespace fathom {
namespace doctor_command {

// The first line of /proc/… that begins with `key`, what stands behind its colon.
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    const auto value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "unknown";
}

// Instruction sets that matter for matrix products, as the kernel reports them.
std::string cpu_features() {
#if defined(__aarch64__)
  std::istringstream words(proc_value("/proc/cpuinfo", "Features"));
#else
  std::istringstream words(proc_value("/proc/cpuinfo", "flags"));
#endif
  std::string found;
  for (std::string word; words >> word;) {
    for (const char* wanted : {"sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512_vnni",
                               "avx512_bf16", "avx_vnni", "amx_int8", "asimddp", "i8mm", "bf16"}) {
      if (word == wanted) found += (found.empty() ? "" : " ") + word;
    }
  }
  return found.empty() ? "none of those fathom looks for" : found;
}

std::string gib(const std::string& kilobytes) {
  return fmt::format("{:.1f} GB", std::strtod(kilobytes.c_str(), nullptr) * 1024e-9);
}

// The memory limit of this control group (version 2), "" if there is none.
std::string cgroup_limit() {
  std::ifstream in("/sys/fs/cgroup/memory.max");
  std::string value;
  if (!(in >> value) || value == "max") return "";
  return fmt::format(", limited to {:.1f} GB by its control group",
                     std::strtod(value.c_str(), nullptr) * 1e-9);
}

// Memory nodes, with what --numa has to choose from.
std::string nodes(const cpu::Topology& topology) {
  std::string out;
  for (const cpu::Topology::Node& n : topology.nodes) {
    out +=
        fmt::format("{}node {} with {} core{} and {:.1f} GB", out.empty() ? "" : "; ", n.index,
                    n.cores, n.cores == 1 ? "" : "s", static_cast<double>(n.memory_bytes) * 1e-9);
  }
  return out;
}

Status run() {
  utsname system{};
  ::uname(&system);
  const CpuOps ops;
  fmt::print("fathom {} on {} {} ({})\n", FATHOM_VERSION, system.sysname, system.release,
             system.machine);
  fmt::print("cpu       {}\n", proc_value("/proc/cpuinfo", "model name"));
  fmt::print("          {} of {} processors usable; {}\n", default_thread_count(),
             ::sysconf(_SC_NPROCESSORS_CONF), cpu_features());
  const auto topology = cpu::read_topology();
  fmt::print("numa      {}\n", topology ? nodes(*topology) : topology.error().message);
  fmt::print("memory    {} in all, {} available{}\n", gib(proc_value("/proc/meminfo", "MemTotal")),
             gib(proc_value("/proc/meminfo", "MemAvailable")), cgroup_limit());
  fmt::print("gpu       {}\n", describe_gpus());
  fmt::print(
      "compute   {}; int8 inputs for quantised weights, 23 bits for FP4, float32 for others\n",
      ops.description());
  const auto nano = resolve_model("nano");
  fmt::print("models    bundled model nano: {}\n", nano ? *nano : "not found (set FATHOM_MODELS)");
  return {};
}

}  // namespace doctor_command

Action add_doctor(CLI::App& program, CLI::App*& command) {
  using namespace doctor_command;
  command =
      program.add_subcommand("doctor", "What fathom sees of this machine and what it will use");
  command->footer("Example:\n  fathom doctor");
  return [] { return run(); };
}

}  // namespace fathom
