// Ops: the coarse operations that a DeepSeek model is made of. The one seam between model code and
// hardware: models call these, backends implement them, decorators wrap them.
//
// Two laws: model code never reads tensor values on the host (so that a device can capture a step
// as a graph), and it holds no backend type. Outputs are explicit arguments; aliasing is said in
// each struct and is otherwise forbidden. Activations are float32 matrices [rows, cols]
// (tensor/tensor_view.h), rows being the tokens of a step. An op may not keep a pointer beyond its
// call.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "ops/kv_pages.h"
#include "ops/simulation.h"
#include "tensor/memory.h"
#include "tensor/tensor_view.h"
#include "tensor/weight_view.h"

namespace fathom {

// out[t] = table[token_ids[t]]
struct EmbedArgs {
  WeightView table;                    // [vocab, hidden]
  std::span<const int32_t> token_ids;  // [tokens], each in [0, vocab)
  TensorView out;                      // [tokens, hidden]
};

// out = weight * x / sqrt(mean(x²) + eps), mean over the columns, in float32.
struct RmsNormArgs {
  TensorView x;       // [rows, cols]
  WeightView weight;  // float32 [cols], or undefined: 1
  float eps = 0;
  TensorView out;  // [rows, cols], may be x
};

// out = weight * (x − mean) / sqrt(variance + eps) + bias, over the columns, in float32.
struct LayerNormArgs {
  TensorView x;             // [rows, cols]
  WeightView weight, bias;  // float32 [cols]
  float eps = 0;
  TensorView out;  // [rows, cols], may be x
};

// x += delta; out = rms_norm(x).
struct AddRmsNormArgs {
  TensorView x;       // [rows, cols], updated
  TensorView delta;   // [rows, cols]
  WeightView weight;  // float32 [cols]
  float eps = 0;
  TensorView out;  // [rows, cols], not x, may be delta
};

// x += delta
struct AddArgs {
  TensorView x;      // [rows, cols], updated
  TensorView delta;  // [rows, cols]
};

// out = x · weightᵀ + bias
struct LinearArgs {
  TensorView x;       // [rows, in]
  WeightView weight;  // [out, in]
  WeightView bias;    // float32 [out], or undefined
  TensorView out;     // [rows, out]
};

// Which channels rope pairs: i with i + d/2, or 2i with 2i + 1.
enum class RopeLayout : uint8_t { kHalf, kPairs };

// angles[t] = [cos(p·f₀)·a … cos(p·f_{d/2-1})·a | sin(p·f₀)·a …], p = positions[t], a =
// attention_factor.
struct RopeAnglesArgs {
  std::span<const int32_t> positions;           // [tokens]
  std::span<const double> inverse_frequencies;  // [d/2]
  double attention_factor = 1;
  TensorView out;  // [tokens, d]
};

// Rotates, in place, channels [offset, offset + d) of each head: (a, b) -> (a·cos − b·sin, b·cos +
// a·sin).
struct RopeArgs {
  TensorView x;       // [tokens, heads * head_dim], updated
  TensorView angles;  // [tokens, d], of rope_angles
  int64_t heads = 0;
  int64_t offset = 0;
  RopeLayout layout = RopeLayout::kHalf;
  bool inverse = false;  // by the negative angle
};

// Rounds the rows of x, in place, to what another type would hold (simulation.h).
struct SimulateArgs {
  TensorView x;  // [rows, cols], updated
  Simulation simulation;
};

// Appends each row to its sequence's pages at position start_position + (row − first_row). A cache
// row is the parts' rows one after another: {k, v} or {latent with rope key}.
struct KvAppendArgs {
  std::span<const TensorView> parts;  // each [tokens, *]; the columns add up to kv.row_elements
  KvPages kv;
  std::span<const SequenceRows> sequences;
};

// rope(q); rope(k); kv_append(append): what stands between the products and the attention of a
// layer, in one operation.
struct RopeAppendArgs {
  RopeArgs q, k;        // k.x: a part of `append`, or columns of one
  KvAppendArgs append;  // as it is once k is rotated
};

// Causal softmax attention over the paged cache, which already holds this step's rows.
// A cache row is [k of all KV heads | v of all KV heads]; query head h uses KV head h / (heads /
// kv_heads).
struct AttentionArgs {
  TensorView q;  // [tokens, heads * head_dim]
  KvPages kv;    // row_elements = 2 * kv_heads * head_dim
  std::span<const SequenceRows> sequences;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;
  TensorView out;  // [tokens, heads * head_dim], may be q
};

// rope_append(rows), then attention(attention) on the cache that they are in. rows.q.x is
// attention.q; what it and rows.k.x hold afterwards is not said.
struct AppendAttentionArgs {
  RopeAppendArgs rows;
  AttentionArgs attention;
};

// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, §2.1) in the absorbed form: the cache
// holds only [c | k_rope] per token, shared by all heads, and Wk and Wv are applied to the query
// and the result:
//   q_nope·k_nope = (Wkᵀ q_nope)·c,   o = Wv (Σ p·c),   [Wk | Wv] = kv_b's rows of the head.
// The weights come as kv_b, or apart as k_b (Wkᵀ of each head) and v_b.
struct MlaAttentionArgs {
  TensorView q;     // [tokens, heads * (qk_nope_head_dim + qk_rope_head_dim)], rope applied
  WeightView kv_b;  // [heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank], or undefined and:
  WeightView k_b;   // [heads * kv_lora_rank, qk_nope_head_dim]
  WeightView v_b;   // [heads * v_head_dim, kv_lora_rank]
  KvPages kv;       // row_elements = kv_lora_rank + qk_rope_head_dim
  std::span<const SequenceRows> sequences;
  int64_t heads = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  int64_t kv_lora_rank = 0;
  float scale = 0;
  // The positions that a token attends to (SelectRowsArgs::out), or undefined: all before it. A
  // token that sees no more positions than `selected` has columns attends to all of them whatever
  // stands there.
  TensorView selected;
  TensorView out;  // [tokens, heads * v_head_dim], not q

  // Wv of head h: [v_head_dim, kv_lora_rank].
  WeightView value_weights(int64_t h) const {
    if (!kv_b.defined()) return v_b.row_range(h * v_head_dim, v_head_dim);
    return kv_b.row_range(h * (qk_nope_head_dim + v_head_dim) + qk_nope_head_dim, v_head_dim);
  }
};

// Picks the cached rows that a token attends to (the lightning indexer of DeepSeek-V3.2 and V4):
// of the rows it sees (KvPages::visible_rows) the top_k = out.cols with the largest
//   score = Σ_h weights[t,h] · relu(q[t,h] · key),
// ties to the lower index (a common positive factor of the scores changes nothing). Written in
// ascending order, then −1. A token that sees no more than top_k rows gets all of them.
struct SelectRowsArgs {
  TensorView q;        // [tokens, heads * dim]
  TensorView weights;  // [tokens, heads]
  KvPages keys;        // row_elements = dim
  std::span<const SequenceRows> sequences;
  int64_t heads = 0;
  TensorView out;  // i32 [tokens, top_k]
};

// Writes the compressed rows (DeepSeek-V4: CSA and HCA) that become complete in this step: row w
// stands for the m = out.tokens_per_row tokens [wm, (w+1)m). Source rows are [kv | z], a token
// each.
//   e_w = Σ_j softmax_j(z_j + ape_j) ⊙ kv_j, channel by channel, j over the tokens of the window.
// Overlapping: kv and z are twice as wide as a row; a token's first half of channels serves the
// next window, its second half its own, so that j runs over the tokens of windows w−1 (first half)
// and w (second half). The z of window −1 count as −∞. Then row = rope(norm · e_w / sqrt(mean(e_w²)
// + eps)) at position w·m, on the last channels.
struct CompressArgs {
  KvPages source;  // row_elements = 2 · width, width = out.row_elements · (overlap ? 2 : 1)
  KvPages out;
  std::span<const SequenceRows> sequences;
  bool overlap = false;
  WeightView ape;   // float32 [m, width]
  WeightView norm;  // float32 [out.row_elements]
  float eps = 0;
  std::span<const double> inverse_frequencies;  // of the last 2 · size() channels, in pairs
  // Last of all, on the row's first `simulated` channels.
  Simulation simulation;
  int64_t simulated = 0;
};

// Attention of DeepSeek-V4: one cached vector a token serves all heads as key and as value. A token
// at position t sees the window rows of positions (t − window_tokens, t], and compressed rows:
// those selected, else all that are visible. The sink, a logit of each head, adds to the softmax's
// denominator alone.
struct SharedKvAttentionArgs {
  TensorView q;         // [tokens, heads * head_dim]
  KvPages window;       // row_elements = head_dim
  KvPages compressed;   // row_elements = head_dim, or data = nullptr: none
  TensorView selected;  // i32 [tokens, *] of SelectRowsArgs on rows like `compressed`, or undefined
  WeightView sinks;     // float32 [heads]
  std::span<const SequenceRows> sequences;
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t window_tokens = 0;
  float scale = 0;
  TensorView out;  // [tokens, heads * head_dim], may be q
};

// Manifold-constrained hyper-connections (DeepSeek-V4): the residual is n streams, [tokens, n *
// hidden], stream after stream. From z = fn · rms(streams), [tokens, (2 + n) · n]:
//   pre_j  = sigmoid(z_j · scale_0 + base_j) + eps
//   post_j = 2 · sigmoid(z_{n+j} · scale_1 + base_{n+j})
//   mix    = softmax over the columns of (z_{2n+…} · scale_2 + base_{2n+…}) as [n, n], + eps; then
//            columns divided by (their sum + eps), and iterations − 1 times rows, then columns.
// With z of n columns: pre alone (the head's).
struct StreamWeightsArgs {
  TensorView z;
  WeightView base;   // float32 [z.cols]
  WeightView scale;  // float32 [3], or [1]
  int64_t streams = 0;
  int64_t iterations = 0;
  float eps = 0;
  TensorView pre, post;  // [tokens, n]
  TensorView mix;        // [tokens, n · n], row-major
};

// out = Σ_j pre_j · streams_j
struct ReadStreamsArgs {
  TensorView streams;  // [tokens, n * hidden]
  TensorView pre;      // [tokens, n]
  TensorView out;      // [tokens, hidden]
};

// streams_k = post_k · y + Σ_j mix[j,k] · streams_j, in place.
struct WriteStreamsArgs {
  TensorView streams;  // [tokens, n * hidden], updated
  TensorView post;     // [tokens, n]
  TensorView mix;      // [tokens, n · n]
  TensorView y;        // [tokens, hidden]
};

// streams_j = x for all j.
struct CopyToStreamsArgs {
  TensorView x;        // [tokens, hidden]
  TensorView streams;  // [tokens, n * hidden]
};

// A SwiGLU block: down( silu(gate x) * (up x) ).
struct SwigluWeights {
  WeightView gate, up;            // [inner, hidden]
  WeightView down;                // [hidden, inner]
  WeightView gate_bias, up_bias;  // float32 [inner], or undefined
  WeightView down_bias;           // float32 [hidden], or undefined
};

struct MlpArgs {
  TensorView x;  // [rows, hidden]
  SwigluWeights weights;
  TensorView out;  // [rows, hidden], not x
};

enum class RouterScoring : uint8_t {
  kSoftmax,       // V2: softmax over the experts
  kSigmoid,       // V3
  kSqrtSoftplus,  // V4: sqrt(ln(1 + exp(x)))
};
enum class RouterGroups : uint8_t {
  kNone,
  kMax,  // V2 group_limited_greedy: a group scores its best expert; other groups' scores become 0
  kTop2Sum,  // V3 noaux_tc: a group scores the sum of its two best; other groups become −inf
};

// Picks experts_per_token experts a row. Ties go to the lower index. Ids are written in descending
// order of the choice score. scores = scoring(logits); choice = scores + bias; weight = score
// (without bias), divided by the sum if `normalize`, times scaling_factor.
struct RouteArgs {
  TensorView logits;  // [tokens, experts]
  // Where the token alone decides (V4's hash layers): experts_per_token ids for each token of the
  // vocabulary. Else empty.
  std::span<const int32_t> experts_of_token;
  std::span<const int32_t> token_ids;  // [tokens], used with experts_of_token
  WeightView bias;                     // float32 [experts] (e_score_correction_bias), or undefined
  RouterScoring scoring = RouterScoring::kSoftmax;
  RouterGroups groups = RouterGroups::kNone;
  int64_t num_groups = 1;
  int64_t groups_per_token = 1;
  bool normalize = false;
  float scaling_factor = 1;
  TensorView ids;      // i32 [tokens, experts_per_token]
  TensorView weights;  // [tokens, experts_per_token]
};

// out[t] = Σ_k weights[t,k] · expert_{ids[t,k]}(x[t]) + shared(x[t]), summed in the order of k,
// shared last.
struct MoeArgs {
  TensorView x;        // [tokens, hidden]
  TensorView ids;      // i32 [tokens, k]
  TensorView weights;  // [tokens, k]
  std::span<const SwigluWeights> experts;
  const SwigluWeights* shared = nullptr;  // one wide expert, or none
  // V4: the experts' silu(min(gate x, limit)) * clamp(up x, −limit, limit); the shared one's are
  // not limited. Infinity: none are.
  float limit = std::numeric_limits<float>::infinity();
  TensorView out;  // [tokens, hidden], not x
};

// out[i] = x[rows[i]]
struct GatherRowsArgs {
  TensorView x;  // [*, cols]
  std::span<const int32_t> rows;
  TensorView out;  // [rows.size(), cols]
};

// out of rank 0 = the ranks' parts side by side (tensor parallelism).
struct GatherColumnsArgs {
  TensorView part;  // [rows, columns of this rank] (Communicator::gather_columns)
  TensorView out;   // [rows, columns of all ranks], used on rank 0 alone
};

// See Ops::begin_rows.
struct RowClasses {
  int64_t rows = 0;
  int64_t prompt_rows = 0;
};
RowClasses row_classes(std::span<const SequenceRows> sequences);

// A step, as far as it decides which operations there will be. See Ops::begin_step.
struct StepShape {
  std::span<const int32_t> token_ids, positions;
  std::span<const SequenceRows> sequences;
  std::span<const KvPages> kv;
  const std::byte* memory = nullptr;  // where the step's first tensor will stand
  int64_t owner = 0;                  // who keeps the outputs (StepStart::owner); 0: not known yet
};
struct StepStart {
  // The operations of an earlier step of this shape have been asked for again, with the new tokens,
  // positions and pages: its outputs stand where they stood. Otherwise they have to be asked for.
  bool done = false;
  int64_t recording = -1;  // names the step that is, or will be, repeated; −1: none
  int64_t owner = 0;       // to be said from now on: addresses may be somebody else's later
};

class Ranks;  // ops/ranks.h

class Ops {
 public:
  virtual ~Ops() = default;
  // "cpu (AVX3_ZEN4, 2 threads)"
  virtual std::string_view description() const = 0;
  // Where the tensors of its arguments, outputs and cache pages live. Weights, and spans of
  // indices, are on the host whatever the backend.
  virtual Memory& memory() const { return host_memory(); }
  // Where cache pages are allocated: the same, or with tensor parallelism every rank's.
  virtual Memory& cache_memory() const { return memory(); }
  // The host's memory that read() is fastest to.
  virtual Memory& read_memory() const { return host_memory(); }
  // Waits for what was asked for and copies a tensor to the host.
  virtual void read(const TensorView& from, const TensorView& to);
  // The same tensor where the host can read it: itself, or a copy in `host`.
  TensorView on_host(const TensorView& x, Workspace& host);
  // What rows the operations that follow are given: of every `rows` of a tensor the first
  // `prompt_rows` are of class kPrompt, the others generated. Backends whose classes agree need not
  // listen.
  virtual void begin_rows(const RowClasses&) {}
  // Before and after the operations of Model::forward (engine/step_runner.h). A backend may record
  // them and repeat a step of the same shape without being asked for each again.
  virtual StepStart begin_step(const StepShape&) { return {}; }
  virtual void end_step() {}
  // Prompt and generated positions are computed by the same kernels: a cached row serves both.
  virtual bool classes_agree() const { return false; }
  // The rows of a step that suit the backend: enough for its arithmetic to be what takes the time,
  // and no more, since others wait for the step.
  virtual int64_t step_rows() const { return 512; }

  virtual void embed(const EmbedArgs& args) = 0;
  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void layer_norm(const LayerNormArgs& args) = 0;
  virtual void add_rms_norm(const AddRmsNormArgs& args);  // default: add, then rms_norm
  virtual void add(const AddArgs& args) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  // Independent linears; a backend may run them side by side. Default: one after another.
  virtual void linears(std::span<const LinearArgs> args);
  virtual void rope_angles(const RopeAnglesArgs& args) = 0;
  virtual void rope(const RopeArgs& args) = 0;
  virtual void simulate(const SimulateArgs& args) = 0;
  virtual void kv_append(const KvAppendArgs& args) = 0;
  virtual void rope_append(const RopeAppendArgs& args);  // default: one after another
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void append_attention(const AppendAttentionArgs& args);  // default: one after another
  virtual void mla_attention(const MlaAttentionArgs& args) = 0;
  virtual void select_rows(const SelectRowsArgs& args) = 0;
  virtual void compress(const CompressArgs& args) = 0;
  virtual void shared_kv_attention(const SharedKvAttentionArgs& args) = 0;
  virtual void stream_weights(const StreamWeightsArgs& args) = 0;
  virtual void read_streams(const ReadStreamsArgs& args) = 0;
  virtual void write_streams(const WriteStreamsArgs& args) = 0;
  virtual void copy_to_streams(const CopyToStreamsArgs& args) = 0;
  virtual void mlp(const MlpArgs& args) = 0;
  virtual void route(const RouteArgs& args) = 0;
  virtual void moe(const MoeArgs& args) = 0;
  virtual void gather_rows(const GatherRowsArgs& args) = 0;

  // Tensor parallelism (ops/communicator.h): for models of which this backend holds one rank's
  // part. The default has no other ranks: an error.
  virtual void all_reduce(const TensorView& x);
  virtual void broadcast(const TensorView& x);
  virtual void gather_columns(const GatherColumnsArgs& args);
  // The ranks behind this one; null: none.
  virtual Ranks* ranks() { return nullptr; }

  // Names an intermediate result for whoever listens (tracing decorators). Computes nothing.
  virtual void mark(std::string_view name, const TensorView& value);
};

// Forwards every op to another Ops: the base of decorators (tracing, profiling, checking). Steps
// are not repeated behind it, and append_attention() comes in its parts, since it has to see their
// operations.
class OpsDecorator : public Ops {
 public:
  explicit OpsDecorator(Ops& inner) : inner_(inner) {}
  std::string_view description() const override { return inner_.description(); }
  Memory& memory() const override { return inner_.memory(); }
  Memory& cache_memory() const override { return inner_.cache_memory(); }
  Memory& read_memory() const override { return inner_.read_memory(); }
  void read(const TensorView& from, const TensorView& to) override { inner_.read(from, to); }
  void begin_rows(const RowClasses& c) override { inner_.begin_rows(c); }
  bool classes_agree() const override { return inner_.classes_agree(); }
  int64_t step_rows() const override { return inner_.step_rows(); }
  void embed(const EmbedArgs& a) override { inner_.embed(a); }
  void rms_norm(const RmsNormArgs& a) override { inner_.rms_norm(a); }
  void layer_norm(const LayerNormArgs& a) override { inner_.layer_norm(a); }
  void add_rms_norm(const AddRmsNormArgs& a) override { inner_.add_rms_norm(a); }
  void add(const AddArgs& a) override { inner_.add(a); }
  void linear(const LinearArgs& a) override { inner_.linear(a); }
  void linears(std::span<const LinearArgs> a) override { inner_.linears(a); }
  void rope_angles(const RopeAnglesArgs& a) override { inner_.rope_angles(a); }
  void rope(const RopeArgs& a) override { inner_.rope(a); }
  void simulate(const SimulateArgs& a) override { inner_.simulate(a); }
  void kv_append(const KvAppendArgs& a) override { inner_.kv_append(a); }
  void rope_append(const RopeAppendArgs& a) override { inner_.rope_append(a); }
  void attention(const AttentionArgs& a) override { inner_.attention(a); }
  void mla_attention(const MlaAttentionArgs& a) override { inner_.mla_attention(a); }
  void select_rows(const SelectRowsArgs& a) override { inner_.select_rows(a); }
  void compress(const CompressArgs& a) override { inner_.compress(a); }
  void shared_kv_attention(const SharedKvAttentionArgs& a) override {
    inner_.shared_kv_attention(a);
  }
  void stream_weights(const StreamWeightsArgs& a) override { inner_.stream_weights(a); }
  void read_streams(const ReadStreamsArgs& a) override { inner_.read_streams(a); }
  void write_streams(const WriteStreamsArgs& a) override { inner_.write_streams(a); }
  void copy_to_streams(const CopyToStreamsArgs& a) override { inner_.copy_to_streams(a); }
  void mlp(const MlpArgs& a) override { inner_.mlp(a); }
  void route(const RouteArgs& a) override { inner_.route(a); }
  void moe(const MoeArgs& a) override { inner_.moe(a); }
  void gather_rows(const GatherRowsArgs& a) override { inner_.gather_rows(a); }
  void all_reduce(const TensorView& x) override { inner_.all_reduce(x); }
  void broadcast(const TensorView& x) override { inner_.broadcast(x); }
  void gather_columns(const GatherColumnsArgs& a) override { inner_.gather_columns(a); }
  Ranks* ranks() override { return inner_.ranks(); }
  void mark(std::string_view name, const TensorView& value) override { inner_.mark(name, value); }

 private:
  Ops& inner_;
};

}  // namespace fathom
