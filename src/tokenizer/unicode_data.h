// The few facts of Unicode that the libraries we use disagree on.
//
// The reference for every tokenizer is the HuggingFace `tokenizers` library 0.23, whose expressions
// run on Oniguruma 6.9.10 with the tables of Unicode 16. PCRE2 10.42 has those of Unicode 14 and
// other ideas of \s and \w. This file owns the difference; regex_syntax.cc puts it into
// expressions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace fathom {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

// Code points that got their general category after Unicode 14.
struct CategoryRange {
  char32_t first;
  char32_t last;
  char category[3];  // "Lu", "Nd", …
};

// In ascending order.
std::span<const CategoryRange> categories_since_unicode_14();

// Numbers of Unicode 17, which Rust's char::is_numeric (the Digits stage) knows and Oniguruma does
// not.
std::span<const CodePointRange> numbers_since_unicode_16();

// True if `text` (valid UTF-8) holds a code point of one of the two lists above: only then does an
// expression need its longer form.
bool has_recent_code_points(std::string_view text);

// White_Space of Unicode: the same 25 code points since Unicode 6.3. In ascending order.
std::span<const CodePointRange> white_space();
bool is_white_space(char32_t c);

// What Oniguruma's \w has beyond letters, marks, decimal digits, letter numbers and connectors:
// the enclosed letters (category So, yet alphabetic) and, oddly, the other numbers of Latin-1.
std::span<const CodePointRange> other_word_characters();

}  // namespace fathom
