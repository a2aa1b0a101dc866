#include "chat/answer_stream.h"

namespace fathom {

AnswerStream::AnswerStream(const Tokenizer& tokenizer, ChatFamily family,
                           const OutputParserOptions& options, std::vector<std::string> stops)
    : detokenizer_(tokenizer, true), stops_(std::move(stops)), parser_(family, options) {}

std::vector<OutputEvent> AnswerStream::push(int32_t token) {
  return parser_.feed(stops_.feed(detokenizer_.push(token)));
}

std::vector<OutputEvent> AnswerStream::finish() {
  std::vector<OutputEvent> events;
  if (!stops_.stopped()) {
    events = parser_.feed(stops_.feed(detokenizer_.finish()));
    const auto held = parser_.feed(stops_.stopped() ? "" : stops_.finish());
    events.insert(events.end(), held.begin(), held.end());
  }
  const auto last = parser_.finish();
  events.insert(events.end(), last.begin(), last.end());
  return events;
}

}  // namespace fathom
