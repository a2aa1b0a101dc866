// Reading of request targets (RFC 9112, section 3.2). See target.h.
#include "server/http/target.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "server/http/request_context.h"

namespace fathom::server {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// `plus_is_space`: in queries, as forms encode them.
Result<std::string> decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
      continue;
    }
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      return invalid_argument(
          fmt::format("request target: '{}' is no escape, expected % and two hexadecimal digits",
                      text.substr(i, 3)));
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (out.find('\0') != std::string::npos)
    return invalid_argument("request target: holds a NUL byte (%00)");
  if (!utf8_is_valid(out)) return invalid_argument("request target: is not UTF-8 when decoded");
  return out;
}

Status parse_path(std::string_view raw, Target& target) {
  std::size_t begin = 1;
  while (begin <= raw.size()) {
    const std::size_t end = std::min(raw.find('/', begin), raw.size());
    FATHOM_TRY(std::string segment, decode(raw.substr(begin, end - begin), false));
    const std::string_view seen = segment;
    if (seen == "." || seen == "..")
      return invalid_argument(fmt::format("request target: segment '{}' in the path", seen));
    if (seen.find_first_of("/\\") != std::string_view::npos)
      return invalid_argument("request target: an encoded slash or a backslash in the path");
    target.path += '/';
    target.path += segment;
    target.segments.push_back(std::move(segment));
    begin = end + 1;
  }
  return {};
}

Status parse_query(std::string_view raw, Target& target) {
  while (!raw.empty()) {
    const std::size_t end = std::min(raw.find('&'), raw.size());
    const std::string_view pair = raw.substr(0, end);
    raw.remove_prefix(std::min(end + 1, raw.size()));
    if (pair.empty()) continue;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    FATHOM_TRY(std::string name, decode(pair.substr(0, equals), true));
    FATHOM_TRY(std::string value, decode(pair.substr(std::min(equals + 1, pair.size())), true));
    target.queries.emplace_back(std::move(name), std::move(value));
  }
  return {};
}

}  // namespace

Result<Target> parse_target(std::string_view text) {
  Target target;
  for (const char c : text)
    if (c <= ' ' || c > '~')
      return invalid_argument("request target: holds a byte that is not visible ASCII");
  if (text.find('#') != std::string_view::npos)
    return invalid_argument("request target: holds a fragment (#)");
  if (text == "*") {
    target.asterisk = true;
    return target;
  }
  if (!text.starts_with('/')) {
    const std::size_t scheme = text.find("://");
    if (scheme == std::string_view::npos ||
        !(equals_ignoring_case(text.substr(0, scheme), "http") ||
          equals_ignoring_case(text.substr(0, scheme), "https")))
      return invalid_argument("request target: expected a path that begins with '/'");
    text.remove_prefix(scheme + 3);
    const std::size_t end = std::min(text.find_first_of("/?"), text.size());
    target.authority = text.substr(0, end);
    if (target.authority.empty() || target.authority.find('@') != std::string::npos)
      return invalid_argument("request target: expected http://HOST[:PORT]/…");
    text.remove_prefix(end);
  }
  const std::size_t question = std::min(text.find('?'), text.size());
  const std::string_view path = question == 0 ? "/" : text.substr(0, question);
  FATHOM_TRY_STATUS(parse_path(path, target));
  FATHOM_TRY_STATUS(parse_query(text.substr(std::min(question + 1, text.size())), target));
  return target;
}

}  // namespace fathom::server
