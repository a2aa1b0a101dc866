// Probes for any processor: the compiler's 16-byte vectors. The floor where nothing better is.
#include "backend/cpu/probes/loops.h"
#include "backend/cpu/probes/probe_set.h"

namespace fathom::cpu {
namespace {

using Words = uint64_t __attribute__((vector_size(16)));
using Floats = float __attribute__((vector_size(16)));

struct Vec {
  using Reg = Words;
  static constexpr int64_t kBytes = 16;
  static Reg load(const std::byte* p) { return *reinterpret_cast<const Reg*>(p); }
  static Reg fold(Reg a, Reg b) { return a ^ b; }
  static Reg zero() { return Reg{}; }
  static uint64_t word(Reg v) { return v[0] ^ v[1]; }
};

struct MultiplyAdd {
  using Reg = Floats;
  using Operand = Floats;
  static Reg start(int i) { return Reg{} + static_cast<float>(i); }
  static Operand operand() {
    Operand a = Operand{} + 0.5f;
    asm volatile("" : "+m"(a));
    return a;
  }
  static Reg step(Reg sum, Operand a) { return sum * a + a; }
  static float value(Reg v) { return v[0] + v[1] + v[2] + v[3]; }
};

constexpr ArithmeticProbe kArithmetic[] = {{.name = "multiply and add, 128 bit",
                                            .type = ProbeType::kF32,
                                            .operations_per_iteration = kChains * 4 * 2,
                                            .run = run_chains<MultiplyAdd>}};
constexpr ReadPattern kPatterns[] = {
    {.name = "1 stream, 128 bit", .read = read_streams<Vec, 1, 0>},
    {.name = "4 streams, 128 bit", .read = read_streams<Vec, 4, 0>},
    {.name = "pages, 128 bit", .read = read_pages<Vec>, .pages = true}};

}  // namespace

ProbeSet baseline_probes() { return {kArithmetic, 1, kPatterns, 3}; }

}  // namespace fathom::cpu
