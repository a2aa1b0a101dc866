// Shard: which part of a model's weights one rank of tensor parallelism holds (Megatron-LM,
// arXiv:1909.08053, §3): rows of what makes heads and inner channels, columns of what takes them,
// so that the ranks' results add up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ops/ops.h"
#include "tensor/weight_view.h"

namespace fathom {

struct ShardRange {
  int64_t begin = 0, count = 0;
};

struct Shard {
  int rank = 0;
  int size = 1;
  // False: of a model that is asked for its shapes alone. Nothing is copied; what would be a copy
  // has the right shape and wrong values.
  bool copies = true;

  bool whole() const { return size == 1; }
  // This rank's part of [0, total): the ranks' parts stand side by side, each of whole units but
  // the last, and differ by one unit at most. Empty for some ranks if there are fewer units than
  // ranks.
  ShardRange part(int64_t total, int64_t unit = 1) const;
};

// Takes this rank's parts of weights. Rows are views; columns are copied, into memory kept here.
class WeightSharder {
 public:
  explicit WeightSharder(const Shard& shard) : shard_(shard) {}
  const Shard& shard() const { return shard_; }

  // Elements [begin, begin + count) of a vector; undefined stays undefined.
  static WeightView elements(const WeightView& vector, const ShardRange& range);
  // Rows of a matrix; undefined stays undefined.
  static WeightView rows(const WeightView& matrix, const ShardRange& range);
  // The same as a copy: for a matrix that is used as a whole, too. Devices know a weight by its
  // address.
  WeightView own_rows(const WeightView& matrix, const ShardRange& range);
  // Columns of a matrix. `name`: for the error of a range that is not of whole blocks of its type.
  Result<WeightView> columns(const WeightView& matrix, const ShardRange& range,
                             const std::string& name);
  // What is added to a sum over the ranks must be added once: undefined on ranks other than 0.
  WeightView once(const WeightView& bias) const { return shard_.rank == 0 ? bias : WeightView{}; }
  // The part of a SwiGLU block: inner channels. `prefix` names it in errors.
  Result<SwigluWeights> swiglu(const SwigluWeights& weights, const std::string& prefix);

 private:
  std::byte* allocate(std::size_t bytes);

  Shard shard_;
  struct Free {
    void operator()(std::byte* p) const { host_memory().release(p); }
  };
  std::vector<std::unique_ptr<std::byte, Free>> copies_;
};

}  // namespace fathom
