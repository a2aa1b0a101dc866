// Probes with NEON and its dot product (Armv8.2).
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "backend/cpu/probes/loops.h"
#include "backend/cpu/probes/probe_set.h"

namespace fathom::cpu {

#if defined(__aarch64__)
namespace {

struct Vec {
  using Reg = uint64x2_t;
  static constexpr int64_t kBytes = 16;
  static Reg load(const std::byte* p) { return vld1q_u64(reinterpret_cast<const uint64_t*>(p)); }
  static Reg fold(Reg a, Reg b) { return veorq_u64(a, b); }
  static Reg zero() { return vdupq_n_u64(0); }
  static uint64_t word(Reg v) { return vgetq_lane_u64(v, 0) ^ vgetq_lane_u64(v, 1); }
};

struct Sdot {
  using Reg = int32x4_t;
  using Operand = int8x16_t;
  static Reg start(int i) { return vdupq_n_s32(i); }
  static Operand operand() { return vdupq_n_s8(3); }
  static Reg step(Reg sum, Operand a) { return vdotq_s32(sum, a, a); }
  static float value(Reg v) { return static_cast<float>(vgetq_lane_s32(v, 0)); }
};

struct Fmla {
  using Reg = float32x4_t;
  using Operand = float32x4_t;
  static Reg start(int i) { return vdupq_n_f32(static_cast<float>(i)); }
  static Operand operand() { return vdupq_n_f32(0.0f); }
  static Reg step(Reg sum, Operand a) { return vfmaq_f32(sum, a, a); }
  static float value(Reg v) { return vgetq_lane_f32(v, 0); }
};

constexpr ArithmeticProbe kArithmetic[] = {{.name = "sdot",
                                            .type = ProbeType::kInt8,
                                            .operations_per_iteration = kChains * 16 * 2,
                                            .run = run_chains<Sdot>},
                                           {.name = "fmla",
                                            .type = ProbeType::kF32,
                                            .operations_per_iteration = kChains * 4 * 2,
                                            .run = run_chains<Fmla>}};
constexpr ReadPattern kPatterns[] = {
    {.name = "4 streams, neon", .read = read_streams<Vec, 4, 0>},
    {.name = "4 streams, prefetch 1 KiB, neon", .read = read_streams<Vec, 4, 1024>}};

}  // namespace

ProbeSet neon_probes() { return {kArithmetic, 2, kPatterns, 2}; }
#else
ProbeSet neon_probes() { return {}; }
#endif

}  // namespace fathom::cpu
