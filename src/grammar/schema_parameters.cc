// Objects as parameters of a call: the named members in order, then, where the object is open,
// others. A member's value is text if it is a string and JSON otherwise, and its tag says which.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "grammar/schema_compiler.h"

namespace fathom::grammar {

// Two states stand between members: `fresh`, where none was written so far, and `later`. A member
// that may be left out lets both pass it by.
Status SchemaCompiler::write_parameters_of(const Goal& nodes, StateId start) {
  for (const SchemaId id : nodes) {
    if (schemas_[id].values)
      return bad(id,
                 "enum and const cannot be enforced for all arguments together; expected them "
                 "in properties");
  }
  FATHOM_TRY(const Object object, object_of(nodes));
  const auto next = [&](StateId later) { return b_.text(later, parameters_->form().between); };
  StateId fresh = start;
  StateId later = b_.state();
  for (const Member& member : object.members) {
    if (b_.full()) return {};
    FATHOM_TRY(const StateId rule, parameter_rule(member, nodes[0]));
    const StateId behind = b_.state();
    b_.call(fresh, rule, behind);
    b_.call(next(later), rule, behind);
    const StateId passed = b_.state();
    if (!member.required) {
      b_.jump(fresh, passed);
      b_.jump(later, behind);
    }
    fresh = passed;
    later = behind;
  }
  if (object.may_be_empty) b_.jump(fresh, b_.end());
  if (!object.others.empty()) {
    FATHOM_TRY(const StateId rule, other_parameters_rule(object.others, nodes[0]));
    const StateId behind = b_.state();
    b_.call(fresh, rule, behind);
    b_.call(next(behind), rule, behind);
    b_.jump(later, behind);
    later = behind;
  }
  b_.jump(later, b_.end());
  return {};
}

// The rule of one parameter with its tags. `object` is named if it cannot be.
Result<StateId> SchemaCompiler::parameter_rule(const Member& member, SchemaId object) {
  if (!parameters_->names().accepts(member.name)) {
    return bad(object, fmt::format("the property {} cannot be written as a parameter; expected a "
                                   "name without quotes, < and control characters",
                                   json_preview(nlohmann::json(member.name))));
  }
  const StateId rule = b_.state();
  const StateId name = b_.state();
  b_.call(rule, parameters_->begin_rule(), name);
  write_parameter_value(member.goal, b_.text(name, member.name));
  return rule;
}

// The rule of one parameter that the schema does not name.
Result<StateId> SchemaCompiler::other_parameters_rule(const std::vector<OtherMembers>& others,
                                                      SchemaId object) {
  const StateId rule = b_.state();
  const StateId name = b_.state();
  b_.call(rule, parameters_->begin_rule(), name);
  for (const OtherMembers& other : others) {
    CharDfa keys = parameters_->names();
    if (!other.any_key) {
      auto both = intersection_of(keys, other.keys, budget_);
      if (!both) return over(std::move(both).error(), object, "properties");
      keys = std::move(both).value();
    }
    const StateId value = b_.state();
    if (!keys.is_empty()) text_.text_of(name, keys, value);
    write_parameter_value(other.goal, value);
  }
  return rule;
}

// What stands behind the name.
void SchemaCompiler::write_parameter_value(const Goal& goal, StateId from) {
  const ToolParameterForm& form = parameters_->form();
  const StateId kind = b_.text(from, form.name_end);
  b_.jump(b_.text(kind, form.text), rule_of(goal, Part::kText));
  b_.call(b_.text(kind, form.json), rule_of(goal, Part::kNoString), parameters_->end_rule());
}

}  // namespace fathom::grammar
