// A validator for JSON schemas, written apart from the compiler so that the one checks the other.
//
// Slow and plain: recursion over nlohmann::json, patterns by PCRE2, keys in any order. Formats are
// checked by hand-written rules. Only for tests.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "base/check.h"

namespace fathom::test {

class SchemaValidator {
 public:
  explicit SchemaValidator(nlohmann::json root) : root_(std::move(root)) {}

  // Why `value` is not valid; "" if it is.
  std::string problem(const nlohmann::json& value) const { return check(value, root_, "$"); }

 private:
  using json = nlohmann::json;

  static bool matches(const std::string& pattern, const std::string& text) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* regex =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_ALT_BSUX | PCRE2_DOLLAR_ENDONLY, &code, &offset, nullptr);
    FATHOM_CHECK(regex != nullptr) << pattern << " at " << offset;
    pcre2_match_data* data = pcre2_match_data_create_from_pattern(regex, nullptr);
    const int rc = pcre2_match(regex, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                               data, nullptr);
    pcre2_match_data_free(data);
    pcre2_code_free(regex);
    return rc >= 0;
  }

  static bool is_type(const json& v, const std::string& type) {
    if (type == "null") return v.is_null();
    if (type == "boolean") return v.is_boolean();
    if (type == "string") return v.is_string();
    if (type == "array") return v.is_array();
    if (type == "object") return v.is_object();
    if (type == "number") return v.is_number();
    return v.is_number_integer() ||
           (v.is_number_float() && v.get<double>() == std::floor(v.get<double>()));
  }

  static std::size_t length(const std::string& text) {
    std::size_t count = 0;
    for (const char c : text) count += (c & 0xC0) != 0x80;
    return count;
  }

  static bool is_date(const std::string& text) {
    int year = 0, month = 0, day = 0, used = 0;
    if (std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &used) != 3 || used != 10 ||
        text.size() != 10) {
      return false;
    }
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    const int days[] = {31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1];
  }
  static bool is_time(const std::string& text) {
    return matches(
        "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
        "$",
        text);
  }
  static bool is_ipv6(const std::string& text) {
    // Groups on both sides of at most one "::".
    const std::size_t gap = text.find("::");
    if (gap != std::string::npos && text.find("::", gap + 1) != std::string::npos) return false;
    const auto groups = [](const std::string& part) {
      if (part.empty()) return 0;
      int count = 0;
      std::size_t begin = 0;
      for (;;) {
        const std::size_t end = std::min(part.find(':', begin), part.size());
        if (end == begin || end - begin > 4) return -100;
        for (std::size_t i = begin; i < end; ++i) {
          if (std::isxdigit(static_cast<unsigned char>(part[i])) == 0) return -100;
        }
        ++count;
        if (end == part.size()) return count;
        begin = end + 1;
      }
    };
    if (gap == std::string::npos) return groups(text) == 8;
    const int left = groups(text.substr(0, gap));
    const int right = groups(text.substr(gap + 2));
    return left >= 0 && right >= 0 && left + right <= 7;
  }
  static bool is_hostname(const std::string& text) {
    return text.size() <= 253 && matches(
                                     "^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\\.[A-Za-z0-9]"
                                     "([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
                                     text);
  }
  static bool is_format(const std::string& name, const std::string& text) {
    if (name == "date") return is_date(text);
    if (name == "time") return is_time(text);
    if (name == "date-time")
      return text.size() > 11 && is_date(text.substr(0, 10)) && text[10] == 'T' &&
             is_time(text.substr(11));
    if (name == "uuid")
      return matches(
          "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$", text);
    if (name == "ipv4") {
      int parts[4] = {}, used = 0;
      if (std::sscanf(text.c_str(), "%3d.%3d.%3d.%3d%n", &parts[0], &parts[1], &parts[2], &parts[3],
                      &used) != 4)
        return false;
      std::string again;
      for (const int part : parts) {
        if (part < 0 || part > 255) return false;
        again += (again.empty() ? "" : ".") + std::to_string(part);
      }
      return again == text;
    }
    if (name == "ipv6") return is_ipv6(text);
    if (name == "hostname") return is_hostname(text);
    if (name == "email") {
      const std::size_t at = text.find('@');
      return at != std::string::npos && at > 0 && at <= 64 && is_hostname(text.substr(at + 1));
    }
    if (name == "uri") return matches("^[A-Za-z][A-Za-z0-9+.-]*://[^\\s<>\"{}|\\\\^`]+$", text);
    return true;
  }

  std::string check_combined(const json& v, const json& s, const std::string& at) const {
    if (s.contains("$ref"))
      if (auto p = check(v, target(s["$ref"]), at); !p.empty()) return p;
    for (const json& each : s.value("allOf", json::array()))
      if (auto p = check(v, each, at); !p.empty()) return p;
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (!s.contains(keyword)) continue;
      int good = 0;
      for (const json& each : s[keyword]) good += check(v, each, at).empty();
      if (good == 0 || (good > 1 && keyword[0] == 'o'))
        return at + ": " + keyword + " " + std::to_string(good);
    }
    return "";
  }
  const json& target(const std::string& reference) const {
    return root_.at(json::json_pointer(reference.substr(1)));
  }

  std::string check_number(const json& v, const json& s, const std::string& at) const {
    const double n = v.get<double>();
    if (s.contains("minimum") && n < s["minimum"].get<double>()) return at + ": minimum";
    if (s.contains("maximum") && n > s["maximum"].get<double>()) return at + ": maximum";
    if (s.contains("exclusiveMinimum") && n <= s["exclusiveMinimum"].get<double>())
      return at + ": exclusiveMinimum";
    if (s.contains("exclusiveMaximum") && n >= s["exclusiveMaximum"].get<double>())
      return at + ": exclusiveMaximum";
    if (s.contains("multipleOf")) {
      const bool exact = v.is_number_integer() && s["multipleOf"].is_number_integer();
      if (exact ? v.get<int64_t>() % s["multipleOf"].get<int64_t>() != 0
                : std::fmod(n, s["multipleOf"].get<double>()) != 0) {
        return at + ": multipleOf";
      }
    }
    return "";
  }

  std::string check_string(const json& v, const json& s, const std::string& at) const {
    const auto text = v.get<std::string>();
    if (length(text) < s.value("minLength", std::size_t{0})) return at + ": minLength";
    if (length(text) > s.value("maxLength", std::size_t{1} << 40)) return at + ": maxLength";
    if (s.contains("pattern") && !matches(s["pattern"], text)) return at + ": pattern of " + text;
    if (s.contains("format") && !is_format(s["format"], text)) return at + ": format of " + text;
    return "";
  }

  std::string check_array(const json& v, const json& s, const std::string& at) const {
    if (v.size() < s.value("minItems", std::size_t{0})) return at + ": minItems";
    if (v.size() > s.value("maxItems", std::size_t{1} << 40)) return at + ": maxItems";
    const json prefix = s.value("prefixItems", json::array());
    for (std::size_t i = 0; i < v.size(); ++i) {
      const std::string place = at + "[" + std::to_string(i) + "]";
      if (i < prefix.size()) {
        if (auto p = check(v[i], prefix[i], place); !p.empty()) return p;
      } else if (s.contains("items")) {
        if (auto p = check(v[i], s["items"], place); !p.empty()) return p;
      }
    }
    return "";
  }

  std::string check_object(const json& v, const json& s, const std::string& at) const {
    if (v.size() < s.value("minProperties", std::size_t{0})) return at + ": minProperties";
    if (v.size() > s.value("maxProperties", std::size_t{1} << 40)) return at + ": maxProperties";
    for (const json& name : s.value("required", json::array()))
      if (!v.contains(name.get<std::string>())) return at + ": required " + name.dump();
    const json properties = s.value("properties", json::object());
    const json patterns = s.value("patternProperties", json::object());
    for (const auto& [name, inner] : v.items()) {
      bool named = false;
      if (properties.contains(name)) {
        named = true;
        if (auto p = check(inner, properties[name], at + "." + name); !p.empty()) return p;
      }
      for (const auto& [pattern, schema] : patterns.items()) {
        if (!matches(pattern, name)) continue;
        named = true;
        if (auto p = check(inner, schema, at + "." + name); !p.empty()) return p;
      }
      if (named || !s.contains("additionalProperties")) continue;
      if (auto p = check(inner, s["additionalProperties"], at + "." + name); !p.empty()) return p;
    }
    return "";
  }

  std::string check(const json& v, const json& s, const std::string& at) const {
    if (s.is_boolean()) return s.get<bool>() ? "" : at + ": false";
    if (s.contains("type")) {
      const json types = s["type"].is_array() ? s["type"] : json::array({s["type"]});
      bool good = s.value("nullable", false) && v.is_null();
      for (const json& type : types) good = good || is_type(v, type);
      if (!good) return at + ": type of " + v.dump().substr(0, 80);
    }
    if (s.contains("enum") && std::find(s["enum"].begin(), s["enum"].end(), v) == s["enum"].end())
      return at + ": enum";
    if (s.contains("const") && s["const"] != v) return at + ": const";
    std::string problem;
    if (v.is_number()) problem = check_number(v, s, at);
    if (v.is_string()) problem = check_string(v, s, at);
    if (v.is_array()) problem = check_array(v, s, at);
    if (v.is_object()) problem = check_object(v, s, at);
    return problem.empty() ? check_combined(v, s, at) : problem;
  }

  json root_;
};

}  // namespace fathom::test
