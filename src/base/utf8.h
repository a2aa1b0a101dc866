// UTF-8: validation, decoding, and the replacement rule that every text leaving the program obeys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fathom {

// Length in bytes of the valid character at `text[pos]`, or 0 if the bytes there are not one
// (Unicode 15, table 3-7: no overlongs, no surrogates, nothing above U+10FFFF).
std::size_t utf8_valid_length(std::string_view text, std::size_t pos);

// Length of the maximal invalid subpart at `text[pos]` (>= 1): what one U+FFFD replaces
// (Unicode 15, section 3.9, "U+FFFD substitution of maximal subparts").
// Requires that utf8_valid_length there is 0.
std::size_t utf8_invalid_length(std::string_view text, std::size_t pos);

// True if text[pos..] is a proper prefix of some valid character: more bytes could complete it.
bool utf8_is_incomplete(std::string_view text, std::size_t pos);

// The code point of the valid character at `pos`, whose length is `length`.
char32_t utf8_decode(std::string_view text, std::size_t pos, std::size_t length);

bool utf8_is_valid(std::string_view text);

// Replaces each maximal invalid part by U+FFFD.
std::string utf8_sanitize(std::string_view text);

// Appends the character; U+FFFD for what is none (surrogates, values above U+10FFFF).
void utf8_append(std::string& out, char32_t code_point);

}  // namespace fathom
