// The backend that a test program asks: the CPU's, or with FATHOM_TEST_CUDA a GPU's. The same tests
// are built for both.
#pragma once

#include <memory>

#include "backend/cpu/cpu_ops.h"
#include "ops/ranks.h"
#ifdef FATHOM_TEST_CUDA
#include "support/staged_ops.h"
#endif

namespace fathom::test {

// In which a backend gives the logits of the reference: a GPU's tensor cores round their inputs.
#ifdef FATHOM_TEST_CUDA
inline constexpr ComputeType kExactCompute = ComputeType::kF32;
#else
inline constexpr ComputeType kExactCompute = ComputeType::kAuto;
#endif

#ifdef FATHOM_TEST_CUDA
inline std::unique_ptr<CudaOps> make_cuda(const CpuOpsOptions& options) {
  auto ops = CudaOps::create({.compute = options.compute});
  FATHOM_CHECK(ops.has_value()) << ops.error().message;
  return *std::move(ops);
}
// For whole models.
inline std::unique_ptr<Ops> make_backend(const CpuOpsOptions& options = {}) {
  return make_cuda(options);
}
// For single operations on tensors of the host.
class OpBackend : public StagedOps {
 public:
  explicit OpBackend(const CpuOpsOptions& options = {}) : StagedOps(make_cuda(options)) {}
};
#else
inline std::unique_ptr<Ops> make_backend(const CpuOpsOptions& options = {}) {
  return std::make_unique<CpuOps>(options);
}
using OpBackend = CpuOps;
#endif

// Tensor parallelism on the CPU: every rank a CpuOps on a thread of its own.
inline std::unique_ptr<Ops> make_cpu_ranks(int size, const CpuOpsOptions& options = {}) {
  auto communicators = make_host_communicators(size);
  auto ranks = Ranks::create(size, [&](int r) -> Result<Rank> {
    return Rank{std::make_unique<CpuOps>(options),
                std::move(communicators[static_cast<std::size_t>(r)])};
  });
  FATHOM_CHECK(ranks.has_value()) << ranks.error().message;
  return std::make_unique<ParallelOps>(*std::move(ranks));
}

}  // namespace fathom::test
