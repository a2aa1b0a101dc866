#include "backend/cuda/nccl_communicator.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "backend/cuda/device.h"
#include "backend/cuda/kernels/kernels.h"

namespace fathom::cuda {
namespace {

// The part of nccl.h (2.28) that is used here: results and types are enums, 0 = ncclSuccess.
using Comm = struct ncclComm*;
constexpr int kFloat32 = 7, kInt8 = 0;
struct Nccl {
  const char* (*error_string)(int result) = nullptr;
  int (*get_unique_id)(NcclId* id) = nullptr;
  int (*comm_init_rank)(Comm* comm, int size, NcclId id, int rank) = nullptr;
  int (*comm_destroy)(Comm comm) = nullptr;
  int (*all_gather)(const void* from, void* to, std::size_t count, int type, Comm comm,
                    cudaStream_t stream) = nullptr;
  int (*broadcast)(const void* from, void* to, std::size_t count, int type, int root, Comm comm,
                   cudaStream_t stream) = nullptr;
  int (*send)(const void* from, std::size_t count, int type, int peer, Comm comm,
              cudaStream_t stream) = nullptr;
  int (*receive)(void* to, std::size_t count, int type, int peer, Comm comm,
                 cudaStream_t stream) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  std::string missing;  // why it cannot be used
};

Nccl load_nccl() {
  Nccl n;
  void* const library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    n.missing = fmt::format(
        "several GPUs need NCCL: {} (expected libnccl.so.2 where the system finds libraries, or in "
        "LD_LIBRARY_PATH; NVIDIA's package is libnccl2, PyPI's nvidia-nccl-cu13)",
        ::dlerror());
    return n;
  }
  const auto find = [&]<typename F>(const char* name, F& function) {
    function = reinterpret_cast<F>(::dlsym(library, name));
    if (function == nullptr) n.missing = fmt::format("libnccl.so.2 has no {}", name);
  };
  find("ncclGetErrorString", n.error_string);
  find("ncclGetUniqueId", n.get_unique_id);
  find("ncclCommInitRank", n.comm_init_rank);
  find("ncclCommDestroy", n.comm_destroy);
  find("ncclAllGather", n.all_gather);
  find("ncclBroadcast", n.broadcast);
  find("ncclSend", n.send);
  find("ncclRecv", n.receive);
  find("ncclGroupStart", n.group_start);
  find("ncclGroupEnd", n.group_end);
  return n;
}

const Nccl& nccl() {
  static const Nccl n = load_nccl();
  return n;
}

#define FATHOM_NCCL_CHECK(call)                                                             \
  do {                                                                                      \
    const int result_ = (call);                                                             \
    FATHOM_CHECK(result_ == 0) << "NCCL: " << nccl().error_string(result_) << " (" << #call \
                               << ")";                                                      \
  } while (false)

// Up to so many bytes every rank gets all ranks' values, in one exchange, and adds them up. With
// more, a rank adds up its share of the elements and sends the sums around.
constexpr std::size_t kGatherBytes = std::size_t{256} << 10;

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Comm comm, int rank, int size, cudaStream_t stream)
      : comm_(comm), rank_(rank), size_(size), stream_(stream) {}
  ~NcclCommunicator() override {
    cudaStreamSynchronize(stream_);
    nccl().comm_destroy(comm_);
    cudaFree(staging_);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(const TensorView& x) override {
    FATHOM_CHECK(x.row_stride == x.cols || x.rows <= 1) << x.row_stride << " " << x.cols;
    if (x.empty()) return;
    const auto count = static_cast<std::size_t>(x.rows * x.cols);
    const auto size = static_cast<std::size_t>(size_);
    float* const data = x.f32(0);
    float* const parts = staging(count * size);
    if (count * sizeof(float) <= kGatherBytes || count % size != 0) {
      FATHOM_NCCL_CHECK(nccl().all_gather(data, parts, count, kFloat32, comm_, stream_));
      sum_parts({.parts = parts, .size = size_, .count = static_cast<int64_t>(count), .out = data},
                stream_);
      return;
    }
    const std::size_t share = count / size;
    float* const own = data + static_cast<std::size_t>(rank_) * share;
    FATHOM_NCCL_CHECK(nccl().group_start());
    for (int r = 0; r < size_; ++r) {
      const std::size_t at = static_cast<std::size_t>(r) * share;
      FATHOM_NCCL_CHECK(nccl().send(data + at, share, kFloat32, r, comm_, stream_));
      FATHOM_NCCL_CHECK(nccl().receive(parts + at, share, kFloat32, r, comm_, stream_));
    }
    FATHOM_NCCL_CHECK(nccl().group_end());
    sum_parts({.parts = parts, .size = size_, .count = static_cast<int64_t>(share), .out = own},
              stream_);
    FATHOM_NCCL_CHECK(nccl().all_gather(own, data, share, kFloat32, comm_, stream_));
  }

  void broadcast(const TensorView& x) override {
    FATHOM_CHECK(x.row_stride == x.cols || x.rows <= 1) << x.row_stride << " " << x.cols;
    if (x.empty()) return;
    const std::size_t bytes = static_cast<std::size_t>(x.rows * x.cols) * dtype_bytes(x.dtype);
    FATHOM_NCCL_CHECK(nccl().broadcast(x.data, x.data, bytes, kInt8, 0, comm_, stream_));
  }

  void gather_columns(const TensorView& part, const TensorView& out) override {
    FATHOM_CHECK(part.row_stride == part.cols || part.rows <= 1) << part.row_stride;
    if (part.rows == 0) return;
    if (rank_ != 0) {
      FATHOM_NCCL_CHECK(nccl().send(part.f32(0), static_cast<std::size_t>(part.rows * part.cols),
                                    kFloat32, 0, comm_, stream_));
      return;
    }
    float* const parts = staging(static_cast<std::size_t>(out.rows * out.cols));
    const auto of_rank = [&](int r) {
      return parts + out.rows * column_border(out.cols, r, size_);
    };
    const auto columns = [&](int r) {
      return column_border(out.cols, r + 1, size_) - column_border(out.cols, r, size_);
    };
    FATHOM_CHECK_EQ(part.cols, columns(0));
    FATHOM_NCCL_CHECK(nccl().group_start());
    for (int r = 1; r < size_; ++r)
      FATHOM_NCCL_CHECK(nccl().receive(of_rank(r), static_cast<std::size_t>(out.rows * columns(r)),
                                       kFloat32, r, comm_, stream_));
    FATHOM_NCCL_CHECK(nccl().group_end());
    for (int r = 0; r < size_; ++r) {
      const auto width = static_cast<std::size_t>(columns(r)) * sizeof(float);
      if (width == 0) continue;
      FATHOM_CUDA_CHECK(cudaMemcpy2DAsync(out.f32(0) + column_border(out.cols, r, size_),
                                          static_cast<std::size_t>(out.row_stride) * sizeof(float),
                                          r == 0 ? part.f32(0) : of_rank(r), width, width,
                                          static_cast<std::size_t>(out.rows),
                                          cudaMemcpyDeviceToDevice, stream_));
    }
  }

 private:
  // Memory for so many values, until the next call.
  float* staging(std::size_t count) {
    if (count > staging_count_) {
      FATHOM_CUDA_CHECK(cudaFree(staging_));  // waits for its users
      void* p = nullptr;
      FATHOM_CUDA_CHECK(cudaMalloc(&p, count * sizeof(float)));
      staging_ = static_cast<float*>(p);
      staging_count_ = count;
    }
    return staging_;
  }

  Comm comm_;
  int rank_, size_;
  cudaStream_t stream_;
  float* staging_ = nullptr;
  std::size_t staging_count_ = 0;
};

}  // namespace

Result<NcclId> make_nccl_id() {
  if (!nccl().missing.empty()) return unavailable(nccl().missing);
  NcclId id;
  if (const int e = nccl().get_unique_id(&id); e != 0)
    return unavailable(fmt::format("NCCL: {}", nccl().error_string(e)));
  return id;
}

Result<std::unique_ptr<Communicator>> make_nccl_communicator(const NcclId& id, int rank, int size,
                                                             cudaStream_t stream) {
  Comm comm = nullptr;
  if (const int e = nccl().comm_init_rank(&comm, size, id, rank); e != 0)
    return unavailable(fmt::format("NCCL: rank {} of {}: {}", rank, size, nccl().error_string(e)));
  return std::unique_ptr<Communicator>(new NcclCommunicator(comm, rank, size, stream));
}

}  // namespace fathom::cuda
