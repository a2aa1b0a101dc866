#include "backend/cpu/round_inputs.h"

#include <algorithm>
#include <cmath>

#include "tensor/float_formats.h"

namespace fathom::cpu {

void round_inputs(ComputeType type, const float* x, int64_t n, float* out) {
  switch (type) {
    case ComputeType::kF32:
      std::copy_n(x, n, out);
      return;
    case ComputeType::kBF16:
      for (int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(f32_to_bf16(x[i]));
      return;
    case ComputeType::kInt8:
      for (int64_t b = 0; b < n; b += kInt8Block) {
        const int64_t end = std::min(b + kInt8Block, n);
        float max = 0;
        for (int64_t i = b; i < end; ++i) max = std::max(max, std::fabs(x[i]));
        const float scale = max / 127.0f;
        const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
        for (int64_t i = b; i < end; ++i) out[i] = std::nearbyint(x[i] * inverse) * scale;
      }
      return;
  }
}

}  // namespace fathom::cpu
