// Token ids to text, one at a time, as a model emits them.
//
// Owns the bytes of a character that is not complete yet: no push ever returns broken UTF-8, and
// all that is returned, put together, equals Tokenizer::decode of all ids. Does not own stop
// strings or any meaning of tokens.
#pragma once

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace fathom {

// One stream of one thread. The tokenizer must outlive it.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that became certain with this token. An id without a token adds nothing (a model's
  // output is often wider than its vocabulary).
  std::string push(int32_t id) {
    std::string out;
    push(id, out);
    return out;
  }
  // The same, appended to `out`.
  void push(int32_t id, std::string& out);

  // What is left, with U+FFFD for what stayed incomplete. Ready for another stream afterwards.
  std::string finish();

 private:
  void flush_fallback_run(std::string& out);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool started_ = false;  // kJoinWithSpaces: a token came before
  std::string pending_;   // an incomplete character; with kByteFallback, the current run of bytes
};

}  // namespace fathom
