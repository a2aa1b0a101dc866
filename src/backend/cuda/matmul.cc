#include "backend/cuda/matmul.h"

#include <cublasLt.h>

#include <map>
#include <tuple>

#include "backend/cuda/device.h"

namespace fathom::cuda {
namespace {

#define FATHOM_CUBLAS_CHECK(call)                                                    \
  do {                                                                               \
    const cublasStatus_t status_ = (call);                                           \
    FATHOM_CHECK(status_ == CUBLAS_STATUS_SUCCESS)                                   \
        << "cuBLASLt: " << cublasLtGetStatusString(status_) << " (" << #call << ")"; \
  } while (false)

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
// The number of rows that algorithms are chosen for.
constexpr uint64_t kTypicalRows = 2048;

}  // namespace

struct Matmul::State {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t plain = nullptr, with_bias = nullptr;
  void* workspace = nullptr;
  std::map<std::tuple<int64_t, int64_t, int64_t, bool, bool>, cublasLtMatmulAlgo_t> algorithms;
};

namespace {

// A row-major matrix is what cuBLASLt calls its transpose.
class Layout {
 public:
  Layout(cudaDataType_t type, int64_t rows, int64_t cols, int64_t stride) {
    FATHOM_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout_, type, static_cast<uint64_t>(cols),
                                                   static_cast<uint64_t>(rows), stride));
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

}  // namespace

Matmul::Matmul() : state_(std::make_unique<State>()) {
  State& s = *state_;
  FATHOM_CUBLAS_CHECK(cublasLtCreate(&s.handle));
  for (cublasLtMatmulDesc_t* operation : {&s.plain, &s.with_bias}) {
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescCreate(operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(*operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                       &transposed, sizeof(transposed)));
  }
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(s.with_bias, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                     &epilogue, sizeof(epilogue)));
  const cudaDataType_t bias_type = CUDA_R_32F;
  FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(
      s.with_bias, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof(bias_type)));
  FATHOM_CUDA_CHECK(cudaMalloc(&s.workspace, kWorkspaceBytes));
}

Matmul::~Matmul() {
  cudaFree(state_->workspace);
  cublasLtMatmulDescDestroy(state_->plain);
  cublasLtMatmulDescDestroy(state_->with_bias);
  cublasLtDestroy(state_->handle);
}

bool Matmul::run(const Product& p, cudaStream_t stream) {
  State& s = *state_;
  const auto key = std::tuple(p.in, p.columns, p.out_stride, p.bf16_out, p.bias != nullptr);
  const cublasLtMatmulDesc_t operation = p.bias != nullptr ? s.with_bias : s.plain;
  if (p.bias != nullptr) {
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                       &p.bias, sizeof(p.bias)));
  }
  const cudaDataType_t type = p.bf16_out ? CUDA_R_16BF : CUDA_R_32F;
  auto found = s.algorithms.find(key);
  if (found == s.algorithms.end()) {
    const Layout weight(CUDA_R_16BF, p.columns, p.in, p.in);
    const Layout x(CUDA_R_16BF, kTypicalRows, p.in, p.in);
    const Layout out(type, kTypicalRows, p.columns, p.out_stride);
    cublasLtMatmulPreference_t preference = nullptr;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    FATHOM_CUBLAS_CHECK(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &kWorkspaceBytes, sizeof(kWorkspaceBytes)));
    const uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &none, sizeof(none)));
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        s.handle, operation, weight, x, out, out, preference, 1, &best, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    if (p.bias != nullptr && (status != CUBLAS_STATUS_SUCCESS || count == 0)) return false;
    FATHOM_CUBLAS_CHECK(status);
    FATHOM_CHECK(count == 1) << p.in << " to " << p.columns;
    found = s.algorithms.emplace(key, best.algo).first;
  }
  const Layout weight(CUDA_R_16BF, p.columns, p.in, p.in);
  const Layout x(CUDA_R_16BF, p.rows, p.in, p.in);
  const Layout out(type, p.rows, p.columns, p.out_stride);
  const float one = 1, zero = 0;
  FATHOM_CUBLAS_CHECK(cublasLtMatmul(s.handle, operation, &one, p.weight, weight, p.x, x, &zero,
                                     p.out, out, p.out, out, &found->second, s.workspace,
                                     kWorkspaceBytes, stream));
  return true;
}

}  // namespace fathom::cuda
