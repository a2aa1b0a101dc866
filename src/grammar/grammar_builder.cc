#include "grammar/grammar_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace fathom {
namespace {

constexpr uint32_t kNever = UINT32_MAX;

}  // namespace

// Turns a builder's lists into a Grammar.
class GrammarAssembler {
 public:
  explicit GrammarAssembler(grammar::GrammarBuilder& builder) : b_(builder) {}

  std::shared_ptr<const Grammar> assemble(grammar::StateId start) {
    start_ = start;
    shorten_jumps();
    measure();
    for (const auto& [state, source] : b_.must_end_) {
      if (distance_[state] != kNever) continue;
      endless_ = source;
      return nullptr;
    }
    number_states();
    return fill();
  }

  // Which of the states that must end does not, if assemble() gave nothing.
  const std::string& endless() const { return endless_; }

 private:
  template <typename Item, typename Key>
  static std::vector<uint32_t> index_by(const std::vector<Item>& items, uint32_t states, Key key,
                                        std::vector<uint32_t>& order) {
    std::vector<uint32_t> begin(states + 1, 0);
    for (const Item& item : items) ++begin[key(item) + 1];
    for (uint32_t s = 0; s < states; ++s) begin[s + 1] += begin[s];
    order.resize(items.size());
    std::vector<uint32_t> next(begin.begin(), begin.end() - 1);
    for (uint32_t i = 0; i < items.size(); ++i) order[next[key(items[i])]++] = i;
    return begin;
  }

  // A state that only jumps to one other is that other.
  void shorten_jumps() {
    const uint32_t n = b_.states_;
    std::vector<uint32_t> ways(n, 0);
    std::vector<uint32_t> target(n);
    for (uint32_t s = 0; s < n; ++s) {
      target[s] = s;
      if (b_.flags_[s] != 0) ways[s] = 2;
    }
    for (const auto& e : b_.edges_) ways[e.from] = 2;
    for (const auto& c : b_.calls_) ways[c.from] = 2;
    for (const auto& j : b_.jumps_) {
      ++ways[j.from];
      target[j.from] = j.to;
    }
    for (uint32_t s = 0; s < n; ++s) {
      if (ways[s] != 1) target[s] = s;
    }
    std::vector<bool> on_path(n, false);
    std::vector<uint32_t> path;
    for (uint32_t s = 0; s < n; ++s) {
      uint32_t end = s;
      for (; target[end] != end && !on_path[end]; end = target[end]) {
        on_path[end] = true;
        path.push_back(end);
      }
      // Back on the path: a circle of jumps, cut here, which measure() finds to be endless.
      for (const uint32_t at : path) {
        target[at] = end;
        on_path[at] = false;
      }
      path.clear();
    }
    for (auto& e : b_.edges_) e.edge.to = target[e.edge.to];
    for (auto& j : b_.jumps_) j.to = target[j.to];
    for (auto& c : b_.calls_) c.call = {target[c.call.rule], target[c.call.back]};
    start_ = target[start_];
    for (auto& [state, source] : b_.must_end_) state = target[state];
  }

  // The fewest bytes from each state to the end of its rule: Knuth's generalisation of Dijkstra's
  // algorithm, in which a call is known once its rule and its way back are.
  void measure() {
    const uint32_t n = b_.states_;
    std::vector<uint32_t> edge_order, jump_order, rule_order, back_order;
    const auto edges = index_by(b_.edges_, n, [](const auto& e) { return e.edge.to; }, edge_order);
    const auto jumps = index_by(b_.jumps_, n, [](const auto& j) { return j.to; }, jump_order);
    const auto rules =
        index_by(b_.calls_, n, [](const auto& c) { return c.call.rule; }, rule_order);
    const auto backs =
        index_by(b_.calls_, n, [](const auto& c) { return c.call.back; }, back_order);
    distance_.assign(n, kNever);
    std::vector<bool> known(n, false);
    using Entry = std::pair<uint32_t, uint32_t>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto offer = [&](uint32_t state, uint64_t distance) {
      const auto d = static_cast<uint32_t>(std::min<uint64_t>(distance, kNever - 1));
      if (d >= distance_[state]) return;
      distance_[state] = d;
      queue.emplace(d, state);
    };
    for (uint32_t s = 0; s < n; ++s) {
      if ((b_.flags_[s] & Grammar::kFinal) != 0) offer(s, 0);
    }
    while (!queue.empty()) {
      const auto [d, s] = queue.top();
      queue.pop();
      if (known[s]) continue;
      known[s] = true;
      for (uint32_t i = edges[s]; i < edges[s + 1]; ++i)
        offer(b_.edges_[edge_order[i]].from, uint64_t{d} + 1);
      for (uint32_t i = jumps[s]; i < jumps[s + 1]; ++i) offer(b_.jumps_[jump_order[i]].from, d);
      const auto offer_call = [&](const auto& c) {
        if (known[c.call.rule] && known[c.call.back])
          offer(c.from, uint64_t{distance_[c.call.rule]} + distance_[c.call.back]);
      };
      for (uint32_t i = rules[s]; i < rules[s + 1]; ++i) offer_call(b_.calls_[rule_order[i]]);
      for (uint32_t i = backs[s]; i < backs[s + 1]; ++i) offer_call(b_.calls_[back_order[i]]);
    }
  }

  bool lives(const grammar::Call& call) const {
    return distance_[call.rule] != kNever && distance_[call.back] != kNever;
  }

  // Drops what leads nowhere, sorts by state, and numbers what the start reaches.
  void number_states() {
    std::erase_if(b_.edges_, [&](const auto& e) { return distance_[e.edge.to] == kNever; });
    std::erase_if(b_.jumps_, [&](const auto& j) { return distance_[j.to] == kNever; });
    std::erase_if(b_.calls_, [&](const auto& c) { return !lives(c.call); });
    const uint32_t n = b_.states_;
    edges_ = index_by(b_.edges_, n, [](const auto& e) { return e.from; }, edge_order_);
    jumps_ = index_by(b_.jumps_, n, [](const auto& j) { return j.from; }, jump_order_);
    calls_ = index_by(b_.calls_, n, [](const auto& c) { return c.from; }, call_order_);
    number_.assign(n, kNever);
    const auto reach = [&](uint32_t s) {
      if (number_[s] != kNever) return;
      number_[s] = static_cast<uint32_t>(reached_.size());
      reached_.push_back(s);
    };
    reach(start_);
    for (std::size_t i = 0; i < reached_.size(); ++i) {
      const uint32_t s = reached_[i];
      for (uint32_t k = edges_[s]; k < edges_[s + 1]; ++k) reach(b_.edges_[edge_order_[k]].edge.to);
      for (uint32_t k = jumps_[s]; k < jumps_[s + 1]; ++k) reach(b_.jumps_[jump_order_[k]].to);
      for (uint32_t k = calls_[s]; k < calls_[s + 1]; ++k) {
        reach(b_.calls_[call_order_[k]].call.rule);
        reach(b_.calls_[call_order_[k]].call.back);
      }
    }
  }

  std::shared_ptr<const Grammar> fill() {
    std::shared_ptr<Grammar> out(new Grammar);
    out->start_ = number_[start_];
    out->states_.reserve(reached_.size() + 1);
    for (const uint32_t s : reached_) {
      Grammar::State state{.edges = static_cast<uint32_t>(out->edges_.size()),
                           .jumps = static_cast<uint32_t>(out->jumps_.size()),
                           .calls = static_cast<uint32_t>(out->calls_.size()),
                           .bytes_to_end = distance_[s],
                           .flags = b_.flags_[s]};
      for (uint32_t k = edges_[s]; k < edges_[s + 1]; ++k) {
        grammar::Edge edge = b_.edges_[edge_order_[k]].edge;
        edge.to = number_[edge.to];
        out->edges_.push_back(edge);
      }
      for (uint32_t k = jumps_[s]; k < jumps_[s + 1]; ++k)
        out->jumps_.push_back(number_[b_.jumps_[jump_order_[k]].to]);
      for (uint32_t k = calls_[s]; k < calls_[s + 1]; ++k) {
        const grammar::Call& call = b_.calls_[call_order_[k]].call;
        out->calls_.push_back({number_[call.rule], number_[call.back]});
      }
      const bool goes_on = out->edges_.size() > state.edges || out->jumps_.size() > state.jumps ||
                           out->calls_.size() > state.calls;
      if ((state.flags & Grammar::kFinal) != 0 && !goes_on) state.flags |= Grammar::kOnlyEnds;
      if (out->edges_.size() > state.edges) state.flags |= Grammar::kPlace;
      out->states_.push_back(state);
    }
    out->states_.push_back({.edges = static_cast<uint32_t>(out->edges_.size()),
                            .jumps = static_cast<uint32_t>(out->jumps_.size()),
                            .calls = static_cast<uint32_t>(out->calls_.size())});
    for (const grammar::LiteralPlace& place : b_.places_) {
      if (number_[place.state] != kNever)
        out->literal_places_.push_back({number_[place.state], place.literal, place.offset});
    }
    out->literals_ = std::move(b_.literals_);
    for (const auto& [state, place] : b_.string_places_) {
      if (number_[state] == kNever) continue;
      out->string_places_.emplace(number_[state], place);
      out->states_[number_[state]].flags |= Grammar::kPlace;
    }
    return out;
  }

  grammar::GrammarBuilder& b_;
  grammar::StateId start_ = 0;
  std::string endless_;
  std::vector<uint32_t> distance_;
  std::vector<uint32_t> edges_, jumps_, calls_;  // where a state's items begin in the orders
  std::vector<uint32_t> edge_order_, jump_order_, call_order_;
  std::vector<uint32_t> number_;
  std::vector<uint32_t> reached_;
};

namespace grammar {

GrammarBuilder::GrammarBuilder() { set_final(state()); }

bool GrammarBuilder::grow() {
  const auto transitions = static_cast<int64_t>(edges_.size() + jumps_.size() + calls_.size());
  if (transitions >= limits::kMaxGrammarTransitions) full_ = true;
  return !full_;
}

StateId GrammarBuilder::state() {
  if (states_ >= limits::kMaxGrammarStates) full_ = true;
  if (full_) return states_ - 1;
  flags_.push_back(0);
  return states_++;
}

void GrammarBuilder::edge(StateId from, uint8_t first, uint8_t last, StateId to) {
  if (grow()) edges_.push_back({from, {first, last, to}});
}

void GrammarBuilder::jump(StateId from, StateId to) {
  if (grow()) jumps_.push_back({from, to});
}

void GrammarBuilder::call(StateId from, StateId rule, StateId back) {
  if (grow()) calls_.push_back({from, {rule, back}});
}

void GrammarBuilder::set_final(StateId state) { flags_[state] |= Grammar::kFinal; }
void GrammarBuilder::set_text(StateId state) { flags_[state] |= Grammar::kText; }
void GrammarBuilder::set_covered(StateId state) { flags_[state] |= Grammar::kCovered; }

void GrammarBuilder::set_string_place(StateId state, StringPlace place) {
  if (!full_) string_places_.emplace_back(state, place);
}

void GrammarBuilder::must_end(StateId state, std::string source) {
  must_end_.emplace_back(state, std::move(source));
}

StateId GrammarBuilder::text(StateId from, std::string_view bytes) {
  for (const char byte : bytes) {
    const StateId to = state();
    edge(from, byte, to);
    from = to;
  }
  return from;
}

StateId GrammarBuilder::literal(StateId from, std::string_view bytes) {
  if (bytes.empty()) return from;
  // A chain of its own: an added token must not take the place of another way on from `from`.
  StateId at = state();
  jump(from, at);
  for (std::size_t i = 0; i < bytes.size() && !full_; ++i) {
    places_.push_back({at, static_cast<uint32_t>(literals_.size()), static_cast<uint32_t>(i)});
    const StateId to = state();
    edge(at, bytes[i], to);
    at = to;
  }
  literals_.emplace_back(bytes);
  return at;
}

Result<std::shared_ptr<const Grammar>> GrammarBuilder::build(StateId start,
                                                             std::string_view source) && {
  if (full_) {
    return resource_limit(
        fmt::format("{}: its grammar has more than {} states or {} transitions; lower maxLength, "
                    "maxItems or the repetitions in patterns, or simplify it",
                    source, limits::kMaxGrammarStates, limits::kMaxGrammarTransitions));
  }
  must_end(start, std::string(source));
  GrammarAssembler assembler(*this);
  auto made = assembler.assemble(start);
  if (made == nullptr) {
    return invalid_argument(
        fmt::format("{}: no finite text satisfies it, expected a schema that some value satisfies",
                    assembler.endless()));
  }
  return made;
}

}  // namespace grammar
}  // namespace fathom
