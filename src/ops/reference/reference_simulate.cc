// ReferenceOps: values rounded to what a short type would hold.
#include <bit>

#include "ops/reference/reference_ops.h"
#include "ops/reference/reference_support.h"
#include "tensor/float_formats.h"

namespace fathom {
namespace reference {
namespace {

void hadamard(std::span<float> x) {
  const std::vector<float> in(x.begin(), x.end());
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(in.size())));
  for (std::size_t i = 0; i < in.size(); ++i) {
    float sum = 0;
    for (std::size_t j = 0; j < in.size(); ++j)
      sum += std::popcount(i & j) % 2 == 0 ? in[j] : -in[j];
    x[i] = sum * scale;
  }
}

// The codes of a type ascend with their magnitudes: the nearest, of two as near the even one.
double nearest(double magnitude, SimulatedType type) {
  const bool fp8 = type == SimulatedType::kFp8;
  const int last = fp8 ? 126 : 7;
  const auto value = [&](int code) {
    const auto c = static_cast<uint8_t>(code);
    return static_cast<double>(fp8 ? f8e4m3_to_f32(c) : f4e2m1_to_f32(c));
  };
  int best = 0;
  for (int code = 1; code <= last; ++code) {
    const double now = std::fabs(value(code) - magnitude),
                 before = std::fabs(value(best) - magnitude);
    if (now < before || (now == before && code % 2 == 0)) best = code;
  }
  return value(best);
}

void round_block(std::span<float> x, const Simulation& s) {
  double amax = s.least_amax();
  for (const float v : x) {
    if (!std::isfinite(v)) return;
    amax = std::max(amax, std::fabs(static_cast<double>(v)));
  }
  double scale = std::exp2(std::floor(std::log2(amax / s.max())));
  if (scale < amax / s.max()) scale *= 2;
  for (float& v : x) {
    const double magnitude = nearest(std::fabs(static_cast<double>(v)) / scale, s.type) * scale;
    v = std::copysign(static_cast<float>(magnitude), v);
  }
}

}  // namespace

void simulate_row(std::span<float> x, const Simulation& s) {
  if (s.hadamard) hadamard(x);
  if (s.type == SimulatedType::kNone) return;
  for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(s.block))
    round_block(x.subspan(i, std::min(static_cast<std::size_t>(s.block), x.size() - i)), s);
}

}  // namespace reference

void ReferenceOps::simulate(const SimulateArgs& args) {
  for (int64_t t = 0; t < args.x.rows; ++t)
    reference::simulate_row({args.x.f32(t), static_cast<std::size_t>(args.x.cols)},
                            args.simulation);
}

}  // namespace fathom
