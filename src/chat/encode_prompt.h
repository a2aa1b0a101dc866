// From a rendered prompt to token ids, without letting users write control tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "chat/chat.h"
#include "tokenizer/tokenizer.h"

namespace fathom {

// Encodes `pieces` as one text, special tokens recognised in markup only: where text that a client
// supplied spells an added token (such as <｜User｜>), it is cut behind its first character and its
// parts are encoded apart, so that it stays plain text.
Result<std::vector<int32_t>> encode_prompt(const Tokenizer& tokenizer,
                                           std::span<const PromptPiece> pieces);

}  // namespace fathom
