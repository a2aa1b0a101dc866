#include "chat/encode_prompt.h"

#include <algorithm>
#include <set>

#include "base/utf8.h"

namespace fathom {
namespace {

// Appends to `cuts` the offsets (from `base`) behind the first character of every added token that
// stands in `text`. True if there was one.
Result<bool> find_cuts(const Tokenizer& tokenizer, std::string_view text, std::size_t base,
                       std::vector<std::size_t>& cuts) {
  FATHOM_TRY(const std::vector<int32_t> ids, tokenizer.encode(text));
  std::set<int32_t> added;
  for (const int32_t id : ids)
    if (tokenizer.is_added(id)) added.insert(id);
  bool found = false;
  for (const int32_t id : added) {
    const std::string_view token = tokenizer.token_content(id);
    for (std::size_t at = text.find(token); at != std::string_view::npos;
         at = text.find(token, at + 1)) {
      const std::size_t first = std::max<std::size_t>(utf8_valid_length(text, at), 1);
      // A token of one character cannot be cut; it stands for itself in any case.
      if (first >= token.size()) continue;
      cuts.push_back(base + at + first);
      found = true;
    }
  }
  return found;
}

// All cuts within one piece of client text that begins at `base` of the prompt.
Status cut_client_text(const Tokenizer& tokenizer, std::string_view text, std::size_t base,
                       std::vector<std::size_t>& cuts) {
  // Cutting one token can let another appear that it overlapped, hence the repetition.
  constexpr int kMaxPasses = 8;
  std::vector<std::size_t> own;
  for (int pass = 0; pass < kMaxPasses; ++pass) {
    std::sort(own.begin(), own.end());
    std::vector<std::size_t> more;
    bool found = false;
    std::size_t begin = 0;
    for (std::size_t i = 0; i <= own.size(); ++i) {
      const std::size_t end = i < own.size() ? own[i] : text.size();
      FATHOM_TRY(const bool here,
                 find_cuts(tokenizer, text.substr(begin, end - begin), begin, more));
      found = found || here;
      begin = end;
    }
    if (!found) {
      for (const std::size_t cut : own) cuts.push_back(base + cut);
      return {};
    }
    own.insert(own.end(), more.begin(), more.end());
  }
  return invalid_argument("a message spells control tokens nested in each other; remove them");
}

}  // namespace

Result<std::vector<int32_t>> encode_prompt(const Tokenizer& tokenizer,
                                           std::span<const PromptPiece> pieces) {
  std::string text;
  std::vector<std::size_t> cuts;
  for (const PromptPiece& piece : pieces) {
    if (!piece.markup) FATHOM_TRY_STATUS(cut_client_text(tokenizer, piece.text, text.size(), cuts));
    text += piece.text;
  }
  cuts.push_back(text.size());
  std::sort(cuts.begin(), cuts.end());
  std::vector<int32_t> ids;
  std::size_t begin = 0;
  for (const std::size_t end : cuts) {
    FATHOM_TRY(const std::vector<int32_t> part,
               tokenizer.encode(std::string_view(text).substr(begin, end - begin)));
    ids.insert(ids.end(), part.begin(), part.end());
    begin = end;
  }
  return ids;
}

}  // namespace fathom
