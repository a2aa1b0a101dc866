// Cutting a text into the pieces that byte-pair encoding works on, by a chain of stages.
//
// Each stage cuts every piece of the stage before; a piece is matched as a text of its own (what
// stands beside it is invisible to lookaround). Stages: TokenizerSpec::pretokenizer. Pieces go to a
// callback depth first, so that memory does not grow with the text.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

class Pretokenizer {
 public:
  // Errors: an expression that does not compile, more than kMaxPretokenizerStages stages.
  static Result<Pretokenizer> create(const std::vector<PretokenizerStage>& stages,
                                     std::string_view source);

  // The last stage is ByteLevel and the only such one: pieces are handed out as raw bytes, and
  // whoever takes them must look tokens up by their bytes. Otherwise pieces are text as the model
  // knows it.
  bool emits_bytes() const { return emits_bytes_; }

  // Never empty; valid only during the call.
  using Emit = std::function<Status(std::string_view piece)>;

  // Cuts `text` (valid UTF-8). Errors: a match limit, and whatever `emit` returns. For any number
  // of threads, each with its own scratch.
  Status run(std::string_view text, RegexScratch& scratch, const Emit& emit) const;

 private:
  struct Stage {
    std::vector<Regex> regex;  // one, or none: the piece stays whole
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
    bool add_prefix_space = false;
    bool map_bytes = false;  // to the byte alphabet, after the split
  };
  static Result<Stage> create_stage(const PretokenizerStage& spec, const std::string& where);
  Status run_stage(std::size_t index, std::string_view text, RegexScratch& scratch,
                   const Emit& emit) const;
  Status split(const Stage& stage, std::string_view text, RegexScratch& scratch,
               const Emit& emit) const;

  std::vector<Stage> stages_;
  bool emits_bytes_ = false;
};

}  // namespace fathom
