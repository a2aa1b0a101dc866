// Topology: which processors, caches and memory this process may use, as hwloc sees them.
//
// Owns the reading. Does not own what follows from it: how many threads run by default is
// base/thread_pool's, where they are pinned is placement's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace fathom::cpu {

struct Topology {
  struct Cache {
    int level = 0;
    bool instructions = false;  // holds nothing but instructions
    int64_t bytes = 0;          // of one
    int count = 0;              // that the usable processors reach
    int processors_each = 0;    // usable processors that share one
  };
  struct Node {
    int index = 0;  // the system's number
    int64_t memory_bytes = 0;
    int cores = 0;
  };
  // A physical core: the first processor of it that this process may run on, and the others.
  struct Core {
    int processor = 0;
    int node = 0;  // index into `nodes`
    std::vector<int> siblings;
  };

  std::string cpu;  // the model's name, "" if the system does not tell
  int packages = 0;
  int processors = 0;       // hardware threads
  std::vector<Core> cores;  // by node, then in the system's order
  std::vector<Node> nodes;  // at least one, each with cores
  std::vector<Cache> caches;
};

// Only what this process may use: its affinity mask and its control group count.
// Errors: the system does not describe itself.
Result<Topology> read_topology();

// From here on the calling thread and those it starts get memory of the node with the system's
// number `node`, and other nodes' once that is full. Errors: no such node; the system refuses.
Status bind_memory(int node);

// Memory that can be had without swapping: what the system has available, or less where this
// process's control group allows less.
int64_t available_memory_bytes();

}  // namespace fathom::cpu
