// BoundGrammar: a grammar with one vocabulary: which added tokens its literals ask for, and the
// masks found so far.
//
// A mask depends on a state and on as many of the returns below it as its tokens can leave. So
// masks are cached in chains: first for the state alone, then, while some token leaves what is
// known, for one return more. In a free string, say, the first link is shared by every string of
// the grammar. The cache is bounded by kMaxMaskCacheBytes; when full it starts anew.
//
// Any number of threads. Internal to this folder; kept by Grammar.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/mask_walk.h"
#include "grammar/stacks.h"
#include "grammar/token_masker.h"

namespace fathom::grammar {

class BoundGrammar {
 public:
  // `grammar` keeps this, and must outlive it.
  BoundGrammar(const Grammar& grammar, std::shared_ptr<const TokenMasker> masker);

  const TokenMasker& masker() const { return *masker_; }
  const AddedTokenSteps& added_steps() const { return added_; }

  // Sets in `bits` the tokens that some of `configs` allows, and clears the others.
  void fill(std::span<const Config> configs, const Stacks& stacks, std::span<uint64_t> bits);

  int64_t memory_bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Mask {
    uint64_t id = 0;             // never given twice
    std::vector<uint64_t> bits;  // or, if few tokens are allowed:
    std::vector<int32_t> tokens;
    std::vector<uint32_t> exits;
  };
  using MaskPtr = std::shared_ptr<const Mask>;
  struct LinkKey {  // mask 0: `at` is a state; otherwise the return below that mask
    uint64_t mask = 0;
    StateId at = 0;
    bool operator==(const LinkKey&) const = default;
  };
  struct Hash {
    std::size_t operator()(const LinkKey& key) const;
    std::size_t operator()(const std::vector<uint64_t>& ids) const;
  };

  MaskPtr mask_of(Config config, const Stacks& stacks);
  MaskPtr find_link(const LinkKey& key) const;
  MaskPtr make_link(const LinkKey& key, const Mask* above);
  MaskPtr union_of(std::span<const MaskPtr> masks);
  MaskPtr pack(WalkResult result) const;
  void charge(const Mask& mask);  // with mutex_ held
  static void apply(const Mask& mask, std::span<uint64_t> bits);
  static int64_t bytes_of(const Mask& mask);

  const Grammar& grammar_;
  const std::shared_ptr<const TokenMasker> masker_;
  AddedTokenSteps added_;

  mutable std::shared_mutex mutex_;
  std::unordered_map<LinkKey, MaskPtr, Hash> links_;
  std::unordered_map<std::vector<uint64_t>, MaskPtr, Hash> unions_;  // by the ids of their masks
  std::atomic<int64_t> bytes_{0};
  mutable std::atomic<uint64_t> next_id_{1};
};

}  // namespace fathom::grammar
