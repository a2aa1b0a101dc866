#include "model/hyper_connections.h"

namespace fathom {

Result<StreamWeights> load_stream_weights(const WeightSource& weights, const std::string& prefix,
                                          const StreamConfig& c, bool head) {
  const int64_t outputs = head ? c.streams : (2 + c.streams) * c.streams;
  StreamWeights w;
  FATHOM_TRY(w.fn, weights.matrix(prefix + "_fn", outputs, c.streams * c.hidden));
  FATHOM_TRY(w.base, weights.vector(prefix + "_base", outputs));
  FATHOM_TRY(w.scale, weights.vector(prefix + "_scale", head ? 1 : 3));
  return w;
}

StreamRead read_streams(Ops& ops, Workspace& ws, const StreamConfig& c, const StreamWeights& w,
                        const TensorView& streams) {
  const int64_t tokens = streams.rows, n = c.streams;
  StreamRead out{.x = ws.f32(tokens, c.hidden), .post = {}, .mix = {}};
  const bool head = w.fn.rows == n;
  if (!head) {
    out.post = ws.f32(tokens, n);
    out.mix = ws.f32(tokens, n * n);
  }
  const Workspace::Scope scope(ws);
  const TensorView norm = ws.f32(tokens, streams.cols), z = ws.f32(tokens, w.fn.rows);
  const TensorView pre = ws.f32(tokens, n);
  ops.rms_norm({.x = streams, .weight = {}, .eps = static_cast<float>(c.norm_eps), .out = norm});
  ops.linear({.x = norm, .weight = w.fn, .bias = {}, .out = z});
  ops.stream_weights({.z = z,
                      .base = w.base,
                      .scale = w.scale,
                      .streams = n,
                      .iterations = c.sinkhorn_iterations,
                      .eps = static_cast<float>(c.eps),
                      .pre = pre,
                      .post = out.post,
                      .mix = out.mix});
  ops.read_streams({.streams = streams, .pre = pre, .out = out.x});
  return out;
}

}  // namespace fathom
