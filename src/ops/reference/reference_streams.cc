// ReferenceOps: the residual streams of hyper-connections.
#include "ops/reference/reference_ops.h"
#include "ops/reference/reference_support.h"

namespace fathom {

using namespace reference;

void ReferenceOps::stream_weights(const StreamWeightsArgs& args) {
  const int64_t n = args.streams;
  const float *base = args.base.f32(), *scale = args.scale.f32();
  for (int64_t t = 0; t < args.z.rows; ++t) {
    const float* z = args.z.f32(t);
    for (int64_t j = 0; j < n; ++j)
      args.pre.f32(t)[j] = sigmoid(z[j] * scale[0] + base[j]) + args.eps;
    if (args.z.cols == n) continue;
    for (int64_t j = 0; j < n; ++j)
      args.post.f32(t)[j] = 2 * sigmoid(z[n + j] * scale[1] + base[n + j]);
    float* const mix = args.mix.f32(t);
    for (int64_t i = 0; i < n * n; ++i) mix[i] = z[2 * n + i] * scale[2] + base[2 * n + i];
    for (int64_t i = 0; i < n; ++i) {
      softmax({mix + i * n, static_cast<std::size_t>(n)});
      for (int64_t j = 0; j < n; ++j) mix[i * n + j] += args.eps;
    }
    const auto divide = [&](int64_t step, int64_t stride) {  // n lines of n values
      for (int64_t line = 0; line < n; ++line) {
        float sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += mix[line * step + i * stride];
        for (int64_t i = 0; i < n; ++i) mix[line * step + i * stride] /= sum + args.eps;
      }
    };
    divide(1, n);
    for (int64_t i = 1; i < args.iterations; ++i) {
      divide(n, 1);
      divide(1, n);
    }
  }
}

void ReferenceOps::read_streams(const ReadStreamsArgs& args) {
  const int64_t n = args.pre.cols, hidden = args.out.cols;
  for (int64_t t = 0; t < args.out.rows; ++t) {
    for (int64_t i = 0; i < hidden; ++i) {
      float sum = 0;
      for (int64_t j = 0; j < n; ++j)
        sum += args.pre.f32(t)[j] * args.streams.f32(t)[j * hidden + i];
      args.out.f32(t)[i] = sum;
    }
  }
}

void ReferenceOps::write_streams(const WriteStreamsArgs& args) {
  const int64_t n = args.post.cols, hidden = args.y.cols;
  std::vector<float> out(static_cast<std::size_t>(n));
  for (int64_t t = 0; t < args.y.rows; ++t) {
    float* const x = args.streams.f32(t);
    for (int64_t i = 0; i < hidden; ++i) {
      for (int64_t k = 0; k < n; ++k) {
        float sum = args.post.f32(t)[k] * args.y.f32(t)[i];
        for (int64_t j = 0; j < n; ++j) sum += args.mix.f32(t)[j * n + k] * x[j * hidden + i];
        out[static_cast<std::size_t>(k)] = sum;
      }
      for (int64_t k = 0; k < n; ++k) x[k * hidden + i] = out[static_cast<std::size_t>(k)];
    }
  }
}

void ReferenceOps::copy_to_streams(const CopyToStreamsArgs& args) {
  for (int64_t t = 0; t < args.x.rows; ++t)
    for (int64_t i = 0; i < args.streams.cols; ++i)
      args.streams.f32(t)[i] = args.x.f32(t)[i % args.x.cols];
}

}  // namespace fathom
