#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "base/limits.h"
#include "grammar/schema_node.h"

namespace fathom::grammar {
namespace {

constexpr int kMaxDepth = 4;           // of properties, or of anyOf, looked into
constexpr std::size_t kMaxNodes = 16;  // joined by $ref and allOf

class Disjointness {
 public:
  Disjointness(const SchemaSet& schemas, int64_t& work) : schemas_(schemas), work_(work) {}

  bool evident(SchemaId a, SchemaId b, int depth = 0) {
    if (depth > kMaxDepth || ++work_ > limits::kMaxSchemaWork / 10) return false;
    const std::vector<SchemaId> left = joined(a);
    const std::vector<SchemaId> right = joined(b);
    const uint8_t common = types_of(left) & types_of(right);
    if (common == 0) return true;
    if (values_differ(left, right)) return true;
    if ((common & ~types::kNumber) == 0 && ranges_differ(left, right)) return true;
    if (common == types::kObject && tagged(left, right, depth)) return true;
    return options_differ(left, b, depth) || options_differ(right, a, depth);
  }

 private:
  // What holds together with `id`, itself included, without anyOf.
  std::vector<SchemaId> joined(SchemaId id) const {
    std::vector<SchemaId> out = {id};
    for (std::size_t i = 0; i < out.size() && out.size() < kMaxNodes; ++i) {
      const Schema& s = schemas_[out[i]];
      const auto add = [&](SchemaId other) {
        if (std::find(out.begin(), out.end(), other) == out.end()) out.push_back(other);
      };
      for (const SchemaId other : s.all_of) add(other);
      if (s.reference) add(schemas_.target(*s.reference));
    }
    return out;
  }

  static uint8_t type_of(const std::string& value) {
    switch (value[0]) {
      case '"':
        return types::kString;
      case '{':
        return types::kObject;
      case '[':
        return types::kArray;
      case 'n':
        return types::kNull;
      case 't':
      case 'f':
        return types::kBoolean;
      default:
        return types::kNumber;
    }
  }

  uint8_t types_of(const std::vector<SchemaId>& nodes) const {
    uint8_t out = types::kAll;
    for (const SchemaId id : nodes) {
      out &= schemas_[id].types;
      if (!schemas_[id].values) continue;
      uint8_t bits = 0;
      for (const std::string& value : *schemas_[id].values) bits |= type_of(value);
      out &= bits;
    }
    return out;
  }

  // Structured values may be equal with their keys in another order: those are never told apart.
  const std::vector<std::string>* scalars_of(const std::vector<SchemaId>& nodes) const {
    for (const SchemaId id : nodes) {
      const auto& values = schemas_[id].values;
      if (values && std::all_of(values->begin(), values->end(),
                                [](const std::string& v) { return v[0] != '{' && v[0] != '['; })) {
        return &*values;
      }
    }
    return nullptr;
  }

  bool values_differ(const std::vector<SchemaId>& a, const std::vector<SchemaId>& b) {
    const auto* left = scalars_of(a);
    const auto* right = scalars_of(b);
    if (left == nullptr || right == nullptr) return false;
    work_ += static_cast<int64_t>(left->size() + right->size());
    const std::unordered_set<std::string_view> known(left->begin(), left->end());
    return std::none_of(right->begin(), right->end(),
                        [&](const std::string& v) { return known.contains(v); });
  }

  bool ranges_differ(const std::vector<SchemaId>& a, const std::vector<SchemaId>& b) const {
    NumberRange left, right;
    for (const SchemaId id : a) left.intersect(schemas_[id].numbers);
    for (const SchemaId id : b) right.intersect(schemas_[id].numbers);
    const auto before = [](const NumberRange& x, const NumberRange& y) {
      if (!x.high || !y.low) return false;
      const int c = compare(x.high->value, y.low->value);
      return c < 0 || (c == 0 && (x.high->exclusive || y.low->exclusive));
    };
    return before(left, right) || before(right, left);
  }

  // Both require a property whose schemas are disjoint.
  bool tagged(const std::vector<SchemaId>& a, const std::vector<SchemaId>& b, int depth) {
    for (const SchemaId id : a) {
      for (const auto& [name, schema] : schemas_[id].properties) {
        if (++work_ > limits::kMaxSchemaWork / 10) return false;
        if (!requires_name(a, name) || !requires_name(b, name)) continue;
        for (const SchemaId other : b) {
          for (const auto& [other_name, other_schema] : schemas_[other].properties) {
            if (other_name == name && evident(schema, other_schema, depth + 1)) return true;
          }
        }
      }
    }
    return false;
  }
  bool requires_name(const std::vector<SchemaId>& nodes, const std::string& name) const {
    return std::any_of(nodes.begin(), nodes.end(), [&](SchemaId id) {
      const auto& required = schemas_[id].required;
      return std::find(required.begin(), required.end(), name) != required.end();
    });
  }

  // Some anyOf among `nodes` has no option that meets `other`.
  bool options_differ(const std::vector<SchemaId>& nodes, SchemaId other, int depth) {
    for (const SchemaId id : nodes) {
      for (const auto& group : schemas_[id].any_of) {
        if (std::all_of(group.begin(), group.end(),
                        [&](SchemaId option) { return evident(option, other, depth + 1); })) {
          return true;
        }
      }
    }
    return false;
  }

  const SchemaSet& schemas_;
  int64_t& work_;
};

}  // namespace

Status check_one_of(const SchemaSet& schemas, const std::vector<SchemaId>& options,
                    const std::string& where, int64_t& work) {
  if (static_cast<int>(options.size()) > limits::kMaxSchemaOneOf) {
    return resource_limit(fmt::format("{} has {} options, the limit is {}; use anyOf", where,
                                      options.size(), limits::kMaxSchemaOneOf));
  }
  Disjointness disjointness(schemas, work);
  for (std::size_t i = 0; i < options.size(); ++i) {
    for (std::size_t j = i + 1; j < options.size(); ++j) {
      if (disjointness.evident(options[i], options[j])) continue;
      return invalid_argument(fmt::format(
          "{}: options {} and {} may both hold, expected options that exclude each other "
          "by type, by value or by a required property; use anyOf",
          where, i, j));
    }
  }
  return {};
}

}  // namespace fathom::grammar
