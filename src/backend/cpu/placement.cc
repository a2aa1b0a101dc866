#include "backend/cpu/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/check.h"

namespace fathom::cpu {
namespace {

// What a node has to offer: the first processors of its cores, then the other ones.
struct Slots {
  std::vector<int> processors;
  int cores = 0;
};

std::vector<Slots> slots_by_node(const Topology& topology) {
  std::vector<Slots> out(topology.nodes.size());
  for (const Topology::Core& core : topology.cores) {
    Slots& s = out[static_cast<std::size_t>(core.node)];
    s.processors.push_back(core.processor);
    ++s.cores;
  }
  for (const Topology::Core& core : topology.cores) {
    Slots& s = out[static_cast<std::size_t>(core.node)];
    s.processors.insert(s.processors.end(), core.siblings.begin(), core.siblings.end());
  }
  return out;
}

// Threads of each node: one after the other goes where a core is free, else where a hardware thread
// is, and among such nodes to the one with the fewest.
std::vector<int> threads_by_node(const std::vector<Slots>& nodes, int threads) {
  std::vector<int> count(nodes.size(), 0);
  for (int t = 0; t < threads; ++t) {
    const auto cost = [&](std::size_t n) {
      const int full = count[n] < nodes[n].cores                                 ? 0
                       : count[n] < static_cast<int>(nodes[n].processors.size()) ? 1
                                                                                 : 2;
      return std::pair(full, count[n]);
    };
    std::size_t best = 0;
    for (std::size_t n = 1; n < nodes.size(); ++n)
      if (cost(n) < cost(best)) best = n;
    ++count[best];
  }
  return count;
}

Result<std::size_t> find_node(const Topology& topology, int number) {
  std::string known;
  for (std::size_t n = 0; n < topology.nodes.size(); ++n) {
    if (topology.nodes[n].index == number) return n;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", topology.nodes[n].index);
  }
  return invalid_argument(
      fmt::format("--numa {}: no memory node of that number has cores that this process may use, "
                  "expected off, spread or one of {}",
                  number, known));
}

}  // namespace

Result<Numa> parse_numa(std::string_view text) {
  if (text == "off") return Numa{};
  if (text == "spread") return Numa{.mode = Numa::Mode::kSpread};
  Numa numa{.mode = Numa::Mode::kNode};
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [stop, error] = std::from_chars(begin, end, numa.node);
  if (error == std::errc() && stop == end && numa.node >= 0) return numa;
  return invalid_argument(
      fmt::format("--numa '{}': expected off, spread or the number of a memory node (fathom doctor "
                  "shows them)",
                  text.substr(0, 32)));
}

Result<Placement> place_threads(const Topology& topology, const PlacementArgs& args) {
  FATHOM_CHECK_GE(args.default_threads, 1);
  if (args.numa.mode == Numa::Mode::kOff)
    return Placement{.threads = args.threads > 0 ? args.threads : args.default_threads};
  std::vector<Slots> nodes = slots_by_node(topology);
  Placement out;
  if (args.numa.mode == Numa::Mode::kNode) {
    FATHOM_TRY(const std::size_t n, find_node(topology, args.numa.node));
    if (nodes.size() > 1) out.memory_node = args.numa.node;
    nodes = {nodes[n]};
  }
  int cores = 0;
  for (const Slots& n : nodes) cores += n.cores;
  out.threads =
      args.threads > 0 ? args.threads : std::max(1, std::min(args.default_threads, cores));
  // Threads that cannot move have to wait for whoever else wants their core, and gain nothing here.
  if (topology.nodes.size() == 1) return out;
  const std::vector<int> count = threads_by_node(nodes, out.threads);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const std::vector<int>& p = nodes[n].processors;
    for (int i = 0; i < count[n]; ++i)
      out.processors.push_back(p[static_cast<std::size_t>(i) % p.size()]);
    out.nodes += count[n] > 0 ? 1 : 0;
  }
  return out;
}

}  // namespace fathom::cpu
