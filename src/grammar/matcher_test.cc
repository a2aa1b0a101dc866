#include "grammar/matcher.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/limits.h"
#include "grammar/grammar_test_support.h"
#include "grammar/tool_calls.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace {

using test::allowed;
using test::byte_token;
using test::feed;
using test::has;
using test::kNanoEos;
using test::mask_of;
using test::nano_masker;
using test::nano_matcher;
using test::schema_grammar;

TEST(TokenMasker, WantsATokenForEveryByteOfText) {
  TokenizerSpec spec = test::byte_spec();
  const auto whole = TokenMasker::create(*test::tokenizer_of(spec), 300);
  ASSERT_TRUE(whole);
  EXPECT_EQ((*whole)->vocab_size(), 300);
  EXPECT_EQ((*whole)->mask_words(), 5U);
  std::erase_if(spec.vocab, [](const auto& entry) { return entry.id == '"'; });
  const auto holed = TokenMasker::create(*test::tokenizer_of(spec));
  ASSERT_FALSE(holed);
  EXPECT_NE(holed.error().message.find("0x22"), std::string::npos) << holed.error().message;
}

TEST(TokenMasker, FindsTheLongestAddedToken) {
  const TokenMasker& masker = *nano_masker();
  const auto think = test::nano_tokenizer().token_to_id("<think>");
  EXPECT_EQ(masker.added_token_at("<think>\n"), *think);
  EXPECT_EQ(masker.added_token_at("<thin"), -1);
  EXPECT_TRUE(masker.is_added(*think));
  EXPECT_FALSE(masker.is_added(byte_token('a')));
}

TEST(Matcher, StopTokensAreAllowedExactlyWhenComplete) {
  Matcher m = nano_matcher(schema_grammar(R"({"type":"array","items":{"type":"integer"}})"));
  EXPECT_FALSE(m.complete());
  EXPECT_FALSE(has(mask_of(m, *nano_masker()), kNanoEos));
  EXPECT_FALSE(m.accept(kNanoEos));
  ASSERT_TRUE(feed(m, "[12"));
  EXPECT_FALSE(has(mask_of(m, *nano_masker()), kNanoEos));
  ASSERT_TRUE(feed(m, "]"));
  EXPECT_TRUE(m.complete());
  EXPECT_TRUE(m.must_end());
  EXPECT_EQ(allowed(mask_of(m, *nano_masker())), std::vector<int32_t>{kNanoEos});
  EXPECT_FALSE(m.accept(byte_token(' ')));
  EXPECT_TRUE(m.accept(kNanoEos));
  EXPECT_TRUE(m.stopped());
  EXPECT_TRUE(allowed(mask_of(m, *nano_masker())).empty());
  EXPECT_FALSE(m.accept(kNanoEos));
  m.rollback(1);
  EXPECT_FALSE(m.stopped());
  EXPECT_TRUE(m.accept(kNanoEos));
}

TEST(Matcher, AnIntegerMayEndOrGoOn) {
  Matcher m = nano_matcher(schema_grammar(R"({"type":"integer"})"));
  ASSERT_TRUE(feed(m, "7"));
  EXPECT_TRUE(m.complete());
  EXPECT_FALSE(m.must_end());
  EXPECT_TRUE(has(mask_of(m, *nano_masker()), byte_token('3')));
  EXPECT_TRUE(has(mask_of(m, *nano_masker()), kNanoEos));
}

TEST(Matcher, RefusalChangesNothing) {
  Matcher m = nano_matcher(schema_grammar(R"({"type":"object"})"));
  ASSERT_TRUE(feed(m, "{\"a"));
  const auto before = mask_of(m, *nano_masker());
  for (const int32_t bad : {-1, 1 << 30, byte_token('\n'), 0, kNanoEos})
    EXPECT_FALSE(m.accept(bad));
  EXPECT_EQ(mask_of(m, *nano_masker()), before);
  EXPECT_EQ(m.accepted(), 3);
}

TEST(Matcher, RollbackAndCopiesAreExact) {
  const auto grammar = schema_grammar(
      R"({"type":"object","properties":{"a":{"type":"string","maxLength":9},"b":{"anyOf":[{"type":"integer"},{"type":"array"}]}},"required":["a","b"]})");
  std::mt19937_64 random(3);
  Matcher m = nano_matcher(grammar);
  std::vector<std::vector<uint64_t>> masks;
  std::vector<int32_t> tokens;
  for (int step = 0; step < 600; ++step) {
    const auto bits = mask_of(m, *nano_masker());
    if (step == static_cast<int>(masks.size())) masks.push_back(bits);
    const auto choices = allowed(bits);
    ASSERT_FALSE(choices.empty());
    const int32_t token = choices[random() % choices.size()];
    if (token == kNanoEos) {
      const int64_t back = std::min<int64_t>(m.accepted(), 5);
      Matcher copy = m;
      m.rollback(back);
      ASSERT_TRUE(copy.accept(kNanoEos));  // the copy did not move
      for (int64_t i = 0; i < back; ++i) {
        ASSERT_TRUE(m.accept(tokens[tokens.size() - static_cast<std::size_t>(back - i)]));
      }
      EXPECT_EQ(mask_of(m, *nano_masker()), bits);
      return;
    }
    ASSERT_TRUE(m.accept(token));
    tokens.push_back(token);
    if (step % 7 == 3) {
      m.rollback(2);
      ASSERT_TRUE(m.accept(tokens[tokens.size() - 2]));
      ASSERT_TRUE(m.accept(tokens.back()));
    }
  }
}

TEST(Matcher, RollbackReachesFarEnoughInLongAnswers) {
  Matcher m = nano_matcher(schema_grammar(R"({"type":"string"})"));
  ASSERT_TRUE(feed(m, "\""));
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(feed(m, "a"));
    ASSERT_GE(m.can_roll_back(), std::min<int64_t>(m.accepted(), 256));
  }
  m.rollback(256);
  EXPECT_EQ(m.accepted(), 4745);
  EXPECT_TRUE(feed(m, "b\""));
  EXPECT_TRUE(m.complete());
}

TEST(Matcher, StringsAreValidUtf8) {
  const auto grammar = schema_grammar(R"({"type":"string"})");
  for (const char* good : {"\"é\"", "\"漢字\"", "\"😀\"", "\"\x7f\"", "\"\\ud83d\\uDE00\"",
                           "\"\\u0000\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\uD7FF\\uE000\""}) {
    EXPECT_TRUE(test::takes(grammar, good)) << good;
  }
  for (const char* bad : {"\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xE9\"",
                          "\"\x80\"", "\"\n\"", "\"\\ud83d\"", "\"\\ud83d\\u0041\"", "\"\\ude00\"",
                          "\"\\x41\"", "\"\\u12\"", "\"\x1f\""}) {
    EXPECT_FALSE(test::takes(grammar, bad)) << bad;
  }
}

TEST(Matcher, AddedTokensAreNoText) {
  for (const char* schema : {R"({"type":"string"})", R"({"type":"string","maxLength":50})",
                             R"({"type":"string","pattern":"^.*$"})", R"({"type":"object"})"}) {
    Matcher m = nano_matcher(schema_grammar(schema));
    ASSERT_TRUE(feed(m, schema[9] == 's' ? "\"x" : "{\"x"));
    const auto bits = mask_of(m, *nano_masker());
    for (int32_t id = 0; id < test::nano_tokenizer().vocab_size(); ++id) {
      if (!test::nano_tokenizer().is_added(id)) continue;
      EXPECT_FALSE(has(bits, id)) << id << " in " << schema;
    }
    EXPECT_TRUE(feed(m, "<think>")) << "spelled out it is text like any other";
  }
}

TEST(Matcher, MasksAreWhatAcceptTakesWithAnAmbiguousGrammar) {
  const auto grammar = schema_grammar(
      R"({"anyOf":[{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"}},"required":["a"]},{"type":"object","properties":{"a":{"type":"number"},"c":{"type":"null"}},"required":["a"]},{"type":"object","properties":{"a":{"type":"string","maxLength":2}},"additionalProperties":{"type":"integer"}}]})");
  for (const char* text : {"", "{", "{\"a\":", "{\"a\": 1", "{\"a\":1,", "{\"a\":1.5,",
                           "{\"a\":\"x", "{\"a\":\"x\",\"", "{\"z\":"}) {
    SCOPED_TRACE(text);
    Matcher m = nano_matcher(grammar);
    ASSERT_TRUE(feed(m, text));
    test::expect_mask_is_what_accept_takes(m, *nano_masker());
  }
}

// The mask's parts that do not walk the trie (StringTokens) against those that do.
TEST(Matcher, MasksInCountedStringsAreWhatAcceptTakes) {
  for (const char* schema :
       {R"({"type":"string","maxLength":3})", R"({"type":"string","minLength":2})",
        R"({"type":"string","minLength":2,"maxLength":30})", R"({"type":"string"})"}) {
    for (const char* text :
         {"\"", "\"a", "\"ab", "\"a\\", "\"a\\u", "\"a\\ud83d", "\"\xE6", "\"\xF0\x9F"}) {
      SCOPED_TRACE(std::string(schema) + " " + text);
      Matcher m = nano_matcher(schema_grammar(schema));
      ASSERT_TRUE(feed(m, text));
      test::expect_mask_is_what_accept_takes(m, *nano_masker());
    }
  }
}

TEST(Matcher, AmbiguityIsBounded) {
  // Every level doubles the ways to read the text.
  const auto grammar = schema_grammar(
      R"({"$defs":{"n":{"anyOf":[{"type":"array","items":{"$ref":"#/$defs/n"},"maxItems":4},{"type":"array","items":{"$ref":"#/$defs/n"},"maxItems":5}]}},"$ref":"#/$defs/n"})");
  Matcher m = nano_matcher(grammar);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(feed(m, "[")) << i;
    const auto bits = mask_of(m, *nano_masker());
    ASSERT_TRUE(has(bits, byte_token('['))) << i;
  }
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(feed(m, "]")) << i;
  EXPECT_TRUE(m.complete());
}

TEST(Matcher, ManyThreadsShareOneGrammar) {
  const auto grammar = schema_grammar(
      R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"number"}}},"required":["a","b"]})");
  const auto walk = [&] {
    std::mt19937_64 random(7);
    std::string texts;
    for (int i = 0; i < 5; ++i) texts += test::random_walk(grammar, random, 40, false) + "\n";
    return texts;
  };
  std::vector<std::string> results(4);
  {
    std::vector<std::jthread> threads;
    for (std::string& result : results) threads.emplace_back([&result, &walk] { result = walk(); });
  }
  for (const std::string& result : results) EXPECT_EQ(result, results[0]);
}

// A cache that is thrown away again and again gives the same masks.
TEST(Matcher, ManyStatesStayWithinTheCachesBound) {
  const auto tokenizer = test::golden_tokenizer("deepseek_v3");
  const auto masker = test::masker_of(*tokenizer);
  EXPECT_LT(masker->memory_bytes(), 100 << 20);
  const auto grammar = schema_grammar(R"({"type":"string","pattern":"^.*$","maxLength":2000})");
  const int32_t stop[] = {1};
  Matcher m(grammar, masker, stop);
  std::vector<uint64_t> bits(masker->mask_words());
  const auto a = tokenizer->token_to_id("a");
  ASSERT_TRUE(m.accept(*tokenizer->token_to_id("\"")));
  for (int i = 0; i < 60; ++i) {
    m.fill_mask(bits);
    ASSERT_TRUE(m.accept(*a));
    ASSERT_LT(grammar->memory_bytes(), limits::kMaxMaskCacheBytes + (16 << 20));
  }
}

}  // namespace
}  // namespace fathom
