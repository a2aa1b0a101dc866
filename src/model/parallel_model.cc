#include "model/parallel_model.h"

#include <functional>

#include "ops/ranks.h"

namespace fathom {
namespace {

// Calls job(rank, that rank's context) for all ranks at the same time. Nothing that an earlier call
// left in the workspaces of ranks other than 0 is used again.
void on_all_ranks(const ModelContext& context, std::size_t size,
                  const std::function<void(int rank, const ModelContext&)>& job) {
  Ranks* const ranks = context.ops.ranks();
  FATHOM_CHECK(ranks != nullptr && static_cast<std::size_t>(ranks->size()) == size)
      << "a model of " << size << " ranks on " << context.ops.description();
  ranks->run([&](int rank) {
    if (rank == 0) {
      job(0, context);
      return;
    }
    Workspace& workspace = ranks->workspace(rank);
    workspace.reset();
    job(rank, {ranks->ops(rank), workspace});
  });
}

// The step as a rank sees it: its own cache pages, kept in `pages`.
Step step_of(Ranks& ranks, int rank, const Step& step, std::vector<KvPages>& pages) {
  Step out = step;
  if (rank == 0) return out;
  for (const KvPages& kv : step.kv) pages.push_back(ranks.pages_of(rank, kv));
  out.kv = pages;
  return out;
}

// Rank 0's x on every rank.
TensorView share(int rank, const ModelContext& context, const TensorView& x) {
  const TensorView own = rank == 0 ? x : context.workspace.allocate(x.dtype, x.rows, x.cols);
  context.ops.broadcast(own);
  return own;
}

}  // namespace

ParallelModel::ParallelModel(std::vector<std::unique_ptr<Model>> parts) : parts_(std::move(parts)) {
  FATHOM_CHECK(!parts_.empty());
  info_ = parts_[0]->info();
}

ModelOutput ParallelModel::forward(const ModelContext& context, const Step& step) const {
  ModelOutput out;
  on_all_ranks(context, parts_.size(), [&](int rank, const ModelContext& own) {
    std::vector<KvPages> pages;
    const Step own_step = step_of(*context.ops.ranks(), rank, step, pages);
    const ModelOutput result = parts_[static_cast<std::size_t>(rank)]->forward(own, own_step);
    if (rank == 0) out = result;
  });
  return out;
}

void ParallelModel::logits(const ModelContext& context, const TensorView& hidden,
                           const TensorView& out) const {
  on_all_ranks(context, parts_.size(), [&](int rank, const ModelContext& own) {
    const TensorView x = share(rank, own, hidden);
    parts_[static_cast<std::size_t>(rank)]->logits(own, x, rank == 0 ? out : TensorView{});
  });
}

TensorView ParallelModel::mtp_forward(const ModelContext& context, const Step& step,
                                      const TensorView& input) const {
  TensorView out;
  on_all_ranks(context, parts_.size(), [&](int rank, const ModelContext& own) {
    std::vector<KvPages> pages;
    const Step own_step = step_of(*context.ops.ranks(), rank, step, pages);
    const TensorView x = share(rank, own, input);
    const TensorView result = parts_[static_cast<std::size_t>(rank)]->mtp_forward(own, own_step, x);
    if (rank == 0) out = result;
  });
  return out;
}

}  // namespace fathom
