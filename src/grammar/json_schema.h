// Grammars for JSON answers: any object, or what a JSON schema asks for.
//
// Every text that such a grammar accepts is JSON and valid by the schema (draft 2020-12): what
// cannot be enforced is an error that names it by path, never ignored. Enforced are type (lists
// too), nullable, enum, const, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf
// (integers), minLength, maxLength, pattern (pattern.h), format (formats.h), properties, required,
// additionalProperties, patternProperties, minProperties (1, or at most as many as are required),
// maxProperties (closed objects with no more properties than that), items, prefixItems, minItems,
// maxItems, allOf, anyOf, oneOf (whose options exclude each other evidently) and $ref within the
// schema, recursion included. nullable is OpenAPI's: null is then allowed as well.
//
// A grammar allows less than its schema in three ways, all so that a model's output stays usual and
// ends: white space and digits are bounded (json_text.h), keys come in the schema's order, and
// objects without additionalProperties take no further keys (schema_compiler.h).
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "grammar/grammar.h"

namespace fathom {

struct GrammarOptions {
  bool compact = false;  // no white space between JSON's pieces
};

// Any JSON object.
Result<std::shared_ptr<const Grammar>> compile_json_object(const GrammarOptions& options = {});

// Errors: invalid argument (not JSON, not a schema, not enforceable, or satisfied by no value);
// resource limit (base/limits.h). At most some 100 ms.
Result<std::shared_ptr<const Grammar>> compile_json_schema(std::string_view schema_json,
                                                           const GrammarOptions& options = {});

}  // namespace fathom
