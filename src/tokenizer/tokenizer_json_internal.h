// The stages' readers, apart from the model's: private to the two tokenizer_json*.cc files.
//
// Owns nothing; split off so that each file stays short.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/json.h"
#include "tokenizer/tokenizer_spec.h"

namespace fathom::tokenizer_json {

// Each fills its part of `spec` from the object in the field of its name (null: nothing to do).
Status read_normalizer(const JsonReader& top, TokenizerSpec& spec);
Status read_pretokenizer(const JsonReader& top, TokenizerSpec& spec);
Status read_post_processor(const JsonReader& top, TokenizerSpec& spec);
Status read_decoder(const JsonReader& top, TokenizerSpec& spec);

}  // namespace fathom::tokenizer_json
