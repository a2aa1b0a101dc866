// What a file of one instruction set contributes to the probes. Plain data and no library header
// with code in it: a function of the standard library that such a file compiled with its own flags
// could be the one that the linker keeps for the whole program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fathom::cpu {

// What a multiply-add instruction multiplies. One multiply-add is two operations.
enum class ProbeType : uint8_t { kInt8, kBF16, kF32 };

// A loop of one instruction on registers alone.
struct ArithmeticProbe {
  const char* name = "";  // "vpdpbusd zmm"
  ProbeType type = ProbeType::kF32;
  int64_t operations_per_iteration = 0;
  // Runs `iterations` of the loop; the result depends on every one of them.
  float (*run)(int64_t iterations) = nullptr;
};

// How a thread walks through its part of a buffer.
struct ReadPattern {
  const char* name = "";  // "4 streams, zmm"
  // Reads `bytes` (a multiple of kReadUnit) from `data` on, which is 64-byte aligned; if `stride` >
  // 0, in pieces of 4 KiB whose starts are `stride` bytes apart. The result depends on every byte.
  uint64_t (*read)(const std::byte* data, int64_t bytes, int64_t stride) = nullptr;
  bool pages = false;  // the threads take turns, 4 KiB each
};
inline constexpr int64_t kReadUnit = int64_t{1} << 20;

// Arrays that live as long as the program; none where the set is another architecture's. Only a
// processor that has the instructions (probes.cc asks CPUID) may run them.
struct ProbeSet {
  const ArithmeticProbe* arithmetic = nullptr;
  int num_arithmetic = 0;
  const ReadPattern* patterns = nullptr;
  int num_patterns = 0;
};
ProbeSet baseline_probes();
ProbeSet avx2_probes();
ProbeSet avx512_probes();
ProbeSet avx512vnni_probes();
ProbeSet avx512bf16_probes();
ProbeSet avxvnni_probes();
ProbeSet neon_probes();

}  // namespace fathom::cpu
