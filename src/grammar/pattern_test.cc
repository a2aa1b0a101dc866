#include "grammar/pattern.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/limits.h"
#include "grammar/schema_test_support.h"

namespace fathom::grammar {
namespace {

CharDfa compiled(const std::string& pattern, PatternReading reading = PatternReading::kNarrow) {
  WorkBudget budget{limits::kMaxPatternWork};
  auto dfa = compile_pattern(pattern, reading, budget);
  FATHOM_CHECK(dfa.has_value()) << pattern << ": " << dfa.error().message;
  return std::move(dfa).value();
}

bool pcre_matches(const std::string& pattern, const std::string& text) {
  const nlohmann::json schema = {{"pattern", pattern}};
  return test::SchemaValidator(schema).problem(text).empty();
}

// Random ASCII texts against PCRE2, which agrees with ECMA-262 there.
TEST(Pattern, AgreesWithPcreOnRandomTexts) {
  const char* const patterns[] = {"a",
                                  "^a",
                                  "a$",
                                  "^a$",
                                  "^$",
                                  "",
                                  "a|b",
                                  "^a|b$",
                                  "^(a|b)$",
                                  "(^a|b)c",
                                  "a*",
                                  "^a*$",
                                  "^(ab)+$",
                                  "^(a|ab)(c|bcd)?$",
                                  "^a{2,3}$",
                                  "^a{2}$",
                                  "^a{2,}$",
                                  "^(a?b){1,2}c??$",
                                  "[abc]",
                                  "^[^abc]+$",
                                  "^[a-c\\]\\-]*$",
                                  "^[-a]+$",
                                  "^[a-]+$",
                                  "\\d",
                                  "^\\d+\\.\\d*$",
                                  "^\\w+$",
                                  "\\s",
                                  "^a.c$",
                                  "^(?:a|b)*c$",
                                  "^(?<name>a)b$",
                                  "(a$|b)c?",
                                  "((a|b)(c|d))+$",
                                  "^(^a)",
                                  "(a$)",
                                  "^a\\x62\\u0063$",
                                  "\\^\\$\\.",
                                  "a||b",
                                  "(|a)b",
                                  "^(a*)*$",
                                  "^(a*b*)+c$",
                                  "$^",
                                  "^[\\d\\-x]+$",
                                  "x*?y+?z",
                                  "^\\/a\\/$",
                                  "()",
                                  "^()*$",
                                  "[\\s\\S]"};
  std::mt19937_64 random(5);
  const std::string alphabet = "aabbccdxyz-]./^$12 \n";
  for (const char* pattern : patterns) {
    const CharDfa dfa = compiled(pattern);
    for (int i = 0; i < 400; ++i) {
      std::string text;
      for (uint64_t n = random() % 6; n > 0; --n) text += alphabet[random() % alphabet.size()];
      ASSERT_EQ(dfa.accepts(text), pcre_matches(pattern, text))
          << pattern << " on '" << text << "'";
    }
  }
}

TEST(Pattern, CharactersBeyondAscii) {
  EXPECT_TRUE(compiled("^[à-ÿ]+$").accepts("éè"));
  EXPECT_FALSE(compiled("^[à-ÿ]+$").accepts("e"));
  EXPECT_TRUE(compiled("^.$").accepts("😀"));
  EXPECT_TRUE(compiled("^\\u{1F600}$").accepts("😀"));
  EXPECT_TRUE(compiled("^\\uD83D\\uDE00$").accepts("😀"));
  EXPECT_TRUE(compiled("^[^a]$").accepts("漢"));
}

TEST(Pattern, ReadingsDifferWhereDialectsDo) {
  for (const char* pattern : {"^\\w$", "^\\W$", "^[^\\w]$", "^[\\W]$"}) {
    EXPECT_FALSE(compiled(pattern, PatternReading::kNarrow).accepts("é")) << pattern;
    EXPECT_TRUE(compiled(pattern, PatternReading::kWide).accepts("é")) << pattern;
  }
  EXPECT_FALSE(compiled("^.$", PatternReading::kNarrow).accepts("\r"));
  EXPECT_TRUE(compiled("^.$", PatternReading::kWide).accepts("\r"));
}

TEST(CharDfa, ComplementAndIntersection) {
  WorkBudget budget{limits::kMaxPatternWork};
  const CharDfa a = compiled("^a");
  const CharDfa not_a = complement_of(a);
  const CharDfa end = compiled("z$");
  const auto both = intersection_of(not_a, end, budget);
  ASSERT_TRUE(both);
  for (const char* text : {"", "a", "z", "az", "bz", "zz", "éz", "za"}) {
    EXPECT_NE(a.accepts(text), not_a.accepts(text)) << text;
    EXPECT_EQ(both->accepts(text), not_a.accepts(text) && end.accepts(text)) << text;
  }
  EXPECT_TRUE(intersection_of(a, not_a, budget)->is_empty());
  const std::string names[] = {"ab", "a", "é"};
  const CharDfa others = all_strings_but(names);
  for (const char* text : {"ab", "a", "é"}) EXPECT_FALSE(others.accepts(text)) << text;
  for (const char* text : {"", "abc", "b", "e", "èx"}) EXPECT_TRUE(others.accepts(text)) << text;
  const CharDfa lengths = strings_of_length(1, 2);
  EXPECT_FALSE(lengths.accepts(""));
  EXPECT_TRUE(lengths.accepts("é"));
  EXPECT_FALSE(lengths.accepts("abc"));
}

}  // namespace
}  // namespace fathom::grammar
