// Following a grammar: configurations (a state and the calls it is inside of) and how a byte moves
// them on.
//
// Stacks are linked lists whose nodes are shared: two equal stacks are one number, so
// configurations compare as two integers. The stack kBase is empty: for a Matcher nothing is below
// it, for the walk that finds a mask something unknown is. Internal to this folder.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"

namespace fathom::grammar {

using StackId = uint32_t;
inline constexpr StackId kBase = 0;

struct Config {
  StateId state = 0;
  StackId stack = kBase;
  bool operator==(const Config&) const = default;
  uint64_t key() const { return uint64_t{state} << 32 | stack; }
};

class Stacks {
 public:
  Stacks() : nodes_(1) {}

  StackId push(StateId back, StackId below);
  StateId back(StackId stack) const { return nodes_[stack].back; }
  StackId below(StackId stack) const { return nodes_[stack].below; }
  std::size_t size() const { return nodes_.size(); }

 private:
  struct Node {
    StateId back = 0;
    StackId below = 0;
  };
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, StackId> ids_;
};

// A set of integers that is cleared for free.
class SeenSet {
 public:
  SeenSet() : slots_(64) {}
  void clear();
  bool insert(uint64_t key);  // false: it is in already

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t round = 0;
  };
  void grow();
  std::vector<Slot> slots_;
  uint32_t round_ = 1;
  std::size_t count_ = 0;
};

// Added tokens that a literal of the grammar asks for: in these states no byte goes on, only the
// token does.
struct AddedTokenStep {
  int32_t token = -1;
  StateId to = 0;
};
using AddedTokenSteps = std::unordered_map<StateId, AddedTokenStep>;

// One step of a set of configurations: begin(), add() each, read configs() and ended().
class Stepper {
 public:
  Stepper(const Grammar& grammar, const AddedTokenSteps& added, Stacks& stacks)
      : grammar_(grammar), added_(added), stacks_(stacks) {}

  void begin();
  // Adds what is reached from `config` without a byte, itself included.
  void add(Config config);
  // Adds what is reached from `config` by `byte`.
  void add_after(Config config, uint8_t byte);
  // The places reached (Grammar::is_place). No two are equal.
  const std::vector<Config>& configs() const { return configs_; }
  // The rule below which nothing is known has ended.
  bool ended() const { return ended_; }

 private:
  const Grammar& grammar_;
  const AddedTokenSteps& added_;
  Stacks& stacks_;
  SeenSet seen_;
  std::vector<Config> work_;
  std::vector<Config> configs_;
  bool ended_ = false;
};

}  // namespace fathom::grammar
