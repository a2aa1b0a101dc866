// The algorithm of block_dot.h over vectors of kLanes outputs. Included by one .cc per instruction
// set, inside that file's anonymous namespace: what is compiled with special flags must not be
// visible (nor use inline functions that are visible) elsewhere.
//
// The including file defines, before: kLanes; U32, F32 (GCC vector types of kLanes elements); kRows
// (rows of inputs in a register tile); and
//   transpose<D>(p, stride, U32* t)  t[i] lane n = the i-th dword at p + n·stride, D = 4 or 8
//   gather(p, stride)                lane n = the dword at p + n·stride
//   load_f16(p, stride), low_f16(v), high_f16(v)   half floats as F32
//   dot(acc, u8, s8x4)               acc + Σ of 4 products per lane; s8x4 is one dword for all
//                                    lanes
//   dot16(acc, s16, s16x2)           acc + Σ of 2 products per lane
//   lookup(const uint8_t table[16], v)   table[i] for every byte i < 16 of v
//   fma(a, b, c), to_float(U32 as int32)
// `stride` is a number of bytes or Streams (below): templates that use n * stride and p + stride.
//
//   kSignedBytes: dot cannot take bytes above 127; dot_signed(acc, u8, s8x4) then gives
//                 acc + Σ (u − 128)·s
//   kBytePairs: dot is made of pair_products(u8, s8x4) (int16 sums of 2 products), and
//                 sum_pairs(acc, pairs); add_pairs(a, b) adds int16 sums
//   RowSums<Format>   integer sums of rows without a transposition, where kAvailable
//
// Weights of kLanes rows x 128 columns are unpacked to a panel in the first-level cache, each dword
// holding 4 consecutive weights of one row, and multiplied with all rows of inputs. Unpacking works
// on packed dwords of many rows at once, after a transposition.

#include "backend/cpu/kernels/block_dot_formats-inl.h"

// What is to be read of some rows: their weights, and the scales where those stand apart.
// p + n * stride is row n, scales + n * stride_of_scales<Format>(stride) its scales.
struct Place {
  const uint8_t* p;
  const uint8_t* scales;
};
template <class Format>
inline Place place(const BlockDotArgs& a, const uint8_t* p) {
  return {p, Format::kScalesApart ? a.exponents + (p - a.weights) / 16 : p};
}
template <class Format, class Stride>
inline Stride stride_of_scales(Stride stride) {
  return Format::kScalesApart ? stride / 16 : stride;
}

// The input side of one 128-column block.
struct InputBlock {
  const int8_t* q;
  const int16_t* sums32;
  const int16_t* sums16;
  float scale;
};

inline int32_t load_dword(const void* p) {
  int32_t v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class Format>
inline U32 start_of(const InputBlock& x, int g) {
  if constexpr (Format::kOffset == 0 || (kSignedBytes && Format::kOffset == 128)) {
    return U32{};
  } else {
    const int sum = Format::kQuads == 8 ? x.sums32[g] : x.sums16[g];
    return splat(static_cast<uint32_t>(-Format::kOffset * sum));
  }
}

// The sum of a group, one quad after another.
template <class Format>
struct GroupSum {
  // Sums of two products that fit 16 bits together.
  static constexpr int kFit = 32767 / (2 * 127 * Format::kMaxByte);
  static constexpr int kRun = kFit >= Format::kQuads ? Format::kQuads
                              : kFit >= 4            ? 4
                              : kFit >= 2            ? 2
                                                     : 1;

  // `k`: which quad of the group.
  void add(int k, U32 u, int32_t quad) {
    if constexpr (kSignedBytes && Format::kOffset == 128) {
      acc = dot_signed(acc, u, quad);
    } else if constexpr (kBytePairs && kRun > 1) {
      const U32 products = pair_products(u, quad);
      pairs = k % kRun == 0 ? products : add_pairs(pairs, products);
      if (k % kRun == kRun - 1) acc = sum_pairs(acc, pairs);
    } else {
      acc = dot(acc, u, quad);
    }
  }

  U32 acc, pairs;
};

// What follows the integer sum of group g.
template <class Format, class Weights>
inline F32 add_group(F32 part, U32 acc, const Weights& w, const InputBlock& x, int g) {
  part = fma(to_float(acc), w.scales[g], part);
  if constexpr (Format::kMins == Mins::kFloat)
    part = fma(splat_f(static_cast<float>(x.sums32[g])), w.mins[g], part);
  return part;
}

// What follows the last group of a block.
template <class Format, class Weights>
inline F32 add_k_mins(F32 part, const Weights& w, const InputBlock& x) {
  if constexpr (Format::kMins == Mins::kInteger) {
    U32 sum{};
    for (int j = 0; j < 16 / Format::kQuads; ++j)
      sum =
          dot16(sum, w.k_mins[j], load_dword((Format::kQuads == 8 ? x.sums32 : x.sums16) + 2 * j));
    part = fma(to_float(sum), w.negative_dmin, part);
  }
  return part;
}

// c[i][p] += x[i] · panel p over one block, for M rows and two panels, which are `panel_step`
// apart. `c`: rows of 2 · kLanes floats.
template <class Format, int M>
inline void multiply(const Panel* panels, int64_t panel_step, int blocks, const InputBlock* x,
                     F32* c) {
  constexpr int P = 2, kQuads = Format::kQuads;
  F32 part[M][P];
  for (int i = 0; i < M; ++i)
    for (int p = 0; p < P; ++p) part[i][p] = F32{};
  for (int g = 0; g < blocks * (8 / kQuads); ++g) {
    GroupSum<Format> sum[M][P];
    for (int i = 0; i < M; ++i) {
      const U32 start = start_of<Format>(x[i], g);
      for (int p = 0; p < P; ++p) sum[i][p].acc = start;
    }
#pragma GCC unroll 8
    for (int k = 0; k < kQuads; ++k) {
      U32 w[P];
      for (int p = 0; p < P; ++p) w[p] = panels[p * panel_step].u[g * kQuads + k];
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const int32_t quad = load_dword(x[i].q + (g * kQuads + k) * 4);
        for (int p = 0; p < P; ++p) sum[i][p].add(k, w[p], quad);
      }
    }
    for (int p = 0; p < P; ++p)
      for (int i = 0; i < M; ++i)
        part[i][p] = add_group<Format>(part[i][p], sum[i][p].acc, panels[p * panel_step], x[i], g);
  }
  for (int i = 0; i < M; ++i) {
    for (int p = 0; p < P; ++p) {
      part[i][p] = add_k_mins<Format>(part[i][p], panels[p * panel_step], x[i]);
      c[i * P + p] = fma(part[i][p], splat_f(x[i].scale), c[i * P + p]);
    }
  }
}

// Takes the place of a Panel when there are few rows: multiplies what is unpacked at once.
template <class Format, int M>
struct Direct : Scales {
  void quad(int i, U32 bytes) {
#pragma GCC unroll 2
    for (int r = 0; r < M; ++r)
      sum[i / Format::kQuads][r].add(i % Format::kQuads, bytes, load_dword(x[r].q + 4 * i));
  }

  const InputBlock* x;
  GroupSum<Format> sum[32 / Format::kQuads][M];
};

// c[i] += x[i] · one block of kLanes rows, for M rows of inputs. `c` rows are `c_step` apart.
template <class Format, int M, class Stride>
inline void multiply_direct(Place rows, Stride stride, int64_t index, int blocks,
                            const InputBlock* x, F32* c, int c_step) {
  Direct<Format, M> direct;
  direct.x = x;
  const int groups = blocks * (8 / Format::kQuads);
#pragma GCC unroll 8
  for (int g = 0; g < groups; ++g)
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r) direct.sum[g][r].acc = start_of<Format>(x[r], g);
  Format::quads(rows.p, stride, index, blocks, direct);
  Format::scales(rows.scales, stride_of_scales<Format>(stride), index, blocks, direct);
#pragma GCC unroll 8
  for (int r = 0; r < M; ++r) {
    F32 part{};
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g)
      part = add_group<Format>(part, direct.sum[g][r].acc, direct, x[r], g);
    part = add_k_mins<Format>(part, direct, x[r]);
    c[r * c_step] = fma(part, splat_f(x[r].scale), c[r * c_step]);
  }
}

constexpr int kMaxRows = 256;     // rows of inputs that share an unpacked panel
constexpr int kChunk = 4;         // blocks unpacked at once for many rows
constexpr int64_t kSegment = 80;  // blocks of a row whose sums are kept until all rows have theirs
constexpr int kStrip = 2 * kLanes;
constexpr int kMaxBlockBytes = 4 * 34 < 210 ? 210 : 4 * 34;

inline int blocks_of_32(int64_t cols, int64_t index) {
  const int64_t left = cols / 32 - 4 * index;
  return left < 4 ? static_cast<int>(left) : 4;
}

inline InputBlock input_block(const Int8Row& x, int64_t index) {
  const int64_t k = index * kInputBlock;
  return {x.q + k, x.sums32 + k / 32, x.sums16 + k / 16, x.scales[index]};
}

// M rows over the blocks of a chunk.
template <class Format, int M>
inline void multiply_chunk(const Panel* panels, int64_t first, int64_t count, int64_t cols,
                           const Int8Row* x, F32* c) {
  for (int64_t b = 0; b < count; ++b) {
    InputBlock in[M];
    for (int i = 0; i < M; ++i) in[i] = input_block(x[i], first + b);
    multiply<Format, M>(panels + b, kChunk, blocks_of_32(cols, first + b), in, c);
  }
}

// kLanes rows from where a Format's functions can take them.
struct Rows {
  Place at;
  int64_t stride;
  int64_t index;
};

// Rows [n + first, + kLanes) for block `index`. Rows from n + width on do not belong to the strip:
// in their place stand copies of the last one that does, in `copy`.
template <class Format>
inline Rows rows_of(const BlockDotArgs& a, int64_t n, int64_t width, int64_t first, int64_t index,
                    int blocks, uint8_t* copy) {
  if (first + kLanes <= width)
    return {place<Format>(a, a.weights + (n + first) * a.row_bytes), a.row_bytes, index};
  constexpr bool kSuper = Format::kBlockElements == 256;
  constexpr int64_t kStride = kSuper ? Format::kBlockBytes : 4 * Format::kBlockBytes;
  const int64_t bytes = kSuper ? Format::kBlockBytes : blocks * Format::kBlockBytes;
  const int64_t offset = (kSuper ? index / 2 : index * 4) * Format::kBlockBytes;
  uint8_t* const scales = copy + kLanes * kStride;
  for (int64_t i = 0; i < kLanes; ++i) {
    const int64_t row = first + i < width ? first + i : width - 1;
    const Place from = place<Format>(a, a.weights + (n + row) * a.row_bytes + offset);
    __builtin_memcpy(copy + i * kStride, from.p, static_cast<unsigned long>(bytes));
    if constexpr (Format::kScalesApart)
      __builtin_memcpy(scales + i * (kStride / 16), from.scales,
                       static_cast<unsigned long>(blocks));
  }
  return {{copy, Format::kScalesApart ? scales : copy}, kStride, kSuper ? index % 2 : 0};
}

template <class Format, int M>
inline void multiply_some(int64_t rows, const Panel* panels, int64_t first, int64_t count,
                          int64_t cols, const Int8Row* x, F32* c) {
  if constexpr (M > 0) {
    if (rows == M) return multiply_chunk<Format, M>(panels, first, count, cols, x, c);
    multiply_some<Format, M - 1>(rows, panels, first, count, cols, x, c);
  }
}

// How many of `left` rows to take at once: the last two portions are even, since a small one would
// not keep the units busy.
inline int64_t next_rows(int64_t left) {
  if (left <= kRows) return left;
  return left < 2 * kRows ? (left + 1) / 2 : kRows;
}

// Asks for the next strip of a matrix while the present one is computed: its rows are read side by
// side, which the hardware does not foresee.
struct Prefetcher {
  Prefetcher(const BlockDotArgs& a, int64_t n, int64_t width, int64_t blocks)
      : next(a.weights + (n + width) * a.row_bytes),
        end(a.weights + a.rows * a.row_bytes),
        step((width * a.row_bytes / blocks + 63) / 64 * 64) {}
  void advance() {
    for (int64_t i = 0; i < step && next < end; i += 64, next += 64) {
      __builtin_prefetch(next, 0, 2);
      // Requests that find the queue full are dropped: each line is asked for twice.
      __builtin_prefetch(next - 2 * step, 0, 2);
    }
  }
  const uint8_t* next;
  const uint8_t* end;
  int64_t step;
};

// Outputs [n, n + width), width <= kStrip, for M rows of inputs: those that streams leave.
template <class Format, int M>
void strip_few(const BlockDotArgs& a, const Int8Row* x, float* const* y, int64_t n, int64_t width) {
  alignas(64) F32 c[M * 2];
  alignas(64) uint8_t copy[kLanes * kMaxBlockBytes];
  for (int i = 0; i < 2 * M; ++i) c[i] = F32{};
  const int64_t blocks = (a.cols + kInputBlock - 1) / kInputBlock;
  Prefetcher prefetcher(a, n, width, blocks);
  for (int64_t b = 0; b < blocks; ++b) {
    InputBlock in[M];
    for (int i = 0; i < M; ++i) in[i] = input_block(x[i], b);
    const int count = blocks_of_32(a.cols, b);
    for (int p = 0; p < 2; ++p) {
      const Rows rows = rows_of<Format>(a, n, width, p * kLanes, b, count, copy);
      multiply_direct<Format, M>(rows.at, rows.stride, rows.index, count, in, c + p, 2);
    }
    prefetcher.advance();
  }
  for (int i = 0; i < M; ++i)
    __builtin_memcpy(y[i] + n, c + 2 * i, static_cast<unsigned long>(width) * sizeof(float));
}

template <class Format>
inline constexpr int64_t kBytesOf128 = Format::kBlockBytes * 128 / Format::kBlockElements;

// Asks for what follows `block` in the first kRowCount rows at p.
template <class Format, int kRowCount>
inline void ask_ahead(Place rows, Streams streams, int64_t block) {
  const uint8_t* ahead = rows.p + block * kBytesOf128<Format> + streams.ahead;
  for (int64_t i = 0; i < kRowCount; ++i)
    for (int64_t line = 0; line < kBytesOf128<Format>; line += 64)
      __builtin_prefetch(ahead + i * streams + line, 0, 2);
  // A line of scales lasts for 16 blocks.
  if (Format::kScalesApart && block % 16 == 0)
    for (int64_t i = 0; i < kRowCount; ++i)
      __builtin_prefetch(rows.scales + 4 * block + streams.ahead / 16 + i * (streams / 16), 0, 2);
}

// Blocks [first, first + count) of four rows at p and of those behind them, row by row: memory
// is read in its order. Adds to c[r] what the kLanes rows give with the inputs x[r].
template <class Format, int M>
inline void multiply_rows(Place rows, Streams streams, int64_t first, int64_t count,
                          const Int8Row* x, F32* c) {
  using Sums = RowSums<Format>;
  constexpr int kFours = kLanes / 4;
  alignas(64) typename Sums::Four fours[kSegment][kFours];
  alignas(64) typename Sums::template Part<M> parts[kSegment][kFours];
  for (int j = 0; j < kFours; ++j) {
    const int64_t below = j * streams.row_bytes;
    const Place row = {rows.p + below, rows.scales + (Format::kScalesApart ? below / 16 : below)};
    for (int64_t b = 0; b < count; ++b) {
      typename Sums::Inputs in[M];
      for (int r = 0; r < M; ++r) in[r] = Sums::inputs(x[r].q + (first + b) * kInputBlock);
      Sums::template four_rows<M>(row.p, streams.apart, first + b, in, parts[b][j]);
      Sums::keep(row.scales, stride_of_scales<Format>(streams).apart, first + b, fours[b][j]);
      ask_ahead<Format, 4>(row, streams, first + b);
    }
  }
  for (int64_t b = 0; b < count; ++b) {
    Scales scales;
    Sums::scales(fours[b], rows.p, streams, first + b, scales);
    for (int r = 0; r < M; ++r) {
      U32 sums[Sums::kGroups];
      Sums::template join<M>(parts[b], r, sums);
      const InputBlock in = input_block(x[r], first + b);
      F32 part{};
      for (int g = 0; g < Sums::kGroups; ++g)
        part = add_group<Format>(part, sums[g] + start_of<Format>(in, g), scales, in, g);
      part = add_k_mins<Format>(part, scales, in);
      c[r] = fma(part, splat_f(in.scale), c[r]);
    }
  }
}

// Blocks [first, first + count) of kLanes rows, the last block with `rest` columns of 32.
template <class Format, int M>
inline void multiply_side_by_side(Place rows, Streams streams, int64_t first, int64_t count,
                                  int rest, const Int8Row* x, F32* c) {
  for (int64_t b = first; b < first + count; ++b) {
    InputBlock in[M];
    for (int r = 0; r < M; ++r) in[r] = input_block(x[r], b);
    // The usual case with a constant, so that it is unrolled.
    if (b + 1 < first + count || rest == 4) {
      multiply_direct<Format, M>(rows, streams, b, 4, in, c, 1);
    } else {
      multiply_direct<Format, M>(rows, streams, b, rest, in, c, 1);
    }
    ask_ahead<Format, kLanes>(rows, streams, b);
  }
}

// Outputs [n, n + rows), rows a multiple of kLanes, for M rows of inputs: memory is the limit. It
// is read as four streams, each from begin to end, which is what comes fastest.
template <class Format, int M>
void streams_few(const BlockDotArgs& a, int64_t n, int64_t rows) {
  const int64_t each = rows / 4;
  const Streams streams{each * a.row_bytes, a.row_bytes, bytes_asked_ahead()};
  const int64_t whole = a.cols / kInputBlock;
  const int rest = static_cast<int>(a.cols % kInputBlock / 32);
  for (int64_t at = 0; at < each; at += kLanes / 4) {
    alignas(64) F32 c[M];
    for (int r = 0; r < M; ++r) c[r] = F32{};
    const Place p = place<Format>(a, a.weights + (n + at) * a.row_bytes);
    if constexpr (RowSums<Format>::kAvailable) {
      for (int64_t b = 0; b < whole; b += kSegment) {
        const int64_t count = whole - b < kSegment ? whole - b : kSegment;
        multiply_rows<Format, M>(p, streams, b, count, a.x, c);
      }
      if (rest > 0) multiply_side_by_side<Format, M>(p, streams, whole, 1, rest, a.x, c);
    } else {
      multiply_side_by_side<Format, M>(p, streams, 0, whole + (rest > 0 ? 1 : 0),
                                       rest > 0 ? rest : 4, a.x, c);
    }
    for (int r = 0; r < M; ++r)
      for (int i = 0; i < kLanes; ++i)
        a.y[r][n + i % 4 * each + at + i / 4] = reinterpret_cast<const float*>(c + r)[i];
  }
}

template <class Format, int M>
void run_few(const BlockDotArgs& a) {
  const int64_t streamed = (a.n1 - a.n0) / kLanes * kLanes;
  streams_few<Format, M>(a, a.n0, streamed);
  if (a.n0 + streamed < a.n1)
    strip_few<Format, M>(a, a.x, a.y, a.n0 + streamed, a.n1 - a.n0 - streamed);
}

// Outputs [n, n + width), width <= kStrip, of rows [0, m), m <= kMaxRows.
template <class Format>
void strip(const BlockDotArgs& a, const Int8Row* x, int64_t m, float* const* y, int64_t n,
           int64_t width) {
  alignas(64) F32 c[kMaxRows * 2];
  alignas(64) Panel panels[2 * kChunk];
  alignas(64) uint8_t copy[kLanes * kMaxBlockBytes];
  for (int64_t i = 0; i < 2 * m; ++i) c[i] = F32{};
  const int64_t blocks = (a.cols + kInputBlock - 1) / kInputBlock;
  // Short chunks let unpacking and products overlap, long ones save moving the sums.
  const int64_t step = m <= 2 * kRows ? 1 : kChunk;
  Prefetcher prefetcher(a, n, width, blocks);
  for (int64_t first = 0; first < blocks; first += step) {
    const int64_t count = blocks - first < step ? blocks - first : step;
    for (int64_t b = 0; b < count; ++b) {
      const int groups = blocks_of_32(a.cols, first + b);
      for (int p = 0; p < 2; ++p) {
        const Rows rows = rows_of<Format>(a, n, width, p * kLanes, first + b, groups, copy);
        Panel& panel = panels[p * kChunk + b];
        Format::quads(rows.at.p, rows.stride, rows.index, groups, panel);
        Format::scales(rows.at.scales, stride_of_scales<Format>(rows.stride), rows.index, groups,
                       panel);
      }
      prefetcher.advance();
    }
    for (int64_t i = 0; i < m;) {
      const int64_t rows = next_rows(m - i);
      multiply_some<Format, kRows>(rows, panels, first, count, a.cols, x + i, c + 2 * i);
      i += rows;
    }
  }
  for (int64_t i = 0; i < m; ++i)
    __builtin_memcpy(y[i] + n, c + 2 * i, static_cast<unsigned long>(width) * sizeof(float));
}

template <class Format>
void run(const BlockDotArgs& a) {
  if (a.m == 1) return run_few<Format, 1>(a);
  if (a.m == 2) return run_few<Format, 2>(a);
  // One row of inputs in three parts (CpuOps::InputForm).
  if constexpr (Format::kScalesApart)
    if (a.m == 3) return run_few<Format, 3>(a);
  for (int64_t n = a.n0; n < a.n1; n += kStrip) {
    const int64_t width = a.n1 - n < kStrip ? a.n1 - n : kStrip;
    for (int64_t i = 0; i < a.m; i += kMaxRows)
      strip<Format>(a, a.x + i, a.m - i < kMaxRows ? a.m - i : kMaxRows, a.y + i, n, width);
  }
}

inline void run_type(const BlockDotArgs& args) {
  switch (args.type) {
    case DType::kQ4_0:
      return run<FormatSmall<18, false, false>>(args);
    case DType::kQ4_1:
      return run<FormatSmall<20, true, false>>(args);
    case DType::kQ5_0:
      return run<FormatSmall<22, false, true>>(args);
    case DType::kQ5_1:
      return run<FormatSmall<24, true, true>>(args);
    case DType::kQ8_0:
      return run<FormatQ8_0>(args);
    case DType::kQ2_K:
      return run<FormatQ2_K>(args);
    case DType::kQ3_K:
      return run<FormatQ3_K>(args);
    case DType::kQ4_K:
      return run<FormatQ4_K>(args);
    case DType::kQ5_K:
      return run<FormatQ5_K>(args);
    case DType::kQ6_K:
      return run<FormatQ6_K>(args);
    case DType::kMXFP4:
      return run<FormatF4<false>>(args);
    case DType::kF4E2M1:
      return run<FormatF4<true>>(args);
    default:
      __builtin_trap();
  }
}
