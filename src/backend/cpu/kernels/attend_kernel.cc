// Whether this machine can run the attention of attend.h.
#include "backend/cpu/kernels/attend.h"

namespace fathom::cpu {

#if defined(__x86_64__)
extern const AttendKernel kAttendAvx512Bf16;

const AttendKernel* attend_kernel() {
  static const bool supported =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bf16");
  return supported ? &kAttendAvx512Bf16 : nullptr;
}
#else
const AttendKernel* attend_kernel() { return nullptr; }
#endif

}  // namespace fathom::cpu
