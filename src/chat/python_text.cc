#include "chat/python_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace fathom::chat {
namespace {

using nlohmann::ordered_json;

void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// float.__repr__: the shortest digits that read back the same; an exponent below 1e-4 and from
// 1e16.
void append_float(std::string& out, double value) {
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  int exponent = 0;
  const std::string_view exponent_text = text.substr(e + (text[e + 1] == '+' ? 2 : 1));
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    out += text;  // to_chars and repr agree here: at least two digits of exponent, always a sign
    return;
  }
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr;
  out.append(buffer, fixed);
  if (std::string_view(buffer, static_cast<std::size_t>(fixed - buffer)).find('.') ==
      std::string_view::npos) {
    out += ".0";
  }
}

void append_newline(std::string& out, int indent, int depth) {
  out += '\n';
  out.append(static_cast<std::size_t>(indent) * static_cast<std::size_t>(depth), ' ');
}

void append_value(std::string& out, const ordered_json& value, int indent, int depth) {
  switch (value.type()) {
    case ordered_json::value_t::object:
    case ordered_json::value_t::array: {
      const bool is_object = value.is_object();
      out += is_object ? '{' : '[';
      bool first = true;
      for (auto it = value.begin(); it != value.end(); ++it) {
        if (!first) out += indent >= 0 ? "," : ", ";
        if (indent >= 0) append_newline(out, indent, depth + 1);
        first = false;
        if (is_object) {
          append_string(out, it.key());
          out += ": ";
        }
        append_value(out, *it, indent, depth + 1);
      }
      if (indent >= 0 && !first) append_newline(out, indent, depth);
      out += is_object ? '}' : ']';
      return;
    }
    case ordered_json::value_t::string: {
      append_string(out, value.get_ref<const std::string&>());
      return;
    }
    case ordered_json::value_t::boolean:
      out += value.get<bool>() ? "true" : "false";
      return;
    case ordered_json::value_t::number_integer:
      out += fmt::format("{}", value.get<int64_t>());
      return;
    case ordered_json::value_t::number_unsigned:
      out += fmt::format("{}", value.get<uint64_t>());
      return;
    case ordered_json::value_t::number_float:
      append_float(out, value.get<double>());
      return;
    case ordered_json::value_t::binary: {
      // The digits of an integer beyond 64 bits (parse_ordered_json).
      const auto& digits = value.get_binary();
      out.append(digits.begin(), digits.end());
      return;
    }
    case ordered_json::value_t::null:
    case ordered_json::value_t::discarded:
      out += "null";
      return;
  }
}

// str.isspace() for one character, Python 3.
bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

// Whether a white-space character stands at `pos`; `length` receives its bytes.
bool space_at(std::string_view text, std::size_t pos, std::size_t& length) {
  length = utf8_valid_length(text, pos);
  return length > 0 && is_python_space(utf8_decode(text, pos, length));
}

}  // namespace

std::string python_json(const ordered_json& value, int indent) {
  std::string out;
  append_value(out, value, indent, 0);
  return out;
}

std::string_view python_rstrip(std::string_view text) {
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 &&
           (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) {
      --begin;
    }
    std::size_t length = 0;
    if (!space_at(text, begin, length) || begin + length != text.size()) break;
    text.remove_suffix(length);
  }
  return text;
}

std::string_view python_strip(std::string_view text) {
  std::size_t length = 0;
  while (!text.empty() && space_at(text, 0, length)) text.remove_prefix(length);
  return python_rstrip(text);
}

std::string_view strip_leading_newlines(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  return text;
}

std::string_view strip_trailing_newlines(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

}  // namespace fathom::chat
