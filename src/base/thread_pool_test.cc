// Tests of the thread pool: every task once, by a thread of the team, however the system runs them.
// They mean most under the thread sanitizer (preset tsan).
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "base/thread_count.h"

namespace fathom {
namespace {

TEST(ThreadPoolTest, EveryTaskOnceByAThreadOfTheTeam) {
  for (const int threads : {1, 2, 3, 4, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      // Plain integers: tasks of one loop may not share one, and the caller reads them after it.
      std::vector<int> runs(static_cast<std::size_t>(tasks), 0);
      std::vector<int> by(static_cast<std::size_t>(tasks), -1);
      pool.parallel_for(tasks, [&](int64_t task, int thread) {
        ++runs[static_cast<std::size_t>(task)];
        by[static_cast<std::size_t>(task)] = thread;
      });
      for (std::size_t i = 0; i < runs.size(); ++i) {
        ASSERT_EQ(runs[i], 1) << "task " << i << " of " << tasks << ", " << threads << " threads";
        ASSERT_GE(by[i], 0);
        ASSERT_LT(by[i], threads);
      }
    }
  }
}

TEST(ThreadPoolTest, NegativeCountsRunNothing) {
  ThreadPool pool(2);
  pool.parallel_for(-3, [](int64_t, int) { FAIL(); });
}

// A loop sees what the loops before it wrote, and its own variables die with it: a worker that is
// late for one loop may not touch its function in the next.
TEST(ThreadPoolTest, ManyTinyLoops) {
  for (const int threads : {1, 2, 3, 4}) {
    ThreadPool pool(threads);
    std::vector<int64_t> sums(5, 0);
    int64_t expected = 0;
    for (int64_t loop = 0; loop < 25'000; ++loop) {
      const int64_t tasks = 1 + loop % 5, value = loop;
      expected += tasks * value;
      pool.parallel_for(tasks, [&sums, value](int64_t task, int) {
        sums[static_cast<std::size_t>(task)] += value;
      });
    }
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), expected)
        << threads << " threads";
  }
}

// Tasks long enough that the workers take their share, of uneven length.
TEST(ThreadPoolTest, UnevenTasks) {
  ThreadPool pool(4);
  std::vector<int64_t> sums(16, 0), by_thread(4, 0);
  for (int64_t loop = 0; loop < 500; ++loop) {
    pool.parallel_for(16, [&](int64_t task, int thread) {
      uint64_t x = static_cast<uint64_t>(loop * 16 + task) | 1;
      for (int64_t i = (loop * 7 + task * 13) % 40 * 100; i > 0; --i)
        x = x * 6364136223846793005 + 1;
      sums[static_cast<std::size_t>(task)] += x == 0 ? 0 : 1;
      ++by_thread[static_cast<std::size_t>(thread)];
    });
  }
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), 500 * 16);
  EXPECT_EQ(std::accumulate(by_thread.begin(), by_thread.end(), int64_t{0}), 500 * 16);
}

// More threads than CPUs: late workers are the rule.
TEST(ThreadPoolTest, Oversubscribed) {
  ThreadPool pool(4 * default_thread_count() > 8 ? 4 * default_thread_count() : 8);
  std::vector<int64_t> counts(33, 0);
  constexpr int kLoops = 2'000;
  for (int loop = 0; loop < kLoops; ++loop)
    pool.parallel_for(33, [&](int64_t task, int) { ++counts[static_cast<std::size_t>(task)]; });
  for (const int64_t count : counts) EXPECT_EQ(count, kLoops);
}

// Pauses between loops and slow tasks let workers and caller fall asleep; all wake up again.
TEST(ThreadPoolTest, WakesAfterSleep) {
  using std::chrono::milliseconds;
  ThreadPool pool(3);
  for (int loop = 0; loop < 20; ++loop) {
    std::this_thread::sleep_for(milliseconds(loop % 4));
    std::vector<int> runs(6, 0);
    pool.parallel_for(6, [&](int64_t task, int thread) {
      if (thread != 0) std::this_thread::sleep_for(milliseconds(2));
      ++runs[static_cast<std::size_t>(task)];
    });
    EXPECT_EQ(runs, std::vector<int>(6, 1));
  }
}

TEST(ThreadPoolTest, ComesAndGoes) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(1 + i % 5);
    int64_t runs[3] = {};
    if (i % 3 != 0) pool.parallel_for(3, [&](int64_t task, int) { ++runs[task]; });
    for (const int64_t r : runs) EXPECT_EQ(r, i % 3 != 0);
  }
}

TEST(ThreadPoolTest, PinsItsThreadsAndLetsTheCallerGo) {
  const std::vector<int> before = allowed_processors();
  ASSERT_FALSE(before.empty());
  const std::vector<int> wanted = {before.back(), before.front()};
  {
    ThreadPool pool(3, wanted);
    // Threads take what is left of each other's tasks: all are asked for, few may answer.
    std::vector<std::vector<int>> seen(3);
    pool.parallel_for(300, [&](int64_t, int thread) {
      seen[static_cast<std::size_t>(thread)] = allowed_processors();
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    });
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (!seen[i].empty()) {
        EXPECT_EQ(seen[i], std::vector<int>{wanted[i % 2]}) << "thread " << i;
      }
    }
    EXPECT_EQ(allowed_processors(), std::vector<int>{wanted[0]});
  }
  EXPECT_EQ(allowed_processors(), before);
  // A processor that is not there leaves its thread where it was.
  ThreadPool pool(1, {100'000});
  EXPECT_EQ(allowed_processors(), before);
}

TEST(ThreadPoolTest, DefaultCountIsAtLeastOne) { EXPECT_GE(default_thread_count(), 1); }

}  // namespace
}  // namespace fathom
