// The "format" of strings: patterns for those that can be enforced.
//
// Narrower than the standards where validators differ (years have four digits and do not begin with
// 0, no leap seconds, hosts are ASCII) and where length must end somewhere. Internal to this
// folder.
#pragma once

#include <string_view>

namespace fathom::grammar {

enum class FormatKind {
  kEnforced,     // pattern is set
  kUnsupported,  // a format of JSON Schema that is not enforced
  kAnnotation,   // anything else says nothing about validity
};

struct Format {
  FormatKind kind = FormatKind::kAnnotation;
  std::string_view pattern;
};

Format find_format(std::string_view name);

}  // namespace fathom::grammar
