// Communicator: what the ranks of tensor parallelism say to each other. Each rank holds one, and
// all of them ask for the same operations in the same order, each from a thread of its own.
#pragma once

#include <memory>
#include <vector>

#include "tensor/tensor_view.h"

namespace fathom {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // x = Σ of the ranks' x, each element summed in order of rank: the same bits on every rank,
  // whatever the other elements are. x: float32 [rows, cols], contiguous, of the same shape
  // everywhere.
  virtual void all_reduce(const TensorView& x) = 0;
  // x = rank 0's x. Of the same shape everywhere, contiguous.
  virtual void broadcast(const TensorView& x) = 0;
  // On rank 0: out = [part of rank 0 | part of rank 1 | …]. out: float32 [rows, cols], used on rank
  // 0 alone; part: of rank r its columns from column_border(cols, r, size) to the next rank's,
  // contiguous.
  virtual void gather_columns(const TensorView& part, const TensorView& out) = 0;
};

// Where rank r's part of `total` columns begins if they are divided evenly.
inline int64_t column_border(int64_t total, int64_t r, int64_t size) { return total * r / size; }

// For ranks that are threads of one process and compute in the host's memory.
std::vector<std::unique_ptr<Communicator>> make_host_communicators(int size);

}  // namespace fathom
