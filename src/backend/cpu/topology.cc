#include "backend/cpu/topology.h"

#include <hwloc.h>

#include <algorithm>
#include <fstream>
#include <memory>

#include "base/check.h"

namespace fathom::cpu {
namespace {

struct FreeTopology {
  void operator()(hwloc_topology* t) const { hwloc_topology_destroy(t); }
};
using TopologyPointer = std::unique_ptr<hwloc_topology, FreeTopology>;

Result<TopologyPointer> load_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return internal_error("hwloc cannot start");
  TopologyPointer topology(raw);
  // Level 1 instruction caches are filtered by default.
  hwloc_topology_set_icache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(raw) != 0)
    return internal_error("hwloc cannot read this machine's topology");
  // Leave out what this process is not bound to; harmless if the system does not say.
  hwloc_bitmap_t bound = hwloc_bitmap_alloc();
  if (hwloc_get_cpubind(raw, bound, HWLOC_CPUBIND_PROCESS) == 0 && hwloc_bitmap_iszero(bound) == 0)
    hwloc_topology_restrict(raw, bound, 0);
  hwloc_bitmap_free(bound);
  return topology;
}

int weight(hwloc_const_cpuset_t set) { return std::max(0, hwloc_bitmap_weight(set)); }

void read_caches(hwloc_topology_t t, Topology& out) {
  constexpr hwloc_obj_type_t kTypes[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L1ICACHE, HWLOC_OBJ_L2CACHE,
                                         HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE};
  for (const hwloc_obj_type_t type : kTypes) {
    const int count = hwloc_get_nbobjs_by_type(t, type);
    if (count <= 0) continue;
    const hwloc_obj_t first = hwloc_get_obj_by_type(t, type, 0);
    out.caches.push_back({.level = static_cast<int>(first->attr->cache.depth),
                          .instructions = type == HWLOC_OBJ_L1ICACHE,
                          .bytes = static_cast<int64_t>(first->attr->cache.size),
                          .count = count,
                          .processors_each = weight(first->cpuset)});
  }
}

void read_nodes(hwloc_topology_t t, Topology& out) {
  const int nodes = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
  for (int i = 0; i < nodes; ++i) {
    const hwloc_obj_t node = hwloc_get_obj_by_type(t, HWLOC_OBJ_NUMANODE, static_cast<unsigned>(i));
    if (weight(node->cpuset) == 0) continue;  // memory without processors: of an accelerator
    Topology::Node n{.index = static_cast<int>(node->os_index),
                     .memory_bytes = static_cast<int64_t>(node->attr->numanode.local_memory)};
    const int index = static_cast<int>(out.nodes.size());
    hwloc_obj_t core = nullptr;
    while ((core = hwloc_get_next_obj_inside_cpuset_by_type(t, node->cpuset, HWLOC_OBJ_CORE,
                                                            core)) != nullptr) {
      out.cores.push_back({.processor = hwloc_bitmap_first(core->cpuset), .node = index});
      ++n.cores;
    }
    out.nodes.push_back(n);
  }
}

// The number in a file of one line; `fallback` if there is none ("max" in control groups).
int64_t number_in(const char* path, int64_t fallback) {
  std::ifstream in(path);
  int64_t value = 0;
  return in >> value ? value : fallback;
}

}  // namespace

Result<Topology> read_topology() {
  FATHOM_TRY(const TopologyPointer topology, load_topology());
  hwloc_topology_t t = topology.get();
  Topology out;
  out.packages = std::max(0, hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PACKAGE));
  out.processors = std::max(0, hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU));
  const hwloc_obj_t package = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);
  const char* name = package == nullptr ? nullptr : hwloc_obj_get_info_by_name(package, "CPUModel");
  if (name != nullptr) out.cpu = name;
  read_nodes(t, out);
  read_caches(t, out);
  if (out.nodes.empty()) return internal_error("hwloc finds no memory node with processors");
  if (out.cores.empty()) {
    // Some virtual machines tell processors but no cores: take each for one.
    for (int i = 0; i < out.processors; ++i) {
      const hwloc_obj_t p = hwloc_get_obj_by_type(t, HWLOC_OBJ_PU, static_cast<unsigned>(i));
      out.cores.push_back({.processor = static_cast<int>(p->os_index), .node = 0});
    }
    out.nodes[0].cores = out.processors;
  }
  return out;
}

int64_t available_memory_bytes() {
  int64_t available = int64_t{4} << 30;  // where the system does not tell
  std::ifstream in("/proc/meminfo");
  for (std::string key; in >> key;) {
    if (key == "MemAvailable:") {
      in >> available;
      available *= 1024;
      break;
    }
    in.ignore(256, '\n');
  }
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max", INT64_MAX);
  if (limit == INT64_MAX) return available;
  const int64_t used = number_in("/sys/fs/cgroup/memory.current", 0);
  return std::max<int64_t>(0, std::min(available, limit - used));
}

}  // namespace fathom::cpu
