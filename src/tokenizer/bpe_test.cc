// The merge loops against the definition, character by character; unknown characters; the byte
// alphabet; the cache.
#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace bpe_test {

using test::byte_spec;

std::vector<int32_t> encoded(const Bpe& bpe, std::string_view piece) {
  BpeScratch scratch;
  std::vector<int32_t> out;
  const Status status = bpe.encode(piece, scratch, out);
  FATHOM_CHECK(status.has_value()) << status.error().message;
  return out;
}

// The definition: while some neighbours have a merge, join the pair of the lowest rank, leftmost.
std::vector<std::string> by_definition(const TokenizerSpec& spec, std::string_view piece) {
  std::map<std::pair<std::string, std::string>, std::size_t> ranks;
  for (std::size_t i = 0; i < spec.merges.size(); ++i) {
    ranks[{spec.merges[i].left, spec.merges[i].right}] = i;
  }
  std::vector<std::string> symbols;
  for (const char c : piece) symbols.emplace_back(1, c);
  for (;;) {
    std::size_t best = symbols.size();
    std::size_t best_rank = SIZE_MAX;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = ranks.find({symbols[i], symbols[i + 1]});
      if (it == ranks.end() || it->second >= best_rank) continue;
      best = i;
      best_rank = it->second;
    }
    if (best == symbols.size()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// Random merges over a, b, c that build on each other.
TokenizerSpec random_spec(std::mt19937& random) {
  std::vector<std::string> known = {"a", "b", "c"};
  std::set<std::string> made;
  std::vector<MergeSpec> merges;
  for (int i = 0; i < 40; ++i) {
    const MergeSpec merge{known[random() % known.size()], known[random() % known.size()]};
    if (!made.insert(merge.left + merge.right).second) continue;
    merges.push_back(merge);
    known.push_back(merge.left + merge.right);
  }
  return byte_spec(merges);
}

TEST(Bpe, ScanAndQueueFollowTheDefinition) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const TokenizerSpec spec = random_spec(random);
    const auto bpe = Bpe::create(spec, true);
    ASSERT_TRUE(bpe) << bpe.error().message;
    // Both sides of the length from which on the queue is used.
    for (const std::size_t length : {1u, 2u, 7u, 47u, 48u, 49u, 50u, 200u}) {
      std::string piece;
      for (std::size_t i = 0; i < length; ++i) piece += static_cast<char>('a' + random() % 3);
      std::vector<std::string> contents;
      for (const int32_t id : encoded(*bpe, piece)) contents.push_back(spec.vocab[id].content);
      ASSERT_EQ(contents, by_definition(spec, piece)) << piece;
    }
  }
}

TEST(Bpe, LastOfEqualMergesCounts) {
  TokenizerSpec spec = byte_spec({{"a", "b"}, {"b", "c"}});
  spec.merges.push_back({"a", "b"});  // rank 2 now: "bc" goes first
  const auto bpe = Bpe::create(spec, true);
  ASSERT_TRUE(bpe);
  EXPECT_EQ(encoded(*bpe, "abc"), (std::vector<int32_t>{'a', 257}));
}

TEST(Bpe, IgnoreMergesTakesWholePieces) {
  TokenizerSpec spec = byte_spec({{"a", "b"}});
  spec.vocab.push_back({"Ġxy", 300});  // no merges lead there
  const auto plain = Bpe::create(spec, true);
  ASSERT_TRUE(plain);
  EXPECT_EQ(encoded(*plain, " xy"), (std::vector<int32_t>{' ', 'x', 'y'}));
  spec.ignore_merges = true;
  const auto whole = Bpe::create(spec, true);
  ASSERT_TRUE(whole);
  EXPECT_EQ(encoded(*whole, " xy"), (std::vector<int32_t>{300}));
}

TokenizerSpec character_spec() {
  TokenizerSpec spec;
  spec.vocab = {{"<unk>", 0}, {"a", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}, {"é", 4}, {"aa", 5}};
  spec.merges = {{"a", "a"}};
  spec.unk_token = "<unk>";
  return spec;
}

TEST(Bpe, UnknownCharacters) {
  TokenizerSpec spec = character_spec();
  EXPECT_EQ(encoded(*Bpe::create(spec, false), "aaxyaé"), (std::vector<int32_t>{5, 0, 0, 1, 4}));
  spec.fuse_unk = true;
  EXPECT_EQ(encoded(*Bpe::create(spec, false), "xyax"), (std::vector<int32_t>{0, 1, 0}));
  spec.vocab.erase(spec.vocab.begin() + 4);  // é
  spec.byte_fallback = true;
  EXPECT_EQ(encoded(*Bpe::create(spec, false), "aéa中"), (std::vector<int32_t>{1, 2, 3, 1, 0}));
  spec.unk_token.reset();
  EXPECT_EQ(encoded(*Bpe::create(spec, false), "x中a"), (std::vector<int32_t>{1}));
}

TEST(Bpe, UnknownBytes) {
  TokenizerSpec spec = byte_spec({{"a", "b"}});
  spec.vocab.erase(spec.vocab.begin() + 'x');
  EXPECT_EQ(encoded(*Bpe::create(spec, true), "xxabx"), (std::vector<int32_t>{256}));
  spec.unk_token = "ab";
  EXPECT_EQ(encoded(*Bpe::create(spec, true), "xxa"), (std::vector<int32_t>{256, 256, 'a'}));
}

TEST(Bpe, UnknownTokenWithoutIdIsAnErrorWhenNeeded) {
  TokenizerSpec spec = character_spec();
  spec.unk_token = "<other>";
  const auto bpe = Bpe::create(spec, false);
  ASSERT_TRUE(bpe);
  BpeScratch scratch;
  std::vector<int32_t> out;
  EXPECT_TRUE(bpe->encode("aa", scratch, out));
  const Status status = bpe->encode("x", scratch, out);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("model.unk_token is \"<other>\""), std::string::npos);
}

TEST(Bpe, RefusesMergesOfUnknownTokens) {
  for (const auto& [merge, what] : {std::pair<MergeSpec, std::string>{{"a", "zz"}, "names \"zz\""},
                                    {{"a", "b"}, "gives \"ab\""}}) {
    TokenizerSpec spec = byte_spec();
    spec.merges = {merge};
    const auto bpe = Bpe::create(spec, true);
    ASSERT_FALSE(bpe);
    EXPECT_NE(bpe.error().message.find("model.merges[0]"), std::string::npos);
    EXPECT_NE(bpe.error().message.find(what), std::string::npos) << bpe.error().message;
  }
}

TEST(ByteAlphabet, IsABijection) {
  std::set<std::string> seen;
  for (int b = 0; b < 256; ++b) {
    const std::string character(byte_to_alphabet(static_cast<uint8_t>(b)));
    EXPECT_TRUE(seen.insert(character).second);
    EXPECT_TRUE(utf8_is_valid(character));
    EXPECT_EQ(alphabet_to_bytes(character), std::string(1, static_cast<char>(b)));
  }
  EXPECT_EQ(byte_to_alphabet(' '), "Ġ");
  EXPECT_EQ(byte_to_alphabet(0xAD), "\u0143");
  EXPECT_EQ(alphabet_to_bytes("a b"), std::nullopt);  // a space is not of the alphabet
  EXPECT_EQ(alphabet_to_bytes("中"), std::nullopt);
}

TEST(PieceCache, ReturnsWhatWasPutOrNothing) {
  PieceCache cache;
  std::map<std::string, std::vector<int32_t>> put;
  std::mt19937 random(1);
  int hits = 0;
  for (int round = 0; round < 100'000; ++round) {
    std::string piece(1 + random() % 34, 'a');
    for (char& c : piece) c = static_cast<char>('a' + random() % 2);
    if (const auto found = cache.find(piece); !found.empty()) {
      ASSERT_EQ(std::vector<int32_t>(found.begin(), found.end()), put.at(piece));
      ++hits;
    }
    std::vector<int32_t> ids(random() % 10);
    for (auto& id : ids) id = static_cast<int32_t>(random() % 1000);
    if (put.contains(piece)) ids = put[piece];
    cache.put(piece, ids);
    put[piece] = ids;
  }
  EXPECT_GT(hits, 5'000);
}

}  // namespace bpe_test
}  // namespace fathom
