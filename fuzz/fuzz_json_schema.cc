// Fuzzes the compiler of JSON schemas, and what follows from what it makes.
//
// Input: a schema, then after a zero byte the bytes that choose tokens. Whatever compiles must have
// a token for every step; accept must agree with the masks; the answer, driven to its end, must be
// JSON. With a first byte 'T' the schema is a description of tool calls instead, with 'P' a
// pattern.
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "grammar/constraint.h"
#include "grammar/matcher.h"
#include "grammar/pattern.h"
#include "tokenizer/byte_alphabet.h"

namespace fathom {
namespace {

constexpr int32_t kStop = 300;
constexpr int kMaxFreeSteps = 48;
constexpr int kMaxEndSteps = 4096;

// Bytes, some tokens that cross JSON's pieces, and two added tokens.
const std::shared_ptr<const TokenMasker>& masker() {
  static const std::shared_ptr<const TokenMasker> m = [] {
    TokenizerSpec spec;
    for (int b = 0; b < 256; ++b)
      spec.vocab.push_back({std::string(byte_to_alphabet(static_cast<uint8_t>(b))), b});
    int32_t id = 256;
    for (const char* text :
         {"{\"", "\":",  "\",", "\"}", "},",  "],",   "[[",   "}}",   "\",\"", "\":\"",
          "ab",  "aaaa", "12",  "00",  "\\u", "\\\"", "true", "null", "[{\"", "ĊĊ"}) {
      spec.vocab.push_back({text, id++});
    }
    for (const char* text : {"<call>", "</call>"}) {
      AddedTokenSpec added{id++, text};
      added.special = true;
      spec.added_tokens.push_back(added);
    }
    AddedTokenSpec stop{kStop, "<stop>"};
    stop.special = true;
    spec.added_tokens.push_back(stop);
    spec.pretokenizer.emplace_back(ByteLevelStage{.add_prefix_space = false, .use_regex = false});
    spec.decoder.kind = DecoderKind::kByteLevel;
    const auto tokenizer = Tokenizer::from_spec(std::move(spec));
    FATHOM_CHECK(tokenizer.has_value()) << tokenizer.error().message;
    auto made = TokenMasker::create(**tokenizer);
    FATHOM_CHECK(made.has_value()) << made.error().message;
    return std::move(made).value();
  }();
  return m;
}

std::vector<int32_t> allowed(Matcher& matcher) {
  std::vector<uint64_t> bits(masker()->mask_words());
  matcher.fill_mask(bits);
  std::vector<int32_t> out;
  for (int32_t t = 0; t < masker()->vocab_size(); ++t) {
    if ((bits[t / 64] >> (t % 64) & 1) != 0) out.push_back(t);
  }
  return out;
}

void check_masks(Matcher& matcher) {
  const std::vector<int32_t> tokens = allowed(matcher);
  std::size_t next = 0;
  for (int32_t t = 0; t < masker()->vocab_size(); ++t) {
    const bool in_mask = next < tokens.size() && tokens[next] == t;
    next += in_mask ? 1 : 0;
    const bool taken = matcher.accept(t);
    FATHOM_CHECK_EQ(taken, in_mask) << "token " << t;
    if (taken) matcher.rollback(1);
  }
}

// The token after which the end is nearest.
int32_t towards_the_end(Matcher& matcher, const std::vector<int32_t>& tokens) {
  int32_t best = tokens[0];
  uint64_t fewest = UINT64_MAX;
  for (const int32_t token : tokens) {
    if (token == kStop) return token;
    FATHOM_CHECK(matcher.accept(token));
    if (matcher.bytes_to_end() < fewest) {
      fewest = matcher.bytes_to_end();
      best = token;
    }
    matcher.rollback(1);
  }
  return best;
}

void follow(const std::shared_ptr<const Grammar>& grammar, std::string_view choices, bool json) {
  const int32_t stop[] = {kStop};
  Matcher matcher(grammar, masker(), stop);
  std::string text;
  for (int step = 0; step < kMaxFreeSteps + kMaxEndSteps; ++step) {
    const auto at = static_cast<std::size_t>(step);
    const bool free = at < choices.size() && step < kMaxFreeSteps;
    if (free && static_cast<uint8_t>(choices[at]) % 16 == 0) check_masks(matcher);
    const std::vector<int32_t> tokens = allowed(matcher);
    FATHOM_CHECK(!tokens.empty()) << text;
    const int32_t token = free ? tokens[static_cast<uint8_t>(choices[at]) * 7u % tokens.size()]
                               : towards_the_end(matcher, tokens);
    FATHOM_CHECK(matcher.accept(token)) << text;
    if (token == kStop) {
      FATHOM_CHECK(!json || utf8_is_valid(text));
      FATHOM_CHECK(!json || nlohmann::json::accept(text)) << text;
      return;
    }
    text += masker()->bytes(token);
    if (!free && matcher.bytes_to_end() > kMaxEndSteps / 2) return;
  }
  FATHOM_CHECK(false) << "no end: " << text.substr(0, 300);
}

}  // namespace
}  // namespace fathom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using fathom::ConstraintKind;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.starts_with("P")) {
    fathom::grammar::WorkBudget budget{fathom::limits::kMaxPatternWork};
    const auto dfa = fathom::grammar::compile_pattern(
        input.substr(1), fathom::grammar::PatternReading::kNarrow, budget);
    FATHOM_CHECK(dfa || fathom::utf8_is_valid(dfa.error().message));
    return 0;
  }
  const bool tools = input.starts_with("T");
  if (tools) input.remove_prefix(1);
  const std::string_view text = input.substr(0, input.find('\0'));
  const auto grammar = fathom::compile_constraint(
      tools ? ConstraintKind::kToolCalls : ConstraintKind::kJsonSchema, text);
  if (!grammar) {
    FATHOM_CHECK(fathom::utf8_is_valid(grammar.error().message)) << grammar.error().message;
    return 0;
  }
  fathom::follow(*grammar, input.substr(std::min(text.size() + 1, input.size())), !tools);
  return 0;
}
