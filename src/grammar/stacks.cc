#include "grammar/stacks.h"

#include <algorithm>
#include <utility>

namespace fathom::grammar {

StackId Stacks::push(StateId back, StackId below) {
  const auto [it, fresh] =
      ids_.emplace(uint64_t{back} << 32 | below, static_cast<StackId>(nodes_.size()));
  if (fresh) nodes_.push_back({back, below});
  return it->second;
}

void SeenSet::clear() {
  count_ = 0;
  if (++round_ != 0) return;
  std::fill(slots_.begin(), slots_.end(), Slot{});
  round_ = 1;
}

bool SeenSet::insert(uint64_t key) {
  if (count_ * 2 >= slots_.size()) grow();
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = (key * 0x9E3779B97F4A7C15ull) >> 32 & mask;; i = (i + 1) & mask) {
    Slot& slot = slots_[i];
    if (slot.round != round_) {
      slot = {key, round_};
      ++count_;
      return true;
    }
    if (slot.key == key) return false;
  }
}

void SeenSet::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  count_ = 0;
  for (const Slot& slot : old) {
    if (slot.round == round_) insert(slot.key);
  }
}

void Stepper::begin() {
  seen_.clear();
  configs_.clear();
  ended_ = false;
}

void Stepper::add(Config config) {
  work_.push_back(config);
  while (!work_.empty()) {
    const Config at = work_.back();
    work_.pop_back();
    if (!seen_.insert(at.key())) continue;
    if (grammar_.is_place(at.state)) configs_.push_back(at);
    for (const StateId to : grammar_.jumps(at.state)) work_.push_back({to, at.stack});
    for (const Call& call : grammar_.calls(at.state)) {
      const StackId stack =
          grammar_.only_ends(call.back) ? at.stack : stacks_.push(call.back, at.stack);
      work_.push_back({call.rule, stack});
    }
    if (!grammar_.is_final(at.state)) continue;
    if (at.stack == kBase) {
      ended_ = true;
    } else {
      work_.push_back({stacks_.back(at.stack), stacks_.below(at.stack)});
    }
  }
}

void Stepper::add_after(Config config, uint8_t byte) {
  if (!added_.empty() && added_.contains(config.state)) return;
  for (const Edge& edge : grammar_.edges(config.state)) {
    if (edge.first <= byte && byte <= edge.last) add({edge.to, config.stack});
  }
}

}  // namespace fathom::grammar
