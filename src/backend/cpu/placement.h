// Placement: on which processors the threads of a pool run (--numa). Pure arithmetic on a Topology.
//
// Neighbouring threads stand on one node, since ThreadPool hands them neighbouring rows of a
// matrix: a node's cores then read the same rows in every step, and the pages of a weight file that
// no cache held yet lie on the node that read them first.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/cpu/topology.h"
#include "base/result.h"

namespace fathom::cpu {

struct Numa {
  enum class Mode : uint8_t {
    kOff,     // the system places threads and memory
    kSpread,  // threads on cores of their own, evenly over the nodes
    kNode,    // threads on the cores of one node
  };
  Mode mode = Mode::kOff;
  int node = 0;  // of kNode: the system's number
};

// "off", "spread" or the number of a node.
Result<Numa> parse_numa(std::string_view text);

struct PlacementArgs {
  Numa numa;
  int threads = 0;  // wanted; 0 = default_threads, but no more than cores that `numa` allows
  int default_threads = 1;  // that pay where nothing is pinned (base/thread_pool.h), >= 1
};

struct Placement {
  int threads = 1;
  std::vector<int> processors;  // of thread i; empty = the system's choice
  int nodes = 0;                // that the threads stand on; 0 = the system's choice
  int memory_node = -1;         // whose memory to take first; -1 = the system's choice
};

// Cores get a thread each before any gets a second one, and hardware threads of a core are used
// before any is shared. On a machine of one node nothing is pinned. Errors: no node of that number.
Result<Placement> place_threads(const Topology& topology, const PlacementArgs& args);

}  // namespace fathom::cpu
