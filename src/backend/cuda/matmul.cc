#include "backend/cuda/matmul.h"

#include <cublasLt.h>

#include <map>
#include <optional>
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
  cublasLtMatmulDesc_t fp8_plain = nullptr, fp8_with_bias = nullptr;
  void* workspace = nullptr;
  // By in, columns, the stride of the output, whether that is bfloat16, whether there is a bias,
  // and the type of the operands. Empty: there is none.
  using Key = std::tuple<int64_t, int64_t, int64_t, bool, bool, cudaDataType_t>;
  std::map<Key, std::optional<cublasLtMatmulAlgo_t>> algorithms;

  cublasLtMatmulDesc_t operation(cudaDataType_t type, bool bias) const {
    if (type == CUDA_R_8F_E4M3) return bias ? fp8_with_bias : fp8_plain;
    return bias ? with_bias : plain;
  }
  const std::optional<cublasLtMatmulAlgo_t>& algorithm(const Key& key);
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

void set_pointer(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which,
                 const void* pointer) {
  FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, which, &pointer, sizeof(pointer)));
}

}  // namespace

const std::optional<cublasLtMatmulAlgo_t>& Matmul::State::algorithm(const Key& key) {
  if (const auto found = algorithms.find(key); found != algorithms.end()) return found->second;
  const auto [in, columns, out_stride, bf16_out, bias, type] = key;
  const Layout weight(type, columns, in, in);
  const Layout x(type, kTypicalRows, in, in);
  const Layout out(bf16_out ? CUDA_R_16BF : CUDA_R_32F, kTypicalRows, columns, out_stride);
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
      handle, operation(type, bias), weight, x, out, out, preference, 1, &best, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  std::optional<cublasLtMatmulAlgo_t>& algorithm = algorithms[key];
  if (status == CUBLAS_STATUS_SUCCESS && count == 1) algorithm = best.algo;
  return algorithm;
}

Matmul::Matmul() : state_(std::make_unique<State>()) {
  State& s = *state_;
  FATHOM_CUBLAS_CHECK(cublasLtCreate(&s.handle));
  FATHOM_CUDA_CHECK(cudaMalloc(&s.workspace, kWorkspaceBytes));
  for (cublasLtMatmulDesc_t* operation : {&s.plain, &s.with_bias, &s.fp8_plain, &s.fp8_with_bias}) {
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescCreate(operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(*operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                       &transposed, sizeof(transposed)));
  }
  for (cublasLtMatmulDesc_t operation : {s.with_bias, s.fp8_with_bias}) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                       &epilogue, sizeof(epilogue)));
    const cudaDataType_t bias_type = CUDA_R_32F;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(
        operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof(bias_type)));
  }
  for (cublasLtMatmulDesc_t operation : {s.fp8_plain, s.fp8_with_bias}) {
    const cublasLtMatmulMatrixScale_t of_weight = CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
    const cublasLtMatmulMatrixScale_t of_x = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
                                                       &of_weight, sizeof(of_weight)));
    FATHOM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
                                                       &of_x, sizeof(of_x)));
    // Some address of theirs, for the choice of algorithms.
    set_pointer(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, s.workspace);
    set_pointer(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, s.workspace);
  }
}

Matmul::~Matmul() {
  cudaFree(state_->workspace);
  cublasLtMatmulDescDestroy(state_->plain);
  cublasLtMatmulDescDestroy(state_->with_bias);
  cublasLtMatmulDescDestroy(state_->fp8_plain);
  cublasLtMatmulDescDestroy(state_->fp8_with_bias);
  cublasLtDestroy(state_->handle);
}

bool Matmul::run(const Product& p, cudaStream_t stream) {
  State& s = *state_;
  const bool has_bias = p.bias != nullptr;
  const auto& algorithm =
      s.algorithm({p.in, p.columns, p.out_stride, p.bf16_out, has_bias, CUDA_R_16BF});
  if (has_bias && !algorithm) return false;
  FATHOM_CHECK(algorithm.has_value()) << p.in << " to " << p.columns;
  const cublasLtMatmulDesc_t operation = s.operation(CUDA_R_16BF, has_bias);
  if (has_bias) set_pointer(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  const Layout weight(CUDA_R_16BF, p.columns, p.in, p.in);
  const Layout x(CUDA_R_16BF, p.rows, p.in, p.in);
  const Layout out(p.bf16_out ? CUDA_R_16BF : CUDA_R_32F, p.rows, p.columns, p.out_stride);
  const float one = 1, zero = 0;
  FATHOM_CUBLAS_CHECK(cublasLtMatmul(s.handle, operation, &one, p.weight, weight, p.x, x, &zero,
                                     p.out, out, p.out, out, &*algorithm, s.workspace,
                                     kWorkspaceBytes, stream));
  return true;
}

bool Matmul::takes_fp8(int64_t in, int64_t columns) {
  if (in % 16 != 0 || columns % 8 != 0) return false;
  return state_->algorithm({in, columns, columns, false, false, CUDA_R_8F_E4M3}) &&
         state_->algorithm({in, columns, columns, true, false, CUDA_R_8F_E4M3});
}

bool Matmul::run(const Fp8Product& p, cudaStream_t stream) {
  State& s = *state_;
  const bool has_bias = p.bias != nullptr;
  const auto& algorithm =
      s.algorithm({p.in, p.columns, p.columns, p.bf16_out, has_bias, CUDA_R_8F_E4M3});
  if (has_bias && !algorithm) return false;
  FATHOM_CHECK(algorithm.has_value()) << p.in << " to " << p.columns;
  const cublasLtMatmulDesc_t operation = s.operation(CUDA_R_8F_E4M3, has_bias);
  if (has_bias) set_pointer(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  set_pointer(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.weight_scales);
  set_pointer(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.x_scales);
  const Layout weight(CUDA_R_8F_E4M3, p.columns, p.in, p.in);
  const Layout x(CUDA_R_8F_E4M3, p.rows, p.in, p.in);
  const Layout out(p.bf16_out ? CUDA_R_16BF : CUDA_R_32F, p.rows, p.columns, p.columns);
  const float one = 1, zero = 0;
  FATHOM_CUBLAS_CHECK(cublasLtMatmul(s.handle, operation, &one, p.weight, weight, p.x, x, &zero,
                                     p.out, out, p.out, out, &*algorithm, s.workspace,
                                     kWorkspaceBytes, stream));
  return true;
}

}  // namespace fathom::cuda
