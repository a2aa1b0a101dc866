// Finding added tokens in a text: leftmost first, of those the longest.
//
// Owns the search and what surrounds a match (whole words, swallowed white space). One matcher
// serves the tokens that are looked for in the raw text, another those looked for in the normalised
// text. Reference: the `tokenizers` library's AddedVocabulary::find_matches.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

class AddedTokenMatcher {
 public:
  // A piece of the text: an added token, or (id < 0) text in between.
  struct Part {
    std::size_t begin;
    std::size_t end;
    int32_t id;
  };

  // Each token is searched by its `content`. Errors: an empty content or one that stands twice.
  static Result<AddedTokenMatcher> create(std::vector<AddedTokenSpec> tokens,
                                          std::string_view source);

  // Appends the parts of `text` (valid UTF-8) in order; none is empty text. With `special_as_text`
  // a match of a special token is text, and nothing is looked for inside it. Time: the length of
  // the text times, at worst, that of the longest token.
  void find(std::string_view text, bool special_as_text, RegexScratch& scratch,
            std::vector<Part>& out) const;

 private:
  struct Match {
    std::size_t begin;
    std::size_t end;
    const AddedTokenSpec* token;
  };
  std::optional<Match> next_match(std::string_view text, std::size_t from) const;
  const AddedTokenSpec* longest_at(std::string_view text, std::size_t begin) const;
  bool is_word_at(std::string_view text, std::size_t begin, RegexScratch& scratch) const;
  bool touches_word(std::string_view text, const Match& match, RegexScratch& scratch) const;

  std::vector<AddedTokenSpec> tokens_;         // sorted by content
  std::array<std::size_t, 257> first_byte_{};  // tokens_[first_byte_[b]..first_byte_[b + 1])
  std::vector<Regex> word_;                    // one if some token is single_word, else none
};

}  // namespace fathom
