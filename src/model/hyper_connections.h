// Manifold-constrained hyper-connections: a residual of several streams, read and written around
// every sublayer of DeepSeek-V4 (ops.h: StreamWeightsArgs; tests/golden/data/NOTES.md §5).
#pragma once

#include <cstdint>
#include <string>

#include "io/weight_source.h"
#include "ops/ops.h"

namespace fathom {

struct StreamConfig {
  int64_t streams = 0;  // hc_mult
  int64_t hidden = 0;
  int64_t sinkhorn_iterations = 0;
  double eps = 0;       // hc_eps
  double norm_eps = 0;  // of the norm without weight
};

// The weights of one place where streams are read.
struct StreamWeights {
  WeightView fn;     // float [outputs, streams * hidden]
  WeightView base;   // [outputs]
  WeightView scale;  // [3] or [1]
};
// {prefix}_fn, {prefix}_base, {prefix}_scale; outputs = (2 + streams) · streams, at the head
// streams.
Result<StreamWeights> load_stream_weights(const WeightSource& weights, const std::string& prefix,
                                          const StreamConfig& config, bool head);

// A sublayer's input and how its output goes back.
struct StreamRead {
  TensorView x;          // [tokens, hidden]
  TensorView post, mix;  // of WriteStreamsArgs; undefined at the head
};
StreamRead read_streams(Ops& ops, Workspace& workspace, const StreamConfig& config,
                        const StreamWeights& weights, const TensorView& streams);

}  // namespace fathom
