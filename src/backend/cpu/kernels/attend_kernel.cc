// Which attention kernel serves.
#include "backend/cpu/kernels/attend.h"

namespace fathom::cpu {

extern const AttendKernel kAttendAny;

#if defined(__x86_64__)
extern const AttendKernel kAttendAvx512Bf16;

const AttendKernel& attend_kernel(const AttendNeeds& needs) {
  // Only where the instruction is fast: on two cores of a Xeon of 2023 vdpbf16ps does 170 Gflop/s,
  // plain float32 350; on a Zen 4 448 against 230 (`fathom bench` prints both).
  static const bool supported =
      __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16");
  const bool fits = needs.dtype == DType::kBF16 && needs.page_tokens == 64 &&
                    needs.key_dim % 2 == 0 && needs.value_dim % 32 == 0;
  return supported && fits ? kAttendAvx512Bf16 : kAttendAny;
}
#else
const AttendKernel& attend_kernel(const AttendNeeds&) { return kAttendAny; }
#endif

}  // namespace fathom::cpu
