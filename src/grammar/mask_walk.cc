#include "grammar/mask_walk.h"

#include <algorithm>

#include "base/limits.h"
#include "grammar/string_tokens.h"

namespace fathom::grammar {
namespace {

constexpr int32_t kUnknown = -1;
constexpr int32_t kNothing = -2;
// Beyond these a walk forgets what it remembered: 4 MiB of moves, 8 MiB of configurations.
constexpr std::size_t kMaxSets = 4096;
constexpr std::size_t kMaxConfigs = 1 << 20;

}  // namespace

MaskWalk::MaskWalk(const Grammar& grammar, const TokenMasker& masker, const AddedTokenSteps& added)
    : grammar_(grammar), masker_(masker), added_(added), stepper_(grammar, added, stacks_) {}

WalkResult MaskWalk::from_state(StateId state) {
  WalkResult out{.bits = std::vector<uint64_t>(masker_.mask_words()), .exits = {}};
  if (const auto it = added_.find(state); it != added_.end()) {
    const int32_t token = it->second.token;
    out.bits[token / 64] |= uint64_t{1} << (token % 64);
    return out;
  }
  if (const StringPlace* place = grammar_.string_place(state))
    return masker_.string_tokens().mask(place->min_left, place->max_left);
  stepper_.begin();
  stepper_.add({state, kBase});
  const SetId start = intern();
  if (start == kNothing) return out;
  walk(0, masker_.ordinary_end(), start, out);
  if (grammar_.is_text(state)) walk(masker_.ordinary_end(), masker_.node_count(), start, out);
  return out;
}

WalkResult MaskWalk::resume(StateId back, std::span<const uint32_t> exits,
                            std::vector<uint64_t> bits) {
  WalkResult out{.bits = std::move(bits), .exits = {}};
  stepper_.begin();
  stepper_.add({back, kBase});
  const bool ended = stepper_.ended();
  SetId start = intern();
  if (start == kNothing) return out;
  for (const uint32_t node : exits) {
    if (ended) out.exits.push_back(node);
    path_.assign(1, start);
    walk(node + 1, masker_.nodes()[node].end, start, out);
    start = path_[0];  // forgetting numbers the sets anew
  }
  return out;
}

MaskWalk::SetId MaskWalk::intern() {
  const bool ended = stepper_.ended();
  std::vector<Config> configs = stepper_.configs();
  if (configs.empty() && !ended) return kNothing;
  if (static_cast<int64_t>(configs.size()) > limits::kMaxMatcherStacks)
    configs.resize(limits::kMaxMatcherStacks);
  std::sort(configs.begin(), configs.end(),
            [](const Config& a, const Config& b) { return a.key() < b.key(); });
  uint64_t hash = ended ? 1 : 0;
  for (const Config& c : configs) hash = (hash ^ c.key()) * 0x9E3779B97F4A7C15ull + (hash >> 29);
  const auto [begin, end] = ids_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const Set& set = sets_[it->second];
    if (set.ended == ended && set.count == configs.size() &&
        std::equal(configs.begin(), configs.end(), configs_.begin() + set.begin)) {
      return it->second;
    }
  }
  const auto id = static_cast<SetId>(sets_.size());
  sets_.push_back({.begin = static_cast<uint32_t>(configs_.size()),
                   .count = static_cast<uint32_t>(configs.size()),
                   .ended = ended});
  configs_.insert(configs_.end(), configs.begin(), configs.end());
  moves_.resize(moves_.size() + 256, kUnknown);
  ids_.emplace(hash, id);
  return id;
}

MaskWalk::SetId MaskWalk::after(SetId set, uint8_t byte) {
  stepper_.begin();
  const Set from = sets_[set];
  for (uint32_t i = from.begin; i < from.begin + from.count; ++i)
    stepper_.add_after(configs_[i], byte);
  const SetId to = intern();
  moves_[static_cast<std::size_t>(set) * 256 + byte] = to;
  return to;
}

// Numbers the sets in `kept` anew and drops all others.
void MaskWalk::forget_all_but(std::span<SetId> kept) {
  const std::vector<Set> sets = std::move(sets_);
  const std::vector<Config> configs = std::move(configs_);
  sets_.clear();
  configs_.clear();
  moves_.clear();
  ids_.clear();
  for (SetId& id : kept) {
    const Set& set = sets[id];
    const auto fresh = static_cast<SetId>(sets_.size());
    sets_.push_back(
        {.begin = static_cast<uint32_t>(configs_.size()), .count = set.count, .ended = set.ended});
    configs_.insert(configs_.end(), configs.begin() + set.begin,
                    configs.begin() + set.begin + set.count);
    moves_.resize(moves_.size() + 256, kUnknown);
    id = fresh;  // not in ids_: an equal set that comes later gets a number of its own
  }
}

void MaskWalk::walk(uint32_t begin, uint32_t end, SetId start, WalkResult& out) {
  if (begin >= end) return;
  const TokenMasker::Node* nodes = masker_.nodes().data();
  const int32_t* tokens = masker_.tokens().data();
  const uint32_t base = nodes[begin].depth;
  path_.assign(1, start);
  for (uint32_t i = begin; i < end;) {
    const TokenMasker::Node& node = nodes[i];
    const uint32_t depth = node.depth - base;
    SetId to = moves_[static_cast<std::size_t>(path_[depth]) * 256 + node.byte];
    if (to == kUnknown) {
      if (sets_.size() > kMaxSets || configs_.size() > kMaxConfigs)
        forget_all_but(std::span(path_).first(depth + 1));
      to = after(path_[depth], node.byte);
    }
    if (to == kNothing) {
      i = node.end;
      continue;
    }
    for (uint32_t t = node.tokens; t < nodes[i + 1].tokens; ++t)
      out.bits[tokens[t] / 64] |= uint64_t{1} << (tokens[t] % 64);
    if (node.end == i + 1) {
      ++i;
      continue;
    }
    if (sets_[to].ended) out.exits.push_back(i);
    if (path_.size() < depth + 2) path_.resize(depth + 2);
    path_[depth + 1] = to;
    ++i;
  }
}

}  // namespace fathom::grammar
