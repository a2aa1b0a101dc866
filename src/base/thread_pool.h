// ThreadPool: a fixed team of threads that runs short parallel loops, thousands of times a second.
//
// Workers spin briefly after a loop, since the next one is usually microseconds away, and then
// sleep. Tasks are handed out one by one, because shared machines stall a core now and then.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace fathom {

class ThreadPool {
 public:
  // `threads` >= 1, the calling thread included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(task, thread) for every task in [0, tasks), thread in [0, num_threads()); returns when
  // all are done. One loop at a time, from one thread; f must not call the pool.
  template <typename F>
  void parallel_for(int64_t tasks, F&& f) {
    if (tasks <= 0) return;
    if (tasks == 1 || workers_.empty()) {
      for (int64_t i = 0; i < tasks; ++i) f(i, 0);
      return;
    }
    run(tasks, const_cast<void*>(static_cast<const void*>(&f)),
        [](void* context, int64_t task, int thread) {
          (*static_cast<std::remove_reference_t<F>*>(context))(task, thread);
        });
  }

 private:
  using Call = void (*)(void* context, int64_t task, int thread);
  void run(int64_t tasks, void* context, Call call);
  void work(int thread);
  void drain(int thread);

  std::vector<std::jthread> workers_;
  // The loop in progress. Whoever holds one of its tasks may read these: they change only when all
  // tasks are done. A worker that comes late finds no task and touches nothing, so nobody waits for
  // it.
  Call call_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<int64_t> left_{0};  // tasks not handed out; <= 0: none
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<bool> stop_{false};
};

// Threads that the program uses unless told otherwise: the CPUs this process may run on.
int default_thread_count();

}  // namespace fathom
