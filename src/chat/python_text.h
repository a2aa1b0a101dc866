// The few things that the published templates ask of Python: json.dumps and the strip family.
//
// Prompts must match what Python printed when the models were trained, down to the spelling of a
// number, so these follow CPython and not a C++ library's own taste.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace fathom::chat {

// json.dumps(value, ensure_ascii=False), which is transformers' `tojson` filter; with indent >= 0
// json.dumps(value, ensure_ascii=False, indent=indent).
std::string python_json(const nlohmann::ordered_json& value, int indent = -1);

// str.strip(): removes Unicode white space at both ends. str.rstrip(): at the end.
std::string_view python_strip(std::string_view text);
std::string_view python_rstrip(std::string_view text);

// text.lstrip('\n'), text.rstrip('\n').
std::string_view strip_leading_newlines(std::string_view text);
std::string_view strip_trailing_newlines(std::string_view text);

}  // namespace fathom::chat
