// The alphabet's table, both ways. Two bytes of UTF-8 suffice for every character: the highest is
// U+0143.
#include "tokenizer/byte_alphabet.h"

#include <array>

#include "base/utf8.h"

namespace fathom {
namespace {

constexpr int kAlphabetEnd = 0x144;  // one past the highest code point

struct Alphabet {
  std::array<std::array<char, 2>, 256> utf8{};
  std::array<uint8_t, 256> length{};
  std::array<int16_t, kAlphabetEnd> byte_of{};  // -1: not of the alphabet
};

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr Alphabet make_alphabet() {
  Alphabet a;
  for (auto& b : a.byte_of) b = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code = stands_for_itself(byte) ? byte : next++;
    a.byte_of[code] = static_cast<int16_t>(byte);
    if (code < 0x80) {
      a.utf8[byte] = {static_cast<char>(code), 0};
      a.length[byte] = 1;
    } else {
      a.utf8[byte] = {static_cast<char>(0xC0 | (code >> 6)),
                      static_cast<char>(0x80 | (code & 0x3F))};
      a.length[byte] = 2;
    }
  }
  return a;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string_view byte_to_alphabet(uint8_t byte) {
  return {kAlphabet.utf8[byte].data(), kAlphabet.length[byte]};
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char b : bytes) out += byte_to_alphabet(static_cast<uint8_t>(b));
  return out;
}

std::optional<std::string> alphabet_to_bytes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = utf8_valid_length(text, i);
    if (n == 0 || n > 2) return std::nullopt;
    const char32_t c = utf8_decode(text, i, n);
    if (c >= kAlphabetEnd || kAlphabet.byte_of[c] < 0) return std::nullopt;
    out += static_cast<char>(kAlphabet.byte_of[c]);
    i += n;
  }
  return out;
}

}  // namespace fathom
