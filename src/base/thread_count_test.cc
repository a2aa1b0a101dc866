// Tests of the default number of threads, on made-up machines.
#include "base/thread_count.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/thread_pool.h"

namespace fathom {
namespace {

// A directory with the files of a machine. ctest runs each test in a process of its own, side by
// side.
class Machine {
 public:
  Machine() : root_(::testing::TempDir() + "/machine." + std::to_string(::getpid())) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  ~Machine() { std::filesystem::remove_all(root_); }
  void file(const std::string& path, const std::string& content) {
    const std::filesystem::path full = root_ + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << content << "\n";
  }
  // Processors 2i and 2i + 1 are the threads of core i.
  void pairs(int processors) {
    for (int i = 0; i < processors; ++i) {
      file("/sys/devices/system/cpu/cpu" + std::to_string(i) + "/topology/thread_siblings_list",
           std::to_string(i / 2 * 2) + "-" + std::to_string(i / 2 * 2 + 1));
    }
  }
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

TEST(ThreadCountTest, CountsCoresNotHardwareThreads) {
  Machine m;
  m.pairs(8);
  EXPECT_EQ(usable_cores(m.root(), {0, 1, 2, 3, 4, 5, 6, 7}), 4);
  EXPECT_EQ(usable_cores(m.root(), {0, 2, 3}), 2);
  EXPECT_EQ(usable_cores(m.root(), {5}), 1);
}

TEST(ThreadCountTest, WithoutTopologyEveryProcessorCounts) {
  const Machine m;
  EXPECT_EQ(usable_cores(m.root(), {0, 1, 2}), 3);
  EXPECT_EQ(usable_cores(m.root(), {}), 1);
}

TEST(ThreadCountTest, QuotaOfVersion2) {
  Machine m;
  m.pairs(16);
  const std::vector<int> all = {0, 2, 4, 6, 8, 10, 12, 14};
  m.file("/sys/fs/cgroup/cpu.max", "max 100000");
  EXPECT_EQ(usable_cores(m.root(), all), 8);
  m.file("/sys/fs/cgroup/cpu.max", "350000 100000");
  EXPECT_EQ(usable_cores(m.root(), all), 3);
  m.file("/sys/fs/cgroup/cpu.max", "50000 100000");
  EXPECT_EQ(usable_cores(m.root(), all), 1);
}

// The smallest of the group's own quota and those of the groups above it.
TEST(ThreadCountTest, QuotaOfTheOwnGroupAndItsParents) {
  Machine m;
  m.pairs(16);
  const std::vector<int> all = {0, 2, 4, 6, 8, 10, 12, 14};
  m.file("/proc/self/cgroup", "0::/user.slice/own");
  m.file("/sys/fs/cgroup/user.slice/cpu.max", "600000 100000");
  m.file("/sys/fs/cgroup/user.slice/own/cpu.max", "max 100000");
  EXPECT_EQ(usable_cores(m.root(), all), 6);
  m.file("/sys/fs/cgroup/user.slice/own/cpu.max", "200000 100000");
  EXPECT_EQ(usable_cores(m.root(), all), 2);
}

TEST(ThreadCountTest, QuotaOfVersion1) {
  Machine m;
  m.pairs(16);
  const std::vector<int> all = {0, 2, 4, 6, 8, 10, 12, 14};
  m.file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  m.file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
  EXPECT_EQ(usable_cores(m.root(), all), 8);
  m.file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000");
  EXPECT_EQ(usable_cores(m.root(), all), 4);
}

TEST(ThreadCountTest, ThisMachine) {
  EXPECT_GE(default_thread_count(), 1);
  EXPECT_LE(static_cast<std::size_t>(default_thread_count()), allowed_processors().size());
}

}  // namespace
}  // namespace fathom
