// The choice of a backend: the one place that knows them all.
#pragma once

#include <memory>

#include "apps/app.h"
#include "ops/ops.h"

namespace fathom {

// Where --device says that a model is computed.
struct DeviceChoice {
  bool cuda = false;
  int index = 0;  // of the CUDA device
};
// Errors: a device that is not there, or that this build has no backend for.
Result<DeviceChoice> choose_device(const std::string& device);

// The backend for `flags`. With a GPU the model's weights are copied to it, with a progress line at
// a terminal. `loaded` must outlive it.
Result<std::unique_ptr<Ops>> make_ops(const ComputeFlags& flags, const LoadedModel& loaded);

// Bytes that a GPU has for the cache beside its part of `weights`, of `utilization` of its memory;
// nothing if the flags choose the CPU.
Result<std::optional<int64_t>> device_cache_bytes(const ComputeFlags& flags,
                                                  const WeightSource& weights, double utilization);

// One line for `fathom doctor`: the GPUs that this build can use.
std::string describe_gpus();

}  // namespace fathom
