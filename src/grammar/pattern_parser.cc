// Text to syntax tree.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "grammar/pattern.h"

namespace fathom::grammar {
namespace {

using Kind = PatternNode::Kind;
using Ranges = std::vector<CharRange>;

const Ranges kDigits = {{'0', '9'}};
const Ranges kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kAsciiSpace = {{'\t', '\r'}, {' ', ' '}};
// What any dialect calls white space.
const Ranges kAnySpace = {{'\t', '\r'},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                          {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200A}, {0x2028, 0x2029},
                          {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x85, 0x85}, {0x2028, 0x2029}};
constexpr CharRange kBeyondAscii = {0x80, kLastChar};

Ranges joined(Ranges a, const Ranges& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// \d \w \s and their opposites; nothing for other letters.
std::optional<Ranges> class_escape(char32_t letter, bool wide) {
  const Ranges beyond = {kBeyondAscii};
  switch (letter) {
    case 'd':
      return wide ? joined(kDigits, beyond) : kDigits;
    case 'w':
      return wide ? joined(kWord, beyond) : kWord;
    case 's':
      return wide ? kAnySpace : kAsciiSpace;
    case 'D':
      return complement_of(wide ? kDigits : joined(kDigits, beyond));
    case 'W':
      return complement_of(wide ? kWord : joined(kWord, beyond));
    case 'S':
      return complement_of(wide ? Ranges{{'\t', '\r'}, {' ', ' '}} : kAnySpace);
    default:
      return std::nullopt;
  }
}

class Parser {
 public:
  Parser(std::string_view text, PatternReading reading)
      : text_(text), wide_(reading == PatternReading::kWide) {}

  Result<Pattern> parse() {
    if (static_cast<int64_t>(text_.size()) > limits::kMaxPatternBytes) {
      return resource_limit(fmt::format("the pattern has {} bytes, the limit is {}", text_.size(),
                                        limits::kMaxPatternBytes));
    }
    if (!utf8_is_valid(text_)) return bad(0, "bytes that are not UTF-8", "UTF-8");
    FATHOM_TRY(out_.root, alternation(0));
    if (at_ < text_.size()) return bad(at_, "an unmatched )", "a balanced pattern");
    return std::move(out_);
  }

 private:
  Error bad(std::size_t at, std::string_view seen, std::string_view expected) const {
    return invalid_argument(fmt::format("the pattern {} has {} at byte {}, expected {}",
                                        json_preview(nlohmann::json(text_)), seen, at, expected));
  }
  bool more() const { return at_ < text_.size(); }
  bool next_is(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool take(std::string_view what) {
    if (!next_is(what)) return false;
    at_ += what.size();
    return true;
  }
  char32_t take_char() {
    const std::size_t length = utf8_valid_length(text_, at_);
    const char32_t c = utf8_decode(text_, at_, length);
    at_ += length;
    return c;
  }
  uint32_t add(PatternNode node) {
    out_.nodes.push_back(std::move(node));
    return static_cast<uint32_t>(out_.nodes.size() - 1);
  }
  uint32_t add_chars(Ranges ranges) {
    out_.chars.push_back(normalized(std::move(ranges)));
    return add({.kind = Kind::kChars, .chars = static_cast<uint32_t>(out_.chars.size() - 1)});
  }

  Result<uint32_t> alternation(int depth) {
    if (depth > limits::kMaxPatternDepth) {
      return resource_limit(
          fmt::format("the pattern's groups nest deeper than {}", limits::kMaxPatternDepth));
    }
    PatternNode node{.kind = Kind::kAlternate};
    do {
      FATHOM_TRY(const uint32_t branch, sequence(depth));
      node.children.push_back(branch);
    } while (take("|"));
    return node.children.size() == 1 ? node.children[0] : add(std::move(node));
  }

  Result<uint32_t> sequence(int depth) {
    PatternNode node{.kind = Kind::kConcat};
    while (more() && !next_is("|") && !next_is(")")) {
      FATHOM_TRY(uint32_t part, atom(depth));
      FATHOM_TRY(part, quantified(part));
      node.children.push_back(part);
    }
    if (node.children.empty()) node.kind = Kind::kEmpty;
    return node.children.size() == 1 ? node.children[0] : add(std::move(node));
  }

  Result<uint32_t> quantified(uint32_t part) {
    const std::size_t begin = at_;
    int64_t min = 0;
    int64_t max = -1;
    if (take("?")) {
      max = 1;
    } else if (take("+")) {
      min = 1;
    } else if (next_is("{")) {
      FATHOM_TRY_STATUS(bounds(min, max));
    } else if (!take("*")) {
      return part;
    }
    take("?");  // lazy: the same texts
    if (next_is("*") || next_is("+") || next_is("?") || next_is("{"))
      return bad(at_, "two quantifiers in a row", "one");
    const Kind kind = out_.nodes[part].kind;
    if (kind == Kind::kBegin || kind == Kind::kEnd)
      return bad(begin, "a repeated ^ or $", "an anchor that stands once");
    return add({.kind = Kind::kRepeat, .children = {part}, .min = min, .max = max});
  }

  Status bounds(int64_t& min, int64_t& max) {
    const std::size_t begin = at_++;
    const auto number = [&](int64_t& out) {
      const std::size_t digits = at_;
      out = 0;
      for (; more() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
        out = std::min<int64_t>(out * 10 + (text_[at_] - '0'), int64_t{1} << 40);
      return at_ > digits;
    };
    constexpr std::string_view kExpected = "{n}, {n,} or {n,m}; write \\{ for the character";
    if (!number(min)) return bad(begin, "a lone {", kExpected);
    max = min;
    if (take(",") && !number(max)) max = -1;
    if (!take("}")) return bad(begin, "a lone {", kExpected);
    if (max >= 0 && max < min) return bad(begin, "a repetition with n > m", "n <= m");
    if (std::max(min, max) > limits::kMaxGrammarRepeat) {
      return resource_limit(fmt::format("the pattern repeats {} times, the limit is {}",
                                        std::max(min, max), limits::kMaxGrammarRepeat));
    }
    return {};
  }

  Result<uint32_t> atom(int depth) {
    const std::size_t begin = at_;
    if (take("(")) return group(begin, depth);
    if (take("^")) return add({.kind = Kind::kBegin});
    if (take("$")) return add({.kind = Kind::kEnd});
    if (take(".")) return add_chars(complement_of(wide_ ? Ranges{{'\n', '\n'}} : kLineEnds));
    if (take("[")) return char_class(begin);
    if (next_is("*") || next_is("+") || next_is("?"))
      return bad(begin, "a quantifier with nothing before it", "something to repeat");
    if (next_is("{")) return bad(begin, "a lone {", "\\{ for the character");
    if (!take("\\")) {
      const char32_t c = take_char();
      return add_chars({{c, c}});
    }
    if (!more()) return bad(begin, "a lone backslash", "a character behind it");
    if (auto ranges = class_escape(static_cast<uint8_t>(text_[at_]), wide_)) {
      ++at_;
      return add_chars(std::move(*ranges));
    }
    FATHOM_TRY(const char32_t c, escaped(begin, false));
    return add_chars({{c, c}});
  }

  Result<uint32_t> group(std::size_t begin, int depth) {
    if (take("?")) {
      const bool named = next_is("<") && !next_is("<=") && !next_is("<!");
      if (named) {
        while (more() && text_[at_] != '>') ++at_;
        if (!take(">")) return bad(begin, "a group name without >", "(?<name>…)");
      } else if (!take(":")) {
        return bad(begin, "look-around or a flag", "plain groups, (…) or (?:…)");
      }
    }
    FATHOM_TRY(const uint32_t inner, alternation(depth + 1));
    if (!take(")")) return bad(begin, "an unmatched (", "a balanced pattern");
    // In a node of its own: x in (x)* is repeated by the quantifier, ^ in (^)* is not.
    return add({.kind = Kind::kConcat, .children = {inner}});
  }

  Result<uint32_t> char_class(std::size_t begin) {
    const bool negated = take("^");
    const bool wide = wide_ != negated;
    Ranges ranges;
    while (!next_is("]")) {
      if (!more()) return bad(begin, "a class without ]", "[…]");
      const std::size_t item = at_;
      Ranges set;
      FATHOM_TRY(const char32_t first, class_item(item, wide, set));
      if (!set.empty()) {
        ranges = joined(std::move(ranges), set);
        if (next_is("-") && !next_is("-]")) return bad(at_, "a range from a class", "characters");
        continue;
      }
      char32_t last = first;
      if (next_is("-") && !next_is("-]")) {
        ++at_;
        if (!more()) return bad(begin, "a class without ]", "[…]");
        FATHOM_TRY(last, class_item(item, wide, set));
        if (!set.empty()) return bad(item, "a range to a class", "characters");
      }
      if (last < first) return bad(item, "a range whose end comes before its start", "a <= b");
      ranges.push_back({first, last});
    }
    ++at_;
    return add_chars(negated ? complement_of(std::move(ranges)) : std::move(ranges));
  }

  // One character, or `set` for \d and its like.
  Result<char32_t> class_item(std::size_t begin, bool wide, Ranges& set) {
    if (!take("\\")) return take_char();
    if (!more()) return bad(begin, "a lone backslash", "a character behind it");
    if (auto ranges = class_escape(static_cast<uint8_t>(text_[at_]), wide)) {
      ++at_;
      set = std::move(*ranges);
      return char32_t{0};
    }
    return escaped(begin, true);
  }

  Result<char32_t> hex(std::size_t begin, std::size_t digits) {
    uint32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const char c = more() ? text_[at_] : '\0';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return bad(begin, "an escape with too few digits", "\\xHH or \\uHHHH");
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    return static_cast<char32_t>(value);
  }

  // Behind a backslash that is no class.
  Result<char32_t> escaped(std::size_t begin, bool in_class) {
    const char32_t c = take_char();
    switch (c) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'f':
        return U'\f';
      case 'v':
        return U'\v';
      case '0':
        if (more() && text_[at_] >= '0' && text_[at_] <= '9') break;
        return char32_t{0};
      case 'b':
        if (in_class) return U'\b';
        break;
      case 'x':
        return hex(begin, 2);
      case 'u':
        return unicode_escape(begin);
      default:
        if (c < 0x80 && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') &&
            !(c >= 'A' && c <= 'Z')) {
          return c;
        }
    }
    std::string seen = "\\";
    utf8_append(seen, c);
    return bad(begin, seen, "no look-around, back reference, \\b or \\p: these are not supported");
  }

  Result<char32_t> unicode_escape(std::size_t begin) {
    if (take("{")) {
      std::size_t digits = 0;
      while (at_ + digits < text_.size() && text_[at_ + digits] != '}') ++digits;
      if (digits == 0 || digits > 6) return bad(begin, "a \\u{…} of no character", "\\u{H…}");
      FATHOM_TRY(const char32_t c, hex(begin, digits));
      if (!take("}") || c > kLastChar) return bad(begin, "a \\u{…} of no character", "\\u{H…}");
      return c;
    }
    FATHOM_TRY(const char32_t high, hex(begin, 4));
    if (high < 0xD800 || high > 0xDBFF || !take("\\u")) return high;
    FATHOM_TRY(const char32_t low, hex(begin, 4));
    if (low < 0xDC00 || low > 0xDFFF) return bad(begin, "half a surrogate pair", "both halves");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  std::string_view text_;
  bool wide_;
  std::size_t at_ = 0;
  Pattern out_;
};

}  // namespace

Result<Pattern> parse_pattern(std::string_view text, PatternReading reading) {
  return Parser(text, reading).parse();
}

}  // namespace fathom::grammar
