// MaskWalk: which tokens a grammar allows from one state, found by walking the vocabulary's trie.
//
// What stands below the state's own rule is not known here. A token that leaves the rule is allowed
// up to that point, and the trie's node where it left is kept: resume() goes on from such nodes
// once it is known where the rule returns to. So the larger part of the work depends on the state
// alone.
//
// Sets of configurations are numbered and their moves remembered, so a walk is mostly one look-up a
// node. Internal to this folder; for one thread.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/stacks.h"
#include "grammar/token_masker.h"

namespace fathom::grammar {

struct WalkResult {
  std::vector<uint64_t> bits;
  std::vector<uint32_t> exits;  // nodes behind whose byte the rule had ended, with nodes below them
};

class MaskWalk {
 public:
  MaskWalk(const Grammar& grammar, const TokenMasker& masker, const AddedTokenSteps& added);

  WalkResult from_state(StateId state);
  // Goes on at `back` behind each of `exits`, and adds to `bits`.
  WalkResult resume(StateId back, std::span<const uint32_t> exits, std::vector<uint64_t> bits);

 private:
  using SetId = int32_t;
  struct Set {
    uint32_t begin = 0;  // into configs_
    uint32_t count = 0;
    bool ended = false;
  };

  SetId intern();  // what stepper_ holds
  SetId after(SetId set, uint8_t byte);
  void walk(uint32_t begin, uint32_t end, SetId start, WalkResult& out);
  void forget_all_but(std::span<SetId> kept);

  const Grammar& grammar_;
  const TokenMasker& masker_;
  const AddedTokenSteps& added_;
  Stacks stacks_;
  Stepper stepper_;
  std::vector<Set> sets_;
  std::vector<Config> configs_;
  std::vector<SetId> moves_;  // 256 a set
  std::unordered_multimap<uint64_t, SetId> ids_;
  std::vector<SetId> path_;
};

}  // namespace fathom::grammar
