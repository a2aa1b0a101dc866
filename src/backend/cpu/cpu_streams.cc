// CpuOps: the residual streams of hyper-connections.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/kernels/kernels.h"

namespace fathom {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Divides each of n lines of n values by its sum + eps.
void divide(float* mix, int64_t n, int64_t line_step, int64_t stride, float eps) {
  for (int64_t line = 0; line < n; ++line) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += mix[line * line_step + i * stride];
    const float total = sum + eps;
    for (int64_t i = 0; i < n; ++i) mix[line * line_step + i * stride] /= total;
  }
}

void softmax_row(float* v, int64_t n) {
  const float max = *std::max_element(v, v + n);
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += v[i] = std::exp(v[i] - max);
  for (int64_t i = 0; i < n; ++i) v[i] /= sum;
}

}  // namespace

void CpuOps::stream_weights(const StreamWeightsArgs& args) {
  const int64_t n = args.streams;
  const float *base = args.base.f32(), *scale = args.scale.f32();
  for_rows(args.z.rows, n * n * (2 * args.iterations + 16), [&](int64_t t) {
    const float* z = args.z.f32(t);
    for (int64_t j = 0; j < n; ++j)
      args.pre.f32(t)[j] = sigmoid(z[j] * scale[0] + base[j]) + args.eps;
    if (args.z.cols == n) return;
    for (int64_t j = 0; j < n; ++j)
      args.post.f32(t)[j] = 2 * sigmoid(z[n + j] * scale[1] + base[n + j]);
    float* const mix = args.mix.f32(t);
    for (int64_t i = 0; i < n * n; ++i) mix[i] = z[2 * n + i] * scale[2] + base[2 * n + i];
    for (int64_t i = 0; i < n; ++i) softmax_row(mix + i * n, n);
    for (int64_t i = 0; i < n * n; ++i) mix[i] += args.eps;
    divide(mix, n, 1, n, args.eps);
    for (int64_t i = 1; i < args.iterations; ++i) {
      divide(mix, n, n, 1, args.eps);
      divide(mix, n, 1, n, args.eps);
    }
  });
}

void CpuOps::read_streams(const ReadStreamsArgs& args) {
  const int64_t n = args.pre.cols, hidden = args.out.cols;
  for_rows(args.out.rows, n * hidden, [&](int64_t t) {
    std::fill_n(args.out.f32(t), hidden, 0.0f);
    for (int64_t j = 0; j < n; ++j)
      cpu::axpy_row(args.pre.f32(t)[j], args.streams.f32(t) + j * hidden, hidden, args.out.f32(t));
  });
}

void CpuOps::write_streams(const WriteStreamsArgs& args) {
  const int64_t n = args.post.cols, hidden = args.y.cols;
  for_rows(args.y.rows, n * n * hidden, [&](int64_t t) {
    thread_local std::vector<float> old;
    float* const streams = args.streams.f32(t);
    old.assign(streams, streams + n * hidden);
    std::fill_n(streams, n * hidden, 0.0f);
    for (int64_t k = 0; k < n; ++k) {
      float* const out = streams + k * hidden;
      cpu::axpy_row(args.post.f32(t)[k], args.y.f32(t), hidden, out);
      for (int64_t j = 0; j < n; ++j)
        cpu::axpy_row(args.mix.f32(t)[j * n + k], old.data() + j * hidden, hidden, out);
    }
  });
}

void CpuOps::copy_to_streams(const CopyToStreamsArgs& args) {
  const int64_t hidden = args.x.cols;
  for_rows(args.x.rows, args.streams.cols, [&](int64_t t) {
    for (int64_t j = 0; j < args.streams.cols; j += hidden)
      std::copy_n(args.x.f32(t), hidden, args.streams.f32(t) + j);
  });
}

}  // namespace fathom
