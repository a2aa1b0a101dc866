#include "ops/ops.h"

namespace fathom {

void Ops::add_rms_norm(const AddRmsNormArgs& args) {
  add({.x = args.x, .delta = args.delta});
  rms_norm({.x = args.x, .weight = args.weight, .eps = args.eps, .out = args.out});
}

void Ops::linears(std::span<const LinearArgs> args) {
  for (const LinearArgs& a : args) linear(a);
}

void Ops::mark(std::string_view, const TensorView&) {}

}  // namespace fathom
