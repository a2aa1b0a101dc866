// Probes with AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/cpu/probes/loops.h"
#include "backend/cpu/probes/probe_set.h"

namespace fathom::cpu {

#if defined(__x86_64__)
namespace {

struct Vec {
  using Reg = __m256i;
  static constexpr int64_t kBytes = 32;
  static Reg load(const std::byte* p) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Reg fold(Reg a, Reg b) { return _mm256_xor_si256(a, b); }
  static Reg zero() { return _mm256_setzero_si256(); }
  static uint64_t word(Reg v) {
    return static_cast<uint64_t>(_mm256_extract_epi64(v, 0)) ^
           static_cast<uint64_t>(_mm256_extract_epi64(v, 3));
  }
};

// The three instructions that add 32 products of bytes to 8 sums.
struct ByteProducts {
  using Reg = __m256i;
  using Operand = __m256i;
  static Reg start(int i) { return _mm256_set1_epi32(i); }
  static Operand operand() { return _mm256_set1_epi8(3); }
  static Reg step(Reg sum, Operand a) {
    asm volatile("" : "+x"(a));  // else the products would be taken out of the loop
    const __m256i pairs = _mm256_maddubs_epi16(a, a);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, a));
  }
  static float value(Reg v) { return static_cast<float>(_mm256_extract_epi32(v, 0)); }
};

struct Fma {
  using Reg = __m256;
  using Operand = __m256;
  static Reg start(int i) { return _mm256_set1_ps(static_cast<float>(i)); }
  static Operand operand() { return _mm256_set1_ps(0.5f); }
  static Reg step(Reg sum, Operand a) { return _mm256_fmadd_ps(sum, a, a); }
  static float value(Reg v) { return _mm256_cvtss_f32(v); }
};

constexpr ArithmeticProbe kArithmetic[] = {{.name = "vpmaddubsw+vpmaddwd+vpaddd ymm",
                                            .type = ProbeType::kInt8,
                                            .operations_per_iteration = kChains * 32 * 2,
                                            .run = run_chains<ByteProducts>},
                                           {.name = "vfmadd ymm",
                                            .type = ProbeType::kF32,
                                            .operations_per_iteration = kChains * 8 * 2,
                                            .run = run_chains<Fma>}};
constexpr ReadPattern kPatterns[] = {
    {.name = "1 stream, ymm", .read = read_streams<Vec, 1, 0>},
    {.name = "1 stream, prefetch 1 KiB, ymm", .read = read_streams<Vec, 1, 1024>},
    {.name = "4 streams, ymm", .read = read_streams<Vec, 4, 0>},
    {.name = "pages, ymm", .read = read_pages<Vec>, .pages = true}};

}  // namespace

ProbeSet avx2_probes() { return {kArithmetic, 2, kPatterns, 4}; }
#else
ProbeSet avx2_probes() { return {}; }
#endif

}  // namespace fathom::cpu
