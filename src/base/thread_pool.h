// ThreadPool: a fixed team of threads that runs short parallel loops, thousands of times a second.
//
// Workers spin briefly after a loop, since the next one is usually microseconds away, and then
// sleep. Each thread starts on a range of neighbouring tasks, which read neighbouring memory, and
// takes the last of another's when it is done: shared machines stall a core now and then. How many
// threads pay is thread_count's business, which processors they run on the caller's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace fathom {

class ThreadPool {
 public:
  // `threads` >= 1, the calling thread included. With `processors`, thread i is pinned to processor
  // processors[i % size], the calling thread (0) until the pool ends; a processor that the system
  // refuses leaves its thread where it is.
  explicit ThreadPool(int threads, std::vector<int> processors = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return threads_; }

  // Calls f(task, thread) for every task in [0, tasks), tasks < 2^32, thread in [0, num_threads());
  // returns when all are done. One loop at a time, from one thread; f must not call the pool.
  template <typename F>
  void parallel_for(int64_t tasks, F&& f) {
    if (tasks <= 0) return;
    if (tasks == 1 || threads_ == 1) {
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
  // The tasks that a thread has yet to start: [low half, high half). It takes the first, others the
  // last.
  struct alignas(64) Range {
    std::atomic<uint64_t> tasks{0};
  };

  void run(int64_t tasks, void* context, Call call);
  void work(int thread);
  void drain(int thread);
  void drain_own(int thread);
  bool steal(int thread);
  void finish(int64_t task, int thread);

  const int threads_;
  std::vector<std::jthread> workers_;
  std::vector<int> caller_processors_;  // where the calling thread may run when the pool ends
  std::unique_ptr<Range[]> ranges_;     // one per thread
  // The loop in progress. Whoever holds one of its tasks may read these: they change only when all
  // tasks are done. A worker that comes late finds no task and touches nothing, so nobody waits for
  // it.
  Call call_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<bool> stop_{false};
};

// Threads that the program uses unless told otherwise (thread_count.h).
int default_thread_count();

}  // namespace fathom
