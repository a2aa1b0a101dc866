// A text as the windows of tokens that `fathom perplexity` and `fathom imatrix` run through a
// model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/app.h"

namespace fathom {

// --file, --ctx, --windows and --special.
struct TextWindowFlags {
  std::string file;
  int64_t ctx = 512;
  int64_t windows = 0;  // 0 = all
  bool special = false;
  void add_to(CLI::App& command);
};

// The text cut into windows of ctx tokens, each behind a begin token if the model has one; windows
// of fewer than two tokens are left out. Errors: no such file, one beyond limits::kMaxPromptBytes,
// no tokenizer, no window at all.
Result<std::vector<std::vector<int32_t>>> read_text_windows(const LoadedModel& model,
                                                            const TextWindowFlags& flags);

// How well the logits of windows predict their tokens.
class TextScore {
 public:
  // What score_tokens hands its sink for one window: every token but the first is predicted from
  // those before it.
  void add(const std::vector<int32_t>& tokens, int64_t first, const TensorView& logits);

  int64_t tokens() const { return count_; }
  double perplexity() const;
  double standard_error() const;  // of the perplexity

 private:
  double total_ = 0, squares_ = 0;  // of −log p
  int64_t count_ = 0;
};

}  // namespace fathom
