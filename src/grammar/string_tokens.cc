#include "grammar/string_tokens.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/check.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_text.h"
#include "grammar/mask_walk.h"
#include "grammar/token_masker.h"

namespace fathom::grammar {
namespace {

// The automaton of one character of a string as a table: where each byte leads, kDone behind the
// character, kWrong for what is none. State 0 stands before the character.
class CharacterTable {
 public:
  static constexpr int kDone = -1;
  static constexpr int kWrong = -2;

  CharacterTable() {
    GrammarBuilder builder;
    JsonText text(builder, true);
    const StateId start = text.character_rule();
    auto made = std::move(builder).build(start, "a character");
    FATHOM_CHECK(made.has_value()) << made.error().message;
    const Grammar& grammar = **made;
    std::unordered_map<StateId, int> ids = {{grammar.start(), 0}};
    std::vector<StateId> states = {grammar.start()};
    for (std::size_t i = 0; i < states.size(); ++i) {
      moves_.emplace_back().fill(kWrong);
      for (const Edge& edge : grammar.edges(states[i])) {
        int to = kDone;
        if (!grammar.is_final(edge.to)) {
          const auto [it, fresh] = ids.emplace(edge.to, static_cast<int>(states.size()));
          if (fresh) states.push_back(edge.to);
          to = it->second;
        }
        for (int byte = edge.first; byte <= edge.last; ++byte) moves_[i][byte] = to;
      }
    }
  }

  int next(int state, uint8_t byte) const { return moves_[state][byte]; }

 private:
  std::vector<std::array<int, 256>> moves_;
};

}  // namespace

StringTokens::StringTokens(const TokenMasker& masker) : masker_(masker) {
  static const CharacterTable table;
  within_.assign(kMaxMasked + 1, std::vector<uint64_t>(masker.mask_words()));
  struct Place {
    int state = 0;
    uint32_t characters = 0;  // begun so far
  };
  std::vector<Place> path(1);
  const auto nodes = masker.nodes();
  const auto tokens = masker.tokens();
  for (uint32_t i = 0; i < masker.ordinary_end();) {
    const TokenMasker::Node& node = nodes[i];
    const Place from = path[node.depth - 1];
    if (from.state == 0 && node.byte == '"') {
      exits_.push_back({i, from.characters});
      i = node.end;
      continue;
    }
    int state = table.next(from.state, node.byte);
    if (state == CharacterTable::kWrong) {
      i = node.end;
      continue;
    }
    if (state == CharacterTable::kDone) state = 0;
    const Place to{.state = state, .characters = from.characters + (from.state == 0 ? 1 : 0)};
    for (uint32_t t = node.tokens; t < nodes[i + 1].tokens; ++t) add(tokens[t], to.characters);
    if (path.size() <= node.depth) path.resize(node.depth + 1u);
    path[node.depth] = to;
    ++i;
  }
  for (uint32_t n = 1; n <= kMaxMasked; ++n) {
    for (std::size_t w = 0; w < within_[n].size(); ++w) within_[n][w] |= within_[n - 1][w];
  }
}

void StringTokens::add(int32_t token, uint32_t characters) {
  if (characters > kMaxMasked) {
    long_tokens_.push_back({token, characters});
  } else {
    within_[characters][token / 64] |= uint64_t{1} << (token % 64);
  }
}

WalkResult StringTokens::mask(int64_t min_left, int64_t max_left) const {
  const int64_t most = max_left < 0 ? INT64_MAX : max_left;
  WalkResult out{.bits = within_[std::min<int64_t>(most, kMaxMasked)], .exits = {}};
  const auto allow = [&](int32_t token) { out.bits[token / 64] |= uint64_t{1} << (token % 64); };
  for (const LongToken& token : long_tokens_) {
    if (token.characters <= most) allow(token.token);
  }
  const auto nodes = masker_.nodes();
  for (const Exit& exit : exits_) {
    if (exit.characters < min_left || exit.characters > most) continue;
    for (uint32_t t = nodes[exit.node].tokens; t < nodes[exit.node + 1].tokens; ++t)
      allow(masker_.tokens()[t]);
    if (nodes[exit.node].end > exit.node + 1) out.exits.push_back(exit.node);
  }
  return out;
}

int64_t StringTokens::memory_bytes() const {
  return static_cast<int64_t>(within_.size() * masker_.mask_words() * 8 +
                              long_tokens_.size() * sizeof(LongToken) +
                              exits_.size() * sizeof(Exit));
}

}  // namespace fathom::grammar
