#include "base/utf8.h"

#include "base/check.h"

namespace fathom {
namespace {

struct Lead {
  int length;          // 0 = not a lead byte
  uint8_t min2, max2;  // range of the second byte
};

Lead lead_of(uint8_t b) {
  if (b < 0x80) return {1, 0, 0};
  if (b >= 0xC2 && b <= 0xDF) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b >= 0xE1 && b <= 0xEF) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b >= 0xF1 && b <= 0xF3) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Number of bytes at `pos` that begin a valid character, and its full length (0 if none).
struct Prefix {
  std::size_t matched;
  int length;
};

Prefix match(std::string_view text, std::size_t pos) {
  if (pos >= text.size()) return {0, 0};
  const auto byte = [&](std::size_t i) { return static_cast<uint8_t>(text[pos + i]); };
  const Lead lead = lead_of(byte(0));
  if (lead.length == 0) return {0, 0};
  std::size_t n = 1;
  while (n < static_cast<std::size_t>(lead.length) && pos + n < text.size()) {
    const uint8_t lo = n == 1 ? lead.min2 : 0x80;
    const uint8_t hi = n == 1 ? lead.max2 : 0xBF;
    if (byte(n) < lo || byte(n) > hi) break;
    ++n;
  }
  return {n, lead.length};
}

}  // namespace

std::size_t utf8_valid_length(std::string_view text, std::size_t pos) {
  const Prefix p = match(text, pos);
  return p.length != 0 && p.matched == static_cast<std::size_t>(p.length) ? p.matched : 0;
}

std::size_t utf8_invalid_length(std::string_view text, std::size_t pos) {
  const Prefix p = match(text, pos);
  return p.matched == 0 ? 1 : p.matched;
}

bool utf8_is_incomplete(std::string_view text, std::size_t pos) {
  const Prefix p = match(text, pos);
  return p.length != 0 && p.matched < static_cast<std::size_t>(p.length) &&
         pos + p.matched == text.size();
}

char32_t utf8_decode(std::string_view text, std::size_t pos, std::size_t length) {
  const auto byte = [&](std::size_t i) { return static_cast<uint8_t>(text[pos + i]); };
  switch (length) {
    case 1:
      return byte(0);
    case 2:
      return ((byte(0) & 0x1Fu) << 6) | (byte(1) & 0x3Fu);
    case 3:
      return ((byte(0) & 0x0Fu) << 12) | ((byte(1) & 0x3Fu) << 6) | (byte(2) & 0x3Fu);
    case 4:
      return ((byte(0) & 0x07u) << 18) | ((byte(1) & 0x3Fu) << 12) | ((byte(2) & 0x3Fu) << 6) |
             (byte(3) & 0x3Fu);
    default:
      FATHOM_CHECK(false) << "length " << length;
      return 0;
  }
}

bool utf8_is_valid(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = utf8_valid_length(text, i);
    if (n == 0) return false;
    i += n;
  }
  return true;
}

std::string utf8_sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (const std::size_t n = utf8_valid_length(text, i); n != 0) {
      out.append(text.substr(i, n));
      i += n;
    } else {
      out += "\xEF\xBF\xBD";
      i += utf8_invalid_length(text, i);
    }
  }
  return out;
}

void utf8_append(std::string& out, char32_t c) {
  // A lone surrogate escape is a common way to smuggle invalid UTF-8 out of a program.
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace fathom
