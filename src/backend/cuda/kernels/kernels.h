// The kernels of CudaOps: argument structs of plain device pointers, and functions that launch.
//
// Every row's result depends on that row alone: not on the number of rows, nor on where it stands
// among them. All launches go to the given stream and return at once.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

#include "ops/simulation.h"
#include "tensor/dtype.h"

namespace fathom::cuda {

// Whether the current device lets a kernel begin before the one in front of it has ended (sm_90
// on).
bool launches_early();

// A matrix of activations on the device.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;
  __host__ __device__ T* row(int64_t r) const { return data + r * stride; }
};
using F32Rows = Rows<float>;
using I32Rows = Rows<int32_t>;

// A stored weight [rows, cols] on the device, in the layout of its file (tensor/weight_view.h); but
// Q8_0, Q4_0 and Q6_K in planes (repack()).
struct DeviceWeight {
  const uint8_t* data = nullptr;
  DType dtype = DType::kF32;
  bool aligned =
      false;  // every row begins at a multiple of 16 bytes and has a multiple of 8 columns
  int64_t rows = 0, cols = 0, row_bytes = 0;
  const float* scales = nullptr;
  int64_t scale_block_rows = 1, scale_block_cols = 1, scale_stride = 0, scale_row0 = 0;
  const uint8_t* exponents = nullptr;
  // Planes: `data` holds quants alone (row_bytes of them a row). A scale (float16) for each block
  // of block_cols; of Q6_K also the high bits (cols / 4 bytes a row) and a scale for each 16.
  const uint8_t* block_scales = nullptr;
  const uint8_t* high = nullptr;
  const uint8_t* sub_scales = nullptr;
  int64_t block_cols = 32;

#ifdef __CUDACC__
  __device__ __half block_scale(int64_t r, int64_t block) const {
    return reinterpret_cast<const __half*>(block_scales)[r * (cols / block_cols) + block];
  }
#endif
  __host__ __device__ const uint8_t* row(int64_t r) const { return data + r * row_bytes; }
  // The view of the rows from `count` on.
  void skip_rows(int64_t count) {
    data += count * row_bytes;
    rows -= count;
    scale_row0 += count;
    if (exponents != nullptr) exponents += count * (cols / 32);
    if (block_scales != nullptr) block_scales += count * (cols / block_cols) * 2;
    if (high != nullptr) high += count * (cols / 4);
    if (sub_scales != nullptr) sub_scales += count * (cols / 16);
  }
};

// What a kernel knows of a row of the step.
struct RowInfo {
  int32_t position = 0;
  int32_t table = 0;         // where its sequence's page table begins in StepTables::pages
  int32_t window_table = 0;  // the same of the window pages
};
struct StepTables {
  const RowInfo* rows = nullptr;
  const int32_t* pages = nullptr;
};

// KvPages on the device.
struct DevicePages {
  uint8_t* data = nullptr;
  DType dtype = DType::kF32;
  bool window = false;
  int32_t page_rows = 1;
  int32_t row_elements = 0;
  int32_t tokens_per_row = 1;
  int64_t page_stride_bytes = 0, row_bytes = 0;
};

// Rows in E4M3 (kernels/fp8.cuh): q [rows, cols], scales [cols / 128 rounded up, rows]. The number
// of rows is rounded up to kFp8Rows; those added may hold anything.
struct Fp8Codes {
  uint8_t* q = nullptr;
  float* scales = nullptr;
  int64_t rows = 0;
};
inline constexpr int64_t kFp8Rows = 4;

// Rows in int8 as quantize_inputs() makes them: q [rows, cols], scales [rows, cols / 32], sums
// [rows, cols / 16]. q null: none are wanted.
struct Int8Codes {
  int8_t* q = nullptr;
  float *scales = nullptr, *sums = nullptr;
};

// rows.cu
struct NormArgs {
  F32Rows x, out;
  const float* weight = nullptr;  // null: 1
  const float* bias = nullptr;
  float eps = 0;
  F32Rows delta;  // data null: none; else x += delta first
  // Copies of `out` for the products that follow, or null: in bfloat16, in int8 as
  // quantize_inputs() makes them, and of columns in whole blocks of 128 as quantize_fp8() does.
  // Only where norm_takes_copies().
  uint16_t* rounded = nullptr;
  Int8Codes int8;
  Fp8Codes fp8;
};
bool norm_takes_copies(const NormArgs& a);
void rms_norm(const NormArgs& a, cudaStream_t stream);
void layer_norm(const NormArgs& a, cudaStream_t stream);
void add(const F32Rows& x, const F32Rows& delta, cudaStream_t stream);
void embed(const DeviceWeight& table, const int32_t* ids, const F32Rows& out, cudaStream_t stream);
void gather_rows(const F32Rows& x, const int32_t* rows, const F32Rows& out, cudaStream_t stream);
struct AnglesArgs {
  const int32_t* positions = nullptr;
  const double* frequencies = nullptr;  // [half]
  int64_t half = 0;
  double factor = 1;
  F32Rows out;
};
void rope_angles(const AnglesArgs& a, cudaStream_t stream);
struct RopeKernelArgs {
  F32Rows x, angles;
  int64_t heads = 0, head_dim = 0, offset = 0;
  bool pairs = false, inverse = false;
};
void rope(const RopeKernelArgs& a, cudaStream_t stream);
// gate = silu(min(gate, limit)) * clamp(up, -limit, limit)
void silu_mul(const F32Rows& gate, const F32Rows& up, float limit, cudaStream_t stream);
// The same in bfloat16, of rows side by side: [count] values, a multiple of 8.
void silu_mul_bf16(uint16_t* gate, const uint16_t* up, int64_t count, cudaStream_t stream);

// to[t, g · to_step + to_offset + c] = from[t, g · from_step + from_offset + c], c < columns
struct CopyColumnsArgs {
  F32Rows from, to;
  int64_t groups = 0, columns = 0;
  int64_t from_offset = 0, from_step = 0, to_offset = 0, to_step = 0;
};
void copy_columns(const CopyColumnsArgs& a, cudaStream_t stream);

// linear.cu: out = x · weightᵀ + bias in float32, `batches` independent products: product b takes
// x's columns from b · x_step, the weight's rows from b · weight_step, and writes out's columns
// from b · out_step.
struct LinearKernelArgs {
  F32Rows x, out;  // of one product
  DeviceWeight weight;
  const float* bias = nullptr;
  int64_t batches = 1, x_step = 0, weight_step = 0, out_step = 0;
};
void linear(const LinearKernelArgs& a, cudaStream_t stream);
// out[t, h · out_step + c] = Σ_i x[t, h · x_step + i] · weight[h · weight_step + i, c], i < inner
struct TransposedArgs {
  F32Rows x, out;
  DeviceWeight weight;
  int64_t heads = 0, inner = 0, x_step = 0, weight_step = 0, out_step = 0;
};
void linear_transposed(const TransposedArgs& a, cudaStream_t stream);

// repack.cu: blocks as a file has them into planes.
struct RepackArgs {
  DType dtype = DType::kQ8_0;
  const uint8_t* from = nullptr;
  int64_t blocks = 0;
  int block_bytes = 0;
  uint8_t *quants = nullptr, *scales = nullptr, *high = nullptr, *sub_scales = nullptr;
};
bool is_repacked(DType type);
void repack(const RepackArgs& a, cudaStream_t stream);

// attention.cu
struct AppendArgs {
  F32Rows part[2];
  int parts = 0;
  DevicePages kv;
  StepTables tables;
  int64_t rows = 0;
};
void kv_append(const AppendArgs& a, cudaStream_t stream);
// rope(q); rope(k); kv_append(append) in one launch. k: all channels of its heads, which are
// columns [k_column, + k.x.cols) of the cached row. Not into a Q8_0 cache.
struct RopeAppendKernelArgs {
  RopeKernelArgs q, k;
  int64_t k_column = 0;
  AppendArgs append;
};
void rope_append(const RopeAppendKernelArgs& a, cudaStream_t stream);

// Softmax attention of every row and head on cached rows: those of `window` in (position −
// window_tokens, position], then those of `keys`: the row's `selected` ones, or all that it sees.
struct AttendArgs {
  F32Rows q, out;      // [rows, heads * key_dim], [rows, heads * value_dim]
  DevicePages window;  // data null: none
  DevicePages keys;    // data null: none
  I32Rows selected;    // data null: all
  StepTables tables;
  const float* sinks = nullptr;  // [heads], or null
  int64_t rows = 0;
  int32_t heads = 0, kv_heads = 0;
  int32_t key_dim = 0, key_stride = 0;  // of KV head g: channels [g · key_stride, + key_dim)
  int32_t value_offset = 0, value_dim = 0;
  int32_t window_tokens = 0;
  int32_t max_keys = 0;  // of any row
  float scale = 0;
  float* partials = nullptr;  // attend_scratch() floats
};
int64_t attend_scratch(const AttendArgs& a);
void attend(const AttendArgs& a, cudaStream_t stream);

// mla.cu: attend() on the tensor cores, for latent rows of 512 + 64 values in bfloat16 and one KV
// head; q and the probabilities are rounded to bfloat16. `partials`: mla_scratch() floats.
bool mla_takes(const AttendArgs& a);
int64_t mla_scratch(const AttendArgs& a);
void mla(const AttendArgs& a, cudaStream_t stream);

// flash.cu: attend() on the tensor cores, for prompt rows of grouped queries and a bfloat16 cache.
struct FlashTile {
  int32_t first_row = 0, rows = 0;  // neighbours of one sequence, at most kFlashRows
};
inline constexpr int kFlashRows = 64;
struct FlashArgs {
  F32Rows q, out;
  DevicePages kv;
  StepTables tables;
  const FlashTile* tiles = nullptr;
  int64_t num_tiles = 0;
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;
};
bool flash_takes(const DevicePages& kv, int64_t head_dim);
void flash(const FlashArgs& a, cudaStream_t stream);

// flash_decode.cu: the same for generated rows. Where flash_takes() and flash_decode_takes().
// With `own` a row is the only one of its sequence in the step, and its key and value are not in
// the cache yet: q and own.k are as before rope(), and the row is appended on the way.
struct OwnRows {
  F32Rows k, v;        // [rows, kv_heads * head_dim]; data null: the cache has them
  F32Rows angles;      // [rows, head_dim], of rope_angles()
  bool pairs = false;  // the layout of rope()
};
struct FlashDecodeArgs {
  F32Rows q, out;               // [rows, heads * head_dim]; out may be q
  uint16_t* rounded = nullptr;  // `out` in bfloat16, rows side by side; or null
  Int8Codes int8;               // `out` in int8
  OwnRows own;
  DevicePages kv;
  StepTables tables;
  int64_t rows = 0;
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  int32_t max_keys = 0;  // of any row
  float scale = 0;
  float* partials = nullptr;   // flash_decode_scratch() floats
  int32_t* arrived = nullptr;  // flash_decode_counters() zeros, which are zeros again afterwards
};
bool flash_decode_takes(const F32Rows& q, const F32Rows& out);
bool flash_decode_takes(const OwnRows& own, int64_t head_dim);
int64_t flash_decode_scratch(const FlashDecodeArgs& a);
int64_t flash_decode_counters(const FlashDecodeArgs& a);
void flash_decode(const FlashDecodeArgs& a, cudaStream_t stream);

// bf16.cu: x rounded to bfloat16, rows side by side; weights decoded to it; x += bias.
void round_inputs(const F32Rows& x, uint16_t* out, cudaStream_t stream);
void decode_weight(const DeviceWeight& w, uint16_t* out, cudaStream_t stream);
void add_bias(const F32Rows& x, const float* bias, cudaStream_t stream);

// fp8.cu: x in E4M3, columns a multiple of 4; and silu(gate) * up, [rows, cols] in bfloat16 and
// columns a multiple of 8.
void quantize_fp8(const F32Rows& x, const Fp8Codes& out, cudaStream_t stream);
void silu_mul_fp8(const uint16_t* gate, const uint16_t* up, int64_t rows, int64_t cols,
                  const Fp8Codes& out, cudaStream_t stream);

// sparse.cu
struct SelectArgs {
  F32Rows q, weights;
  DevicePages keys;
  StepTables tables;
  int32_t heads = 0, dim = 0;
  int64_t rows = 0;
  int32_t max_keys = 0;
  float* scores = nullptr;  // [rows, max_keys]
  I32Rows out;
};
void select_rows(const SelectArgs& a, cudaStream_t stream);
struct CompressKernelArgs {
  DevicePages source, out;
  StepTables tables;
  int64_t rows = 0;
  bool overlap = false;
  const float* ape = nullptr;
  const float* norm = nullptr;
  const double* frequencies = nullptr;
  int32_t half = 0;
  float eps = 0;
  Simulation simulation;
  int32_t simulated = 0;
};
// Ops::simulate
void simulate(const F32Rows& x, const Simulation& simulation, cudaStream_t stream);
void compress(const CompressKernelArgs& a, cudaStream_t stream);

// streams.cu
struct StreamWeightsKernelArgs {
  F32Rows z, pre, post, mix;
  const float* base = nullptr;
  const float* scale = nullptr;
  int32_t streams = 0, iterations = 0;
  float eps = 0;
};
void stream_weights(const StreamWeightsKernelArgs& a, cudaStream_t stream);
void read_streams(const F32Rows& streams, const F32Rows& pre, const F32Rows& out, cudaStream_t s);
void write_streams(const F32Rows& streams, const F32Rows& post, const F32Rows& mix,
                   const F32Rows& y, cudaStream_t s);
void copy_to_streams(const F32Rows& x, const F32Rows& streams, cudaStream_t s);

// moe.cu
enum class Scoring : int { kSoftmax, kSigmoid, kSqrtSoftplus };
enum class Groups : int { kNone, kMax, kTop2Sum };
struct RouteKernelArgs {
  F32Rows logits, weights;
  I32Rows ids;
  const float* bias = nullptr;
  const int32_t* experts_of_token = nullptr;
  const int32_t* token_ids = nullptr;
  Scoring scoring = Scoring::kSoftmax;
  Groups groups = Groups::kNone;
  int32_t num_groups = 1, groups_per_token = 1;
  bool normalize = false;
  float scaling_factor = 1;
};
void route(const RouteKernelArgs& a, cudaStream_t stream);
struct DeviceExpert {
  DeviceWeight gate, up, down;
};
struct ExpertsArgs {
  F32Rows x, out;
  I32Rows ids;
  F32Rows weights;
  const DeviceExpert* experts = nullptr;
  DType dtype = DType::kF32;  // of gate and up
  DType down_dtype = DType::kF32;
  int64_t inner = 0;
  float limit = std::numeric_limits<float>::infinity();
  F32Rows hidden;  // [tokens · k, inner], scratch
  F32Rows shared;  // [tokens, hidden] added last; data null: none
};
void experts(const ExpertsArgs& a, cudaStream_t stream);

// gemv.cu: out = x · weightᵀ + bias for few rows and up to three weights of one type and one number
// of columns. `gated`: parts[0] and [1] are gate and up, and parts[0].out = silu(min(gate, limit))
// * clamp(up, −limit, limit). With `experts` row i is that of token i / k and of its expert ids[i /
// k, i % k]: gated x's row of the token, else row i itself with the expert's `down`; parts then
// give type and shape.
struct GemvPart {
  DeviceWeight weight;
  const float* bias = nullptr;
  F32Rows out;
  uint16_t* rounded = nullptr;  // narrow(): the same in bfloat16, rows side by side; or null
  unsigned blocks = 0;          // gemv()'s and narrow()'s own
};
struct GemvArgs {
  F32Rows x;  // of int8 and bfloat16 inputs the columns alone count
  const uint16_t* rounded = nullptr;
  const int8_t* q = nullptr;
  const float *q_scales = nullptr, *q_sums = nullptr;
  int64_t rows = 0;
  GemvPart parts[3];
  int num_parts = 1;
  bool gated = false;
  float limit = std::numeric_limits<float>::infinity();
  const DeviceExpert* experts = nullptr;
  I32Rows ids;
  unsigned groups = 0;  // narrow()'s own
};
// Whether a weight's type takes int8 inputs, and whether gemv() takes the weight at all.
bool gemv_takes_int8(DType type);
bool gemv_takes(const DeviceWeight& weight);
void gemv(const GemvArgs& a, cudaStream_t stream);
// narrow.cu: the same on the tensor cores, with inputs in int8 or in bfloat16 (`rounded`, rows side
// by side); of `out` and `rounded` of a part, those that are there are written.
bool narrow_takes(const DeviceWeight& weight);
void narrow(const GemvArgs& a, cudaStream_t stream);
// x in int8, each 32 with a scale of their own; sums: scale · Σ q.
void quantize_inputs(const F32Rows& x, const Int8Codes& out, cudaStream_t stream);
// out[t] = Σ_k weights[t, k] · parts[t · k + …] + shared[t]
void combine_experts(const F32Rows& parts, const F32Rows& weights, const F32Rows& shared,
                     const F32Rows& out, cudaStream_t stream);

// sum_parts.cu: out[i] = Σ_r parts[r · count + i], in order of r.
struct SumPartsArgs {
  const float* parts = nullptr;
  int size = 0;  // parts
  int64_t count = 0;
  float* out = nullptr;
};
void sum_parts(const SumPartsArgs& args, cudaStream_t stream);

}  // namespace fathom::cuda
