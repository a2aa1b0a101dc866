// A GGUF file's vocabulary as a TokenizerSpec.
//
// GGUF names a pre-tokenizer instead of describing it; the descriptions here are those of the
// tokenizer.json files that the names stand for, so that a model gives the same ids in both forms.
// An unknown name is an error: a tokenizer that is nearly right is wrong.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "io/gguf_vocab.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom {

// Errors: a model other than "gpt2" (byte-level BPE), an unknown or missing `pre`, merges that are
// not two tokens. What only the whole can tell is for Tokenizer::from_spec. `vocab.model` must not
// be empty.
Result<TokenizerSpec> tokenizer_spec_from_gguf(const GgufVocab& vocab);

// The name that a GGUF file of this tokenizer carries as tokenizer.ggml.pre: that of the
// pre-tokenizer with the spec's normalizer, stages and ignore_merges. nullopt if there is none.
std::optional<std::string_view> gguf_pre_name(const TokenizerSpec& spec);

// The type of a token in tokenizer.ggml.token_type: control for added tokens that are special or
// look like it (<｜User｜>), as converters have it; user-defined for other added tokens.
GgufTokenType gguf_token_type(const AddedTokenSpec& token);

}  // namespace fathom
