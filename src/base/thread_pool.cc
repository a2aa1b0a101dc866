#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include "base/check.h"
#include "base/thread_count.h"

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

constexpr uint64_t pack(uint64_t begin, uint64_t end) { return begin | end << 32; }
constexpr uint64_t begin_of(uint64_t range) { return range & 0xFFFFFFFF; }
constexpr uint64_t end_of(uint64_t range) { return range >> 32; }

// Lets the calling thread run on `processors` only. Best effort: they may have gone meanwhile.
void restrict_caller(const std::vector<int>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int p : processors)
    if (p >= 0 && p < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(p), &set);
  if (CPU_COUNT(&set) > 0) pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

}  // namespace

int default_thread_count() {
  const std::vector<int> allowed = allowed_processors();
  if (!allowed.empty()) return usable_cores("", allowed);
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

ThreadPool::ThreadPool(int threads, std::vector<int> processors) : threads_(threads) {
  FATHOM_CHECK_GE(threads, 1);
  ranges_ = std::make_unique<Range[]>(static_cast<std::size_t>(threads));
  const auto place = [processors](int thread) {
    if (!processors.empty())
      restrict_caller({processors[static_cast<std::size_t>(thread) % processors.size()]});
  };
  if (!processors.empty()) caller_processors_ = allowed_processors();
  for (int i = 1; i < threads; ++i) {
    workers_.emplace_back([this, i, place] {
      place(i);
      work(i);
    });
  }
  place(0);
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  workers_.clear();  // joins
  if (!caller_processors_.empty()) restrict_caller(caller_processors_);
}

void ThreadPool::drain_own(int thread) {
  std::atomic<uint64_t>& own = ranges_[static_cast<std::size_t>(thread)].tasks;
  uint64_t range = own.load(std::memory_order_acquire);
  while (begin_of(range) < end_of(range)) {
    if (!own.compare_exchange_weak(range, range + 1, std::memory_order_acq_rel,
                                   std::memory_order_acquire)) {
      continue;
    }
    finish(static_cast<int64_t>(begin_of(range)), thread);
    range = own.load(std::memory_order_acquire);
  }
}

// Runs the last task of another thread's range. Nothing is moved into the thread's own range: a
// worker that comes late to a loop may be here while run() hands out the next one, and what run()
// wrote must not be overwritten. A range that was read and comes back meanwhile is as good.
bool ThreadPool::steal(int thread) {
  for (int i = 1; i < threads_; ++i) {
    const int victim = (thread + i) % threads_;
    std::atomic<uint64_t>& other = ranges_[static_cast<std::size_t>(victim)].tasks;
    uint64_t range = other.load(std::memory_order_acquire);
    while (begin_of(range) < end_of(range)) {
      const uint64_t last = end_of(range) - 1;
      if (!other.compare_exchange_weak(range, pack(begin_of(range), last),
                                       std::memory_order_acq_rel, std::memory_order_acquire)) {
        continue;
      }
      finish(static_cast<int64_t>(last), thread);
      return true;
    }
  }
  return false;
}

void ThreadPool::finish(int64_t task, int thread) {
  call_(context_, task, thread);
  if (done_.fetch_add(1, std::memory_order_acq_rel) == -1) done_.notify_one();
}

void ThreadPool::drain(int thread) {
  do {
    drain_own(thread);
  } while (steal(thread));
}

void ThreadPool::run(int64_t tasks, void* context, Call call) {
  FATHOM_CHECK_LE(tasks, int64_t{UINT32_MAX});
  call_ = call;
  context_ = context;
  // done_ counts up to 0; the last task brings it there.
  done_.store(-tasks, std::memory_order_relaxed);
  for (int64_t i = 0; i < threads_; ++i) {
    ranges_[static_cast<std::size_t>(i)].tasks.store(
        pack(static_cast<uint64_t>(tasks * i / threads_),
             static_cast<uint64_t>(tasks * (i + 1) / threads_)),
        std::memory_order_release);
  }
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
