// The three ways in which bytes of neighbouring tokens belong together (DecoderKind).
#include "tokenizer/detokenizer.h"

#include <string_view>

#include "base/utf8.h"

namespace fathom {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Moves to `out` what no further byte can change: valid characters and broken ones as U+FFFD.
// Leaves the beginning of a character that may still be completed.
void move_certain_text(std::string& pending, std::string& out) {
  std::size_t i = 0;
  while (i < pending.size()) {
    if (const std::size_t n = utf8_valid_length(pending, i); n != 0) {
      out.append(pending, i, n);
      i += n;
    } else if (utf8_is_incomplete(pending, i)) {
      break;
    } else {
      out += kReplacement;
      i += utf8_invalid_length(pending, i);
    }
  }
  pending.erase(0, i);
}

}  // namespace

void Detokenizer::push(int32_t id, std::string& out) {
  if (!tokenizer_->has_token(id)) return;
  if (skip_special_ && tokenizer_->is_skipped(id)) return;
  const std::string_view bytes = tokenizer_->token_bytes(id);
  switch (tokenizer_->decoder_kind()) {
    case DecoderKind::kByteLevel:
      pending_ += bytes;
      move_certain_text(pending_, out);
      return;
    case DecoderKind::kByteFallback:
      if (tokenizer_->is_fallback_byte(id)) {
        pending_ += bytes;
        return;
      }
      flush_fallback_run(out);
      out += bytes;
      return;
    case DecoderKind::kJoinWithSpaces:
      if (started_) out += ' ';
      started_ = true;
      out += bytes;
      return;
    case DecoderKind::kConcatenate:
      out += bytes;
      return;
  }
}

// A run that is not UTF-8 as a whole becomes one U+FFFD for each of its bytes (the reference's
// rule), so nothing of it is certain before it ends.
void Detokenizer::flush_fallback_run(std::string& out) {
  if (utf8_is_valid(pending_)) {
    out += pending_;
  } else {
    for (std::size_t i = 0; i < pending_.size(); ++i) out += kReplacement;
  }
  pending_.clear();
}

std::string Detokenizer::finish() {
  std::string out;
  if (tokenizer_->decoder_kind() == DecoderKind::kByteFallback) {
    flush_fallback_run(out);
  } else {
    out = utf8_sanitize(pending_);
  }
  pending_.clear();
  started_ = false;
  return out;
}

}  // namespace fathom
