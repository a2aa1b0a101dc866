// What the grammar's tests share: vocabularies, feeding texts byte by byte, and random walks.
//
// Owns no assertions but gtest's inside helpers. Not compiled into the library.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"
#include "tokenizer/tokenizer.h"

namespace fathom::test {

inline const Tokenizer& nano_tokenizer() {
  static const std::unique_ptr<Tokenizer> t = [] {
    auto made = Tokenizer::load(FATHOM_SOURCE_DIR "/models/nano/tokenizer.json");
    FATHOM_CHECK(made.has_value()) << made.error().message;
    return std::move(made).value();
  }();
  return *t;
}

inline std::shared_ptr<const TokenMasker> masker_of(const Tokenizer& tokenizer) {
  auto made = TokenMasker::create(tokenizer);
  FATHOM_CHECK(made.has_value()) << made.error().message;
  return std::move(made).value();
}

inline const std::shared_ptr<const TokenMasker>& nano_masker() {
  static const std::shared_ptr<const TokenMasker> masker = masker_of(nano_tokenizer());
  return masker;
}

inline constexpr int32_t kNanoEos = 1;

inline Matcher nano_matcher(const std::shared_ptr<const Grammar>& grammar) {
  const int32_t stop[] = {kNanoEos};
  return {grammar, nano_masker(), stop};
}

inline std::shared_ptr<const Grammar> schema_grammar(std::string_view schema,
                                                     const GrammarOptions& options = {}) {
  auto made = compile_json_schema(schema, options);
  FATHOM_CHECK(made.has_value()) << made.error().message << " for " << schema;
  return std::move(made).value();
}

// The token of one byte in nano's vocabulary.
inline int32_t byte_token(uint8_t byte) {
  static const std::vector<int32_t> tokens = [] {
    std::vector<int32_t> out(256, -1);
    for (int32_t id = 0; id < nano_tokenizer().vocab_size(); ++id) {
      const std::string_view bytes = nano_tokenizer().token_bytes(id);
      if (bytes.size() == 1) out[static_cast<uint8_t>(bytes[0])] = id;
    }
    return out;
  }();
  return tokens[byte];
}

inline bool feed(Matcher& matcher, std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return matcher.accept(byte_token(static_cast<uint8_t>(c))); });
}

// The grammar allows exactly this text.
inline bool takes(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Matcher matcher = nano_matcher(grammar);
  return feed(matcher, text) && matcher.complete();
}

inline std::vector<uint64_t> mask_of(Matcher& matcher, const TokenMasker& masker) {
  std::vector<uint64_t> bits(masker.mask_words(), ~uint64_t{0});
  matcher.fill_mask(bits);
  return bits;
}

inline bool has(const std::vector<uint64_t>& bits, int32_t token) {
  return (bits[token / 64] >> (token % 64) & 1) != 0;
}

inline std::vector<int32_t> allowed(const std::vector<uint64_t>& bits) {
  std::vector<int32_t> out;
  for (std::size_t w = 0; w < bits.size(); ++w) {
    for (uint64_t word = bits[w]; word != 0; word &= word - 1)
      out.push_back(static_cast<int32_t>(w * 64) + __builtin_ctzll(word));
  }
  return out;
}

// Every token is in the mask exactly if accept takes it.
inline void expect_mask_is_what_accept_takes(Matcher& matcher, const TokenMasker& masker) {
  const std::vector<uint64_t> bits = mask_of(matcher, masker);
  for (int32_t token = 0; token < masker.vocab_size(); ++token) {
    const bool taken = matcher.accept(token);
    if (taken) matcher.rollback(1);
    ASSERT_EQ(has(bits, token), taken) << "token " << token << " '" << masker.bytes(token) << "'";
  }
}

// Draws uniformly from the masks for `free_tokens`, then heads for the shortest end. Sometimes
// checks the whole mask against accept. Returns the text; "" after a failed assertion.
inline std::string random_walk(const std::shared_ptr<const Grammar>& grammar,
                               std::mt19937_64& random, int free_tokens, bool check_masks) {
  Matcher matcher = nano_matcher(grammar);
  const TokenMasker& masker = *nano_masker();
  std::string text;
  for (int step = 0; step < free_tokens + 2000; ++step) {
    if (check_masks && random() % 32 == 0) {
      expect_mask_is_what_accept_takes(matcher, masker);
      if (::testing::Test::HasFatalFailure()) return "";
    }
    const std::vector<int32_t> tokens = allowed(mask_of(matcher, masker));
    if (tokens.empty()) {
      ADD_FAILURE() << "no token is allowed behind " << text;
      return "";
    }
    int32_t token = tokens[random() % tokens.size()];
    // Half of the time one byte: otherwise words inside strings drown everything else.
    for (int tries = 0; random() % 2 == 0 && tries < 8 && masker.bytes(token).size() > 1; ++tries)
      token = tokens[random() % tokens.size()];
    if (step >= free_tokens) {
      uint64_t fewest = UINT64_MAX;
      for (const int32_t candidate : tokens) {
        if (!matcher.accept(candidate)) continue;
        const uint64_t left = matcher.bytes_to_end();
        if (left < fewest || candidate == kNanoEos) token = candidate;
        fewest = candidate == kNanoEos ? 0 : std::min(fewest, left);
        matcher.rollback(1);
      }
    }
    if (!matcher.accept(token)) {
      ADD_FAILURE() << "the mask allows token " << token << ", accept does not, behind " << text;
      return "";
    }
    if (token == kNanoEos) return text;
    text += masker.bytes(token);
  }
  ADD_FAILURE() << "does not end: " << text.substr(0, 500);
  return "";
}

}  // namespace fathom::test
