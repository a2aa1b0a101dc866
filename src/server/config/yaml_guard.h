// What a YAML text must be before yaml-cpp may see it: small, shallow and plain.
//
// Owns the bounds against YAML bombs. fathom.yaml needs maps, lists and one-line scalars; anchors,
// aliases, tags, directives, block texts and several documents are refused, so that the parsed tree
// is never larger than the text.
#pragma once

#include <string_view>

#include "base/result.h"

namespace fathom::server {

// Errors begin with "<source>:<line>: ".
Status check_yaml(std::string_view text, std::string_view source);

}  // namespace fathom::server
