#include "base/thread_count.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <string_view>

namespace fathom {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// Processors per second of wall time that "quota period" (cpu.max of version 2) allows; `none` for
// "max" and where there is no such file.
double quota_of(const std::string& line, double none) {
  double quota = 0, period = 0;
  char* end = nullptr;
  quota = std::strtod(line.c_str(), &end);
  if (end == line.c_str() || quota <= 0) return none;
  period = std::strtod(end, nullptr);
  return period > 0 ? quota / period : none;
}

// The smallest quota of the process's control group and those above it. In a container the group's
// own path is often not mounted; then the root of what is mounted is the container's.
double cpu_quota(const std::string& root, double none) {
  const std::string base = root + "/sys/fs/cgroup";
  double quota = quota_of(first_line(base + "/cpu.max"), none);
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::/")) continue;
    for (std::string path = line.substr(3); path.size() > 1; path.resize(path.rfind('/')))
      quota = std::min(quota, quota_of(first_line(base + path + "/cpu.max"), none));
  }
  // Version 1 has two files.
  const std::string old = base + "/cpu/cpu.cfs_";
  return std::min(quota, quota_of(first_line(old + "quota_us") + " " +
                                      first_line(old + "period_us"),
                                  none));
}

}  // namespace

int usable_cores(const std::string& root, const std::vector<int>& allowed) {
  std::set<std::string> cores;
  int unknown = 0;  // processors whose core the system does not tell: each counts as one
  for (const int processor : allowed) {
    const std::string siblings =
        first_line(root + "/sys/devices/system/cpu/cpu" + std::to_string(processor) +
                   "/topology/thread_siblings_list");
    if (siblings.empty()) {
      ++unknown;
    } else {
      cores.insert(siblings);
    }
  }
  const int count = std::max(1, static_cast<int>(cores.size()) + unknown);
  // Half a processor more than whole ones would only make every thread wait for the throttled one.
  return std::max(1, static_cast<int>(std::min<double>(count, cpu_quota(root, count))));
}

std::vector<int> allowed_processors() {
  std::vector<int> out;
  // The kernel refuses masks smaller than its own: try larger ones.
  for (int bits = CPU_SETSIZE; bits <= (1 << 16); bits *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(
        CPU_ALLOC(static_cast<std::size_t>(bits)), [](cpu_set_t* s) { CPU_FREE(s); });
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(bits));
    if (set == nullptr || sched_getaffinity(0, bytes, set.get()) != 0) continue;
    for (int i = 0; i < bits; ++i)
      if (CPU_ISSET_S(static_cast<std::size_t>(i), bytes, set.get())) out.push_back(i);
    return out;
  }
  return out;
}

}  // namespace fathom
