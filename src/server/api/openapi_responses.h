// The schemas of responses, as JSON text. Internal to openapi.cc and its test.
#pragma once

#include <string_view>

namespace fathom::server::api {

// An object: component → schema.
std::string_view response_schemas();

}  // namespace fathom::server::api
