#include "grammar/json_schema.h"

#include "base/limits.h"
#include "grammar/schema_compiler.h"

namespace fathom {

using grammar::GrammarBuilder;
using grammar::JsonText;
using grammar::StateId;

Result<std::shared_ptr<const Grammar>> compile_json_object(const GrammarOptions& options) {
  GrammarBuilder builder;
  JsonText text(builder, options.compact);
  const StateId start = builder.state();
  builder.jump(text.space_at_begin(start), text.object_rule());
  return std::move(builder).build(start, "any JSON object");
}

Result<std::shared_ptr<const Grammar>> compile_json_schema(std::string_view schema_json,
                                                           const GrammarOptions& options) {
  constexpr std::string_view kSource = "JSON schema";
  FATHOM_TRY(const grammar::SchemaSet schemas, grammar::SchemaSet::parse(schema_json, kSource));
  GrammarBuilder builder;
  JsonText text(builder, options.compact);
  grammar::WorkBudget budget{limits::kMaxPatternWork};
  grammar::SchemaCompiler compiler(builder, text, schemas, budget, kSource);
  const StateId start = builder.state();
  builder.jump(text.space_at_begin(start), compiler.rule_of({schemas.root()}));
  FATHOM_TRY_STATUS(compiler.compile());
  return std::move(builder).build(start, kSource);
}

}  // namespace fathom
