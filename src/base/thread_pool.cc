#include "base/thread_pool.h"

#include <sched.h>

#include "base/check.h"

namespace fathom {
namespace {

// About 30 µs of pauses on the machines this was tuned on: longer than the gap between two loops of
// a decode step, shorter than a scheduler's time slice.
constexpr int kSpins = 1000;

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins, then sleeps, until `value` differs from `old`. Returns the new value.
template <typename T>
T wait_for_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    pause_cpu();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

int default_thread_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

ThreadPool::ThreadPool(int threads) {
  FATHOM_CHECK_GE(threads, 1);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  workers_.clear();  // joins
}

void ThreadPool::drain(int thread) {
  for (;;) {
    const int64_t left = left_.fetch_sub(1, std::memory_order_acq_rel);
    if (left <= 0) return;
    call_(context_, left - 1, thread);
    if (done_.fetch_add(1, std::memory_order_acq_rel) == -1) done_.notify_one();
  }
}

void ThreadPool::run(int64_t tasks, void* context, Call call) {
  call_ = call;
  context_ = context;
  // done_ counts up to 0; the last task brings it there.
  done_.store(-tasks, std::memory_order_relaxed);
  left_.store(tasks, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  drain(0);
  for (int64_t done = done_.load(std::memory_order_acquire); done != 0;)
    done = wait_for_change(done_, done);
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    seen = wait_for_change(generation_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    drain(thread);
  }
}

}  // namespace fathom
