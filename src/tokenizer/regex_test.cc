// The rewriting of expressions and the order of matches. Expected values come from Oniguruma's
// documentation and from the `tokenizers` library where the two matchers differ.
#include "tokenizer/regex.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/regex_syntax.h"
#include "tokenizer/unicode_data.h"

namespace fathom {
namespace regex_test {

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  auto regex = Regex::compile(pattern, "test");
  FATHOM_CHECK(regex.has_value()) << regex.error().message;
  RegexScratch scratch;
  scratch.recent_code_points = has_recent_code_points(text);
  RegexMatches all(*regex, text, scratch);
  std::vector<std::string> out;
  Regex::Match match;
  for (Regex::Outcome outcome; (outcome = all.next(match)) != Regex::Outcome::kNone;) {
    FATHOM_CHECK(outcome == Regex::Outcome::kMatch);
    out.emplace_back(text.substr(match.begin, match.end - match.begin));
  }
  return out;
}

using Strings = std::vector<std::string>;

TEST(Regex, WhiteSpaceIsUnicodesAndNotPcres) {
  const std::string text = "\t\u0085\u00A0\u1680\u200A\u2028\u202F\u205F\u3000";
  EXPECT_EQ(matches(R"(\s+)", text), Strings{text});
  // U+180E is white space to PCRE2, U+200B and U+FEFF to nobody.
  EXPECT_EQ(matches(R"(\s)", "\u180E\u200B\uFEFF\x1C\x1F"), Strings{});
  EXPECT_EQ(matches(R"([\S]+)", "a\u180E b"), (Strings{"a\u180E", "b"}));
  EXPECT_EQ(matches(R"(\S+)", "a\u180E b"), (Strings{"a\u180E", "b"}));
}

TEST(Regex, WordsHoldMarksAndConnectors) {
  EXPECT_EQ(matches(R"(\w+)", "a\u0301_\u203F1²Ⅷ①"), Strings{"a\u0301_\u203F1²Ⅷ"});
  EXPECT_EQ(matches(R"(\W+)", "a-+b"), Strings{"-+"});
}

TEST(Regex, CategoriesKnowUnicode16) {
  const std::string garay_letter = "\U00010D50";  // Lu since Unicode 16
  const std::string garay_digit = "\U00010D41";
  EXPECT_EQ(matches(R"(\p{Lu})", garay_letter), Strings{garay_letter});
  EXPECT_EQ(matches(R"([^\p{L}\p{N}])", garay_letter + garay_digit), Strings{});
  EXPECT_EQ(matches(R"(\P{L}+)", garay_letter + garay_digit), Strings{garay_digit});
  EXPECT_EQ(matches(R"(\d)", garay_digit), Strings{garay_digit});
  EXPECT_FALSE(has_recent_code_points("中文 ascii é 😀"));
  EXPECT_TRUE(has_recent_code_points("a" + garay_digit));
}

TEST(Regex, EmptyMatchesFollowOnigurumasRule) {
  EXPECT_EQ(matches("a*", "baac"), (Strings{"", "aa", ""}));
  EXPECT_EQ(matches("(?=[A-Z])", "aBC"), (Strings{"", ""}));
  EXPECT_EQ(matches("x*", "é"), (Strings{"", ""}));
}

TEST(Regex, ConstructsThatDifferFromPcre) {
  EXPECT_EQ(matches(R"(\h+)", "12fG\t"), Strings{"12f"});   // hexadecimal digits
  EXPECT_EQ(matches(R"(\v)", "\n\x0B"), Strings{"\x0B"});   // vertical tab alone
  EXPECT_EQ(matches("a{,2}b", "aaab"), Strings{"aab"});     // {0,2}
  EXPECT_EQ(matches("a{b", "a{b"), Strings{"a{b"});         // no interval: literal
  EXPECT_EQ(matches("(?m:a.b)", "a\nb"), Strings{"a\nb"});  // m: dot matches newline
  EXPECT_EQ(matches("a.b", "a\nb"), Strings{});
  EXPECT_EQ(matches("^b$", "a\nb\nc"), Strings{"b"});  // lines, always
  EXPECT_EQ(matches(R"(\p{^L}+)", "ab12"), Strings{"12"});
  EXPECT_EQ(matches(R"(\p{Letter}+\p{Decimal_Number})", "ab1"), Strings{"ab1"});
  EXPECT_EQ(matches(R"([\p{Han}]+)", "a中文。"), Strings{"中文"});  // by script: '。' is common
  EXPECT_EQ(matches(R"(\u4e2d\x{6587}\x41)", "中文A"), Strings{"中文A"});
  EXPECT_EQ(matches("(?i:'s|'re)", "'S 'RE 'ſ"), (Strings{"'S", "'RE", "'ſ"}));
  EXPECT_EQ(matches("(?<name>a)(b)(?#comment)", "ab"), Strings{"ab"});
  EXPECT_EQ(matches("[]a-]+", "]a-b"), Strings{"]a-"});
  EXPECT_EQ(matches("a++|b?+", "aab"), (Strings{"aa", "b"}));
}

TEST(Regex, RefusesWhatHasNoEqual) {
  for (const char* pattern : {"[a[bc]]",
                              "[a&&b]",
                              "[[:alpha:]]",
                              R"(\b)",
                              R"(\G)",
                              R"(\R)",
                              R"(\X)",
                              R"(\1)",
                              R"(\K)",
                              R"(\p{Alnum})",
                              R"(\p{Unknown})",
                              R"(\pL)",
                              R"(\xE9)",
                              R"([\W])",
                              "(?s:a)",
                              "(?x)a b",
                              "(?~a)",
                              "(*FAIL)",
                              "(?P<n>a)",
                              "(?(1)a|b)",
                              "a{2}+",
                              "a{2}?",
                              "[z-a]",
                              "[a-",
                              "[",
                              "(",
                              ")",
                              "a**b)",
                              "\\",
                              R"(\x{110000})",
                              R"(\x{D800})",
                              "(?#",
                              "*",
                              "[\\",
                              "[a-\\"}) {
    const auto regex = Regex::compile(pattern, "file.json: field");
    ASSERT_FALSE(regex) << pattern;
    EXPECT_TRUE(regex.error().message.starts_with("file.json: field: expression "))
        << regex.error().message;
  }
  EXPECT_FALSE(Regex::compile(std::string(100'000, 'a'), "x"));
  EXPECT_FALSE(Regex::compile("((a{1000}){1000}){1000}", "x"));
  EXPECT_FALSE(Regex::compile(std::string(60'000, '('), "x"));
  EXPECT_FALSE(Regex::compile("\xFF", "x"));
}

TEST(Regex, MatchLimitIsAnOutcome) {
  const auto regex = Regex::compile("(?:(?:a|a)(?:a|a)?)+b", "x");
  ASSERT_TRUE(regex);
  RegexScratch scratch;
  Regex::Match match;
  const std::string text = std::string(200, 'a') + "cb";
  EXPECT_EQ(regex->find(text, 0, scratch, match), Regex::Outcome::kLimit);
  EXPECT_NE(regex->limit_error(text, 0).message.find("match limit"), std::string::npos);
}

TEST(Regex, LiteralsMatchThemselves) {
  const std::string text = "a.*[](){}\\^$|?+-#& \n中😀";
  const auto regex = Regex::compile_literal(text, "x");
  ASSERT_TRUE(regex);
  RegexScratch scratch;
  Regex::Match match;
  ASSERT_EQ(regex->find("x" + text, 0, scratch, match), Regex::Outcome::kMatch);
  EXPECT_EQ(match.begin, 1u);
  EXPECT_EQ(match.end, text.size() + 1);
}

// The hand-written matcher for \s+$ against PCRE2 on an expression of the same meaning.
TEST(Regex, TrailingSpaceEqualsTheGeneralMatcher) {
  std::mt19937 random(1);
  const std::vector<std::string> alphabet = {" ", "\n", "\r", "\u3000", "a", "中"};
  for (int round = 0; round < 5'000; ++round) {
    std::string text;
    for (auto left = random() % 12; left > 0; --left) text += alphabet[random() % alphabet.size()];
    ASSERT_EQ(matches(R"(\s+$)", text), matches(R"((?:\s)+$)", text)) << '"' << text << '"';
  }
}

TEST(Regex, TrailingSpaceIsLinear) {
  const std::string spaces(1 << 20, ' ');
  EXPECT_EQ(matches(R"(\s+$)", spaces + "中"), Strings{});
  EXPECT_EQ(matches(R"(\s+$)", "中" + spaces), Strings{spaces});
}

}  // namespace regex_test
}  // namespace fathom
