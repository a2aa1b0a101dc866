#include "server/dispatch/host_usage.h"

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace fathom::server {
namespace {

struct Ticks {
  int64_t idle = 0, all = 0;
};

// The first line of /proc/stat: user nice system idle iowait irq softirq steal (proc(5)).
Ticks read_ticks() {
  std::ifstream in("/proc/stat");
  std::string word;
  in >> word;
  Ticks t;
  for (int i = 0; i < 8; ++i) {
    int64_t v = 0;
    in >> v;
    t.all += v;
    if (i == 3 || i == 4) t.idle += v;
  }
  return t;
}

int64_t memory_kib(const std::string& field) {
  std::ifstream in("/proc/meminfo");
  std::string name, unit;
  int64_t value = 0;
  while (in >> name >> value && std::getline(in, unit))
    if (name == field) return value;
  return 0;
}

}  // namespace

nlohmann::json host_usage() {
  static Ticks last;
  const Ticks now = read_ticks();
  const int64_t all = now.all - last.all;
  const double busy =
      last.all > 0 && all > 0
          ? 100.0 * static_cast<double>(all - (now.idle - last.idle)) / static_cast<double>(all)
          : 0.0;
  last = now;
  const int64_t total = memory_kib("MemTotal:") * 1024;
  return {{"cpu_percent", busy},
          {"memory_used_bytes", total - memory_kib("MemAvailable:") * 1024},
          {"memory_total_bytes", total},
          {"gpus", nlohmann::json::array()}};
}

}  // namespace fathom::server
