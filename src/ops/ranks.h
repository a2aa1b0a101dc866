// Ranks: the backends of tensor parallelism, one for each rank, and the threads that drive them.
//
// The engine sees rank 0: its activations, its cache pages, its logits. ParallelOps is that rank's
// Ops with the others behind it; what the others need beside (a workspace, cache pages of the same
// layout) is kept here. Who computes is model/parallel_model.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ops/communicator.h"
#include "ops/ops.h"

namespace fathom {

// A rank's backend, and its end of the wire.
struct Rank {
  std::unique_ptr<Ops> ops;
  std::unique_ptr<Communicator> communicator;
};

class Ranks {
 public:
  // Calls make(rank) for all ranks at the same time, each on the thread that will drive it: rank 0
  // on this one.
  static Result<std::unique_ptr<Ranks>> create(int size,
                                               const std::function<Result<Rank>(int rank)>& make);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int size() const { return size_; }
  // Calls job(rank) for all ranks at the same time, rank 0 on this thread, and waits for all.
  void run(const std::function<void(int rank)>& job);

  // Of a rank; workspaces are of ranks other than 0, to be used from their thread alone.
  Ops& ops(int rank);
  Workspace& workspace(int rank);
  // The pages that stand for rank 0's `pages` on another rank.
  KvPages pages_of(int rank, const KvPages& pages) const;
  // Memory of all ranks: what is allocated there stands on each of them at an address of its own.
  // Addresses are rank 0's.
  Memory& mirrored_memory();

 private:
  struct Member;
  class Mirror;

  explicit Ranks(int size);
  void work(int rank);

  const int size_;
  const std::function<void(int)>* job_ = nullptr;
  bool stop_ = false;
  std::vector<std::unique_ptr<Member>> members_;
  std::unique_ptr<Mirror> mirror_;
};

// Rank 0's Ops with the other ranks behind it. Steps are not repeated behind it yet.
class ParallelOps final : public OpsDecorator {
 public:
  explicit ParallelOps(std::unique_ptr<Ranks> ranks);

  // "2 ranks of cpu (AVX3_ZEN4, 1 threads)"
  std::string_view description() const override { return description_; }
  Memory& cache_memory() const override { return ranks_->mirrored_memory(); }
  Ranks* ranks() override { return ranks_.get(); }

 private:
  std::unique_ptr<Ranks> ranks_;
  std::string description_;
};

}  // namespace fathom
