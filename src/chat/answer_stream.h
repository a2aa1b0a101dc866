// AnswerStream: tokens of one answer in, reasoning, content and tool calls out: detokenizer, stop
// strings and output parser in a row.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chat/output_parser.h"
#include "chat/stop_strings.h"
#include "tokenizer/detokenizer.h"

namespace fathom {

class AnswerStream {
 public:
  // `tokenizer` must outlive the stream.
  AnswerStream(const Tokenizer& tokenizer, ChatFamily family, const OutputParserOptions& options,
               std::vector<std::string> stops = {});

  // The events that `token` makes certain. After stopped(), nothing more comes.
  std::vector<OutputEvent> push(int32_t token);
  // What was held back; call once, at the end.
  std::vector<OutputEvent> finish();
  // A stop string came.
  bool stopped() const { return stops_.stopped(); }
  const std::string& stopped_by() const { return stops_.stopped_by(); }

 private:
  Detokenizer detokenizer_;
  StopStrings stops_;
  OutputParser parser_;
};

}  // namespace fathom
