// Probes with AVX-512 VNNI: products of bytes summed in one instruction.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/cpu/probes/loops.h"
#include "backend/cpu/probes/probe_set.h"

namespace fathom::cpu {

#if defined(__x86_64__)
namespace {

struct Zmm {
  using Reg = __m512i;
  using Operand = __m512i;
  static Reg start(int i) { return _mm512_set1_epi32(i); }
  static Operand operand() { return _mm512_set1_epi8(3); }
  static Reg step(Reg sum, Operand a) { return _mm512_dpbusd_epi32(sum, a, a); }
  static float value(Reg v) { return static_cast<float>(_mm512_cvtsi512_si32(v)); }
};

struct Ymm {
  using Reg = __m256i;
  using Operand = __m256i;
  static Reg start(int i) { return _mm256_set1_epi32(i); }
  static Operand operand() { return _mm256_set1_epi8(3); }
  static Reg step(Reg sum, Operand a) { return _mm256_dpbusd_epi32(sum, a, a); }
  static float value(Reg v) { return static_cast<float>(_mm256_extract_epi32(v, 0)); }
};

constexpr ArithmeticProbe kArithmetic[] = {{.name = "vpdpbusd zmm",
                                            .type = ProbeType::kInt8,
                                            .operations_per_iteration = kChains * 64 * 2,
                                            .run = run_chains<Zmm>},
                                           {.name = "vpdpbusd ymm",
                                            .type = ProbeType::kInt8,
                                            .operations_per_iteration = kChains * 32 * 2,
                                            .run = run_chains<Ymm>}};

}  // namespace

ProbeSet avx512vnni_probes() { return {kArithmetic, 2, nullptr, 0}; }
#else
ProbeSet avx512vnni_probes() { return {}; }
#endif

}  // namespace fathom::cpu
