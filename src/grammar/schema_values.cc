// enum and const: fixed values. Scalars share their beginnings in a trie, so that a thousand of
// them are still one reading of the text.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "base/json.h"
#include "grammar/schema_compiler.h"

namespace fathom::grammar {

using nlohmann::ordered_json;

namespace {

uint8_t type_of(const ordered_json& value) {
  if (value.is_null()) return types::kNull;
  if (value.is_boolean()) return types::kBoolean;
  if (value.is_string()) return types::kString;
  return value.is_array() ? types::kArray : types::kObject;
}

bool is_number(const std::string& text) {
  return text[0] == '-' || (text[0] >= '0' && text[0] <= '9');
}

int64_t character_count(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

bool is_structured(const std::string& text) { return text[0] == '{' || text[0] == '['; }

// Equal for values that JSON Schema calls equal.
std::string canonical(const std::string& text) {
  return is_structured(text) ? nlohmann::json::parse(text).dump() : text;
}

}  // namespace

Result<bool> SchemaCompiler::satisfies(const ordered_json& value, const Goal& nodes,
                                       uint8_t types) {
  if ((types & type_of(value)) == 0) return false;
  for (const SchemaId id : nodes) {
    const Schema& s = schemas_[id];
    if (value.is_string()) {
      const int64_t length = character_count(value.get_ref<const std::string&>());
      if (length < s.min_length || (s.max_length >= 0 && length > s.max_length)) return false;
    } else if (value.is_object()) {
      if (!s.properties.empty() || !s.pattern_properties.empty() || !s.required.empty() ||
          s.additional || s.min_properties > 0 || s.max_properties >= 0) {
        return bad(id,
                   "an object in enum or const meets other keywords for objects, expected "
                   "either the one or the others");
      }
    } else if (value.is_array()) {
      if (!s.prefix_items.empty() || s.items || s.min_items > 0 || s.max_items >= 0 ||
          s.unique_items) {
        return bad(id,
                   "an array in enum or const meets other keywords for arrays, expected either "
                   "the one or the others");
      }
    }
  }
  return true;
}

bool SchemaCompiler::number_satisfies(const std::string& text, const Goal& nodes,
                                      uint8_t types) const {
  const auto decimal = parse_decimal(text);
  if (!decimal) return false;
  if ((types & (decimal->fraction.empty() ? types::kInteger : types::kFraction)) == 0) return false;
  NumberRange range;
  for (const SchemaId id : nodes) {
    range.intersect(schemas_[id].numbers);
    // Not of the joined range: a common multiple may be too large.
    int64_t rest = 0;
    for (const char digit : decimal->whole)
      rest = (rest * 10 + digit - '0') % schemas_[id].numbers.multiple_of;
    if (rest != 0) return false;
    range.multiple_of = 1;
  }
  return range.contains(*decimal);
}

// The texts of the enums and consts that all of `nodes` know.
Result<std::vector<std::string>> SchemaCompiler::common_values(const Goal& nodes) {
  std::vector<std::string> values;
  bool first = true;
  for (const SchemaId id : nodes) {
    const Schema& s = schemas_[id];
    if (!s.values) continue;
    FATHOM_TRY_STATUS(spend(s.values->size()));
    if (first) {
      values = *s.values;
    } else {
      std::unordered_set<std::string> allowed;
      for (const std::string& value : *s.values) allowed.insert(canonical(value));
      std::erase_if(values, [&](const auto& v) { return !allowed.contains(canonical(v)); });
    }
    first = false;
  }
  return values;
}

// `types` are those of `part`.
Status SchemaCompiler::write_values_of(const Goal& nodes, uint8_t types, Part part, StateId start) {
  FATHOM_TRY(const std::vector<std::string> values, common_values(nodes));
  std::optional<CharDfa> shape;
  for (const SchemaId id : nodes) {
    if (schemas_[id].patterns.empty() && schemas_[id].formats.empty()) continue;
    FATHOM_TRY(shape, string_dfa(nodes));
    break;
  }
  std::map<std::pair<StateId, char>, StateId> trie;
  for (const std::string& text : values) {
    // Numbers beyond 64 bits are kept as text, which no parser must touch.
    const bool number = is_number(text);
    const ordered_json value = number ? ordered_json() : ordered_json::parse(text);
    if (number) {
      if (!number_satisfies(text, nodes, types)) continue;
    } else {
      FATHOM_TRY(const bool good, satisfies(value, nodes, types));
      if (!good) continue;
      if (shape && value.is_string() && !shape->accepts(value.get_ref<const std::string&>()))
        continue;
    }
    if (is_structured(text)) {
      b_.jump(write_value(value, start), b_.end());
      continue;
    }
    if (part == Part::kText && !parameters_->texts().accepts(value.get_ref<const std::string&>()))
      return bad(nodes[0], fmt::format("{} cannot be the value of a parameter, which ends at a tag",
                                       json_preview(nlohmann::json(value))));
    StateId at = start;
    for (const char byte : part == Part::kText ? value.get_ref<const std::string&>() : text) {
      const auto [it, fresh] = trie.try_emplace({at, byte}, 0);
      if (fresh) {
        it->second = b_.state();
        b_.edge(at, byte, it->second);
      }
      at = it->second;
    }
    b_.jump(at, part == Part::kText ? parameters_->end_rule() : b_.end());
  }
  return {};
}

// Recursion is bounded by the depth of the schema's text.
StateId SchemaCompiler::write_value(const ordered_json& value, StateId from) {
  if (b_.full()) return from;
  if (!value.is_structured()) return b_.text(from, value.dump());
  const bool object = value.is_object();
  const StateId open = b_.state();
  b_.edge(from, object ? '{' : '[', open);
  StateId at = text_.space(open);
  bool first = true;
  for (const auto& [name, inner] : value.items()) {
    if (!first) {
      const StateId comma = b_.state();
      b_.edge(at, ',', comma);
      at = text_.space(comma);
    }
    first = false;
    if (object) {
      const StateId colon = b_.state();
      b_.edge(text_.quoted(at, name), ':', colon);
      at = text_.space_behind_colon(colon);
    }
    at = write_value(inner, at);
  }
  const StateId close = b_.state();
  b_.edge(first ? at : text_.space(at), object ? '}' : ']', close);
  return close;
}

}  // namespace fathom::grammar
