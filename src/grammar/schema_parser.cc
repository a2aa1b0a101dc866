#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "grammar/formats.h"
#include "grammar/schema_node.h"

namespace fathom::grammar {

using nlohmann::ordered_json;

namespace {

std::string preview(const ordered_json& value) {
  if (value.is_binary()) return "an integer of more than 64 bits";
  return json_preview(nlohmann::json(value));
}

// The number as the text spelled it: integers beyond 64 bits arrive as their digits.
std::string number_text(const ordered_json& value) {
  if (!value.is_binary()) return value.dump();
  return {value.get_binary().begin(), value.get_binary().end()};
}

bool is_number(const ordered_json& value) { return value.is_number() || value.is_binary(); }

std::optional<uint8_t> type_bit(std::string_view name) {
  if (name == "null") return types::kNull;
  if (name == "boolean") return types::kBoolean;
  if (name == "integer") return types::kInteger;
  if (name == "number") return types::kNumber;
  if (name == "string") return types::kString;
  if (name == "array") return types::kArray;
  if (name == "object") return types::kObject;
  return std::nullopt;
}

// A member's path: $.properties.x, or $.properties["x y"].
std::string member(const std::string& path, std::string_view key) {
  const bool plain = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '$' || c == '-';
  });
  if (plain && key.size() <= 100) return path + "." + std::string(key);
  return path + "[" + json_preview(nlohmann::json(key)) + "]";
}

}  // namespace

class SchemaParser {
 public:
  SchemaParser(const ordered_json& root, std::string_view source) : root_(root), source_(source) {}

  Result<SchemaSet> parse() {
    const ordered_json object = {{"type", "object"}};
    FATHOM_TRY(out_.any_object_, schema(object, "$"));
    FATHOM_TRY(out_.root_, schema(root_, "$"));
    for (std::size_t i = 0; i < references_.size(); ++i) {
      const auto [target, path] = references_[i];
      FATHOM_TRY(const SchemaId id, schema(*target, path));
      out_.targets_.push_back(id);
    }
    int64_t work = 0;
    for (const auto& [path, options] : one_of_)
      FATHOM_TRY_STATUS(check_one_of(out_, options, source_ + ": " + path, work));
    return std::move(out_);
  }

 private:
  struct Context {  // of the keyword being read
    Schema& schema;
    const ordered_json& value;
    std::string path;  // of the keyword
    std::string& key;  // of the schema: equal ones are one
    uint8_t& hinted;   // types that keywords speak of
  };
  using Handler = Status (SchemaParser::*)(Context&);

  Error bad(const std::string& path, std::string_view seen, std::string_view expected) const {
    return invalid_argument(
        fmt::format("{}: {} is {}, expected {}", source_, path, seen, expected));
  }
  Error bad(const Context& c, std::string_view expected) const {
    return bad(c.path, preview(c.value), expected);
  }

  // The id of `value`, a schema. Recursion is bounded by the depth of the JSON text.
  Result<SchemaId> schema(const ordered_json& value, const std::string& path) {
    if (const auto it = seen_.find(&value); it != seen_.end()) return it->second;
    Schema made;
    made.path = path;
    std::string key;
    if (value.is_boolean()) {
      if (!value.get<bool>()) made.types = 0;
      made.asserts = !value.get<bool>();
      key = value.get<bool>() ? "true" : "false";
    } else if (value.is_object()) {
      FATHOM_TRY_STATUS(keywords(value, path, made, key));
    } else {
      return bad(path, preview(value), "a schema: an object, true or false");
    }
    const auto [it, fresh] = ids_.emplace(key, static_cast<SchemaId>(out_.schemas_.size()));
    if (fresh) out_.schemas_.push_back(std::move(made));
    seen_.emplace(&value, it->second);
    return it->second;
  }

  Status keywords(const ordered_json& value, const std::string& path, Schema& made,
                  std::string& key) {
    uint8_t hinted = 0;
    bool typed = false;
    bool nullable = false;
    for (const auto& [name, content] : value.items()) {
      const auto it = handlers().find(name);
      if (it == handlers().end()) continue;
      key += name;
      key += '=';
      Context context{made, content, member(path, name), key, hinted};
      FATHOM_TRY_STATUS((this->*it->second)(context));
      key += ';';
      typed = typed || name == "type";
      nullable = nullable || (name == "nullable" && content.is_boolean() && content.get<bool>());
    }
    if (!typed && hinted != 0) made.types = hinted;
    if (nullable) made.types |= types::kNull;
    made.asserts = made.types != types::kAll || made.values.has_value() || hinted != 0;
    return {};
  }

  // Keywords that are enforced, or refused because ignoring them would let wrong answers through.
  static const std::unordered_map<std::string_view, Handler>& handlers() {
    using P = SchemaParser;
    static const std::unordered_map<std::string_view, Handler> all = {
        {"type", &P::read_type},
        {"nullable", &P::read_nullable},
        {"enum", &P::read_enum},
        {"const", &P::read_const},
        {"minimum", &P::read_bound},
        {"maximum", &P::read_bound},
        {"exclusiveMinimum", &P::read_bound},
        {"exclusiveMaximum", &P::read_bound},
        {"multipleOf", &P::read_multiple_of},
        {"minLength", &P::read_count},
        {"maxLength", &P::read_count},
        {"minItems", &P::read_count},
        {"maxItems", &P::read_count},
        {"minProperties", &P::read_count},
        {"maxProperties", &P::read_count},
        {"uniqueItems", &P::read_unique_items},
        {"pattern", &P::read_pattern},
        {"format", &P::read_format},
        {"properties", &P::read_properties},
        {"patternProperties", &P::read_properties},
        {"required", &P::read_required},
        {"additionalProperties", &P::read_additional},
        {"prefixItems", &P::read_prefix_items},
        {"items", &P::read_items},
        {"allOf", &P::read_all_of},
        {"anyOf", &P::read_any_of},
        {"oneOf", &P::read_any_of},
        {"$ref", &P::read_reference},
        {"not", &P::refuse},
        {"if", &P::refuse},
        {"contains", &P::refuse},
        {"dependentRequired", &P::refuse},
        {"dependentSchemas", &P::refuse},
        {"dependencies", &P::refuse},
        {"propertyNames", &P::refuse},
        {"unevaluatedProperties", &P::refuse_unless_true},
        {"unevaluatedItems", &P::refuse_unless_true},
        {"additionalItems", &P::refuse_unless_true},
        {"$dynamicRef", &P::refuse},
        {"$recursiveRef", &P::refuse},
    };
    return all;
  }

  Status refuse(Context& c) {
    return invalid_argument(fmt::format(
        "{}: {} is not supported and ignoring it would let invalid answers through; remove it",
        source_, c.path));
  }
  Status refuse_unless_true(Context& c) {
    if (c.value.is_boolean() && c.value.get<bool>()) return {};
    return refuse(c);
  }

  Status read_type(Context& c) {
    uint8_t bits = 0;
    const auto add = [&](const ordered_json& name) {
      const auto bit =
          name.is_string() ? type_bit(name.get_ref<const std::string&>()) : std::nullopt;
      if (bit) bits |= *bit;
      return bit.has_value();
    };
    bool good = c.value.is_string() ? add(c.value) : c.value.is_array();
    if (good && c.value.is_array()) {
      for (const ordered_json& name : c.value) good = good && add(name);
    }
    if (!good) {
      return bad(c, "null, boolean, integer, number, string, array or object, or a list of these");
    }
    c.schema.types = bits;
    c.key += std::to_string(bits);
    return {};
  }

  Status read_nullable(Context& c) {
    if (!c.value.is_boolean()) return bad(c, "true or false");
    c.key += c.value.dump();
    return {};
  }

  Status set_values(Context& c, std::vector<std::string> values) {
    if (c.schema.values) {  // enum and const at once
      std::erase_if(values, [&](const std::string& v) {
        return std::find(c.schema.values->begin(), c.schema.values->end(), v) ==
               c.schema.values->end();
      });
    }
    c.schema.values = std::move(values);
    return {};
  }
  // A value's text; -0, 1.0 and 1e2 become 0, 1 and 100 so that equal values have equal texts.
  Result<std::string> value_text(const Context& c, const ordered_json& value) const {
    if (is_number(value)) {
      const auto decimal = parse_decimal(number_text(value));
      if (!decimal) return bad(c.path, preview(value), "a number with fewer digits");
      return to_text(*decimal);
    }
    if (value.is_array() || value.is_object()) {
      for (const ordered_json& inner : value) FATHOM_TRY_STATUS(check_value(c, inner));
    }
    return value.dump();
  }
  Status check_value(const Context& c, const ordered_json& value) const {
    if (value.is_binary()) return bad(c.path, preview(value), "integers of at most 64 bits");
    for (const ordered_json& inner : value) {
      if (inner.is_structured() || inner.is_binary()) FATHOM_TRY_STATUS(check_value(c, inner));
    }
    return {};
  }

  Status read_enum(Context& c) {
    if (!c.value.is_array()) return bad(c, "a list of values");
    std::vector<std::string> values;
    for (const ordered_json& value : c.value) {
      FATHOM_TRY(std::string text, value_text(c, value));
      c.key += text + ',';
      values.push_back(std::move(text));
    }
    return set_values(c, std::move(values));
  }

  Status read_const(Context& c) {
    FATHOM_TRY(std::string text, value_text(c, c.value));
    c.key += text;
    return set_values(c, {std::move(text)});
  }

  Status read_bound(Context& c) {
    const bool exclusive = c.path.find(".exclusive", c.path.rfind('.')) != std::string::npos;
    const bool high = c.path.ends_with("aximum");
    if (!is_number(c.value)) return bad(c, "a number");
    const auto decimal = parse_decimal(number_text(c.value));
    if (!decimal) {
      return bad(c, fmt::format("a number of at most {} digits", limits::kMaxNumberDigits));
    }
    c.hinted |= types::kNumber;
    c.key += to_text(*decimal);
    NumberRange range;
    (high ? range.high : range.low) = Bound{*decimal, exclusive};
    c.schema.numbers.intersect(range);
    return {};
  }

  Status read_multiple_of(Context& c) {
    const auto decimal = is_number(c.value) ? parse_decimal(number_text(c.value)) : std::nullopt;
    if (!decimal || !decimal->fraction.empty() || decimal->negative || decimal->whole == "0" ||
        decimal->whole.size() > 4 || std::stoll(decimal->whole) > limits::kMaxMultipleOf) {
      return bad(c, fmt::format("an integer from 1 to {}; others cannot be enforced",
                                limits::kMaxMultipleOf));
    }
    c.hinted |= types::kNumber;
    c.key += decimal->whole;
    c.schema.numbers.multiple_of = std::stoll(decimal->whole);
    c.schema.numbers.integer = true;
    return {};
  }

  Status read_count(Context& c) {
    const double number = c.value.is_number() ? c.value.get<double>() : -1;
    const bool minimum = c.path.find(".min", c.path.rfind('.')) != std::string::npos;
    if (number < 0 || number != std::floor(number)) return bad(c, "an integer of at least 0");
    if (number > static_cast<double>(limits::kMaxGrammarRepeat)) {
      return resource_limit(fmt::format("{}: {} is {}, the limit is {}", source_, c.path,
                                        preview(c.value), limits::kMaxGrammarRepeat));
    }
    const auto count = static_cast<int64_t>(number);
    if (c.path.ends_with("Length")) {
      (minimum ? c.schema.min_length : c.schema.max_length) = count;
      c.hinted |= types::kString;
    } else if (c.path.ends_with("Items")) {
      (minimum ? c.schema.min_items : c.schema.max_items) = count;
      c.hinted |= types::kArray;
    } else {
      (minimum ? c.schema.min_properties : c.schema.max_properties) = count;
      c.hinted |= types::kObject;
    }
    c.key += std::to_string(count);
    return {};
  }

  Status read_unique_items(Context& c) {
    if (!c.value.is_boolean()) return bad(c, "true or false");
    c.schema.unique_items = c.value.get<bool>();
    if (c.schema.unique_items) c.hinted |= types::kArray;
    c.key += c.value.dump();
    return {};
  }

  Status read_pattern(Context& c) {
    if (!c.value.is_string()) return bad(c, "a regular expression");
    c.schema.patterns.push_back(c.value.get<std::string>());
    c.hinted |= types::kString;
    c.key += c.value.dump();
    return {};
  }

  Status read_format(Context& c) {
    if (!c.value.is_string()) return bad(c, "the name of a format");
    const Format format = find_format(c.value.get_ref<const std::string&>());
    if (format.kind == FormatKind::kUnsupported) {
      return bad(c,
                 "date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid, uri, iri or "
                 "json-pointer; others cannot be enforced");
    }
    if (format.kind == FormatKind::kAnnotation) return {};
    c.schema.formats.push_back(c.value.get<std::string>());
    c.hinted |= types::kString;
    c.key += c.value.dump();
    return {};
  }

  Status read_properties(Context& c) {
    if (!c.value.is_object()) return bad(c, "an object of schemas");
    auto& list =
        c.path.ends_with(".patternProperties") ? c.schema.pattern_properties : c.schema.properties;
    for (const auto& [name, content] : c.value.items()) {
      FATHOM_TRY(const SchemaId id, schema(content, member(c.path, name)));
      c.key += nlohmann::json(name).dump() + '#' + std::to_string(id) + ',';
      list.emplace_back(name, id);
    }
    c.hinted |= types::kObject;
    return {};
  }

  Status read_required(Context& c) {
    if (!c.value.is_array()) return bad(c, "a list of names");
    for (const ordered_json& name : c.value) {
      if (!name.is_string()) return bad(c, "a list of names");
      c.schema.required.push_back(name.get<std::string>());
    }
    c.hinted |= types::kObject;
    c.key += c.value.dump();
    return {};
  }

  Status read_additional(Context& c) {
    FATHOM_TRY(c.schema.additional, schema(c.value, c.path));
    c.hinted |= types::kObject;
    c.key += '#' + std::to_string(*c.schema.additional);
    return {};
  }

  Status read_list(Context& c, std::vector<SchemaId>& out) {
    if (!c.value.is_array() || c.value.empty()) return bad(c, "a list of at least one schema");
    for (std::size_t i = 0; i < c.value.size(); ++i) {
      FATHOM_TRY(const SchemaId id, schema(c.value[i], fmt::format("{}[{}]", c.path, i)));
      out.push_back(id);
      c.key += '#' + std::to_string(id) + ',';
    }
    return {};
  }

  Status read_prefix_items(Context& c) {
    c.hinted |= types::kArray;
    return read_list(c, c.schema.prefix_items);
  }
  Status read_items(Context& c) {
    if (c.value.is_array()) return bad(c, "a schema; lists of schemas are now prefixItems");
    FATHOM_TRY(c.schema.items, schema(c.value, c.path));
    c.hinted |= types::kArray;
    c.key += '#' + std::to_string(*c.schema.items);
    return {};
  }

  Status read_all_of(Context& c) { return read_list(c, c.schema.all_of); }
  Status read_any_of(Context& c) {
    std::vector<SchemaId> options;
    FATHOM_TRY_STATUS(read_list(c, options));
    if (c.path.ends_with(".oneOf")) one_of_.emplace_back(c.path, options);
    c.schema.any_of.push_back(std::move(options));
    return {};
  }

  Status read_reference(Context& c) {
    if (!c.value.is_string()) return bad(c, "a reference");
    const auto& text = c.value.get_ref<const std::string&>();
    if (text != "#" && !text.starts_with("#/"))
      return bad(c, "# or #/…: a place in this schema; others are not supported");
    FATHOM_TRY(const ordered_json* target, resolve(c, text.substr(1)));
    const auto [it, fresh] =
        reference_ids_.emplace(target, static_cast<uint32_t>(references_.size()));
    if (fresh) references_.emplace_back(target, "$" + dotted(text.substr(1)));
    c.schema.reference = it->second;
    c.key += '@' + std::to_string(it->second);
    return {};
  }

  static std::string dotted(std::string path) {
    std::replace(path.begin(), path.end(), '/', '.');
    return path;
  }

  // Objects in the text's order find keys one by one; those that references name are indexed.
  const ordered_json* find_member(const ordered_json& object, const std::string& name) {
    auto& index = members_[&object];
    if (index.empty()) {
      for (const auto& [key, value] : object.items()) index.emplace(key, &value);
    }
    const auto it = index.find(name);
    return it == index.end() ? nullptr : it->second;
  }

  // A JSON pointer (RFC 6901) as a URI fragment.
  Result<const ordered_json*> resolve(const Context& c, std::string_view pointer) {
    const ordered_json* at = &root_;
    while (!pointer.empty()) {
      pointer.remove_prefix(1);
      const std::size_t end = std::min(pointer.find('/'), pointer.size());
      const std::string step = unescape(pointer.substr(0, end));
      pointer.remove_prefix(end);
      const ordered_json* next = nullptr;
      if (at->is_object()) {
        next = find_member(*at, step);
      } else if (at->is_array() && !step.empty() && step.size() < 7 &&
                 step.find_first_not_of("0123456789") == std::string::npos &&
                 std::stoul(step) < at->size()) {
        next = &(*at)[std::stoul(step)];
      }
      if (next == nullptr) return bad(c, "a place that exists in this schema");
      at = next;
    }
    return at;
  }
  static std::string unescape(std::string_view step) {
    std::string out;
    for (std::size_t i = 0; i < step.size(); ++i) {
      const auto digit = [&](std::size_t at) {
        const char x = at < step.size() ? step[at] : '\0';
        return x >= '0' && x <= '9'                 ? x - '0'
               : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10
                                                    : -1;
      };
      if (step[i] == '%' && digit(i + 1) >= 0 && digit(i + 2) >= 0) {
        out += static_cast<char>(digit(i + 1) * 16 + digit(i + 2));
        i += 2;
      } else if (step[i] == '~' && i + 1 < step.size() &&
                 (step[i + 1] == '0' || step[i + 1] == '1')) {
        out += step[++i] == '0' ? '~' : '/';
      } else {
        out += step[i];
      }
    }
    return out;
  }

  const ordered_json& root_;
  std::string source_;
  SchemaSet out_;
  std::unordered_map<const ordered_json*, SchemaId> seen_;
  std::unordered_map<std::string, SchemaId> ids_;
  std::unordered_map<const ordered_json*, std::map<std::string_view, const ordered_json*>> members_;
  std::vector<std::pair<const ordered_json*, std::string>> references_;
  std::unordered_map<const ordered_json*, uint32_t> reference_ids_;
  std::vector<std::pair<std::string, std::vector<SchemaId>>> one_of_;
};

Result<SchemaSet> SchemaSet::parse(std::string_view text, std::string_view source) {
  FATHOM_TRY(const ordered_json root, parse_ordered_json(text, source,
                                                         {.max_bytes = limits::kMaxSchemaBytes,
                                                          .max_depth = limits::kMaxSchemaDepth,
                                                          .max_values = limits::kMaxSchemaValues}));
  return SchemaParser(root, source).parse();
}

}  // namespace fathom::grammar
