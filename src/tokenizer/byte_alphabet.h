// The byte-level alphabet: 256 printable characters that stand for the 256 bytes.
//
// Source: GPT-2's encoder (bytes_to_unicode): the printable characters of Latin-1 stand for their
// own byte; the 68 others are U+0100, U+0101, … in the order of the bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

// The character for a byte, as UTF-8 (1 or 2 bytes; the view is valid for ever).
std::string_view byte_to_alphabet(uint8_t byte);

// Each byte of `bytes` replaced by its character.
std::string bytes_to_alphabet(std::string_view bytes);

// The bytes that `text` (valid UTF-8) stands for; none if a character is not of the alphabet.
std::optional<std::string> alphabet_to_bytes(std::string_view text);

}  // namespace fathom
