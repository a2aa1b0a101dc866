// Reading HuggingFace tokenizer.json into a TokenizerSpec.
//
// Owns the file's schema: which fields exist, their types, and a clear refusal of every component
// that fathom does not implement. Does not check what only the whole can tell (ids, merges):
// from_spec does.
#pragma once

#include <string_view>

#include "base/result.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

// `text`: the file's content; `source` names it in errors. Errors: invalid argument, naming the
// field, the value seen and the value expected.
//
// "truncation" and "padding" are left aside: they belong to batches of training examples, and every
// caller of the file in practice switches them off.
Result<TokenizerSpec> parse_tokenizer_json(std::string_view text, std::string_view source);

}  // namespace fathom
