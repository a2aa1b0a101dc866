// Text normalisation before anything is split: Unicode normal forms, a prefix, replacements.
//
// Owns the steps of TokenizerSpec::normalizer. Unicode's tables are utf8proc's; where those are
// newer than the `tokenizers` library's, its older ones are followed (normalizer.cc lists the code
// points).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

class Normalizer {
 public:
  static Result<Normalizer> create(const std::vector<NormalizerStep>& steps,
                                   std::string_view source);

  bool empty() const { return steps_.empty(); }

  // The normal form of `text` (valid UTF-8). `storage` holds it where it differs from `text`; the
  // result points into one of the two. Errors: resource limit (an expression's match limit).
  // O(n log n) whatever the text: combining marks are sorted, not bubbled.
  Result<std::string_view> apply(std::string_view text, std::string& storage,
                                 RegexScratch& scratch) const;

 private:
  struct Step {
    NormalizerStep spec;
    std::vector<Regex> regex;  // one for kReplace, else none
  };
  std::vector<Step> steps_;
};

}  // namespace fathom
