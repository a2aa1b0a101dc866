// Normalizer, pre-tokenizer and added tokens, each alone. The expected cuts were taken from the
// `tokenizers` library.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/unicode_data.h"

namespace fathom {
namespace stages_test {

using Strings = std::vector<std::string>;
using Kind = NormalizerStep::Kind;

std::string normalized(const std::vector<NormalizerStep>& steps, std::string_view text) {
  auto normalizer = Normalizer::create(steps, "test");
  FATHOM_CHECK(normalizer.has_value()) << normalizer.error().message;
  RegexScratch scratch;
  std::string storage;
  const auto out = normalizer->apply(text, storage, scratch);
  FATHOM_CHECK(out.has_value()) << out.error().message;
  return std::string(*out);
}

TEST(Normalizer, FormsOfUnicode) {
  const std::string text =
      "e\u0301 ﬁ \u1E69 각 ASCII";  // e + acute, ligature, s with two dots, Jamo
  EXPECT_EQ(normalized({{Kind::kNfc}}, text), "é ﬁ \u1E69 각 ASCII");
  EXPECT_EQ(normalized({{Kind::kNfd}}, "é\u1E69"), "e\u0301s\u0323\u0307");
  EXPECT_EQ(normalized({{Kind::kNfkc}}, text), "é fi \u1E69 각 ASCII");
  EXPECT_EQ(normalized({{Kind::kNfkd}}, "ﬁé"), "fie\u0301");
  EXPECT_EQ(normalized({{Kind::kNfc}}, "q\u0307\u0323"), "q\u0323\u0307");  // ordered by class
  EXPECT_EQ(normalized({{Kind::kNfc}}, "\u2126\u212B"), "ΩÅ");
}

TEST(Normalizer, KeepsWhatTheReferenceDoesNotKnow) {
  EXPECT_EQ(normalized({{Kind::kNfkc}}, "\u32FF"),
            "\u32FF");  // SQUARE ERA NAME REIWA, Unicode 12.1
  // A mark of class 230 since Unicode 14: today's tables would move the one of class 1 before it.
  EXPECT_EQ(normalized({{Kind::kNfc}}, "q\u1AC5\u0334"), "q\u1AC5\u0334");
}

TEST(Normalizer, StepsInOrder) {
  const NormalizerStep prepend{Kind::kPrepend, "", false, "▁"};
  const NormalizerStep spaces{Kind::kReplace, " ", false, "▁"};
  const NormalizerStep letters{Kind::kReplace, "[ab]+", true, "x"};
  EXPECT_EQ(normalized({prepend, spaces, letters}, "ab c"), "▁x▁c");
  EXPECT_EQ(normalized({prepend}, ""), "");
  EXPECT_FALSE(Normalizer::create({{Kind::kReplace, "[", true, ""}}, "x"));
}

TEST(Normalizer, MarksAreSortedNotBubbled) {
  std::string marks = "q";
  for (int i = 0; i < 250'000; ++i) marks += "\u0301\u0323";
  const std::string out = normalized({{Kind::kNfc}}, marks);
  EXPECT_EQ(out.substr(0, 5), "q\u0323\u0323");
  EXPECT_EQ(out.size(), marks.size());
}

Strings pieces(const std::vector<PretokenizerStage>& stages, std::string_view text) {
  auto pretokenizer = Pretokenizer::create(stages, "test");
  FATHOM_CHECK(pretokenizer.has_value()) << pretokenizer.error().message;
  RegexScratch scratch;
  scratch.recent_code_points = has_recent_code_points(text);
  Strings out;
  const Status status = pretokenizer->run(text, scratch, [&](std::string_view piece) -> Status {
    out.emplace_back(piece);
    return {};
  });
  FATHOM_CHECK(status.has_value()) << status.error().message;
  return out;
}

SplitStage dashes(SplitBehavior behavior, bool invert = false) {
  return {"-", false, behavior, invert};
}

TEST(Pretokenizer, SplitBehaviors) {
  const std::string text = "The-final--countdown";
  EXPECT_EQ(pieces({dashes(SplitBehavior::kRemoved)}, text),
            (Strings{"The", "final", "countdown"}));
  EXPECT_EQ(pieces({dashes(SplitBehavior::kIsolated)}, text),
            (Strings{"The", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(pieces({dashes(SplitBehavior::kMergedWithPrevious)}, text),
            (Strings{"The-", "final-", "-", "countdown"}));
  EXPECT_EQ(pieces({dashes(SplitBehavior::kMergedWithNext)}, text),
            (Strings{"The", "-final", "-", "-countdown"}));
  EXPECT_EQ(pieces({dashes(SplitBehavior::kContiguous)}, text),
            (Strings{"The", "-", "final", "--", "countdown"}));
  EXPECT_EQ(pieces({dashes(SplitBehavior::kRemoved, true)}, text), (Strings{"-", "-", "-"}));
  EXPECT_EQ(pieces({dashes(SplitBehavior::kMergedWithPrevious, true)}, text),
            (Strings{"The", "-final", "-", "-countdown"}));
}

TEST(Pretokenizer, StagesSeePiecesAlone) {
  const SplitStage digits{R"(\p{N}{1,3})", true, SplitBehavior::kIsolated, false};
  const SplitStage spaces{R"(\s+(?!\S)|\s+)", true, SplitBehavior::kIsolated, false};
  EXPECT_EQ(pieces({digits, spaces}, "a  1234"), (Strings{"a", "  ", "123", "4"}));
  EXPECT_EQ(pieces({spaces, digits}, "a  1234"), (Strings{"a", " ", " ", "123", "4"}));
}

TEST(Pretokenizer, Digits) {
  EXPECT_EQ(pieces({DigitsStage{true}}, "a12½"), (Strings{"a", "1", "2", "½"}));
  EXPECT_EQ(pieces({DigitsStage{false}}, "a12½b3"), (Strings{"a", "12½", "b", "3"}));
  EXPECT_EQ(pieces({DigitsStage{true}}, "\U00011DE0\U00011DE1"),
            (Strings{"\U00011DE0", "\U00011DE1"}));  // digits since Unicode 17
}

TEST(Pretokenizer, ByteLevel) {
  const ByteLevelStage gpt2{.add_prefix_space = true, .use_regex = true};
  EXPECT_EQ(pieces({gpt2}, "Hi it's  é 42"), (Strings{" Hi", " it", "'s", " ", " é", " 42"}));
  // Not the last stage: what follows sees the alphabet, and so does the model.
  const SplitStage g{"Ġ", false, SplitBehavior::kIsolated, false};
  EXPECT_EQ(pieces({gpt2, g}, "é"), (Strings{"Ġ", "Ã©"}));
  EXPECT_FALSE(Pretokenizer::create({gpt2, g}, "x")->emits_bytes());
  EXPECT_TRUE(Pretokenizer::create({g, gpt2}, "x")->emits_bytes());
  EXPECT_FALSE(Pretokenizer::create({gpt2, gpt2}, "x")->emits_bytes());
}

AddedTokenSpec token(int32_t id, std::string content) { return {id, std::move(content)}; }

std::string marked(const std::vector<AddedTokenSpec>& tokens, std::string_view text,
                   bool special_as_text = false) {
  auto matcher = AddedTokenMatcher::create(tokens, "test");
  FATHOM_CHECK(matcher.has_value()) << matcher.error().message;
  RegexScratch scratch;
  std::vector<AddedTokenMatcher::Part> parts;
  matcher->find(text, special_as_text, scratch, parts);
  std::string out;  // "text<id:match>text"
  for (const auto& part : parts) {
    const std::string piece(text.substr(part.begin, part.end - part.begin));
    out += part.id < 0 ? piece : "<" + std::to_string(part.id) + ":" + piece + ">";
  }
  return out;
}

TEST(AddedTokens, LeftmostThenLongest) {
  const std::vector<AddedTokenSpec> tokens = {token(1, "ab"), token(2, "abcd"), token(3, "bcde"),
                                              token(4, "c")};
  EXPECT_EQ(marked(tokens, "xabcde"), "x<2:abcd>e");
  EXPECT_EQ(marked(tokens, "abce"), "<1:ab><4:c>e");
  EXPECT_EQ(marked(tokens, "bcd"), "b<4:c>d");
  EXPECT_EQ(marked(tokens, ""), "");
}

TEST(AddedTokens, SingleWordAndSpace) {
  AddedTokenSpec word = token(1, "foo");
  word.single_word = true;
  EXPECT_EQ(marked({word}, "foo foox éfoo (foo) foo_"), "<1:foo> foox éfoo (<1:foo>) foo_");
  AddedTokenSpec left = token(1, "[L]");
  left.lstrip = true;
  AddedTokenSpec right = token(2, "[R]");
  right.rstrip = true;
  EXPECT_EQ(marked({left, right}, "a \u3000[L] b [R]\n [L]c"),
            "a<1: \u3000[L]> b <2:[R]\n ><1:[L]>c");
}

TEST(AddedTokens, SpecialAsTextSwallowsWhatItCovers) {
  AddedTokenSpec special = token(1, "<ab>");
  special.special = true;
  EXPECT_EQ(marked({special, token(2, "ab")}, "<ab>ab", true), "<ab><2:ab>");
  EXPECT_EQ(marked({special, token(2, "ab")}, "<ab>ab", false), "<1:<ab>><2:ab>");
}

TEST(AddedTokens, RefusesEmptyAndEqual) {
  EXPECT_FALSE(AddedTokenMatcher::create({token(1, "")}, "x"));
  const auto twice = AddedTokenMatcher::create({token(1, "a"), token(2, "a")}, "f.json");
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().message.find("f.json: added_tokens: the token \"a\""), std::string::npos);
}

TEST(AddedTokens, RepeatedPrefixIsLinear) {
  AddedTokenSpec spaces = token(2, " ");
  spaces.rstrip = true;
  spaces.lstrip = true;
  std::string text;
  while (text.size() < (1 << 20)) text += "<|place_holder_no_";
  EXPECT_EQ(marked({token(1, "<|place_holder_no_1|>"), spaces}, text), text);
  const std::string blank(1 << 20, ' ');
  EXPECT_EQ(marked({spaces}, "a" + blank).size(), blank.size() + 1 + 4 + (blank.size() - 1) * 4);
}

}  // namespace stages_test
}  // namespace fathom
