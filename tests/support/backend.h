// The backend that a test program asks: the CPU's, or with FATHOM_TEST_CUDA a GPU's. The same tests
// are built for both.
#pragma once

#include <memory>

#include "backend/cpu/cpu_ops.h"
#include "ops/ranks.h"
#ifdef FATHOM_TEST_CUDA
#include "backend/cuda/nccl_communicator.h"
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
inline bool has_fp8_prompts(const OpBackend& ops) { return ops.has_fp8_prompts(); }
// What is left of a sum's precision where prompts take bfloat16.
inline constexpr double kPromptRounding = 1.0 / 128;
#else
inline std::unique_ptr<Ops> make_backend(const CpuOpsOptions& options = {}) {
  return std::make_unique<CpuOps>(options);
}
using OpBackend = CpuOps;
inline bool has_fp8_prompts(const OpBackend&) { return false; }
inline constexpr double kPromptRounding = 0;
#endif

// Tensor parallelism: every rank a backend on a thread of its own. Null if there are too few GPUs.
inline std::unique_ptr<Ops> make_backends(int size, const CpuOpsOptions& options = {}) {
#ifdef FATHOM_TEST_CUDA
  if (size > cuda::device_count()) return nullptr;
  const auto id = cuda::make_nccl_id();
  FATHOM_CHECK(id.has_value()) << id.error().message;
  auto ranks = Ranks::create(size, [&](int r) -> Result<Rank> {
    FATHOM_TRY(auto ops, CudaOps::create({.device = r, .compute = options.compute}));
    FATHOM_TRY(auto communicator, cuda::make_nccl_communicator(*id, r, size, ops->stream()));
    return Rank{std::move(ops), std::move(communicator)};
  });
#else
  auto communicators = make_host_communicators(size);
  auto ranks = Ranks::create(size, [&](int r) -> Result<Rank> {
    return Rank{std::make_unique<CpuOps>(options),
                std::move(communicators[static_cast<std::size_t>(r)])};
  });
#endif
  FATHOM_CHECK(ranks.has_value()) << ranks.error().message;
  return std::make_unique<ParallelOps>(*std::move(ranks));
}

}  // namespace fathom::test
