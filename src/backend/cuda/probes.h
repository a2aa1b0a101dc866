// Probes of the GPU: how fast its memory is copied and how fast its tensor cores multiply. What
// speed is compared with (`fathom bench`).
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"

namespace fathom::cuda {

class Probes {
 public:
  // An error if there is no room for what they work on.
  static Result<std::unique_ptr<Probes>> create();
  ~Probes();
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;

  int64_t buffer_bytes() const;
  // Bytes read and written a second while memory is copied: the best of some runs.
  double copy_bytes_per_second();
  // Operations a second of a bfloat16 product of 8192 × 8192 matrices of random numbers.
  double matrix_operations();

 private:
  Probes() = default;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::cuda
