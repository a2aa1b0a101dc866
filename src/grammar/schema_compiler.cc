#include "grammar/schema_compiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/limits.h"
#include "grammar/formats.h"

namespace fathom::grammar {
namespace {

SchemaCompiler::Goal goal_of(std::vector<SchemaId> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// The smaller of two maxima of which a negative one means none.
int64_t tighter(int64_t a, int64_t b) { return a < 0 ? b : b < 0 ? a : std::min(a, b); }

}  // namespace

Error SchemaCompiler::bad(SchemaId at, std::string_view problem) const {
  return invalid_argument(fmt::format("{}: {}: {}", source_, schemas_[at].path, problem));
}

Error SchemaCompiler::over(Error error, SchemaId at, std::string_view keyword) const {
  error.message = fmt::format("{}: {}.{}: {}", source_, schemas_[at].path, keyword, error.message);
  return error;
}

Status SchemaCompiler::spend(std::size_t work) {
  work_ += static_cast<int64_t>(work);
  if (work_ <= limits::kMaxSchemaWork &&
      static_cast<int64_t>(rules_.size()) <= limits::kMaxSchemaRules) {
    return {};
  }
  return resource_limit(
      fmt::format("{}: merging its subschemas takes too many steps or rules (limits: {} and {}); "
                  "use fewer nested allOf, anyOf and $ref",
                  source_, limits::kMaxSchemaWork, limits::kMaxSchemaRules));
}

StateId SchemaCompiler::rule_of(Goal goal, Part part) {
  goal = goal_of(std::move(goal));
  const auto [it, fresh] = rules_.try_emplace({goal, part}, 0);
  if (fresh) {
    it->second = b_.state();
    queue_.push_back({std::move(goal), part, it->second});
  }
  return it->second;
}

Status SchemaCompiler::compile() {
  while (!queue_.empty() && !b_.full()) {
    const Wanted wanted = std::move(queue_.front());
    queue_.pop_front();
    FATHOM_TRY_STATUS(spend(wanted.goal.size() + 1));
    FATHOM_TRY_STATUS(compile_goal(wanted.goal, wanted.part, wanted.start));
  }
  return {};
}

Status SchemaCompiler::compile_goal(const Goal& goal, Part part, StateId start) {
  if (goal.size() == 1) {
    const Schema& s = schemas_[goal[0]];
    const bool refers_only = !s.asserts && s.all_of.empty() && s.any_of.empty() && s.reference;
    if (refers_only) {
      b_.jump(start, rule_of({schemas_.target(*s.reference)}, part));
      return {};
    }
    if (!s.asserts && s.all_of.empty() && !s.reference && s.any_of.size() == 1) {
      for (const SchemaId option : s.any_of[0]) b_.jump(start, rule_of({option}, part));
      return {};
    }
  }
  FATHOM_TRY(const std::vector<Goal> alternatives, alternatives_of(goal));
  for (const Goal& nodes : alternatives) FATHOM_TRY_STATUS(write_alternative(nodes, part, start));
  return {};
}

// Multiplies anyOf out. Each result holds plain schemas: only what they assert themselves counts.
// They stand in the order of the text, a schema before its allOf: so do the properties then.
Result<std::vector<SchemaCompiler::Goal>> SchemaCompiler::alternatives_of(const Goal& goal) {
  struct Partial {
    std::vector<SchemaId> todo;
    std::set<SchemaId> seen;
    std::vector<SchemaId> plain;
    std::vector<const std::vector<SchemaId>*> groups;
    uint8_t types = types::kAll;
  };
  std::set<Goal> found;
  std::vector<Goal> out;
  std::vector<Partial> partials(1);
  partials[0].todo.assign(goal.rbegin(), goal.rend());
  int made = 1;
  while (!partials.empty()) {
    Partial p = std::move(partials.back());
    partials.pop_back();
    while (!p.todo.empty()) {
      const SchemaId id = p.todo.back();
      p.todo.pop_back();
      if (!p.seen.insert(id).second) continue;
      const Schema& s = schemas_[id];
      FATHOM_TRY_STATUS(spend(1 + s.all_of.size() + s.any_of.size()));
      if (s.asserts) p.plain.push_back(id);
      p.types &= s.types;
      p.todo.insert(p.todo.end(), s.all_of.rbegin(), s.all_of.rend());
      if (s.reference) p.todo.push_back(schemas_.target(*s.reference));
      for (const auto& group : s.any_of) p.groups.push_back(&group);
    }
    if (p.types == 0) continue;
    if (p.groups.empty()) {
      if (found.insert(goal_of(p.plain)).second) out.push_back(std::move(p.plain));
      continue;
    }
    const std::vector<SchemaId>& options = *p.groups.back();
    p.groups.pop_back();
    made += static_cast<int>(options.size());
    if (made > limits::kMaxSchemaAlternatives) {
      return resource_limit(
          fmt::format("{}: {}: its anyOfs multiply to more than {} alternatives, expected fewer",
                      source_, schemas_[goal[0]].path, limits::kMaxSchemaAlternatives));
    }
    FATHOM_TRY_STATUS(spend(options.size() * (p.seen.size() + 1)));
    for (auto option = options.rbegin(); option != options.rend(); ++option) {
      partials.push_back(p);
      partials.back().todo.push_back(*option);
    }
  }
  return out;
}

Status SchemaCompiler::write_alternative(const Goal& nodes, Part part, StateId start) {
  if (part == Part::kParameters) return write_parameters_of(nodes, start);
  if (nodes.empty()) {
    b_.jump(start, part == Part::kText       ? parameters_->text_rule()
                   : part == Part::kNoString ? text_.value_but_string_rule()
                                             : text_.value_rule());
    return {};
  }
  uint8_t types = types::kAll;
  if (part == Part::kText) types = types::kString;
  if (part == Part::kNoString) types &= static_cast<uint8_t>(~types::kString);
  bool valued = false;
  for (const SchemaId id : nodes) {
    types &= schemas_[id].types;
    valued = valued || schemas_[id].values.has_value();
  }
  if (valued) return write_values_of(nodes, types, part, start);
  if ((types & types::kNull) != 0) b_.jump(b_.text(start, "null"), b_.end());
  if ((types & types::kBoolean) != 0) {
    b_.jump(b_.text(start, "true"), b_.end());
    b_.jump(b_.text(start, "false"), b_.end());
  }
  if ((types & types::kNumber) != 0) FATHOM_TRY_STATUS(write_number_of(nodes, types, start));
  if ((types & types::kString) != 0) FATHOM_TRY_STATUS(write_string_of(nodes, part, start));
  if ((types & types::kArray) != 0) FATHOM_TRY_STATUS(write_array_of(nodes, start));
  if ((types & types::kObject) != 0) FATHOM_TRY_STATUS(write_object_of(nodes, start));
  return {};
}

Status SchemaCompiler::write_number_of(const Goal& nodes, uint8_t types, StateId start) {
  NumberRange range;
  for (const SchemaId id : nodes) {
    range.intersect(schemas_[id].numbers);
    if (range.multiple_of > limits::kMaxMultipleOf) {
      return bad(
          id, fmt::format("the multipleOfs that meet here ask for multiples of {}, the limit is {}",
                          range.multiple_of, limits::kMaxMultipleOf));
    }
  }
  range.integer = range.integer || (types & types::kFraction) == 0;
  if (range.is_free()) {
    b_.jump(start, range.integer ? text_.integer_rule() : text_.number_rule());
    return {};
  }
  if (auto status = write_number(b_, range, start, b_.end()); !status)
    return over(std::move(status).error(), nodes[0], "maximum");
  return {};
}

Result<CharDfa> SchemaCompiler::string_dfa(const Goal& nodes) {
  CharDfa out = strings_of_length(0, -1);
  std::set<std::string_view> done;
  for (const SchemaId id : nodes) {
    const Schema& s = schemas_[id];
    const auto narrow = [&](std::string_view pattern, std::string_view keyword) -> Status {
      if (!done.insert(pattern).second) return {};
      auto dfa = compile_pattern(pattern, PatternReading::kNarrow, budget_);
      if (!dfa) return over(std::move(dfa).error(), id, keyword);
      auto both = intersection_of(out, *dfa, budget_);
      if (!both) return over(std::move(both).error(), id, keyword);
      out = std::move(both).value();
      return {};
    };
    for (const std::string& pattern : s.patterns) FATHOM_TRY_STATUS(narrow(pattern, "pattern"));
    for (const std::string& name : s.formats)
      FATHOM_TRY_STATUS(narrow(find_format(name).pattern, "format"));
  }
  return out;
}

Status SchemaCompiler::write_string_of(const Goal& nodes, Part part, StateId start) {
  int64_t min = 0;
  int64_t max = -1;
  bool shaped = false;
  for (const SchemaId id : nodes) {
    const Schema& s = schemas_[id];
    min = std::max(min, s.min_length);
    max = tighter(max, s.max_length);
    shaped = shaped || !s.patterns.empty() || !s.formats.empty();
  }
  if (max >= 0 && min > max) return {};
  const bool as_text = part == Part::kText;
  if (!shaped && min == 0 && max < 0) {
    b_.jump(start, as_text ? parameters_->text_rule() : text_.string_rule());
    return {};
  }
  if (!shaped && !as_text) {
    text_.string_of_length(start, min, max, b_.end());
    return {};
  }
  FATHOM_TRY(CharDfa dfa, string_dfa(nodes));
  if (min > 0 || max >= 0) {
    auto both = intersection_of(dfa, strings_of_length(min, max), budget_);
    if (!both) return over(std::move(both).error(), nodes[0], "maxLength");
    dfa = std::move(both).value();
  }
  if (as_text) {
    auto both = intersection_of(dfa, parameters_->texts(), budget_);
    if (!both) return over(std::move(both).error(), nodes[0], "maxLength");
    dfa = std::move(both).value();
  }
  if (dfa.is_empty()) return {};
  if (as_text) {
    text_.text_of(start, dfa, parameters_->end_rule());
  } else {
    text_.string_of(start, dfa, b_.end());
  }
  return {};
}

Status SchemaCompiler::write_array_of(const Goal& nodes, StateId start) {
  std::size_t prefix = 0;
  int64_t min = 0;
  int64_t max = -1;
  for (const SchemaId id : nodes) {
    const Schema& s = schemas_[id];
    prefix = std::max(prefix, s.prefix_items.size());
    min = std::max(min, s.min_items);
    max = tighter(max, s.max_items);
    if (!s.prefix_items.empty() && !s.items) {
      const auto closed = std::max(static_cast<int64_t>(s.prefix_items.size()), s.min_items);
      max = tighter(max, closed);
    }
  }
  for (const SchemaId id : nodes) {
    if (schemas_[id].unique_items && (max < 0 || max > 1))
      return bad(id, "uniqueItems cannot be enforced for more than one item; remove it");
  }
  if (max >= 0 && min > max) return {};
  const auto item_rule = [&](std::size_t i) {
    Goal goal;
    for (const SchemaId id : nodes) {
      const Schema& s = schemas_[id];
      if (i < s.prefix_items.size()) {
        goal.push_back(s.prefix_items[i]);
      } else if (s.items) {
        goal.push_back(*s.items);
      }
    }
    return rule_of(std::move(goal));
  };
  const StateId open = b_.state();
  b_.edge(start, '[', open);
  StateId item = text_.space(open);
  if (min == 0) b_.edge(item, ']', b_.end());
  // Items from this one on are alike.
  const std::size_t alike = std::max({prefix, static_cast<std::size_t>(min), std::size_t{1}});
  for (std::size_t i = 0; (max < 0 || static_cast<int64_t>(i) < max) && !b_.full(); ++i) {
    const StateId behind = b_.state();
    FATHOM_TRY_STATUS(spend(nodes.size()));
    b_.call(item, item_rule(i), behind);
    if (static_cast<int64_t>(i) + 1 >= min) b_.edge(text_.space(behind), ']', b_.end());
    if (max >= 0 && static_cast<int64_t>(i) + 1 == max) break;
    const StateId comma = b_.state();
    b_.edge(behind, ',', comma);
    const StateId next = text_.space(comma);
    if (max < 0 && i == alike) {
      b_.jump(next, item);
      break;
    }
    item = next;
  }
  return {};
}

}  // namespace fathom::grammar
