// The lightning indexer's scores of cached rows (ops.h: SelectRowsArgs).
//
// A row's score depends on its key and the query alone: never on the range of a call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace fathom::cpu {

// Heads are padded to a multiple of this.
inline constexpr int64_t kIndexHeads = 16;

// One token's query in the order that the kernel reads. panel: [dim * heads padded] floats, 64-byte
// aligned; weights: [heads padded].
struct IndexQuery {
  const float* panel = nullptr;
  const float* weights = nullptr;
  int64_t heads = 0;  // padded
  int64_t dim = 0;
};
int64_t padded_index_heads(int64_t heads);
// q: [heads * dim]; w: [heads].
void pack_index_query(const float* q, const float* w, int64_t heads, int64_t dim, float* panel,
                      float* weights);

// scores[i] = Σ_h weights[h] · relu(q[h] · key_i) for `count` rows that follow one another,
// row_bytes apart.
void index_scores(const IndexQuery& query, DType dtype, const std::byte* rows, int64_t row_bytes,
                  int64_t count, float* scores);

}  // namespace fathom::cpu
