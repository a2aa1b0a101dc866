#include "server/api/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

// An integer that JSON may also write as 64.0.
std::optional<int64_t> as_integer(const ordered_json& v) {
  if (v.is_number_unsigned()) {
    const auto u = v.get<uint64_t>();
    return u > static_cast<uint64_t>(INT64_MAX) ? std::nullopt
                                                : std::optional(static_cast<int64_t>(u));
  }
  if (v.is_number_integer()) return v.get<int64_t>();
  if (!v.is_number_float()) return std::nullopt;
  const double d = v.get<double>();
  if (d != std::floor(d) || std::abs(d) > 9e15) return std::nullopt;
  return static_cast<int64_t>(d);
}

bool is_among(std::string_view values, std::string_view value) {
  while (!values.empty()) {
    const std::size_t comma = std::min(values.find(','), values.size());
    if (values.substr(0, comma) == value) return true;
    values.remove_prefix(std::min(comma + 1, values.size()));
  }
  return false;
}

// "an integer from 1 to 8", "a string of at most 512 bytes".
std::string range_text(std::string_view what, std::string_view unit, const FieldSpec& spec) {
  // Limits are written without an exponent.
  const auto print = [](double d) {
    return d == std::floor(d) && std::abs(d) < 9e15 ? fmt::format("{}", static_cast<int64_t>(d))
                                                    : fmt::format("{}", d);
  };
  const bool has_min = std::isfinite(spec.min), has_max = std::isfinite(spec.max);
  std::string range;
  if (has_min && has_max) {
    range =
        fmt::format(" {} {} to {}", unit.empty() ? "from" : "of", print(spec.min), print(spec.max));
  } else if (has_min || has_max) {
    range = has_min ? " of at least " + print(spec.min) : " of at most " + print(spec.max);
  }
  if (!range.empty() && !unit.empty()) range += fmt::format(" {}", unit);
  return std::string(what) + range;
}

}  // namespace

std::string preview(const ordered_json& value) {
  // An integer beyond 64 bits (parse_ordered_json).
  if (value.is_binary())
    return std::string(value.get_binary().begin(), value.get_binary().end()).substr(0, 60);
  if (value.is_object()) return value.empty() ? "{}" : "an object";
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_string() && value.get_ref<const std::string&>().size() > 256)
    return fmt::format("a string of {} bytes", value.get_ref<const std::string&>().size());
  return json_preview(nlohmann::json(value));
}

ApiError bad_value(std::string path, const ordered_json* seen, std::string_view expected) {
  std::string message = fmt::format("{} is {}, expected {}", path,
                                    seen == nullptr ? "missing" : preview(*seen), expected);
  return bad_request(std::move(path), std::move(message));
}

FieldReader::FieldReader(const ordered_json& object, FieldTable table, std::string path)
    : object_(object), table_(table), path_(std::move(path)) {
  FATHOM_CHECK(object.is_object()) << preview(object);
}

std::string FieldReader::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const ordered_json* FieldReader::find(std::string_view name) const {
  FATHOM_CHECK(std::any_of(table_.begin(), table_.end(),
                           [&](const FieldSpec& spec) { return spec.name == name; }))
      << name << " is in no table";
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

ApiError FieldReader::bad(std::string_view name, std::string_view expected) const {
  return bad_value(path(name), find(name), expected);
}

ApiStatus FieldReader::check() const {
  for (const FieldSpec& spec : table_) {
    const ApiStatus status = check_field(spec);
    if (!status) return status;
  }
  return {};
}

ApiStatus FieldReader::check_field(const FieldSpec& spec) const {
  const ordered_json* v = find(spec.name);
  if (v == nullptr && !spec.required) return {};
  const auto bad_if = [&](bool wrong, std::string expected) -> ApiStatus {
    return wrong ? ApiStatus(bad(spec.name, expected)) : ApiStatus();
  };
  switch (spec.type) {
    case FieldType::kBoolean:
      return bad_if(v == nullptr || !v->is_boolean(), "true or false");
    case FieldType::kInteger: {
      const auto i = v == nullptr ? std::nullopt : as_integer(*v);
      const bool wrong =
          !i || static_cast<double>(*i) < spec.min || static_cast<double>(*i) > spec.max;
      return bad_if(wrong, range_text("an integer", "", spec));
    }
    case FieldType::kNumber: {
      const bool wrong = v == nullptr || !v->is_number() || !(v->get<double>() >= spec.min) ||
                         !(v->get<double>() <= spec.max);
      return bad_if(wrong, range_text("a number", "", spec));
    }
    case FieldType::kString: {
      if (v == nullptr || !v->is_string())
        return bad(spec.name,
                   spec.values.empty() ? "a string" : fmt::format("one of: {}", spec.values));
      const auto& text = v->get_ref<const std::string&>();
      if (!spec.values.empty())
        return bad_if(!is_among(spec.values, text), fmt::format("one of: {}", spec.values));
      const auto bytes = static_cast<double>(text.size());
      return bad_if(bytes < spec.min || bytes > spec.max, range_text("a string", "bytes", spec));
    }
    case FieldType::kObject:
      return bad_if(v == nullptr || !v->is_object(), "an object");
    case FieldType::kList: {
      if (v == nullptr || !v->is_array()) return bad(spec.name, "a list");
      const auto entries = static_cast<double>(v->size());
      return bad_if(entries < spec.min || entries > spec.max,
                    range_text("a list", "entries", spec));
    }
    case FieldType::kOther:
      return bad_if(v == nullptr, "a value");
  }
  return {};
}

std::optional<bool> FieldReader::boolean(std::string_view name) const {
  const ordered_json* v = find(name);
  return v == nullptr ? std::nullopt : std::optional(v->get<bool>());
}

std::optional<int64_t> FieldReader::integer(std::string_view name) const {
  const ordered_json* v = find(name);
  return v == nullptr ? std::nullopt : as_integer(*v);
}

std::optional<double> FieldReader::number(std::string_view name) const {
  const ordered_json* v = find(name);
  return v == nullptr ? std::nullopt : std::optional(v->get<double>());
}

std::optional<std::string> FieldReader::string(std::string_view name) const {
  const ordered_json* v = find(name);
  return v == nullptr ? std::nullopt : std::optional(v->get<std::string>());
}

ApiResult<ordered_json> parse_body(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return bad_request("", "the request body is empty, expected a JSON object");
  auto parsed = parse_ordered_json(
      body, "request body",
      {.max_bytes = limits::kMaxRequestBodyBytes, .max_values = limits::kMaxRequestJsonValues});
  if (!parsed) return bad_request(parsed.error());
  if (!parsed->is_object())
    return bad_request(
        "", fmt::format("the request body is {}, expected a JSON object", preview(*parsed)));
  return *std::move(parsed);
}

ApiResult<std::vector<std::string>> read_strings(const FieldReader& fields, std::string_view name,
                                                 const StringListRule& rule) {
  const ordered_json* v = fields.find(name);
  std::vector<std::string> out;
  if (v == nullptr) return out;
  const auto add = [&](std::string path, const ordered_json& entry) -> ApiStatus {
    const bool ok = entry.is_string() && !entry.get_ref<const std::string&>().empty() &&
                    entry.get_ref<const std::string&>().size() <= rule.max_bytes;
    if (!ok)
      return bad_value(std::move(path), &entry,
                       fmt::format("a string of 1 to {} bytes", rule.max_bytes));
    out.push_back(entry.get<std::string>());
    return {};
  };
  if (!v->is_array()) {
    if (!v->is_string())
      return fields.bad(name,
                        fmt::format("a string or a list of at most {} strings", rule.max_entries));
    const ApiStatus status = add(fields.path(name), *v);
    if (!status) return status.error();
    return out;
  }
  if (v->size() > rule.max_entries)
    return fields.bad(name, fmt::format("a list of at most {} strings", rule.max_entries));
  for (std::size_t i = 0; i < v->size(); ++i) {
    const ApiStatus status = add(fmt::format("{}[{}]", fields.path(name), i), (*v)[i]);
    if (!status) return status.error();
  }
  return out;
}

bool is_api_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

}  // namespace fathom::server::api
