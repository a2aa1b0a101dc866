// Syntax tree to NFA (Thompson's construction) to DFA (sets of states).
#include "grammar/pattern.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "base/limits.h"

namespace fathom::grammar {
namespace {

using Kind = PatternNode::Kind;

constexpr uint32_t kNone = UINT32_MAX;

struct Nfa {
  struct State {
    uint32_t chars = kNone;  // reads one of these, then goes on at `next`
    uint32_t next = kNone;
    std::vector<uint32_t> jumps;
    uint32_t at_begin = kNone;  // taken at the begin of the text only
    uint32_t at_end = kNone;    // taken at its end only
  };
  std::vector<State> states;
};

class NfaBuilder {
 public:
  NfaBuilder(const Pattern& pattern, Nfa& nfa) : pattern_(pattern), nfa_(nfa) {}

  uint32_t state() {
    nfa_.states.emplace_back();
    return static_cast<uint32_t>(nfa_.states.size() - 1);
  }
  void jump(uint32_t from, uint32_t to) { nfa_.states[from].jumps.push_back(to); }
  bool full() const { return static_cast<int64_t>(nfa_.states.size()) > limits::kMaxPatternStates; }

  // From `from` on; the state behind the node.
  uint32_t build(uint32_t node_index, uint32_t from) {
    if (full()) return from;
    const PatternNode& node = pattern_.nodes[node_index];
    const uint32_t to = state();
    switch (node.kind) {
      case Kind::kEmpty:
        jump(from, to);
        break;
      case Kind::kChars: {
        const uint32_t reader = state();
        nfa_.states[reader].chars = node.chars;
        nfa_.states[reader].next = to;
        jump(from, reader);
        break;
      }
      case Kind::kBegin:
      case Kind::kEnd: {
        const uint32_t gate = state();
        (node.kind == Kind::kBegin ? nfa_.states[gate].at_begin : nfa_.states[gate].at_end) = to;
        jump(from, gate);
        break;
      }
      case Kind::kConcat:
        for (const uint32_t child : node.children) from = build(child, from);
        jump(from, to);
        break;
      case Kind::kAlternate:
        for (const uint32_t child : node.children) {
          const uint32_t branch = state();
          jump(from, branch);
          jump(build(child, branch), to);
        }
        break;
      case Kind::kRepeat:
        repeat(node, from, to);
        break;
    }
    return to;
  }

 private:
  void repeat(const PatternNode& node, uint32_t from, uint32_t to) {
    for (int64_t i = 0; i < node.min && !full(); ++i) from = build(node.children[0], from);
    if (node.max < 0) {
      const uint32_t loop = state();
      jump(from, loop);
      jump(loop, to);
      jump(build(node.children[0], loop), loop);
      return;
    }
    jump(from, to);
    for (int64_t i = node.min; i < node.max && !full(); ++i) {
      from = build(node.children[0], from);
      jump(from, to);
    }
  }

  const Pattern& pattern_;
  Nfa& nfa_;
};

// Characters that no class of the pattern tells apart.
struct Alphabet {
  std::vector<CharRange> parts;                 // ascending
  std::vector<std::vector<uint32_t>> parts_of;  // of each class
};

Alphabet divide(const std::vector<std::vector<CharRange>>& classes) {
  std::vector<char32_t> cuts;
  for (const auto& ranges : classes) {
    for (const CharRange& r : ranges) {
      cuts.push_back(r.first);
      cuts.push_back(r.last + 1);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  Alphabet out;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) out.parts.push_back({cuts[i], cuts[i + 1] - 1});
  for (const auto& ranges : classes) {
    auto& parts = out.parts_of.emplace_back();
    for (const CharRange& r : ranges) {
      const auto begin = std::lower_bound(cuts.begin(), cuts.end(), r.first) - cuts.begin();
      for (auto i = static_cast<std::size_t>(begin); cuts[i] <= r.last; ++i)
        parts.push_back(static_cast<uint32_t>(i));
    }
  }
  return out;
}

class Determinizer {
 public:
  Determinizer(const Nfa& nfa, const std::vector<std::vector<CharRange>>& classes, uint32_t final,
               WorkBudget& budget)
      : nfa_(nfa),
        alphabet_(divide(classes)),
        final_(final),
        budget_(budget),
        mark_(nfa.states.size(), 0) {}

  Result<CharDfa> run(uint32_t start) {
    add_set(closure({start}, true));
    std::vector<std::vector<uint32_t>> targets(alphabet_.parts.size());
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      for (auto& list : targets) list.clear();
      int64_t work = static_cast<int64_t>(targets.size()) + 8;
      for (const uint32_t n : sets_[s]) {
        const Nfa::State& state = nfa_.states[n];
        if (state.chars == kNone) continue;
        const auto& parts = alphabet_.parts_of[state.chars];
        for (const uint32_t part : parts) targets[part].push_back(state.next);
        work += static_cast<int64_t>(parts.size()) * 2;
      }
      if (!budget_.take(work)) return out_of_work();
      FATHOM_TRY_STATUS(connect(s, targets));
    }
    dfa_.trim();
    return std::move(dfa_);
  }

 private:
  Status connect(std::size_t from, std::vector<std::vector<uint32_t>>& targets) {
    std::vector<CharDfa::Edge> edges;
    for (std::size_t part = 0; part < targets.size(); ++part) {
      if (targets[part].empty()) continue;
      const uint32_t to = add_set(closure(targets[part], false));
      if (budget_.left < 0 || static_cast<int64_t>(sets_.size()) > limits::kMaxPatternStates)
        return out_of_work();
      const CharRange& r = alphabet_.parts[part];
      if (!edges.empty() && edges.back().to == to && edges.back().last + 1 == r.first) {
        edges.back().last = r.last;
      } else {
        edges.push_back({r.first, r.last, to});
      }
    }
    dfa_.states[from].edges = std::move(edges);
    return {};
  }

  // The states reached without reading, of which only those that matter later are kept.
  std::vector<uint32_t> closure(const std::vector<uint32_t>& from, bool at_begin) {
    ++round_;
    std::vector<uint32_t> work, out;
    const auto push = [&](uint32_t s) {
      if (s == kNone || mark_[s] == round_) return;
      mark_[s] = round_;
      work.push_back(s);
    };
    for (const uint32_t s : from) push(s);
    int64_t steps = 0;
    while (!work.empty()) {
      const uint32_t s = work.back();
      work.pop_back();
      const Nfa::State& state = nfa_.states[s];
      steps += 1 + static_cast<int64_t>(state.jumps.size());
      if (state.chars != kNone || state.at_end != kNone || s == final_) out.push_back(s);
      for (const uint32_t to : state.jumps) push(to);
      if (at_begin) push(state.at_begin);
    }
    budget_.take(steps);
    // A match was found, whatever comes: no other state matters any more.
    if (mark_[final_] == round_) return {final_};
    std::sort(out.begin(), out.end());
    return out;
  }

  bool accepts(const std::vector<uint32_t>& set) {
    ++round_;
    std::vector<uint32_t> work = set;
    const bool at_begin = &set == &sets_[0];
    while (!work.empty()) {
      const uint32_t s = work.back();
      work.pop_back();
      if (s == kNone || mark_[s] == round_) continue;
      mark_[s] = round_;
      if (s == final_) return true;
      const Nfa::State& state = nfa_.states[s];
      work.insert(work.end(), state.jumps.begin(), state.jumps.end());
      work.push_back(state.at_end);
      if (at_begin) work.push_back(state.at_begin);
    }
    return false;
  }

  uint32_t add_set(std::vector<uint32_t> set) {
    // The begin of the text is a state of its own: "^" holds nowhere else.
    if (!sets_.empty()) {
      if (const auto it = ids_.find(set); it != ids_.end()) return it->second;
    }
    const auto id = static_cast<uint32_t>(sets_.size());
    budget_.take(static_cast<int64_t>(set.size()));
    sets_.push_back(set);
    dfa_.states.emplace_back().accepts = accepts(sets_.back());
    if (id > 0) ids_.emplace(std::move(set), id);
    return id;
  }

  const Nfa& nfa_;
  Alphabet alphabet_;
  uint32_t final_;
  WorkBudget& budget_;
  std::vector<uint32_t> mark_;
  uint32_t round_ = 0;
  std::vector<std::vector<uint32_t>> sets_;
  std::map<std::vector<uint32_t>, uint32_t> ids_;
  CharDfa dfa_;
};

}  // namespace

Result<CharDfa> compile_pattern(std::string_view text, PatternReading reading, WorkBudget& budget) {
  FATHOM_TRY(Pattern pattern, parse_pattern(text, reading));
  const auto any = static_cast<uint32_t>(pattern.chars.size());
  pattern.chars.push_back(complement_of(std::vector<CharRange>{}));
  Nfa nfa;
  NfaBuilder builder(pattern, nfa);
  const auto any_loop = [&] {
    const uint32_t loop = builder.state();
    nfa.states[loop].chars = any;
    nfa.states[loop].next = loop;
    return loop;
  };
  const uint32_t start = any_loop();  // what stands before the match
  const uint32_t found = builder.build(pattern.root, start);
  const uint32_t final = any_loop();  // and behind it
  builder.jump(found, final);
  if (builder.full() || !budget.take(static_cast<int64_t>(nfa.states.size()))) {
    return resource_limit(
        "the pattern, its repetitions written out, is too large; expected smaller repetitions");
  }
  return Determinizer(nfa, pattern.chars, final, budget).run(start);
}

}  // namespace fathom::grammar
