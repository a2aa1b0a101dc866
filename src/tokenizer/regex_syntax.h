// Oniguruma's expression syntax, rewritten for PCRE2.
//
// tokenizer.json carries expressions for Oniguruma. Most of them look the same in PCRE2 and some
// mean something else there (\s, \w, \v, \h, {,n}, (?m), nested sets, Unicode versions). So every
// construct is read here and written out anew; what has no exact equal is refused, never guessed.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

enum class UnicodeTables {
  kPcre2,   // general categories as PCRE2 has them (Unicode 14 or later): shorter and faster
  kRecent,  // plus the code points that Unicode 15 and 16 gave a category
};

// The PCRE2 expression for options UTF | UCP | MULTILINE | NO_AUTO_CAPTURE and newline LF.
// Errors: invalid argument, "at byte N: …" (the caller names file and field).
//
// Taken: literals; . ^ $ | \A \z \Z; groups (…), (?:…), (?i:…), (?m:…) (dot matches newline),
// (?<name>…), (?>…), lookaround; greedy, lazy and possessive * + ?, {n}, {n,m}, {,m} and their lazy
// forms; sets of characters, ranges and properties; \s \S \d \D \w \W \h \H;
// \p{…} and \P{…} with general categories (short and long names) and the scripts Han, Hiragana,
// Katakana, Hangul, Latin, Cyrillic, Greek, Arabic, Hebrew, Thai (those of PCRE2's Unicode).
Result<std::string> regex_to_pcre2(std::string_view pattern, UnicodeTables tables);

// A PCRE2 expression that matches exactly `text` (valid UTF-8).
std::string literal_to_pcre2(std::string_view text);

}  // namespace fathom
