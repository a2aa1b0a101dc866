// The search walks down the sorted list of tokens, halving the range that still agrees with the
// text; no trie is built, so a hostile list costs no more memory than its own bytes.
#include "tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "base/utf8.h"
#include "tokenizer/unicode_data.h"

namespace fathom {
namespace {

// \w of Rust's regex crate (UTS 18, annex C): alphabetic, marks, decimal digits, connectors,
// joiners.
constexpr std::string_view kRustWord =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169})"
    R"(\x{1F170}-\x{1F189}\x{200C}\x{200D}])";

// Where the character that ends before `end` begins. Requires end > 0 and valid UTF-8.
std::size_t previous_char(std::string_view text, std::size_t end) {
  std::size_t i = end - 1;
  while (i > 0 && (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80) --i;
  return i;
}

bool is_white_space_at(std::string_view text, std::size_t i, std::size_t& length) {
  length = utf8_valid_length(text, i);
  return is_white_space(utf8_decode(text, i, length));
}

std::size_t skip_space_back(std::string_view text, std::size_t from, std::size_t floor) {
  while (from > floor) {
    const std::size_t i = previous_char(text, from);
    std::size_t length = 0;
    if (!is_white_space_at(text, i, length)) break;
    from = i;
  }
  return std::max(from, floor);
}

std::size_t skip_space(std::string_view text, std::size_t from) {
  std::size_t length = 0;
  while (from < text.size() && is_white_space_at(text, from, length)) from += length;
  return from;
}

}  // namespace

Result<AddedTokenMatcher> AddedTokenMatcher::create(std::vector<AddedTokenSpec> tokens,
                                                    std::string_view source) {
  AddedTokenMatcher out;
  std::sort(tokens.begin(), tokens.end(),
            [](const auto& a, const auto& b) { return a.content < b.content; });
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto where = [&] {
      return fmt::format("{}: added_tokens: the token {} (id {})", source,
                         json_preview(nlohmann::json(tokens[i].content)), tokens[i].id);
    };
    if (tokens[i].content.empty()) {
      return invalid_argument(where() + " is looked for by no characters, expected at least one");
    }
    if (i > 0 && tokens[i].content == tokens[i - 1].content) {
      return invalid_argument(
          fmt::format("{} is looked for by the same text as id {}, expected "
                      "different texts",
                      where(), tokens[i - 1].id));
    }
  }
  out.tokens_ = std::move(tokens);
  std::size_t next = 0;
  for (std::size_t b = 0; b < 256; ++b) {
    out.first_byte_[b] = next;
    while (next < out.tokens_.size() && static_cast<uint8_t>(out.tokens_[next].content[0]) == b) {
      ++next;
    }
  }
  out.first_byte_[256] = next;
  const bool words = std::any_of(out.tokens_.begin(), out.tokens_.end(),
                                 [](const AddedTokenSpec& t) { return t.single_word; });
  if (words) {
    FATHOM_TRY(Regex word, Regex::compile(kRustWord, "single_word"));
    out.word_.push_back(std::move(word));
  }
  return out;
}

const AddedTokenSpec* AddedTokenMatcher::longest_at(std::string_view text,
                                                    std::size_t begin) const {
  const auto first = static_cast<uint8_t>(text[begin]);
  auto low = tokens_.begin() + static_cast<std::ptrdiff_t>(first_byte_[first]);
  auto high = tokens_.begin() + static_cast<std::ptrdiff_t>(first_byte_[first + 1]);
  const AddedTokenSpec* longest = nullptr;
  for (std::size_t depth = 1; low != high; ++depth) {
    // All of [low, high) agree with the text up to `depth`; one that ends there stands first.
    if (low->content.size() == depth) longest = &*low++;
    if (begin + depth >= text.size()) break;
    const auto byte = static_cast<uint8_t>(text[begin + depth]);
    const auto at = [depth](const AddedTokenSpec& t) {
      return static_cast<uint8_t>(t.content[depth]);
    };
    low = std::partition_point(low, high, [&](const auto& t) { return at(t) < byte; });
    high = std::partition_point(low, high, [&](const auto& t) { return at(t) == byte; });
  }
  return longest;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::next_match(std::string_view text,
                                                                      std::size_t from) const {
  for (std::size_t i = from; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (first_byte_[byte] == first_byte_[byte + 1]) continue;
    if (const auto* token = longest_at(text, i)) return Match{i, i + token->content.size(), token};
  }
  return std::nullopt;
}

bool AddedTokenMatcher::is_word_at(std::string_view text, std::size_t begin,
                                   RegexScratch& scratch) const {
  Regex::Match match;
  const auto character = text.substr(begin, utf8_valid_length(text, begin));
  return word_.front().find(character, 0, scratch, match) == Regex::Outcome::kMatch;
}

bool AddedTokenMatcher::touches_word(std::string_view text, const Match& match,
                                     RegexScratch& scratch) const {
  if (match.begin > 0 && is_word_at(text, previous_char(text, match.begin), scratch)) return true;
  return match.end < text.size() && is_word_at(text, match.end, scratch);
}

void AddedTokenMatcher::find(std::string_view text, bool special_as_text, RegexScratch& scratch,
                             std::vector<Part>& out) const {
  std::size_t done = 0;
  std::size_t space_end = 0;  // where the last swallowed run ends: no run is walked twice
  std::size_t space_begin = 0;
  std::size_t from = 0;
  while (const auto match = next_match(text, from)) {
    from = match->end;
    const AddedTokenSpec& token = *match->token;
    if (special_as_text && token.special) continue;
    if (token.single_word && touches_word(text, *match, scratch)) continue;
    std::size_t begin = match->begin;
    std::size_t end = match->end;
    // A match inside white space that the token before has swallowed begins before `done`.
    if (token.lstrip) begin = std::max(skip_space_back(text, begin, std::min(done, begin)), done);
    if (token.rstrip && (end < space_begin || end > space_end)) {
      space_begin = end;
      space_end = skip_space(text, end);
    }
    if (token.rstrip) end = space_end;
    if (done < begin) out.push_back({done, begin, -1});
    out.push_back({begin, end, token.id});
    done = end;
  }
  if (done != text.size()) out.push_back({done, text.size(), -1});
}

}  // namespace fathom
