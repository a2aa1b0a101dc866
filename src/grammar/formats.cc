#include "grammar/formats.h"

#include <array>
#include <string>
#include <unordered_map>

namespace fathom::grammar {
namespace {

std::string anchored(const std::string& pattern) { return "^(?:" + pattern + ")$"; }

std::string date() {
  const std::string year = "[1-9][0-9]{3}";
  const std::string leap_year =
      "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)";
  return "(?:" + year +
         "-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|"
         "(?:0[13578]|1[02])-31)|" +
         leap_year + "-02-29)";
}

std::string time() {
  const std::string hour = "(?:[01][0-9]|2[0-3])";
  return hour + ":[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-]" + hour + ":[0-5][0-9])";
}

std::string ipv4() {
  const std::string byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  return byte + "(?:\\." + byte + "){3}";
}

std::string ipv6() {
  const std::string group = "[0-9a-fA-F]{1,4}";
  std::string out = "(?:" + group + ":){7}" + group;
  // n groups before "::", at most 6 - n behind it.
  for (int n = 0; n <= 7; ++n) {
    out += "|";
    if (n > 0) out += group + "(?::" + group + "){" + std::to_string(n - 1) + "}";
    out += "::";
    if (n < 7) out += "(?:" + group + "(?::" + group + "){0," + std::to_string(6 - n) + "})?";
  }
  return "(?:" + out + ")";
}

// Labels of at most 40 characters, at most five of them.
std::string hostname(bool dotted) {
  const std::string label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,38}[a-zA-Z0-9])?";
  // An all-digit last label would look like an IPv4 address.
  const std::string last = "[a-zA-Z](?:[a-zA-Z0-9-]{0,38}[a-zA-Z0-9])?";
  return "(?:" + label + "\\.){" + (dotted ? "1" : "0") + ",4}" + last;
}

std::string email() {
  const std::string atom = "[a-zA-Z0-9_+-]{1,20}";
  return atom + "(?:\\." + atom + "){0,2}@" + hostname(true);
}

std::string duration() {
  const std::string n = "[0-9]{1,9}";
  const std::string time =
      "T(?:" + n + "H(?:" + n + "M(?:" + n + "S)?)?|" + n + "M(?:" + n + "S)?|" + n + "S)";
  const std::string day = n + "D";
  const std::string date =
      "(?:" + n + "Y(?:" + n + "M(?:" + day + ")?)?|" + n + "M(?:" + day + ")?|" + day + ")";
  return "P(?:" + date + "(?:" + time + ")?|" + time + "|" + n + "W)";
}

std::string uri_tail() {
  const std::string text = "(?:[a-zA-Z0-9._~!$&'()*+,;=:@/-]|%[0-9a-fA-F]{2})*";
  return "(?:/" + text + ")?(?:\\?" + text + ")?(?:#" + text + ")?";
}

std::string uri() {
  return "[a-z][a-z0-9+.-]{1,15}://" + hostname(false) + "(?::[1-9][0-9]{0,3})?" + uri_tail();
}

using Patterns = std::unordered_map<std::string_view, std::string>;

const Patterns& patterns() {
  static const Patterns all = {
      {"date", anchored(date())},
      {"time", anchored(time())},
      {"date-time", anchored(date() + "T" + time())},
      {"duration", anchored(duration())},
      {"email", anchored(email())},
      {"idn-email", anchored(email())},
      {"hostname", anchored(hostname(false))},
      {"idn-hostname", anchored(hostname(false))},
      {"ipv4", anchored(ipv4())},
      {"ipv6", anchored(ipv6())},
      {"uuid", anchored("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")},
      {"uri", anchored(uri())},
      {"uri-reference", anchored(uri())},
      {"iri", anchored(uri())},
      {"iri-reference", anchored(uri())},
      {"json-pointer", "^(?:/(?:[^~/\\x00-\\x1f]|~[01])*)*$"},
  };
  return all;
}

constexpr std::array<std::string_view, 3> kUnsupported = {"regex", "relative-json-pointer",
                                                          "uri-template"};

}  // namespace

Format find_format(std::string_view name) {
  if (const auto it = patterns().find(name); it != patterns().end())
    return {FormatKind::kEnforced, it->second};
  for (const std::string_view unsupported : kUnsupported) {
    if (name == unsupported) return {FormatKind::kUnsupported, {}};
  }
  return {FormatKind::kAnnotation, {}};
}

}  // namespace fathom::grammar
