// Regular expressions of JSON schemas (ECMA-262 without flags) to automata.
//
// Taken: characters, escapes, classes, ".", groups, alternation, ^ and $, and the quantifiers
// * + ? {n} {n,} {n,m} (lazy ones match the same texts). Everything else (look-around, back
// references, \b, \p) is an error that names it.
//
// Dialects differ in what \d, \w, \s and "." mean beyond ASCII. Strings must match in all of them:
// kNarrow reads these as the least that any dialect means, kWide as the most (for keys that must
// not match a pattern).
//
// Internal to this folder.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grammar/char_dfa.h"

namespace fathom::grammar {

enum class PatternReading : uint8_t { kNarrow, kWide };

struct PatternNode {
  enum class Kind : uint8_t { kEmpty, kChars, kConcat, kAlternate, kRepeat, kBegin, kEnd };
  Kind kind = Kind::kEmpty;
  uint32_t chars = 0;              // kChars: into Pattern::chars
  std::vector<uint32_t> children;  // into Pattern::nodes
  int64_t min = 0;                 // kRepeat
  int64_t max = 0;                 // kRepeat; < 0: without end
};

struct Pattern {
  std::vector<PatternNode> nodes;
  std::vector<std::vector<CharRange>> chars;
  uint32_t root = 0;
};

// Errors: invalid argument for what is not taken, with the place in the pattern; resource limit.
Result<Pattern> parse_pattern(std::string_view text, PatternReading reading);

// The strings in which the pattern is found somewhere, as "pattern" asks. Errors: as parse_pattern.
Result<CharDfa> compile_pattern(std::string_view text, PatternReading reading, WorkBudget& budget);

}  // namespace fathom::grammar
