// SchemaCompiler: schemas to rules of a grammar.
//
// The unit is a goal: a set of schemas that must hold at once, which is what allOf, $ref with
// neighbours, and properties of merged objects come to. A goal's anyOfs are multiplied out into
// alternatives, each a set of plain schemas that is merged keyword by keyword. Goals are compiled
// once each, from a queue, so recursion in a schema is recursion among rules.
//
// Choices where JSON Schema leaves more open than a generator should:
//  - Named properties come in the order of the schema. Other keys follow them if the object is
//  open:
//    additionalProperties is given and not false, or there are no properties at all. (By the
//    standard, an object without additionalProperties is open. Answers then stay valid; they only
//    have no keys that nobody asked for.) Likewise prefixItems without items.
//  - A schema without type that speaks of one kind of value (properties, minLength, …) is of that
//    type.
// A key that follows the named ones may come twice: that JSON Schema does not exclude it, and no
// automaton can.
//
// Internal to this folder.
#pragma once

#include <deque>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "grammar/char_dfa.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_text.h"
#include "grammar/parameter_text.h"
#include "grammar/pattern.h"
#include "grammar/schema_node.h"

namespace fathom::grammar {

class SchemaCompiler {
 public:
  // All arguments must outlive this. `parameters` is needed for kText and kParameters only.
  SchemaCompiler(GrammarBuilder& builder, JsonText& text, const SchemaSet& schemas,
                 WorkBudget& budget, std::string_view source, ParameterText* parameters = nullptr)
      : b_(builder),
        text_(text),
        schemas_(schemas),
        budget_(budget),
        source_(source),
        parameters_(parameters) {}

  using Goal = std::vector<SchemaId>;  // each once; sorted where it is a key

  // Which of a goal's values a rule holds, and how it writes them.
  enum class Part : uint8_t {
    kJson,        // all, as JSON
    kNoString,    // all but strings, as JSON
    kText,        // the strings as they are, with the end of a parameter behind
    kParameters,  // the objects, a parameter for each member
  };

  // The start of the rule for values that satisfy all of `goal`. compile() must follow.
  StateId rule_of(Goal goal, Part part = Part::kJson);
  // Writes the rules that were asked for, and those that they need.
  Status compile();

 private:
  struct Member {
    std::string name;
    Goal goal;
    bool required = false;
  };
  struct OtherMembers {  // keys that the schema does not name
    bool any_key = false;
    CharDfa keys;  // unless any_key
    Goal goal;
  };
  struct KeyPattern {
    std::size_t node = 0;  // of the alternative
    SchemaId schema = 0;
    CharDfa narrow;
    CharDfa wide;
  };
  struct Object {
    std::vector<Member> members;
    std::vector<OtherMembers> others;
    bool may_be_empty = true;
  };

  Error bad(SchemaId at, std::string_view problem) const;
  Error over(Error error, SchemaId at, std::string_view keyword) const;
  Status spend(std::size_t work);

  Status compile_goal(const Goal& goal, Part part, StateId start);
  Result<std::vector<Goal>> alternatives_of(const Goal& goal);
  Status write_alternative(const Goal& nodes, Part part, StateId start);

  Status write_number_of(const Goal& nodes, uint8_t types, StateId start);
  Status write_string_of(const Goal& nodes, Part part, StateId start);
  Result<CharDfa> string_dfa(const Goal& nodes);
  Status write_array_of(const Goal& nodes, StateId start);

  // schema_objects.cc
  Status write_object_of(const Goal& nodes, StateId start);
  Result<Object> object_of(const Goal& nodes);
  Status add_others(const Goal& nodes, const std::vector<KeyPattern>& patterns,
                    const std::vector<std::string>& names, Object& out);
  Status count_properties(const Goal& nodes, Object& out) const;
  void write_members(const Object& object, StateId start);

  // schema_parameters.cc
  Status write_parameters_of(const Goal& nodes, StateId start);
  Result<StateId> parameter_rule(const Member& member, SchemaId object);
  Result<StateId> other_parameters_rule(const std::vector<OtherMembers>& others, SchemaId object);
  void write_parameter_value(const Goal& goal, StateId from);

  // schema_values.cc
  Result<std::vector<std::string>> common_values(const Goal& nodes);
  Status write_values_of(const Goal& nodes, uint8_t types, Part part, StateId start);
  Result<bool> satisfies(const nlohmann::ordered_json& value, const Goal& nodes, uint8_t types);
  bool number_satisfies(const std::string& text, const Goal& nodes, uint8_t types) const;
  StateId write_value(const nlohmann::ordered_json& value, StateId from);

  GrammarBuilder& b_;
  JsonText& text_;
  const SchemaSet& schemas_;
  WorkBudget& budget_;
  std::string source_;
  ParameterText* parameters_;
  struct Wanted {
    Goal goal;
    Part part = Part::kJson;
    StateId start = 0;
  };
  std::map<std::pair<Goal, Part>, StateId> rules_;
  std::deque<Wanted> queue_;
  int64_t work_ = 0;
};

}  // namespace fathom::grammar
