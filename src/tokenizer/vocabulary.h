// The tokens by id: contents, decoded bytes, and which are added or special.
//
// Owns the check that ids are sane (no two tokens share one, none is huge). The ids may have holes.
// Does not own how a text becomes ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

class Vocabulary {
 public:
  // Keeps views into `spec`: it must outlive this at its address. Errors: invalid argument, naming
  // the two tokens that disagree; resource limit for ids or contents beyond base/limits.h.
  static Result<Vocabulary> create(const TokenizerSpec& spec, const Normalizer& normalizer);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }  // 1 + largest id
  bool has(int32_t id) const { return id >= 0 && id < size() && tokens_[id].exists; }
  std::optional<int32_t> id_of(std::string_view content) const;
  // Of a hole or an id out of range: "", false, no byte.
  std::string_view content(int32_t id) const;
  std::string_view bytes(int32_t id) const;
  bool is_added(int32_t id) const { return has(id) && tokens_[id].added; }
  bool is_special(int32_t id) const { return has(id) && tokens_[id].special; }
  // Left out by skip_special: special, or of the same text as a special token.
  bool is_skipped(int32_t id) const { return has(id) && tokens_[id].skipped; }
  // The token is a "<0xNN>" of a byte-fallback decoder; bytes() is that byte.
  bool is_fallback_byte(int32_t id) const { return has(id) && tokens_[id].fallback_byte; }

 private:
  struct Token {
    std::string_view content;
    uint32_t bytes_begin = 0;  // into bytes_
    uint32_t bytes_end = 0;
    bool exists = false;
    bool added = false;
    bool special = false;
    bool skipped = false;
    bool fallback_byte = false;
  };
  Status add(std::string_view content, int32_t id, std::string_view field);
  Status add_added(const TokenizerSpec& spec);
  Status decode_all(const TokenizerSpec& spec, const Normalizer& normalizer);

  std::string source_;
  std::vector<Token> tokens_;
  std::string bytes_;  // of all tokens, one after the other
  std::unordered_map<std::string_view, int32_t> ids_;
};

}  // namespace fathom
