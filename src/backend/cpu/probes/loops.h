// The probes' loops, written once for any vector type V. A file of an instruction set instantiates
// them with a type of its own anonymous namespace, so that no two files share a function.
//
// V::Reg, V::kBytes, V::load(const std::byte*), V::fold(Reg, Reg) (any function of both),
// V::zero(), V::word(Reg) (any function of the register).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fathom::cpu {

inline constexpr int64_t kLine = 64;    // bytes of a cache line
inline constexpr int64_t kPage = 4096;  // bytes of a small page: hardware prefetchers stop there

// Independent chains of one instruction: more than latency × throughput anywhere so far.
inline constexpr int kChains = 12;

template <class V>
inline __attribute__((always_inline)) void read_line(const std::byte* p, typename V::Reg* sums) {
  constexpr int kLoads = static_cast<int>(kLine / V::kBytes);
#pragma GCC unroll 4
  for (int i = 0; i < kLoads; ++i) sums[i] = V::fold(sums[i], V::load(p + i * V::kBytes));
}

// kStreams equal parts of the range side by side, a line of each in turn; kAhead bytes ahead of
// each a software prefetch (0: none).
template <class V, int kStreams, int64_t kAhead>
uint64_t read_streams(const std::byte* data, int64_t bytes, int64_t) {
  constexpr int kLoads = static_cast<int>(kLine / V::kBytes);
  typename V::Reg sums[kLoads];
  for (auto& sum : sums) sum = V::zero();
  const int64_t part = bytes / kStreams;
  for (int64_t i = 0; i < part; i += kLine) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) {
      const std::byte* p = data + s * part + i;
      if constexpr (kAhead > 0) __builtin_prefetch(p + kAhead, 0, 3);
      read_line<V>(p, sums);
    }
  }
  for (int i = 1; i < kLoads; ++i) sums[0] = V::fold(sums[0], sums[i]);
  return V::word(sums[0]);
}

// Pages `stride` bytes apart; while one is read, the next is prefetched.
template <class V>
uint64_t read_pages(const std::byte* data, int64_t bytes, int64_t stride) {
  constexpr int kLoads = static_cast<int>(kLine / V::kBytes);
  typename V::Reg sums[kLoads];
  for (auto& sum : sums) sum = V::zero();
  for (int64_t done = 0; done < bytes; done += kPage, data += stride) {
    for (int64_t i = 0; i < kPage; i += kLine) {
      __builtin_prefetch(data + stride + i, 0, 3);
      read_line<V>(data + i, sums);
    }
  }
  for (int i = 1; i < kLoads; ++i) sums[0] = V::fold(sums[0], sums[i]);
  return V::word(sums[0]);
}

// kChains accumulators through V::step(Reg accumulator, Reg operand); V::start(i), V::value(Reg).
template <class V>
float run_chains(int64_t iterations) {
  typename V::Reg sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = V::start(i);
  typename V::Operand a = V::operand();
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = V::step(sums[i], a);
  }
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += V::value(sums[i]);
  return total;
}

}  // namespace fathom::cpu
