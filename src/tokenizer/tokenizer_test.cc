// The whole pipeline where the golden files do not reach: invalid UTF-8, long texts, threads,
// templates, decoders, streaming.
#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace tokenizer_test {

using test::byte_spec;
using test::ids_of;
using test::tokenizer_of;
using Ids = std::vector<int32_t>;

TEST(Tokenizer, InvalidUtf8IsReplacedFirst) {
  const auto t = tokenizer_of(byte_spec());
  const std::string bad = "a\xC3(\xF0\x9F\x98 \xFF";
  EXPECT_EQ(ids_of(*t, bad), ids_of(*t, utf8_sanitize(bad)));
  EXPECT_EQ(*t->decode(ids_of(*t, bad)), "a\uFFFD(\uFFFD \uFFFD");
}

TEST(Tokenizer, TemplateAroundTheText) {
  TokenizerSpec spec = byte_spec();
  spec.post_processor = {{false, {1, 2}}, {true, {}}, {false, {3}}};
  const auto t = tokenizer_of(spec);
  EXPECT_EQ(ids_of(*t, "a", {.add_special_tokens = true}), (Ids{1, 2, 'a', 3}));
  EXPECT_EQ(ids_of(*t, "", {.add_special_tokens = true}), (Ids{1, 2, 3}));
  EXPECT_EQ(ids_of(*t, "a"), (Ids{'a'}));
  spec.post_processor = {{false, {1}}};
  EXPECT_FALSE(Tokenizer::from_spec(spec));
}

TEST(Tokenizer, AddedTokensOfBothPasses) {
  TokenizerSpec spec = byte_spec();
  spec.normalizer = {{NormalizerStep::Kind::kNfc}};
  AddedTokenSpec raw{300, "e\u0301"};
  AddedTokenSpec normal{301, "o\u0301"};
  normal.normalized = true;
  spec.added_tokens = {raw, normal};
  const auto t = tokenizer_of(spec);
  EXPECT_EQ(ids_of(*t, "e\u0301é"), (Ids{300, 0xC3, 0xA9}));  // in the raw text only
  EXPECT_EQ(ids_of(*t, "o\u0301ó"), (Ids{301, 301}));         // in the normal form, however written
  // "ó" is of the byte alphabet: the reference decodes it to the byte 0xF3.
  EXPECT_EQ(*t->decode(Ids{301}), "\uFFFD");
}

TEST(Tokenizer, HolesInTheIds) {
  TokenizerSpec spec = byte_spec();
  spec.added_tokens = {{1000, "<x>"}};
  const auto t = tokenizer_of(spec);
  EXPECT_EQ(t->vocab_size(), 1001);
  EXPECT_FALSE(t->has_token(999));
  EXPECT_EQ(t->token_bytes(999), "");
  EXPECT_EQ(t->token_bytes(-1), "");
  EXPECT_FALSE(t->is_special(5000));
  for (const int32_t id : {999, -1, 1001, INT32_MAX, INT32_MIN}) {
    const auto text = t->decode(Ids{id});
    ASSERT_FALSE(text);
    EXPECT_NE(text.error().message.find(std::to_string(id)), std::string::npos);
  }
}

TEST(Tokenizer, RefusesSpecsThatAreNotUtf8) {
  TokenizerSpec spec = byte_spec();
  spec.vocab[5].content = "\xFF";
  EXPECT_FALSE(Tokenizer::from_spec(spec));
}

TEST(Tokenizer, DecodersOfEachKind) {
  TokenizerSpec spec;
  spec.vocab = {{"a", 0}, {"▁b", 1}, {"<0xE4>", 2}, {"<0xB8>", 3}, {"<0xAD>", 4}, {"<0xff>", 5}};
  const Ids ids = {0, 1, 2, 3, 4, 1, 2, 5, 0, 2};
  EXPECT_EQ(*tokenizer_of(spec)->decode(Ids{0, 1, 0}), "a ▁b a");
  spec.decoder = {DecoderKind::kConcatenate, {{"▁", " "}}};
  EXPECT_EQ(*tokenizer_of(spec)->decode(Ids{0, 1, 2}), "a b<0xE4>");
  spec.decoder.kind = DecoderKind::kByteFallback;
  EXPECT_EQ(*tokenizer_of(spec)->decode(ids), "a b中 b\uFFFD\uFFFDa\uFFFD");
}

TEST(Detokenizer, HoldsBackUnfinishedCharacters) {
  const auto t = tokenizer_of(byte_spec());
  Detokenizer stream(*t);
  EXPECT_EQ(stream.push(0xF0), "");
  EXPECT_EQ(stream.push(0x9F), "");
  EXPECT_EQ(stream.push(0x98), "");
  EXPECT_EQ(stream.push(0x80), "😀");
  EXPECT_EQ(stream.push(0xE4), "");
  EXPECT_EQ(stream.push('a'), "\uFFFDa");
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.push(99'999), "");  // no such token
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.push('b'), "b");
}

// Any ids, any decoder: pushes never break a character and add up to decode.
TEST(Detokenizer, StreamEqualsDecode) {
  std::mt19937 random(1);
  for (const auto kind : {DecoderKind::kByteLevel, DecoderKind::kByteFallback,
                          DecoderKind::kConcatenate, DecoderKind::kJoinWithSpaces}) {
    TokenizerSpec spec = byte_spec();
    for (int b = 0; b < 256; ++b) {
      spec.vocab.push_back({fmt::format("<0x{:02X}>", b), 256 + b});
    }
    AddedTokenSpec special{600, "<中>"};
    special.special = true;
    spec.added_tokens = {special};
    spec.decoder.kind = kind;
    const auto t = tokenizer_of(spec);
    for (int round = 0; round < 2000; ++round) {
      const bool skip = random() % 2 == 0;
      Ids ids(random() % 12);
      for (auto& id : ids) {
        id = random() % 8 == 0 ? 600
                               : static_cast<int32_t>((random() % 2) * 256 + 0x80 + random() % 128);
      }
      Detokenizer stream(*t, skip);
      std::string text;
      for (const int32_t id : ids) {
        const std::string part = stream.push(id);
        ASSERT_TRUE(utf8_is_valid(part));
        text += part;
      }
      text += stream.finish();
      ASSERT_EQ(text, *t->decode(ids, skip));
    }
  }
}

std::string composed(std::string_view text) {
  const auto nfc = Normalizer::create({{NormalizerStep::Kind::kNfc}}, "test");
  RegexScratch scratch;
  std::string storage;
  return std::string(*nfc->apply(text, storage, scratch));
}

// Texts on which a careless implementation takes quadratic time. The assertion is that they end at
// all and come back; a quadratic step here would take hours.
void expect_long_texts(const std::vector<std::string>& units, std::size_t bytes) {
  for (const char* name : {"small_v3", "small_llm", "small_coder", "small_qwen"}) {
    const auto t = test::golden_tokenizer(name);
    for (const std::string& unit : units) {
      std::string text;
      while (text.size() < bytes) text += unit;
      text += "中x";
      const auto ids = t->encode(text);
      ASSERT_TRUE(ids) << name << " '" << unit << "': " << ids.error().message;
      const bool composes =
          name == std::string_view("small_qwen") && (unit == "e\u0301" || unit == "\u0301\u0323");
      const std::string expected = composes ? composed(text) : text;
      EXPECT_TRUE(*t->decode(*ids) == expected) << name << " '" << unit << "'";
    }
  }
}

TEST(Tokenizer, LongTextsOfOneKind) {
  expect_long_texts({"a", " ", "1", "<｜place▁holder▁no▁", "<|im_start"}, 1 << 20);
}

TEST(Tokenizer, LongTextsOfStrangerKinds) {
  expect_long_texts({"\n", " \n", "中", "e\u0301", "!", "\t", "\r", "٣", "😀", "\u0301", "'",
                     "\x01", "\u3000", "aé", "\u00A0\n", "\u0301\u0323"},
                    1 << 17);
}

TEST(Tokenizer, ManyThreadsAtOnce) {
  const auto t = test::golden_tokenizer("small_v3");
  const std::string text = "The quick brown fox 12345 今天天气很好，我们去公园吧。 <｜User｜>\n\n";
  const Ids expected = ids_of(*t, text);
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 200; ++round) {
        const std::string own = "thread " + std::to_string(i * 1000 + round);
        const auto ids = t->encode(own);
        if (!ids || *t->decode(*ids) != own || ids_of(*t, text) != expected) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

}  // namespace tokenizer_test
}  // namespace fathom
