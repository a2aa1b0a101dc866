// LogprobSpans: which token belongs to which part of an answer.
//
// Text reaches the client later than its tokens come (stop strings, tags, split characters), and
// some of it never does (tags, the newlines around them, the markup of calls). A token belongs to
// the part in which the first of its bytes came out; one of which none came out belongs to none.
// So the tokens of a part, put together, are its text, up to tokens that cross a border.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sampler.h"

namespace fathom::server::api {

class LogprobSpans {
 public:
  // A token of the answer; `bytes`: what it adds to the text.
  void push(const SampledToken& token, std::string_view bytes);
  // `text` came out, behind all that came out before: its tokens.
  std::vector<SampledToken> take(std::string_view text);
  // A call came out: what is pending is its markup.
  void drop();

 private:
  struct Pending {
    SampledToken token;
    std::size_t bytes;  // of pending_text_, not yet consumed
    bool taken = false;
  };
  void consume(std::size_t bytes, bool take, std::vector<SampledToken>& out);

  std::deque<Pending> pending_;
  std::string text_;  // of the pending tokens
};

}  // namespace fathom::server::api
