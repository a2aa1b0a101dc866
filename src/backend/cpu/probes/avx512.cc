// Probes with AVX-512 F and BW: reading, and multiply-adds of floats.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/cpu/probes/loops.h"
#include "backend/cpu/probes/probe_set.h"

namespace fathom::cpu {

#if defined(__x86_64__)
namespace {

struct Vec {
  using Reg = __m512i;
  static constexpr int64_t kBytes = 64;
  static Reg load(const std::byte* p) { return _mm512_load_si512(p); }
  static Reg fold(Reg a, Reg b) { return _mm512_xor_si512(a, b); }
  static Reg zero() { return _mm512_setzero_si512(); }
  static uint64_t word(Reg v) {
    alignas(64) uint64_t words[8];
    _mm512_store_si512(words, v);
    return words[0] ^ words[7];
  }
};

struct Fma {
  using Reg = __m512;
  using Operand = __m512;
  static Reg start(int i) { return _mm512_set1_ps(static_cast<float>(i)); }
  static Operand operand() { return _mm512_set1_ps(0.5f); }
  static Reg step(Reg sum, Operand a) { return _mm512_fmadd_ps(sum, a, a); }
  static float value(Reg v) { return _mm512_cvtss_f32(v); }
};

constexpr ArithmeticProbe kArithmetic[] = {{.name = "vfmadd zmm",
                                            .type = ProbeType::kF32,
                                            .operations_per_iteration = kChains * 16 * 2,
                                            .run = run_chains<Fma>}};
constexpr ReadPattern kPatterns[] = {
    {.name = "1 stream, zmm", .read = read_streams<Vec, 1, 0>},
    {.name = "1 stream, prefetch 1 KiB, zmm", .read = read_streams<Vec, 1, 1024>},
    {.name = "1 stream, prefetch 4 KiB, zmm", .read = read_streams<Vec, 1, 4096>},
    {.name = "2 streams, zmm", .read = read_streams<Vec, 2, 0>},
    {.name = "4 streams, zmm", .read = read_streams<Vec, 4, 0>},
    {.name = "8 streams, zmm", .read = read_streams<Vec, 8, 0>},
    {.name = "4 streams, prefetch 1 KiB, zmm", .read = read_streams<Vec, 4, 1024>},
    {.name = "pages, zmm", .read = read_pages<Vec>, .pages = true}};

}  // namespace

ProbeSet avx512_probes() { return {kArithmetic, 1, kPatterns, 8}; }
#else
ProbeSet avx512_probes() { return {}; }
#endif

}  // namespace fathom::cpu
