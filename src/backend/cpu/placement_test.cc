// Tests of where --numa puts threads, on machines of every shape: made up, or described to hwloc.
#include "backend/cpu/placement.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>

namespace fathom::cpu {
namespace {

// What hwloc makes of a machine described in its own words (HWLOC_SYNTHETIC; HWLOC's manual,
// "Synthetic topologies").
Topology machine(const char* description) {
  ::setenv("HWLOC_SYNTHETIC", description, 1);
  auto topology = read_topology();
  ::unsetenv("HWLOC_SYNTHETIC");
  EXPECT_TRUE(topology.has_value()) << topology.error().message;
  return topology ? *topology : Topology{};
}

// Fails the test where there is no placement.
Placement place(const Topology& topology, const char* numa, int threads, int default_threads = 99) {
  const auto parsed = parse_numa(numa);
  EXPECT_TRUE(parsed.has_value()) << numa;
  const auto placed = place_threads(
      topology, {.numa = *parsed, .threads = threads, .default_threads = default_threads});
  EXPECT_TRUE(placed.has_value()) << placed.error().message;
  return placed ? *placed : Placement{};
}

using Processors = std::vector<int>;

TEST(ParseNuma, TakesTheModesAndNumbers) {
  EXPECT_EQ(parse_numa("off")->mode, Numa::Mode::kOff);
  EXPECT_EQ(parse_numa("spread")->mode, Numa::Mode::kSpread);
  EXPECT_EQ(parse_numa("12")->mode, Numa::Mode::kNode);
  EXPECT_EQ(parse_numa("12")->node, 12);
  for (const char* text : {"", "on", "Spread", "-1", "1 ", "0x1", "1,2", "99999999999"}) {
    const auto numa = parse_numa(text);
    ASSERT_FALSE(numa.has_value()) << text;
    EXPECT_NE(numa.error().message.find("'" + std::string(text) + "'"), std::string::npos)
        << numa.error().message;
  }
}

TEST(Topology, OfTwoNodesWithTwoHardwareThreadsACore) {
  const Topology t = machine("Package:2 NUMANode:1(memory=1073741824) Core:3 PU:2");
  EXPECT_EQ(t.packages, 2);
  EXPECT_EQ(t.processors, 12);
  ASSERT_EQ(t.nodes.size(), 2u);
  EXPECT_EQ(t.nodes[1].index, 1);
  EXPECT_EQ(t.nodes[1].cores, 3);
  EXPECT_EQ(t.nodes[1].memory_bytes, int64_t{1} << 30);
  ASSERT_EQ(t.cores.size(), 6u);
  EXPECT_EQ(t.cores[4].node, 1);
  EXPECT_EQ(t.cores[4].processor, 8);
  EXPECT_EQ(t.cores[4].siblings, Processors{9});
}

// Fast and large memory beside the same cores, as some processors have it.
TEST(Topology, CoresBelongToOneNodeOnly) {
  const Topology t = machine("Package:2 [NUMANode] [NUMANode] Core:2 PU:1");
  EXPECT_EQ(t.nodes.size(), 2u);
  EXPECT_EQ(t.cores.size(), 4u);
}

TEST(Placement, OffLeavesAllToTheSystem) {
  const Topology t = machine("NUMANode:2 Core:4 PU:2");
  const Placement p = place(t, "off", 0, 5);
  EXPECT_EQ(p.threads, 5);
  EXPECT_TRUE(p.processors.empty());
  EXPECT_EQ(p.nodes, 0);
  EXPECT_EQ(p.memory_node, -1);
  EXPECT_EQ(place(t, "off", 3).threads, 3);
  EXPECT_EQ(place({}, "off", 0, 2).threads, 2);  // nothing was read
}

TEST(Placement, SpreadGivesEachNodeAsManyAndEachThreadACore) {
  const Topology t = machine("NUMANode:2 Core:4 PU:2");
  // Cores begin at even processors, node 1 at processor 8.
  EXPECT_EQ(place(t, "spread", 1).processors, (Processors{0}));
  EXPECT_EQ(place(t, "spread", 2).processors, (Processors{0, 8}));
  EXPECT_EQ(place(t, "spread", 3).processors, (Processors{0, 2, 8}));
  EXPECT_EQ(place(t, "spread", 6).processors, (Processors{0, 2, 4, 8, 10, 12}));
  EXPECT_EQ(place(t, "spread", 6).nodes, 2);
  EXPECT_EQ(place(t, "spread", 6).memory_node, -1);
  EXPECT_EQ(place(t, "spread", 1).nodes, 1);
  EXPECT_EQ(place(t, "spread", 0).processors, (Processors{0, 2, 4, 6, 8, 10, 12, 14}));
}

TEST(Placement, ByDefaultNoMoreThreadsThanPayElsewhere) {
  const Topology t = machine("NUMANode:2 Core:4 PU:2");
  EXPECT_EQ(place(t, "spread", 0, 4).processors, (Processors{0, 2, 8, 10}));
  EXPECT_EQ(place(t, "1", 0, 3).processors, (Processors{8, 10, 12}));
}

TEST(Placement, HardwareThreadsComeAfterCoresAndSharingLast) {
  const Topology t = machine("NUMANode:2 Core:2 PU:2");
  EXPECT_EQ(place(t, "spread", 5).processors, (Processors{0, 2, 1, 4, 6}));
  EXPECT_EQ(place(t, "spread", 8).processors, (Processors{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(place(t, "spread", 9).processors, (Processors{0, 2, 1, 3, 0, 4, 6, 5, 7}));
}

TEST(Placement, AFullNodeLeavesTheRestToTheOthers) {
  // As an affinity mask may leave it: one core here, three there.
  Topology t;
  t.nodes = {{.index = 0, .cores = 1}, {.index = 2, .cores = 3}};
  t.cores = {{.processor = 5, .node = 0},
             {.processor = 8, .node = 1},
             {.processor = 9, .node = 1},
             {.processor = 10, .node = 1}};
  EXPECT_EQ(place(t, "spread", 2).processors, (Processors{5, 8}));
  EXPECT_EQ(place(t, "spread", 4).processors, (Processors{5, 8, 9, 10}));
}

TEST(Placement, ANodeGivesItsCoresAndItsMemory) {
  const Topology t = machine("NUMANode:2 Core:3 PU:2");
  const Placement p = place(t, "1", 0);
  EXPECT_EQ(p.threads, 3);
  EXPECT_EQ(p.processors, (Processors{6, 8, 10}));
  EXPECT_EQ(p.nodes, 1);
  EXPECT_EQ(p.memory_node, 1);
  EXPECT_EQ(place(t, "0", 7).processors, (Processors{0, 2, 4, 1, 3, 5, 0}));
}

TEST(Placement, OnOneNodeAllStaysAsItIs) {
  const Topology t = machine("NUMANode:1 Core:2 PU:2");
  for (const char* numa : {"0", "spread"}) {
    const Placement p = place(t, numa, 0);
    EXPECT_EQ(p.threads, 2);
    EXPECT_TRUE(p.processors.empty());
    EXPECT_EQ(p.nodes, 0);
    EXPECT_EQ(p.memory_node, -1);
    EXPECT_EQ(place(t, numa, 3).threads, 3);
  }
}

TEST(Placement, ANodeThatIsNotThereIsRefusedWithThoseThatAre) {
  const Topology t = machine("NUMANode:3 Core:1 PU:1");
  const auto placed =
      place_threads(t, {.numa = {.mode = Numa::Mode::kNode, .node = 3}, .threads = 1});
  ASSERT_FALSE(placed.has_value());
  EXPECT_EQ(placed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(placed.error().message.find("--numa 3"), std::string::npos) << placed.error().message;
  EXPECT_NE(placed.error().message.find("0, 1, 2"), std::string::npos) << placed.error().message;
}

TEST(Topology, NoProcessorBelongsToTwoCores) {
  const auto t = read_topology();
  ASSERT_TRUE(t.has_value()) << t.error().message;
  std::set<int> processors;
  for (const auto& core : t->cores) {
    EXPECT_TRUE(processors.insert(core.processor).second) << core.processor;
    for (const int p : core.siblings) EXPECT_TRUE(processors.insert(p).second) << p;
  }
  EXPECT_EQ(processors.size(), static_cast<std::size_t>(t->processors));
}

TEST(BindMemory, MakesTheNodeTheFirstChoiceAndNotTheOnlyOne) {
  const auto t = read_topology();
  ASSERT_TRUE(t.has_value()) << t.error().message;
  const int node = t->nodes[0].index;
  const Status bound = bind_memory(node);
  if (!bound) GTEST_SKIP() << bound.error().message;  // containers and emulators may forbid it
  int policy = -1;
  unsigned long nodes[64] = {};
  constexpr int kBits = 64 * sizeof(unsigned long);
  ASSERT_EQ(
      ::syscall(SYS_get_mempolicy, &policy, nodes, static_cast<unsigned long>(kBits), nullptr, 0ul),
      0);
  // linux/mempolicy.h: MPOL_PREFERRED 1, MPOL_PREFERRED_MANY 5. MPOL_BIND (2) would end a process
  // for which the node is too small.
  EXPECT_TRUE(policy == 1 || policy == 5) << policy;
  EXPECT_NE(nodes[node / 64] >> (node % 64) & 1, 0u);
}

TEST(BindMemory, RefusesANodeThatIsNotThere) {
  const Status bound = bind_memory(4242);
  ASSERT_FALSE(bound.has_value());
  EXPECT_NE(bound.error().message.find("4242"), std::string::npos) << bound.error().message;
}

}  // namespace
}  // namespace fathom::cpu
