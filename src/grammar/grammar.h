// Grammar: what an answer may look like, as a pushdown automaton over the bytes of its text.
//
// A state has edges (a range of bytes), jumps (for free) and calls (another rule first, then on
// from `back`); a final state ends its rule. From every state the end can be reached, so an answer
// never gets stuck. Immutable and independent of any vocabulary; the masks that a vocabulary gives
// are kept here all the same (masks_for), so that requests share them and they live as long as it.
//
// Owns the finished automaton. Does not own how one is made (grammar_builder.h, json_schema.h,
// tool_calls.h) nor how an answer is followed (matcher.h).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace fathom {

class GrammarAssembler;
class TokenMasker;

namespace grammar {

class BoundGrammar;
class GrammarBuilder;
using StateId = uint32_t;

struct Edge {
  uint8_t first = 0;
  uint8_t last = 0;  // inclusive
  StateId to = 0;
};

struct Call {
  StateId rule = 0;
  StateId back = 0;
};

// Before the byte `offset` of a literal in which added tokens are asked for by their text.
struct LiteralPlace {
  StateId state = 0;
  uint32_t literal = 0;
  uint32_t offset = 0;
};

// Before a character of a free string to which so many more may be added.
struct StringPlace {
  int64_t min_left = 0;
  int64_t max_left = -1;  // < 0: any number
};

}  // namespace grammar

class Grammar {
 public:
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;
  ~Grammar();

  grammar::StateId start() const { return start_; }
  std::size_t state_count() const { return states_.size() - 1; }
  std::span<const grammar::Edge> edges(grammar::StateId s) const {
    return {edges_.data() + states_[s].edges, edges_.data() + states_[s + 1].edges};
  }
  std::span<const grammar::StateId> jumps(grammar::StateId s) const {
    return {jumps_.data() + states_[s].jumps, jumps_.data() + states_[s + 1].jumps};
  }
  std::span<const grammar::Call> calls(grammar::StateId s) const {
    return {calls_.data() + states_[s].calls, calls_.data() + states_[s + 1].calls};
  }
  bool is_final(grammar::StateId s) const { return (states_[s].flags & kFinal) != 0; }
  // Final, and nothing else goes on from it: a call that comes back here need not come back.
  bool only_ends(grammar::StateId s) const { return (states_[s].flags & kOnlyEnds) != 0; }
  // A place of its own in an answer: a byte goes on from it, or a whole string does.
  bool is_place(grammar::StateId s) const { return (states_[s].flags & kPlace) != 0; }
  // Entered from string places only, whose masks hold all that its own would.
  bool is_covered(grammar::StateId s) const { return (states_[s].flags & kCovered) != 0; }
  // In free text, where added tokens count as their text.
  bool is_text(grammar::StateId s) const { return (states_[s].flags & kText) != 0; }
  // The fewest bytes from the state to the end of its rule.
  uint32_t bytes_to_end(grammar::StateId s) const { return states_[s].bytes_to_end; }

  std::span<const grammar::LiteralPlace> literal_places() const { return literal_places_; }
  const std::string& literal(uint32_t index) const { return literals_[index]; }

  const grammar::StringPlace* string_place(grammar::StateId s) const {
    const auto it = string_places_.find(s);
    return it == string_places_.end() ? nullptr : &it->second;
  }

  // The grammar's masks for one vocabulary, made at the first call. Any thread.
  std::shared_ptr<grammar::BoundGrammar> masks_for(
      const std::shared_ptr<const TokenMasker>& masker) const;
  // With the masks that are cached at this moment. Any thread.
  int64_t memory_bytes() const;

 private:
  friend class GrammarAssembler;
  friend class grammar::GrammarBuilder;
  static constexpr uint8_t kFinal = 1;
  static constexpr uint8_t kOnlyEnds = 2;
  static constexpr uint8_t kText = 4;
  static constexpr uint8_t kPlace = 8;
  static constexpr uint8_t kCovered = 16;

  struct State {  // its lists end where the next state's begin; one more stands at the end
    uint32_t edges = 0;
    uint32_t jumps = 0;
    uint32_t calls = 0;
    uint32_t bytes_to_end = 0;
    uint8_t flags = 0;
  };

  Grammar() = default;

  grammar::StateId start_ = 0;
  std::vector<State> states_;
  std::vector<grammar::Edge> edges_;
  std::vector<grammar::StateId> jumps_;
  std::vector<grammar::Call> calls_;
  std::vector<grammar::LiteralPlace> literal_places_;
  std::vector<std::string> literals_;
  std::unordered_map<grammar::StateId, grammar::StringPlace> string_places_;

  mutable std::mutex masks_mutex_;
  mutable std::vector<std::shared_ptr<grammar::BoundGrammar>> masks_;  // one per vocabulary
};

}  // namespace fathom
