// StagedOps: a device's Ops for tensors of the host. Every operation copies its arguments to the
// device and all of them back, so that the tests of the host's backends can ask a device too.
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

#include "backend/cuda/cuda_ops.h"

namespace fathom::test {

class StagedOps : public Ops {
 public:
  explicit StagedOps(std::unique_ptr<CudaOps> inner) : inner_(std::move(inner)) {}
  std::string_view description() const override { return inner_->description(); }
  // Of the operations that follow.
  void begin_rows(const RowClasses& classes) override { classes_ = classes; }
  // Whether prompts take FP8 weights on the tensor cores (Hopper).
  bool has_fp8_prompts() const { return inner_->device().major == 9; }

  void embed(const EmbedArgs& a) override {
    run(a, [&](Stage& s, EmbedArgs& b) { s.tensors({&b.out}); }, &Ops::embed);
  }
  void rms_norm(const RmsNormArgs& a) override {
    run(a, [&](Stage& s, RmsNormArgs& b) { s.tensors({&b.x, &b.out}); }, &Ops::rms_norm);
  }
  void layer_norm(const LayerNormArgs& a) override {
    run(a, [&](Stage& s, LayerNormArgs& b) { s.tensors({&b.x, &b.out}); }, &Ops::layer_norm);
  }
  void add_rms_norm(const AddRmsNormArgs& a) override {
    run(
        a, [&](Stage& s, AddRmsNormArgs& b) { s.tensors({&b.x, &b.delta, &b.out}); },
        &Ops::add_rms_norm);
  }
  void add(const AddArgs& a) override {
    run(a, [&](Stage& s, AddArgs& b) { s.tensors({&b.x, &b.delta}); }, &Ops::add);
  }
  void linear(const LinearArgs& a) override {
    run(a, [&](Stage& s, LinearArgs& b) { s.tensors({&b.x, &b.out}); }, &Ops::linear);
  }
  void rope_angles(const RopeAnglesArgs& a) override {
    run(a, [&](Stage& s, RopeAnglesArgs& b) { s.tensors({&b.out}); }, &Ops::rope_angles);
  }
  void rope(const RopeArgs& a) override {
    run(a, [&](Stage& s, RopeArgs& b) { s.tensors({&b.x, &b.angles}); }, &Ops::rope);
  }
  void kv_append(const KvAppendArgs& a) override {
    std::vector<TensorView> parts(a.parts.begin(), a.parts.end());
    run(
        a,
        [&](Stage& s, KvAppendArgs& b) {
          for (TensorView& p : parts) s.tensors({&p});
          b.parts = parts;
          s.pages({&b.kv}, b.sequences);
        },
        &Ops::kv_append);
  }
  void rope_append(const RopeAppendArgs& a) override {
    std::vector<TensorView> parts(a.append.parts.begin(), a.append.parts.end());
    run(
        a,
        [&](Stage& s, RopeAppendArgs& b) {
          for (TensorView& p : parts) s.tensors({&p});
          b.append.parts = parts;
          s.tensors({&b.q.x, &b.q.angles, &b.k.x, &b.k.angles});
          s.pages({&b.append.kv}, b.append.sequences);
        },
        &Ops::rope_append);
  }
  void attention(const AttentionArgs& a) override {
    run(
        a,
        [&](Stage& s, AttentionArgs& b) {
          s.tensors({&b.q, &b.out});
          s.pages({&b.kv}, b.sequences);
        },
        &Ops::attention);
  }
  void append_attention(const AppendAttentionArgs& a) override {
    std::vector<TensorView> parts(a.rows.append.parts.begin(), a.rows.append.parts.end());
    run(
        a,
        [&](Stage& s, AppendAttentionArgs& b) {
          for (TensorView& p : parts) s.tensors({&p});
          RopeArgs &q = b.rows.q, &k = b.rows.k;
          b.rows.append.parts = parts;
          s.tensors({&q.x, &q.angles, &k.x, &k.angles, &b.attention.q, &b.attention.out});
          s.pages({&b.rows.append.kv, &b.attention.kv}, b.attention.sequences);
        },
        &Ops::append_attention);
  }
  void mla_attention(const MlaAttentionArgs& a) override {
    run(
        a,
        [&](Stage& s, MlaAttentionArgs& b) {
          s.tensors({&b.q, &b.selected, &b.out});
          s.pages({&b.kv}, b.sequences);
        },
        &Ops::mla_attention);
  }
  void select_rows(const SelectRowsArgs& a) override {
    run(
        a,
        [&](Stage& s, SelectRowsArgs& b) {
          s.tensors({&b.q, &b.weights, &b.out});
          s.pages({&b.keys}, b.sequences);
        },
        &Ops::select_rows);
  }
  void simulate(const SimulateArgs& a) override {
    run(a, [&](Stage& s, SimulateArgs& b) { s.tensors({&b.x}); }, &Ops::simulate);
  }
  void compress(const CompressArgs& a) override {
    run(
        a, [&](Stage& s, CompressArgs& b) { s.pages({&b.source, &b.out}, b.sequences); },
        &Ops::compress);
  }
  void shared_kv_attention(const SharedKvAttentionArgs& a) override {
    run(
        a,
        [&](Stage& s, SharedKvAttentionArgs& b) {
          s.tensors({&b.q, &b.selected, &b.out});
          s.pages({&b.window, &b.compressed}, b.sequences);
        },
        &Ops::shared_kv_attention);
  }
  void stream_weights(const StreamWeightsArgs& a) override {
    run(
        a, [&](Stage& s, StreamWeightsArgs& b) { s.tensors({&b.z, &b.pre, &b.post, &b.mix}); },
        &Ops::stream_weights);
  }
  void read_streams(const ReadStreamsArgs& a) override {
    run(
        a, [&](Stage& s, ReadStreamsArgs& b) { s.tensors({&b.streams, &b.pre, &b.out}); },
        &Ops::read_streams);
  }
  void write_streams(const WriteStreamsArgs& a) override {
    run(
        a, [&](Stage& s, WriteStreamsArgs& b) { s.tensors({&b.streams, &b.post, &b.mix, &b.y}); },
        &Ops::write_streams);
  }
  void copy_to_streams(const CopyToStreamsArgs& a) override {
    run(
        a, [&](Stage& s, CopyToStreamsArgs& b) { s.tensors({&b.x, &b.streams}); },
        &Ops::copy_to_streams);
  }
  void mlp(const MlpArgs& a) override {
    run(a, [&](Stage& s, MlpArgs& b) { s.tensors({&b.x, &b.out}); }, &Ops::mlp);
  }
  void route(const RouteArgs& a) override {
    run(
        a, [&](Stage& s, RouteArgs& b) { s.tensors({&b.logits, &b.ids, &b.weights}); },
        &Ops::route);
  }
  void moe(const MoeArgs& a) override {
    run(a, [&](Stage& s, MoeArgs& b) { s.tensors({&b.x, &b.ids, &b.weights, &b.out}); }, &Ops::moe);
  }
  void gather_rows(const GatherRowsArgs& a) override {
    run(a, [&](Stage& s, GatherRowsArgs& b) { s.tensors({&b.x, &b.out}); }, &Ops::gather_rows);
  }

 private:
  // The copies of one operation's arguments.
  class Stage {
   public:
    ~Stage() {
      FATHOM_CUDA_CHECK(cudaDeviceSynchronize());
      for (const Range& r : ranges_) {
        FATHOM_CUDA_CHECK(cudaMemcpy(r.host, r.device, r.bytes, cudaMemcpyDeviceToHost));
        FATHOM_CUDA_CHECK(cudaFree(r.device));
      }
    }
    void tensors(std::initializer_list<TensorView*> views) {
      for (TensorView* v : views) {
        if (v->data == nullptr || v->rows == 0) continue;
        const auto elements = static_cast<std::size_t>((v->rows - 1) * v->row_stride + v->cols);
        v->data = move(v->data, std::max<std::size_t>(elements, 1) * dtype_bytes(v->dtype));
      }
    }
    // All of them as one range: pages of several kinds lie between each other.
    void pages(std::initializer_list<KvPages*> kinds, std::span<const SequenceRows> sequences) {
      std::byte *begin = nullptr, *end = nullptr;
      for (const KvPages* kv : kinds) {
        if (kv->data == nullptr) continue;
        int32_t last = 0;
        for (const SequenceRows& s : sequences)
          for (const int32_t page : kv->table(s)) last = std::max(last, page);
        std::byte* const stop =
            kv->data + last * kv->page_stride_bytes + kv->page_rows * kv->row_bytes();
        begin = begin == nullptr ? kv->data : std::min(begin, kv->data);
        end = std::max(end, stop);
      }
      if (begin == nullptr) return;
      std::byte* const device = move(begin, static_cast<std::size_t>(end - begin));
      for (KvPages* kv : kinds)
        if (kv->data != nullptr) kv->data = device + (kv->data - begin);
    }

   private:
    struct Range {
      std::byte *host, *device;
      std::size_t bytes;
    };
    std::byte* move(std::byte* host, std::size_t bytes) {
      for (const Range& r : ranges_)
        if (host >= r.host && host + bytes <= r.host + r.bytes) return r.device + (host - r.host);
      void* device = nullptr;
      FATHOM_CUDA_CHECK(cudaMalloc(&device, bytes));
      FATHOM_CUDA_CHECK(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
      ranges_.push_back({host, static_cast<std::byte*>(device), bytes});
      return static_cast<std::byte*>(device);
    }
    std::vector<Range> ranges_;
  };

  template <typename Args, typename F>
  void run(const Args& args, const F& stage_arguments, void (Ops::*op)(const Args&)) {
    Args staged = args;
    Stage stage;
    stage_arguments(stage, staged);
    inner_->begin_rows(classes_);
    (inner_.get()->*op)(staged);
    FATHOM_CUDA_CHECK(cudaDeviceSynchronize());
    inner_->weights().clear();  // the test's weights end with it
  }

  std::unique_ptr<CudaOps> inner_;
  RowClasses classes_;
};

}  // namespace fathom::test
