// The block_dot kernels that this machine can run.
#include <vector>

#include "backend/cpu/kernels/block_dot.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace fathom::cpu {
namespace {

#if defined(__x86_64__)
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

std::vector<BlockDotKernel> supported() {
  std::vector<BlockDotKernel> out;
#if defined(__x86_64__)
  // These also ask whether the system saves the registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni"))
    out.push_back({block_dot_avx512, "avx512-vnni"});
  if (avx2 && has_avxvnni()) out.push_back({block_dot_avxvnni, "avx-vnni"});
  if (avx2) out.push_back({block_dot_avx2, "avx2"});
#elif defined(__aarch64__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) out.push_back({block_dot_neon, "neon-dotprod"});
#endif
  out.push_back({block_dot_portable, "portable"});
  return out;
}

}  // namespace

std::span<const BlockDotKernel> block_dot_kernels() {
  static const std::vector<BlockDotKernel> kernels = supported();
  return kernels;
}

int64_t bytes_asked_ahead() {
#if defined(__x86_64__)
  static const int64_t bytes = __builtin_cpu_is("amd") ? 4096 : 1024;
  return bytes;
#else
  return 1024;
#endif
}

}  // namespace fathom::cpu
