// UTF-8: every code point, every two-byte sequence against a rule written independently, and the
// standard's own examples of U+FFFD substitution.
#include "base/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fathom {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool is_surrogate(char32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

TEST(Utf8, EveryCodePointSurvivesTheRoundTrip) {
  std::string text;
  int seen = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (is_surrogate(c)) continue;
    text.clear();
    utf8_append(text, c);
    const std::size_t expected_length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    ASSERT_EQ(text.size(), expected_length) << "U+" << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(utf8_valid_length(text, 0), expected_length)
        << "U+" << std::hex << static_cast<uint32_t>(c);
    ASSERT_EQ(utf8_decode(text, 0, text.size()), c);
    // Each proper prefix is incomplete, and one invalid part as a whole.
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const std::string_view prefix = std::string_view(text).substr(0, cut);
      ASSERT_EQ(utf8_valid_length(prefix, 0), 0u);
      ASSERT_TRUE(utf8_is_incomplete(prefix, 0));
      ASSERT_EQ(utf8_invalid_length(prefix, 0), cut);
    }
    ASSERT_FALSE(utf8_is_incomplete(text, 0));
    ++seen;
  }
  EXPECT_EQ(seen, 1'112'064);
}

// Decodes by arithmetic alone, without tables: a sequence is valid if it is the shortest form of a
// code point that is not a surrogate.
std::size_t valid_length_by_arithmetic(std::string_view s) {
  const auto byte = [&](std::size_t i) {
    return static_cast<uint32_t>(static_cast<uint8_t>(s[i]));
  };
  const uint32_t lead = byte(0);
  const std::size_t n = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (n == 0 || lead >= 0xF8 || s.size() < n) return 0;
  uint32_t c = n == 1 ? lead : lead & (0x7Fu >> n);
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    c = (c << 6) | (byte(i) & 0x3F);
  }
  const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < smallest[n] || c > 0x10FFFF || is_surrogate(c)) return 0;
  return n;
}

TEST(Utf8, AgreesWithArithmeticOnAllSequencesThatDifferInTheFirstTwoBytes) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      for (const char* tail : {"\x80\x80", "\xBF\xBF", "A\x80", "\x80"}) {
        std::string s;
        s += static_cast<char>(a);
        s += static_cast<char>(b);
        s += tail;
        ASSERT_EQ(utf8_valid_length(s, 0), valid_length_by_arithmetic(s))
            << std::hex << "bytes " << a << " " << b;
      }
    }
  }
}

TEST(Utf8, NothingFollowsTheEnd) {
  EXPECT_EQ(utf8_valid_length("", 0), 0u);
  EXPECT_EQ(utf8_valid_length("a", 1), 0u);
  EXPECT_FALSE(utf8_is_incomplete("a", 1));
  EXPECT_TRUE(utf8_is_valid(""));
  EXPECT_EQ(utf8_sanitize(""), "");
}

TEST(Utf8, IncompleteOnlyWhereMoreBytesCouldHelp) {
  EXPECT_TRUE(utf8_is_incomplete("\xE2\x82", 0));
  EXPECT_TRUE(utf8_is_incomplete("a\xF0\x9F\x98", 1));
  EXPECT_FALSE(utf8_is_incomplete("\x80", 0));      // no lead
  EXPECT_FALSE(utf8_is_incomplete("\xE0\x80", 0));  // an overlong form has no completion
  EXPECT_FALSE(utf8_is_incomplete("\xED\xA0", 0));  // nor has a surrogate
  EXPECT_FALSE(utf8_is_incomplete("\xF4\x90", 0));  // nor anything above U+10FFFF
  EXPECT_FALSE(
      utf8_is_incomplete("\xE2\x82"
                         "a",
                         0));  // broken off by what follows
}

// Writes `R` for each U+FFFD and keeps ASCII, as the standard's tables do.
std::string shown(std::string_view bytes) {
  std::string text = utf8_sanitize(bytes);
  EXPECT_TRUE(utf8_is_valid(text));
  for (std::size_t at = text.find(kReplacement); at != std::string::npos;
       at = text.find(kReplacement, at))
    text.replace(at, kReplacement.size(), "R");
  return text;
}

// The Unicode Standard, version 15.0, section 3.9, tables 3-8 to 3-11.
TEST(Utf8, SubstitutesMaximalSubpartsAsTheStandardShows) {
  // 3-8: non-shortest forms.
  EXPECT_EQ(shown("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "RRRRRRRRA");
  // 3-9: ill-formed sequences for surrogates.
  EXPECT_EQ(shown("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "RRRRRRRRA");
  // 3-10: other ill-formed sequences.
  EXPECT_EQ(shown("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "RRRRRARRB");
  // 3-11: truncated sequences.
  EXPECT_EQ(shown("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "RRRRA");
  // Section 3.9's running example.
  EXPECT_EQ(shown("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"), "aRRRbRcRRd");
}

TEST(Utf8, SanitizeKeepsValidTextByteForByte) {
  const std::string text = "plain, \xC3\xA9, \xE4\xB8\xAD\xE6\x96\x87, \xF0\x9F\x98\x80\n";
  EXPECT_TRUE(utf8_is_valid(text));
  EXPECT_EQ(utf8_sanitize(text), text);
  const std::string with_zero("a\0b", 3);
  EXPECT_EQ(utf8_sanitize(with_zero), with_zero);
}

TEST(Utf8, ValidityIsThatOfTheWholeText) {
  EXPECT_FALSE(utf8_is_valid("good\xFF"));
  EXPECT_FALSE(utf8_is_valid("\xE2\x82"));
  EXPECT_FALSE(utf8_is_valid("\x80good"));
}

TEST(Utf8, AppendingWhatIsNoCodePointWritesTheReplacement) {
  for (const char32_t c : {0xD800u, 0xDBFFu, 0xDC00u, 0xDFFFu, 0x110000u, 0xFFFFFFFFu}) {
    std::string text;
    utf8_append(text, c);
    EXPECT_EQ(text, kReplacement) << "code point " << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace fathom
