// CharDfa: a set of strings, as a deterministic automaton over Unicode characters.
//
// What patterns, formats, lengths and names of keys become, because these can be intersected and
// complemented. Does not own JSON's escapes nor UTF-8 (json_text.h writes one into a grammar).
// Internal to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom::grammar {

inline constexpr char32_t kLastChar = 0x10FFFF;

struct CharRange {
  char32_t first = 0;
  char32_t last = 0;  // inclusive
  bool operator==(const CharRange&) const = default;
};

// Sorts and joins; surrogates, which no text holds, are cut out.
std::vector<CharRange> normalized(std::vector<CharRange> ranges);
std::vector<CharRange> complement_of(std::vector<CharRange> ranges);

// How much work compiling the strings of one schema may still take.
struct WorkBudget {
  int64_t left = 0;
  bool take(int64_t work) {
    left -= work;
    return left >= 0;
  }
};

struct CharDfa {
  struct Edge {
    char32_t first = 0;
    char32_t last = 0;
    uint32_t to = 0;
  };
  struct State {
    std::vector<Edge> edges;  // sorted, without overlaps
    bool accepts = false;
  };
  std::vector<State> states;  // the first is the start; there is always one

  bool accepts(std::string_view text) const;  // valid UTF-8
  bool is_empty() const;                      // after trim()
  // Drops what the start does not reach or what reaches no accepting state.
  void trim();
};

CharDfa strings_of_length(int64_t min, int64_t max);  // max < 0: without end
CharDfa all_strings_but(std::span<const std::string> texts);
// The strings in which `text`, which is not empty, does not stand.
CharDfa strings_without(std::string_view text);
CharDfa complement_of(const CharDfa& dfa);
// Errors: resource limit.
Result<CharDfa> intersection_of(const CharDfa& a, const CharDfa& b, WorkBudget& budget);

Error out_of_work();

}  // namespace fathom::grammar
