#include "backend/cpu/topology.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "base/check.h"

namespace fathom::cpu {
namespace {

struct FreeTopology {
  void operator()(hwloc_topology* t) const { hwloc_topology_destroy(t); }
};
using TopologyPointer = std::unique_ptr<hwloc_topology, FreeTopology>;
struct FreeBitmap {
  void operator()(hwloc_bitmap_t b) const { hwloc_bitmap_free(b); }
};
using BitmapPointer = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

Result<TopologyPointer> load_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return internal_error("hwloc cannot start");
  TopologyPointer topology(raw);
  // Level 1 instruction caches are filtered by default.
  hwloc_topology_set_icache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(raw) != 0)
    return internal_error("hwloc cannot read this machine's topology");
  // Leave out what this process is not bound to; harmless if the system does not say.
  const BitmapPointer bound(hwloc_bitmap_alloc());
  if (hwloc_get_cpubind(raw, bound.get(), HWLOC_CPUBIND_PROCESS) == 0 &&
      hwloc_bitmap_iszero(bound.get()) == 0)
    hwloc_topology_restrict(raw, bound.get(), 0);
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

// The processors of a core, or of what stands for one.
Topology::Core read_core(hwloc_const_cpuset_t processors, int node) {
  Topology::Core core{.processor = hwloc_bitmap_first(processors), .node = node};
  for (int p = hwloc_bitmap_next(processors, core.processor); p >= 0;
       p = hwloc_bitmap_next(processors, p))
    core.siblings.push_back(p);
  return core;
}

void read_nodes(hwloc_topology_t t, Topology& out) {
  // Some virtual machines tell processors but no cores: take each for one.
  const hwloc_obj_type_t type =
      hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
  const BitmapPointer seen(hwloc_bitmap_alloc());
  const int nodes = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
  for (int i = 0; i < nodes; ++i) {
    const hwloc_obj_t node = hwloc_get_obj_by_type(t, HWLOC_OBJ_NUMANODE, static_cast<unsigned>(i));
    // Memory without processors, or with those of a node before it: of an accelerator, or a second
    // kind of memory.
    if (weight(node->cpuset) == 0 || hwloc_bitmap_intersects(node->cpuset, seen.get()) != 0)
      continue;
    hwloc_bitmap_or(seen.get(), seen.get(), node->cpuset);
    Topology::Node n{.index = static_cast<int>(node->os_index),
                     .memory_bytes = static_cast<int64_t>(node->attr->numanode.local_memory)};
    const int index = static_cast<int>(out.nodes.size());
    hwloc_obj_t core = nullptr;
    while ((core = hwloc_get_next_obj_inside_cpuset_by_type(t, node->cpuset, type, core)) !=
           nullptr) {
      out.cores.push_back(read_core(core->cpuset, index));
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
  return out;
}

Status bind_memory(int node) {
  FATHOM_TRY(const TopologyPointer topology, load_topology());
  const hwloc_obj_t found =
      hwloc_get_numanode_obj_by_os_index(topology.get(), static_cast<unsigned>(node));
  if (found == nullptr) return not_found(fmt::format("no memory node {}", node));
  // Not HWLOC_MEMBIND_STRICT: a full node would end the process.
  if (hwloc_set_membind(topology.get(), found->nodeset, HWLOC_MEMBIND_BIND,
                        HWLOC_MEMBIND_BYNODESET | HWLOC_MEMBIND_THREAD) != 0) {
    return internal_error(fmt::format("the system does not take memory from node {} first: {}",
                                      node, std::strerror(errno)));
  }
  return {};
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
