#include "apps/compute.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>

#include "engine/score.h"
#ifdef FATHOM_WITH_CUDA
#include "backend/cuda/cuda_ops.h"
#endif

namespace fathom {
namespace {

#ifdef FATHOM_WITH_CUDA
int64_t stored_bytes(const WeightSource& weights) {
  int64_t total = 0;
  weights.for_each([&](const std::string&, const StoredTensor& t) {
    total += static_cast<int64_t>(t.data.size());
  });
  return total;
}

// Weights come to the device when they are first used: one token uses all of them but the MTP
// module's.
Status upload(CudaOps& ops, const LoadedModel& loaded) {
  const int64_t total = stored_bytes(*loaded.files.weights);
  if (total > ops.device().free_bytes) {
    return resource_limit(fmt::format(
        "{}: its weights take {:.1f} GB, and {} has {:.1f} GB free; expected a quantised file "
        "(fathom quantize), a larger device, or --device cpu",
        loaded.files.name, static_cast<double>(total) * 1e-9, ops.description(),
        static_cast<double>(ops.device().free_bytes) * 1e-9));
  }
  Progress progress("copying to the GPU", total, "B");
  ops.weights().on_progress([&](int64_t bytes) { progress.set(bytes); });
  const int32_t token = 0;
  const Status status = score_tokens(*loaded.model, ops, std::span(&token, 1), {},
                                     [](int64_t, const TensorView&) { return Status(); });
  ops.weights().on_progress({});
  return status;
}
#endif

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
  if (choice.cuda) {
    FATHOM_TRY(auto ops,
               CudaOps::create({.device = choice.index, .compute = flags.compute_type()}));
    FATHOM_TRY_STATUS(upload(*ops, loaded));
    return std::unique_ptr<Ops>(std::move(ops));
  }
#else
  (void)choice, (void)loaded;
#endif
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
  bytes = static_cast<int64_t>(static_cast<double>(total) * utilization) - stored_bytes(weights) -
          kReserve;
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
