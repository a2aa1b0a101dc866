#include "apps/compute.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "engine/score.h"
#include "ops/ranks.h"
#ifdef FATHOM_WITH_CUDA
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/nccl_communicator.h"
#endif

namespace fathom {
namespace {

#ifdef FATHOM_WITH_CUDA
// Whether ranks share a tensor (model/shard.h); the others each have it whole.
bool is_divided(const std::string& name) {
  constexpr std::string_view kDivided[] = {"q_proj",    "k_proj",    "v_proj",    "o_proj",
                                           "q_b_proj",  "kv_b_proj", "k_b_proj",  "v_b_proj",
                                           "gate_proj", "up_proj",   "down_proj", "lm_head"};
  return std::any_of(std::begin(kDivided), std::end(kDivided), [&](std::string_view part) {
    return name.find("." + std::string(part) + ".") != std::string::npos || name.starts_with(part);
  });
}

// Bytes of the weights on each of `ranks`.
int64_t stored_bytes(const WeightSource& weights, int ranks) {
  int64_t total = 0;
  weights.for_each([&](const std::string& name, const StoredTensor& t) {
    const auto bytes = static_cast<int64_t>(t.data.size());
    total += is_divided(name) ? (bytes + ranks - 1) / ranks : bytes;
  });
  return total;
}

Status check_room(const CudaOps& ops, const LoadedModel& loaded, int ranks) {
  const int64_t total = stored_bytes(*loaded.files.weights, ranks);
  if (total <= ops.device().free_bytes) return {};
  return resource_limit(fmt::format(
      "{}: its weights take {:.1f} GB{}, and {} has {:.1f} GB free; expected a quantised file "
      "(fathom quantize), a larger device, more of them (--tensor-parallel), or --device cpu",
      loaded.files.name, static_cast<double>(total) * 1e-9, ranks > 1 ? " a GPU" : "",
      ops.description(), static_cast<double>(ops.device().free_bytes) * 1e-9));
}

// One token uses all weights but the MTP module's.
Status use_all_weights(const Model& model, Ops& ops) {
  const int32_t token = 0;
  return score_tokens(model, ops, std::span(&token, 1), {},
                      [](int64_t, const TensorView&) { return Status(); });
}

// Weights come to the device when they are first used.
Status upload(CudaOps& ops, const LoadedModel& loaded) {
  FATHOM_TRY_STATUS(check_room(ops, loaded, 1));
  Progress progress("copying to the GPU", stored_bytes(*loaded.files.weights, 1), "B");
  ops.weights().on_progress([&](int64_t bytes) { progress.set(bytes); });
  const Status status = use_all_weights(*loaded.model, ops);
  ops.weights().on_progress({});
  return status;
}

// Rank r on device first + r.
Result<std::unique_ptr<Ops>> make_cuda_ranks(const ComputeFlags& flags, const LoadedModel& loaded,
                                             int first) {
  const int size = flags.tensor_parallel, devices = cuda::device_count();
  if (first + size > devices) {
    return invalid_argument(
        fmt::format("--tensor-parallel is {}, from cuda:{} on; expected at most {}, as there are "
                    "{} CUDA devices",
                    size, first, std::max(devices - first, 1), devices));
  }
  // Whatever can fail on one rank alone comes before what waits for all.
  for (int r = size; r-- > 0;) {
    FATHOM_TRY([[maybe_unused]] const cuda::Device device, cuda::open_device(first + r));
  }
  FATHOM_TRY(const cuda::NcclId id, cuda::make_nccl_id());
  FATHOM_TRY(auto ranks, Ranks::create(size, [&](int r) -> Result<Rank> {
               FATHOM_TRY(auto ops,
                          CudaOps::create({.device = first + r, .compute = flags.compute_type()}));
               FATHOM_TRY(auto communicator,
                          cuda::make_nccl_communicator(id, r, size, ops->stream()));
               FATHOM_TRY_STATUS(check_room(*ops, loaded, size));
               return Rank{std::move(ops), std::move(communicator)};
             }));
  auto out = std::make_unique<ParallelOps>(std::move(ranks));
  FATHOM_TRY_STATUS(use_all_weights(*loaded.model, *out));
  return std::unique_ptr<Ops>(std::move(out));
}
#endif

Result<std::unique_ptr<Ops>> make_cpu_ranks(const ComputeFlags& flags) {
  const int size = flags.tensor_parallel;
  auto communicators = make_host_communicators(size);
  FATHOM_TRY(auto ranks, Ranks::create(size, [&](int r) -> Result<Rank> {
               FATHOM_TRY(const CpuOpsOptions options, flags.options_of(r, size));
               return Rank{std::make_unique<CpuOps>(options),
                           std::move(communicators[static_cast<std::size_t>(r)])};
             }));
  return std::unique_ptr<Ops>(std::make_unique<ParallelOps>(std::move(ranks)));
}

}  // namespace

Result<DeviceChoice> choose_device(const std::string& device) {
  if (device == "cpu") return DeviceChoice{};
#ifdef FATHOM_WITH_CUDA
  if (device == "auto") return DeviceChoice{.cuda = cuda::device_count() > 0};
  if (device == "cuda") return DeviceChoice{.cuda = true};
  int index = -1;
  constexpr std::string_view kPrefix = "cuda:";
  if (device.starts_with(kPrefix)) {
    const char* const end = device.data() + device.size();
    const auto [p, error] = std::from_chars(device.data() + kPrefix.size(), end, index);
    if (error == std::errc() && p == end && index >= 0)
      return DeviceChoice{.cuda = true, .index = index};
  }
#else
  if (device == "auto") return DeviceChoice{};
  if (device.starts_with("cuda")) {
    return invalid_argument(
        "--device " + device +
        ": this build computes on the CPU only, expected cpu or auto (docs/cuda.md says how to "
        "build for NVIDIA GPUs)");
  }
#endif
  return invalid_argument("--device is '" + device + "', expected auto, cpu, cuda or cuda:N");
}

Result<std::unique_ptr<Ops>> make_ops(const ComputeFlags& flags, const LoadedModel& loaded) {
  FATHOM_TRY(const DeviceChoice choice, choose_device(flags.device));
#ifdef FATHOM_WITH_CUDA
  if (choice.cuda && flags.tensor_parallel > 1) return make_cuda_ranks(flags, loaded, choice.index);
  if (choice.cuda) {
    FATHOM_TRY(auto ops,
               CudaOps::create({.device = choice.index, .compute = flags.compute_type()}));
    FATHOM_TRY_STATUS(upload(*ops, loaded));
    return std::unique_ptr<Ops>(std::move(ops));
  }
#else
  (void)choice, (void)loaded;
#endif
  if (flags.tensor_parallel > 1) return make_cpu_ranks(flags);
  FATHOM_TRY(const CpuOpsOptions options, flags.options());
  return std::unique_ptr<Ops>(std::make_unique<CpuOps>(options));
}

Result<std::optional<int64_t>> device_cache_bytes(const ComputeFlags& flags,
                                                  const WeightSource& weights, double utilization) {
  FATHOM_TRY(const DeviceChoice choice, choose_device(flags.device));
  if (!choice.cuda) return std::optional<int64_t>();
  int64_t bytes = 0;
#ifdef FATHOM_WITH_CUDA
  // Activations, and what the driver keeps.
  constexpr int64_t kReserve = int64_t{2} << 30;
  FATHOM_TRY(const int64_t total, cuda::total_memory(choice.index));
  bytes = static_cast<int64_t>(static_cast<double>(total) * utilization) -
          stored_bytes(weights, flags.tensor_parallel) - kReserve;
#else
  (void)weights, (void)utilization;
#endif
  return std::optional(std::max<int64_t>(bytes, 0));
}

std::string describe_gpus() {
#ifdef FATHOM_WITH_CUDA
  std::string out;
  for (int i = 0; i < cuda::device_count(); ++i) {
    const auto device = cuda::open_device(i);
    if (!device) return device.error().message;
    out += fmt::format("{}cuda:{} {} (sm_{}{}, {:.1f} GB, {:.1f} free)", out.empty() ? "" : "; ", i,
                       device->name, device->major, device->minor,
                       static_cast<double>(device->memory_bytes) * 1e-9,
                       static_cast<double>(device->free_bytes) * 1e-9);
  }
  return out.empty() ? "none found" : out;
#else
  return std::filesystem::exists("/proc/driver/nvidia/version")
             ? "an NVIDIA driver is loaded; this build computes on the CPU only"
             : "none found";
#endif
}

}  // namespace fathom
