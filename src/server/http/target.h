// The target of a request line, taken apart: path segments and query, decoded and checked.
//
// Owns percent-decoding and the refusal of what could mean two things: "..", an encoded slash,
// NUL, broken escapes, text that is not UTF-8. Does not know any route.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fathom::server {

struct Target {
  bool asterisk = false;              // "*", for OPTIONS
  std::string authority;              // of an absolute form ("http://host:port/…"); else empty
  std::string path;                   // decoded, begins with '/'
  std::vector<std::string> segments;  // of the path, decoded: "/v1/models" -> {"v1", "models"}
  std::vector<std::pair<std::string, std::string>> queries;
};

// Origin form, absolute form with http or https, and "*". Errors: kInvalidArgument.
Result<Target> parse_target(std::string_view target);

}  // namespace fathom::server
