// TokenMasker: a vocabulary as a trie over the bytes of its tokens, for finding those that a
// grammar allows next.
//
// Two tries stand in one list of nodes: the ordinary tokens, and the added ones (special or not),
// which count as text only where a grammar is in free text. Immutable; built once per tokenizer,
// and any number of threads may use it. Does not own masks (bound_grammar.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

namespace grammar {
class StringTokens;
}

class TokenMasker {
 public:
  // Nodes stand in preorder. The children of a node are those of depth + 1 before its `end`.
  struct Node {
    uint32_t end = 0;     // behind the last node below this one
    uint32_t tokens = 0;  // into tokens(): its tokens end where those of the next node begin
    uint16_t depth = 0;   // bytes from the root; 1 for its children
    uint8_t byte = 0;
  };

  TokenMasker(const TokenMasker&) = delete;
  TokenMasker& operator=(const TokenMasker&) = delete;
  ~TokenMasker();

  // `vocab_size`: the width of masks, at least that of the tokenizer (models pad their output).
  // Copies what it needs. Errors: invalid argument if some byte that text needs has no token of its
  // own, for then an answer could get stuck.
  static Result<std::shared_ptr<const TokenMasker>> create(const Tokenizer& tokenizer,
                                                           int64_t vocab_size = 0);

  int64_t vocab_size() const { return vocab_size_; }
  std::size_t mask_words() const { return static_cast<std::size_t>(vocab_size_ + 63) / 64; }

  // One more node than there are, so that nodes()[i + 1].tokens always exists.
  std::span<const Node> nodes() const { return nodes_; }
  uint32_t ordinary_end() const { return ordinary_end_; }
  uint32_t node_count() const { return static_cast<uint32_t>(nodes_.size() - 1); }
  std::span<const int32_t> tokens() const { return tokens_; }

  // Of a token that masks can allow; empty for others.
  std::string_view bytes(int32_t token) const;
  bool is_added(int32_t token) const;
  // The added token with the longest text that begins `text`; -1 if there is none.
  int32_t added_token_at(std::string_view text) const;

  // What the tokens do inside JSON strings.
  const grammar::StringTokens& string_tokens() const { return *string_tokens_; }

  int64_t memory_bytes() const;

 private:
  TokenMasker();
  struct Entry {
    std::string_view bytes;
    int32_t token;
  };
  void add_trie(std::vector<Entry> entries);

  int64_t vocab_size_ = 0;
  uint32_t ordinary_end_ = 0;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;  // in the order of the nodes
  std::string text_;             // the bytes of all tokens
  std::vector<uint32_t> begin_;  // of each token in text_; one more at the end
  std::vector<bool> added_;
  std::unordered_map<std::string_view, int32_t> added_by_text_;
  std::size_t longest_added_ = 0;
  std::unique_ptr<grammar::StringTokens> string_tokens_;
};

}  // namespace fathom
