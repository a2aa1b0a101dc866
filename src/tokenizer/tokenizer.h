// Text to token ids and back, exactly as the `tokenizers` library does it for byte-pair encoding.
//
// Owns the pipeline: sanitise → cut out added tokens → normalise → cut into pieces → merge →
// template; the steps have their own files. Does not own chat formats (chat/) nor any file format
// (tokenizer_json.h reads one).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

struct EncodeOptions {
  bool add_special_tokens = false;  // run the post-processor (e.g. put BOS first)
  bool special_as_text = false;     // added tokens marked special are split like ordinary text
};

// Immutable once built: any number of threads may call the const methods at once.
class Tokenizer {
 public:
  // Parses tokenizer.json's text; `source` names it in errors.
  static Result<std::unique_ptr<Tokenizer>> from_json(std::string_view text,
                                                      std::string_view source);
  // Reads the file. At most kMaxJsonBytes.
  static Result<std::unique_ptr<Tokenizer>> load(const std::string& tokenizer_json_path);
  // Checks the spec and builds the tables. Errors name spec.source, the field, the value seen and
  // the value expected.
  static Result<std::unique_ptr<Tokenizer>> from_spec(TokenizerSpec spec);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  // The ids of `text`. Invalid UTF-8 is replaced by U+FFFD first (utf8_sanitize).
  // Errors: resource limit (more than kMaxEncodeBytes, or an expression's match limit); invalid
  // argument (the vocabulary's unk_token, needed, has no id).
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      const EncodeOptions& options = {}) const;

  // The text of `ids`: joins bytes, invalid UTF-8 replaced by U+FFFD. Unknown ids are an error.
  // `skip_special` leaves out added tokens marked special.
  Result<std::string> decode(std::span<const int32_t> ids, bool skip_special = false) const;

  int32_t vocab_size() const;  // 1 + largest id
  std::optional<int32_t> token_to_id(std::string_view content) const;
  // The token as the file writes it; "" for holes.
  std::string_view token_content(int32_t id) const;
  // Raw bytes that the token adds to a decoded text; "" for holes.
  std::string_view token_bytes(int32_t id) const;
  bool has_token(int32_t id) const;
  bool is_added(int32_t id) const;
  bool is_special(int32_t id) const;

  // For Detokenizer.
  DecoderKind decoder_kind() const;
  bool is_skipped(int32_t id) const;        // left out by skip_special
  bool is_fallback_byte(int32_t id) const;  // "<0xNN>", with DecoderKind::kByteFallback

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace fathom
