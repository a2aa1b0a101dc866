// Probes with AVX-512 BF16: products of bfloat16 values summed in one instruction.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/cpu/probes/loops.h"
#include "backend/cpu/probes/probe_set.h"

namespace fathom::cpu {

#if defined(__x86_64__)
namespace {

struct Zmm {
  using Reg = __m512;
  using Operand = __m512bh;
  static Reg start(int i) { return _mm512_set1_ps(static_cast<float>(i)); }
  static Operand operand() {
    const __m512 ones = _mm512_set1_ps(1.0f);
    return _mm512_cvtne2ps_pbh(ones, ones);
  }
  static Reg step(Reg sum, Operand a) { return _mm512_dpbf16_ps(sum, a, a); }
  static float value(Reg v) { return _mm512_cvtss_f32(v); }
};

constexpr ArithmeticProbe kArithmetic[] = {{.name = "vdpbf16ps zmm",
                                            .type = ProbeType::kBF16,
                                            .operations_per_iteration = kChains * 32 * 2,
                                            .run = run_chains<Zmm>}};

}  // namespace

ProbeSet avx512bf16_probes() { return {kArithmetic, 1, nullptr, 0}; }
#else
ProbeSet avx512bf16_probes() { return {}; }
#endif

}  // namespace fathom::cpu
