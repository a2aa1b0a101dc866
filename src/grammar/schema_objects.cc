// Objects: the named members in order, then, where the object is open, others.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/limits.h"
#include "grammar/schema_compiler.h"

namespace fathom::grammar {
namespace {

// Keys that the schema does not name may follow.
bool is_open(const Schema& s) {
  return s.additional.has_value() || (s.properties.empty() && s.pattern_properties.empty());
}

}  // namespace

Status SchemaCompiler::write_object_of(const Goal& nodes, StateId start) {
  FATHOM_TRY(const Object object, object_of(nodes));
  if (object.members.empty() && object.others.size() == 1 && object.others[0].any_key &&
      object.others[0].goal.empty() && object.may_be_empty) {
    b_.jump(start, text_.object_rule());
    return {};
  }
  write_members(object, start);
  return {};
}

Result<SchemaCompiler::Object> SchemaCompiler::object_of(const Goal& nodes) {
  std::vector<KeyPattern> patterns;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    for (const auto& [pattern, schema] : schemas_[nodes[n]].pattern_properties) {
      if (static_cast<int>(patterns.size()) == limits::kMaxKeyPatterns) {
        return resource_limit(fmt::format("{}: {}: more than {} patternProperties meet here",
                                          source_, schemas_[nodes[n]].path,
                                          limits::kMaxKeyPatterns));
      }
      KeyPattern made{.node = n, .schema = schema, .narrow = {}, .wide = {}};
      for (const auto reading : {PatternReading::kNarrow, PatternReading::kWide}) {
        auto dfa = compile_pattern(pattern, reading, budget_);
        if (!dfa) return over(std::move(dfa).error(), nodes[n], "patternProperties");
        (reading == PatternReading::kNarrow ? made.narrow : made.wide) = std::move(dfa).value();
      }
      patterns.push_back(std::move(made));
    }
  }
  std::vector<std::string> names;
  std::unordered_set<std::string_view> known, required;
  std::vector<std::unordered_map<std::string_view, SchemaId>> properties(nodes.size());
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    for (const auto& [name, schema] : schemas_[nodes[n]].properties) {
      properties[n].emplace(name, schema);
      if (known.insert(name).second) names.push_back(name);
    }
  }
  for (const SchemaId id : nodes) {
    for (const std::string& name : schemas_[id].required) {
      required.insert(name);
      if (known.insert(name).second) names.push_back(name);
    }
  }
  Object out;
  for (const std::string& name : names) {
    FATHOM_TRY_STATUS(spend(nodes.size() + patterns.size()));
    Member member{.name = name, .goal = {}, .required = required.contains(name)};
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      bool spoken_of = false;
      if (const auto it = properties[n].find(name); it != properties[n].end()) {
        member.goal.push_back(it->second);
        spoken_of = true;
      }
      for (const KeyPattern& pattern : patterns) {
        if (pattern.node != n || !pattern.wide.accepts(name)) continue;
        member.goal.push_back(pattern.schema);
        spoken_of = true;
      }
      const Schema& s = schemas_[nodes[n]];
      if (!spoken_of && s.additional) member.goal.push_back(*s.additional);
    }
    out.members.push_back(std::move(member));
  }
  FATHOM_TRY_STATUS(add_others(nodes, patterns, names, out));
  FATHOM_TRY_STATUS(count_properties(nodes, out));
  return out;
}

Status SchemaCompiler::add_others(const Goal& nodes, const std::vector<KeyPattern>& patterns,
                                  const std::vector<std::string>& names, Object& out) {
  const CharDfa unnamed = all_strings_but(names);
  // Every choice of the patterns that a key matches is a set of keys of its own.
  for (std::size_t choice = 0; choice < std::size_t{1} << patterns.size(); ++choice) {
    OtherMembers other;
    std::vector<bool> spoken_of(nodes.size(), false);
    for (std::size_t p = 0; p < patterns.size(); ++p) {
      if ((choice >> p & 1) == 0) continue;
      other.goal.push_back(patterns[p].schema);
      spoken_of[patterns[p].node] = true;
    }
    bool open = true;
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      if (spoken_of[n]) continue;
      const Schema& s = schemas_[nodes[n]];
      open = open && is_open(s);
      if (s.additional) {
        other.goal.push_back(*s.additional);
        open = open && schemas_[*s.additional].types != 0;
      }
    }
    if (!open) continue;
    // A schema that everything satisfies adds nothing.
    std::erase_if(other.goal, [&](SchemaId id) {
      const Schema& s = schemas_[id];
      return !s.asserts && s.all_of.empty() && s.any_of.empty() && !s.reference;
    });
    other.any_key = names.empty() && patterns.empty();
    if (!other.any_key) other.keys = unnamed;
    for (std::size_t p = 0; p < patterns.size(); ++p) {
      const bool matches = (choice >> p & 1) != 0;
      auto keys = intersection_of(
          other.keys, matches ? patterns[p].narrow : complement_of(patterns[p].wide), budget_);
      if (!keys) return over(std::move(keys).error(), nodes[0], "patternProperties");
      other.keys = std::move(keys).value();
    }
    if (other.any_key || !other.keys.is_empty()) out.others.push_back(std::move(other));
  }
  return {};
}

Status SchemaCompiler::count_properties(const Goal& nodes, Object& out) const {
  const auto required = std::count_if(out.members.begin(), out.members.end(),
                                      [](const Member& m) { return m.required; });
  for (const SchemaId id : nodes) {
    const Schema& s = schemas_[id];
    if (s.min_properties > 0 && required == 0) out.may_be_empty = false;
    if (s.min_properties > std::max<int64_t>(required, 1)) {
      return bad(id,
                 fmt::format("minProperties is {}, expected at most 1 or the number of required "
                             "properties; more cannot be enforced",
                             s.min_properties));
    }
    if (s.max_properties < 0) continue;
    if (s.max_properties == 0 && required == 0) {
      out.members.clear();
      out.others.clear();
    } else if (!out.others.empty() || s.max_properties < static_cast<int64_t>(out.members.size())) {
      return bad(id, fmt::format("maxProperties is {}, which cannot be enforced here; expected a "
                                 "closed object with at most so many properties",
                                 s.max_properties));
    }
  }
  return {};
}

// Before the i-th member three states matter: `fresh`, where none was written so far, `next`,
// behind a comma, and `here`, which both reach and where it is written. A member that may be left
// out lets both pass it by.
void SchemaCompiler::write_members(const Object& object, StateId start) {
  const std::size_t count = object.members.size();
  const StateId open = b_.state();
  b_.edge(start, '{', open);
  StateId fresh = text_.space(open);
  StateId next = b_.state();  // no comma leads before the first
  // Members that may be left out up to the end.
  std::size_t tail = count;
  while (tail > 0 && !object.members[tail - 1].required) --tail;
  const StateId close = b_.state();  // optional white space and the brace
  b_.edge(text_.space(close), '}', b_.end());
  // Behind a member, with `done` members dealt with; a comma leads to `after_comma`.
  const auto behind = [&](std::size_t done, StateId after_comma) {
    const StateId state = b_.state();
    b_.edge(state, ',', after_comma);
    if (done >= tail) b_.jump(state, close);
    return state;
  };
  for (std::size_t i = 0; i < count && !b_.full(); ++i) {
    const Member& member = object.members[i];
    const StateId here = b_.state();
    b_.jump(fresh, here);
    b_.jump(next, here);
    const StateId colon = b_.state();
    b_.edge(text_.quoted(here, member.name), ':', colon);
    const StateId after_fresh = b_.state();
    const StateId after_next = b_.state();
    if (!member.required) {
      b_.jump(fresh, after_fresh);
      b_.jump(next, after_next);
    }
    const StateId after_comma = b_.state();
    b_.jump(text_.space(after_comma), after_next);
    b_.call(text_.space_behind_colon(colon), rule_of(member.goal), behind(i + 1, after_comma));
    fresh = after_fresh;
    next = after_next;
  }
  if (tail == 0 && object.may_be_empty) b_.edge(fresh, '}', b_.end());
  if (object.others.empty()) return;
  const StateId other_comma = b_.state();
  const StateId other = b_.state();
  b_.jump(text_.space(other_comma), other);
  const StateId behind_other = behind(count, other_comma);
  b_.jump(fresh, other);
  b_.jump(next, other);
  for (const OtherMembers& others : object.others) {
    const StateId name = b_.state();
    if (others.any_key) {
      b_.call(other, text_.string_rule(), name);
    } else {
      text_.string_of(other, others.keys, name);
    }
    const StateId colon = b_.state();
    b_.edge(name, ':', colon);
    b_.call(text_.space_behind_colon(colon), rule_of(others.goal), behind_other);
  }
}

}  // namespace fathom::grammar
