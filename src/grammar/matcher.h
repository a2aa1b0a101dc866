// Matcher: how far one answer has come in its grammar, and which tokens may come next.
//
//   Matcher matcher(grammar, masker, stop_tokens);
//   matcher.fill_mask(bits);   // one bit a token: bits[t / 64] >> (t % 64) & 1
//   matcher.accept(token);     // false, and nothing changes, if the mask does not hold it
//
// Stop tokens are allowed exactly when the answer may end; when it can only end, nothing else is.
// Copies are cheap and independent; rollback takes tokens back (both for speculative decoding).
// Masks are shared through the grammar. Deterministic: the same tokens give the same masks,
// whatever else ran. For one thread at a time; matchers of one grammar may run on different
// threads.
//
// An ambiguous grammar may allow several readings of one text. At most kMaxMatcherStacks are
// followed, the first ones: more can then be written than is allowed here, never less.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "grammar/bound_grammar.h"
#include "grammar/grammar.h"
#include "grammar/stacks.h"
#include "grammar/token_masker.h"

namespace fathom {

class Matcher {
 public:
  // `stop_tokens`: those that end an answer; ids outside the vocabulary are left out.
  Matcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenMasker> masker,
          std::span<const int32_t> stop_tokens);

  // Takes the next token. False if the grammar does not allow it; then nothing changes.
  bool accept(int32_t token);
  // `bits`: masker.mask_words() words. All are written.
  void fill_mask(std::span<uint64_t> bits);
  // The answer may end here.
  bool complete() const { return now().ended; }
  // Nothing but a stop token may follow, or one came already.
  bool must_end() const { return now().count == 0; }
  // A stop token was accepted.
  bool stopped() const { return stopped_; }
  // The fewest bytes with which the answer can come to an end.
  uint64_t bytes_to_end() const;

  // Tokens accepted so far, and how many of them rollback() can take back (kMaxMatcherRollback).
  int64_t accepted() const { return accepted_; }
  int64_t can_roll_back() const { return static_cast<int64_t>(history_.size()) - 1; }
  // Takes back the last `tokens` tokens. Requires 0 <= tokens <= can_roll_back().
  void rollback(int64_t tokens);

 private:
  struct Point {  // where the answer stands after a token: configurations begin .. begin + count
    uint64_t begin = 0;
    uint32_t count = 0;
    bool ended = false;
  };
  const Point& now() const { return history_.back(); }
  std::span<const grammar::Config> configs() const {
    return {configs_.data() + (now().begin - dropped_), now().count};
  }
  bool is_stop(int32_t token) const;
  bool step_bytes(grammar::Stepper& stepper, std::string_view bytes, bool added);
  void push(std::span<const grammar::Config> configs, bool ended);

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenMasker> masker_;
  std::shared_ptr<grammar::BoundGrammar> bound_;
  std::vector<int32_t> stop_tokens_;
  grammar::Stacks stacks_;
  std::vector<grammar::Config> configs_;  // of all points in history_, one after the other
  uint64_t dropped_ = 0;                  // configurations that were removed from the front
  std::vector<Point> history_;
  int64_t accepted_ = 0;
  bool stopped_ = false;
};

}  // namespace fathom
