#include "grammar/char_dfa.h"

#include <algorithm>
#include <deque>
#include <map>
#include <unordered_map>

#include "base/limits.h"
#include "base/utf8.h"

namespace fathom::grammar {
namespace {

// Around the surrogates, which are no characters.
constexpr char32_t kLastBefore = 0xD7FF;
constexpr char32_t kFirstBehind = 0xE000;

void add_any(CharDfa::State& state, uint32_t to) {
  state.edges = {{0, kLastBefore, to}, {kFirstBehind, kLastChar, to}};
}

// Gives `state` edges to `to` for all characters it has none for.
void fill_gaps(CharDfa::State& state, uint32_t to) {
  std::vector<CharDfa::Edge> edges;
  const auto gap = [&](char32_t first, char32_t last) {  // inclusive
    if (first > last) return;
    if (first <= kLastBefore) edges.push_back({first, std::min(last, kLastBefore), to});
    if (last >= kFirstBehind) edges.push_back({std::max(first, kFirstBehind), last, to});
  };
  char32_t next = 0;
  for (const CharDfa::Edge& edge : state.edges) {
    if (edge.first > next) gap(next, edge.first - 1);
    edges.push_back(edge);
    next = edge.last + 1;
  }
  gap(next, kLastChar);
  state.edges = std::move(edges);
}

}  // namespace

Error out_of_work() {
  return resource_limit(
      "the patterns take too much work to compile; expected fewer or simpler ones, with smaller "
      "repetitions");
}

std::vector<CharRange> normalized(std::vector<CharRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CharRange& a, const CharRange& b) { return a.first < b.first; });
  std::vector<CharRange> joined;
  for (const CharRange& r : ranges) {
    if (!joined.empty() && r.first <= joined.back().last + 1) {
      joined.back().last = std::max(joined.back().last, r.last);
    } else {
      joined.push_back(r);
    }
  }
  std::vector<CharRange> out;
  for (const CharRange& r : joined) {
    if (r.first <= kLastBefore) out.push_back({r.first, std::min(r.last, kLastBefore)});
    if (r.last >= kFirstBehind) out.push_back({std::max(r.first, kFirstBehind), r.last});
  }
  return out;
}

std::vector<CharRange> complement_of(std::vector<CharRange> ranges) {
  std::vector<CharRange> out;
  char32_t next = 0;
  for (const CharRange& r : normalized(std::move(ranges))) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kLastChar) out.push_back({next, kLastChar});
  return normalized(std::move(out));
}

bool CharDfa::accepts(std::string_view text) const {
  uint32_t at = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_valid_length(text, i);
    if (length == 0) return false;
    const char32_t c = utf8_decode(text, i, length);
    i += length;
    const auto& edges = states[at].edges;
    const auto edge = std::find_if(edges.begin(), edges.end(),
                                   [c](const Edge& e) { return e.first <= c && c <= e.last; });
    if (edge == edges.end()) return false;
    at = edge->to;
  }
  return states[at].accepts;
}

bool CharDfa::is_empty() const { return states[0].edges.empty() && !states[0].accepts; }

void CharDfa::trim() {
  std::vector<std::vector<uint32_t>> from(states.size());
  std::vector<uint32_t> work;
  std::vector<bool> alive(states.size(), false);
  for (uint32_t s = 0; s < states.size(); ++s) {
    for (const Edge& edge : states[s].edges) from[edge.to].push_back(s);
    if (states[s].accepts) {
      alive[s] = true;
      work.push_back(s);
    }
  }
  while (!work.empty()) {
    const uint32_t s = work.back();
    work.pop_back();
    for (const uint32_t p : from[s]) {
      if (alive[p]) continue;
      alive[p] = true;
      work.push_back(p);
    }
  }
  std::vector<uint32_t> number(states.size(), UINT32_MAX);
  std::vector<uint32_t> reached = {0};
  number[0] = 0;
  std::vector<State> kept;
  for (std::size_t i = 0; i < reached.size(); ++i) {
    State& state = states[reached[i]];
    std::erase_if(state.edges, [&](const Edge& e) { return !alive[e.to]; });
    for (Edge& edge : state.edges) {
      if (number[edge.to] == UINT32_MAX) {
        number[edge.to] = static_cast<uint32_t>(reached.size());
        reached.push_back(edge.to);
      }
      edge.to = number[edge.to];
    }
    kept.push_back(std::move(state));
  }
  states = std::move(kept);
}

CharDfa strings_of_length(int64_t min, int64_t max) {
  CharDfa out;
  const int64_t last = max < 0 ? min : max;
  out.states.resize(static_cast<std::size_t>(last) + 1);
  for (int64_t i = 0; i <= last; ++i) {
    out.states[i].accepts = i >= min;
    if (i < last) add_any(out.states[i], static_cast<uint32_t>(i + 1));
  }
  if (max < 0) add_any(out.states.back(), static_cast<uint32_t>(last));
  return out;
}

CharDfa all_strings_but(std::span<const std::string> texts) {
  std::vector<std::map<char32_t, uint32_t>> children(1);
  std::vector<bool> taken(1, false);
  for (const std::string& text : texts) {
    uint32_t at = 0;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = std::max<std::size_t>(utf8_valid_length(text, i), 1);
      const char32_t c = utf8_decode(text, i, length);
      i += length;
      const auto [it, fresh] = children[at].emplace(c, static_cast<uint32_t>(children.size()));
      at = it->second;
      if (!fresh) continue;
      children.emplace_back();
      taken.push_back(false);
    }
    taken[at] = true;
  }
  CharDfa out;
  const auto other = static_cast<uint32_t>(children.size());
  out.states.resize(children.size() + 1);
  for (uint32_t s = 0; s < other; ++s) {
    out.states[s].accepts = !taken[s];
    for (const auto& [c, to] : children[s]) out.states[s].edges.push_back({c, c, to});
    fill_gaps(out.states[s], other);
  }
  out.states[other].accepts = true;
  add_any(out.states[other], other);
  return out;
}

// The automaton of Knuth, Morris and Pratt without its last state.
CharDfa strings_without(std::string_view text) {
  std::vector<char32_t> chars;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = std::max<std::size_t>(utf8_valid_length(text, i), 1);
    chars.push_back(utf8_decode(text, i, length));
    i += length;
  }
  const auto found = static_cast<uint32_t>(chars.size());
  CharDfa out;
  out.states.resize(chars.size() + 1);
  std::vector<std::map<char32_t, uint32_t>> moves(chars.size());  // elsewhere: to the first state
  uint32_t fallback = 0;  // the state of chars[1, s): where a mismatch at s goes on
  for (uint32_t s = 0; s < found; ++s) {
    if (s > 0) {
      moves[s] = moves[fallback];
      const auto next = moves[fallback].find(chars[s]);
      fallback = next == moves[fallback].end() ? 0 : next->second;
    }
    moves[s][chars[s]] = s + 1;
    out.states[s].accepts = true;
    for (const auto& [c, to] : moves[s]) out.states[s].edges.push_back({c, c, to});
    fill_gaps(out.states[s], 0);
  }
  out.trim();
  return out;
}

CharDfa complement_of(const CharDfa& dfa) {
  CharDfa out = dfa;
  const auto other = static_cast<uint32_t>(out.states.size());
  for (CharDfa::State& state : out.states) {
    state.accepts = !state.accepts;
    fill_gaps(state, other);
  }
  out.states.emplace_back().accepts = true;
  add_any(out.states.back(), other);
  out.trim();
  return out;
}

Result<CharDfa> intersection_of(const CharDfa& a, const CharDfa& b, WorkBudget& budget) {
  CharDfa out;
  std::unordered_map<uint64_t, uint32_t> ids;
  std::deque<std::pair<uint32_t, uint32_t>> work;
  const auto id_of = [&](uint32_t x, uint32_t y) {
    const auto [it, fresh] =
        ids.emplace(uint64_t{x} << 32 | y, static_cast<uint32_t>(out.states.size()));
    if (fresh) {
      out.states.emplace_back().accepts = a.states[x].accepts && b.states[y].accepts;
      work.emplace_back(x, y);
    }
    return it->second;
  };
  id_of(0, 0);
  for (uint32_t s = 0; !work.empty(); ++s) {
    const auto [x, y] = work.front();
    work.pop_front();
    const auto& left = a.states[x].edges;
    const auto& right = b.states[y].edges;
    if (!budget.take(static_cast<int64_t>(4 + left.size() + right.size())) ||
        static_cast<int64_t>(out.states.size()) > limits::kMaxPatternStates) {
      return out_of_work();
    }
    for (std::size_t i = 0, j = 0; i < left.size() && j < right.size();) {
      const char32_t first = std::max(left[i].first, right[j].first);
      const char32_t last = std::min(left[i].last, right[j].last);
      if (first <= last) {
        const uint32_t to = id_of(left[i].to, right[j].to);
        out.states[s].edges.push_back({first, last, to});
      }
      left[i].last < right[j].last ? ++i : ++j;
    }
  }
  out.trim();
  return out;
}

}  // namespace fathom::grammar
