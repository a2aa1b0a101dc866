#include "ops/ranks.h"

#include <fmt/format.h>

#include <optional>
#include <semaphore>
#include <thread>
#include <utility>

namespace fathom {
namespace {

// A rank's backend with its communicator.
class RankOps final : public OpsDecorator {
 public:
  RankOps(std::unique_ptr<Ops> inner, std::unique_ptr<Communicator> communicator)
      : OpsDecorator(*inner), inner_(std::move(inner)), communicator_(std::move(communicator)) {}

  void append_attention(const AppendAttentionArgs& a) override { inner_->append_attention(a); }
  void all_reduce(const TensorView& x) override { communicator_->all_reduce(x); }
  void broadcast(const TensorView& x) override { communicator_->broadcast(x); }
  void gather_columns(const GatherColumnsArgs& a) override {
    communicator_->gather_columns(a.part, a.out);
  }

 private:
  std::unique_ptr<Ops> inner_;
  std::unique_ptr<Communicator> communicator_;  // goes before the backend
};

}  // namespace

struct Ranks::Member {
  std::unique_ptr<Ops> ops;
  std::optional<Workspace> workspace;
  std::binary_semaphore start{0}, done{0};
  std::thread thread;  // of ranks other than 0
};

// One allocation on each rank, found by rank 0's address.
class Ranks::Mirror final : public Memory {
 public:
  explicit Mirror(Ranks& ranks) : ranks_(ranks) {}

  std::byte* allocate(std::size_t bytes) override {
    Block block{.bytes = bytes, .data = std::vector<std::byte*>(ranks_.members_.size())};
    ranks_.run([&](int r) { at(block, r) = ranks_.ops(r).memory().allocate(bytes); });
    bool all = true;
    for (const std::byte* p : block.data) all = all && p != nullptr;
    if (!all) {
      release_all(block);
      return nullptr;
    }
    std::byte* const first = block.data[0];
    blocks_.emplace(first, std::move(block));
    return first;
  }
  void release(std::byte* p) override {
    const auto block = blocks_.extract(p);
    FATHOM_CHECK(!block.empty());
    release_all(block.mapped());
  }
  void zero(std::byte* p, std::size_t bytes) override {
    ranks_.run([&](int r) { ranks_.ops(r).memory().zero(of(r, p), bytes); });
  }
  bool on_host() const override { return false; }

  // The address on rank r that stands for p.
  std::byte* of(int r, std::byte* p) const {
    auto block = blocks_.upper_bound(p);
    FATHOM_CHECK(block != blocks_.begin());
    --block;
    const auto offset = static_cast<std::size_t>(p - block->first);
    FATHOM_CHECK(offset < block->second.bytes) << offset << " of " << block->second.bytes;
    return block->second.data[static_cast<std::size_t>(r)] + offset;
  }

 private:
  struct Block {
    std::size_t bytes = 0;
    std::vector<std::byte*> data;  // by rank
  };
  static std::byte*& at(Block& block, int r) { return block.data[static_cast<std::size_t>(r)]; }
  void release_all(Block& block) {
    ranks_.run([&](int r) {
      if (at(block, r) != nullptr) ranks_.ops(r).memory().release(at(block, r));
    });
  }

  Ranks& ranks_;
  std::map<std::byte*, Block> blocks_;
};

Ranks::Ranks(int size) : size_(size), mirror_(std::make_unique<Mirror>(*this)) {
  FATHOM_CHECK_GT(size, 0);
  for (int r = 0; r < size; ++r) members_.push_back(std::make_unique<Member>());
  for (int r = 1; r < size; ++r)
    members_[static_cast<std::size_t>(r)]->thread = std::thread([this, r] { work(r); });
}

Ranks::~Ranks() {
  run([this](int r) {
    Member& m = *members_[static_cast<std::size_t>(r)];
    m.workspace.reset();
    m.ops.reset();
  });
  stop_ = true;
  for (const auto& m : members_) {
    m->start.release();
    if (m->thread.joinable()) m->thread.join();
  }
}

void Ranks::work(int rank) {
  Member& m = *members_[static_cast<std::size_t>(rank)];
  while (true) {
    m.start.acquire();
    if (stop_) return;
    (*job_)(rank);
    m.done.release();
  }
}

void Ranks::run(const std::function<void(int)>& job) {
  job_ = &job;
  for (std::size_t r = 1; r < members_.size(); ++r) members_[r]->start.release();
  job(0);
  for (std::size_t r = 1; r < members_.size(); ++r) members_[r]->done.acquire();
}

Result<std::unique_ptr<Ranks>> Ranks::create(int size,
                                             const std::function<Result<Rank>(int)>& make) {
  auto ranks = std::unique_ptr<Ranks>(new Ranks(size));
  std::vector<Status> made(static_cast<std::size_t>(size));
  ranks->run([&](int r) {
    Result<Rank> rank = make(r);
    if (!rank) {
      made[static_cast<std::size_t>(r)] = rank.error();
      return;
    }
    FATHOM_CHECK(rank->communicator->rank() == r && rank->communicator->size() == size) << r;
    Member& m = *ranks->members_[static_cast<std::size_t>(r)];
    m.ops = std::make_unique<RankOps>(std::move(rank->ops), std::move(rank->communicator));
    m.workspace.emplace(m.ops->memory());
  });
  for (const Status& s : made) FATHOM_TRY_STATUS(s);
  return ranks;
}

Ops& Ranks::ops(int rank) { return *members_[static_cast<std::size_t>(rank)]->ops; }

Workspace& Ranks::workspace(int rank) {
  FATHOM_CHECK_NE(rank, 0);
  return *members_[static_cast<std::size_t>(rank)]->workspace;
}

Memory& Ranks::mirrored_memory() { return *mirror_; }

KvPages Ranks::pages_of(int rank, const KvPages& pages) const {
  KvPages out = pages;
  if (out.data != nullptr) out.data = mirror_->of(rank, pages.data);
  return out;
}

ParallelOps::ParallelOps(std::unique_ptr<Ranks> ranks)
    : OpsDecorator(ranks->ops(0)),
      ranks_(std::move(ranks)),
      description_(fmt::format("{} ranks of {}", ranks_->size(), ranks_->ops(0).description())) {}

}  // namespace fathom
