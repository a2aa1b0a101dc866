// GgufVocab: what a GGUF file says of its tokenizer, as plain data (keys tokenizer.ggml.*).
//
// Owns the types and ranges of the keys. Does not know what a pre-tokenizer's name means or which
// tokenizers fathom has: tokenizer/gguf_spec.h does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

class GgufMetadata;

// The values of tokenizer.ggml.token_type.
enum class GgufTokenType : int8_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct GgufVocab {
  std::string source;  // the file, for messages
  std::string model;   // "gpt2", "llama", …; "" if the file has no tokenizer
  std::string pre;     // the pre-tokenizer's name; "" if the file does not say
  // Views into the file; any bytes.
  std::vector<std::string_view> tokens;
  std::vector<std::string_view> merges;
  std::vector<GgufTokenType> types;  // empty, or as many as tokens
  std::optional<int64_t> bos, eos, eot, eom;
  std::optional<bool> add_bos, add_eos;
};

// Errors: keys of wrong types, lists of different lengths, ids outside the list of tokens. A file
// whose tokenizer.ggml.model is missing, "no_vocab" or "none" has an empty `model`.
Result<GgufVocab> read_gguf_vocab(const GgufMetadata& metadata);

// Where answers end: eos, eot and eom, and the control tokens that are known by their text to end a
// turn (<|im_end|>, <|eot_id|>, …). Ascending.
std::vector<int64_t> end_token_ids(const GgufVocab& vocab);

}  // namespace fathom
