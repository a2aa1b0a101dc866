// StringTokens: what each token of a vocabulary does inside a free JSON string.
//
// Depends on the vocabulary alone, so it is found once, and a mask inside a string of any grammar
// is then put together from it instead of walking the whole trie: with lengths limited, every
// position in the string needs a mask of its own. Internal to this folder; kept by TokenMasker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom {
class TokenMasker;
}

namespace fathom::grammar {

struct WalkResult;

class StringTokens {
 public:
  explicit StringTokens(const TokenMasker& masker);

  // The mask before a character of a string to which `min_left` to `max_left` (< 0: any number of)
  // characters may be added, and where its tokens leave the string.
  WalkResult mask(int64_t min_left, int64_t max_left) const;

  int64_t memory_bytes() const;

 private:
  // Tokens of more characters are listed one by one; of fewer, all masks are kept.
  static constexpr uint32_t kMaxMasked = 24;

  struct LongToken {
    int32_t token = 0;
    uint32_t characters = 0;
  };
  struct Exit {
    uint32_t node = 0;        // of the trie, the closing quote
    uint32_t characters = 0;  // before it
  };
  void add(int32_t token, uint32_t characters);

  const TokenMasker& masker_;
  // within_[n]: the tokens that stay in the string and begin at most n characters.
  std::vector<std::vector<uint64_t>> within_;
  std::vector<LongToken> long_tokens_;
  std::vector<Exit> exits_;
};

}  // namespace fathom::grammar
