// The rewriting: one pass over the expression, each construct written out in PCRE2's syntax.
//
// Syntax and meaning of the input: Oniguruma's doc/RE (6.9). Sets hold no nested sets and no
// intersections here; DeepSeek's, Qwen's and Llama's expressions need none.
#include "tokenizer/regex_syntax.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <iterator>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "base/utf8.h"
#include "tokenizer/unicode_data.h"

namespace fathom {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 37> kLongNames = {{
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
    {"surrogate", "Cs"},
}};

constexpr std::array<std::string_view, 10> kScripts = {"Han",    "Hiragana", "Katakana", "Hangul",
                                                       "Latin",  "Cyrillic", "Greek",    "Arabic",
                                                       "Hebrew", "Thai"};

// Loose matching of property names (UAX 44, LM3): case, blanks, '_' and '-' do not count.
std::string loose(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

std::string set_of(std::span<const CodePointRange> ranges) {
  std::string out;
  for (const auto& r : ranges) {
    out += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", uint32_t{r.first}, uint32_t{r.last});
  }
  return out;
}

// Every code point that the ascending ranges leave out.
std::string complement_of(std::span<const CodePointRange> ranges) {
  std::string out;
  char32_t next = 0;
  for (const auto& r : ranges) {
    if (r.first > next) {
      out += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", uint32_t{next}, uint32_t{r.first - 1});
    }
    next = r.last + 1;
  }
  return out + fmt::format("\\x{{{:x}}}-\\x{{10ffff}}", uint32_t{next});
}

void append_literal(std::string& out, char32_t c) {
  if (c < 0x80 && !std::isalnum(static_cast<int>(c))) {
    out += fmt::format("\\x{:02x}", uint32_t{c});
  } else {
    utf8_append(out, c);
  }
}

class Rewriter {
 public:
  Rewriter(std::string_view in, UnicodeTables tables) : in_(in), tables_(tables) {}

  Result<std::string> run() {
    while (!at_end()) FATHOM_TRY_STATUS(item());
    return std::move(out_);
  }

 private:
  bool at_end() const { return pos_ >= in_.size(); }
  bool next_is(std::string_view text) const { return in_.substr(pos_).starts_with(text); }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    pos_ += text.size();
    return true;
  }
  // Requires valid UTF-8, which regex_to_pcre2 has checked.
  char32_t take_char() {
    const std::size_t n = utf8_valid_length(in_, pos_);
    const char32_t c = utf8_decode(in_, pos_, n);
    pos_ += n;
    return c;
  }
  Error refuse(std::string_view what) const {
    return invalid_argument(fmt::format("at byte {}: {}", pos_, what));
  }

  Status item() {
    const char c = in_[pos_];
    switch (c) {
      case '[':
        return char_class();
      case '(':
        return group();
      case '\\':
        return escape();
      case '{':
        return interval();
      case '*':
      case '+':
      case '?':
      case '.':
      case '^':
      case '$':
      case '|':
      case ')':
        out_ += c;
        ++pos_;
        return {};
      default:
        append_literal(out_, take_char());
        return {};
    }
  }

  Status group() {
    for (const std::string_view plain : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (take(plain)) {
        out_ += plain;
        return {};
      }
    }
    if (next_is("(*")) return refuse("\"(*\" is unsupported");
    if (!take("(?")) {
      take("(");
      out_ += "(?:";
      return {};
    }
    if (take("#")) {
      const std::size_t end = in_.find(')', pos_);
      if (end == std::string_view::npos) return refuse("a comment without its end");
      pos_ = end + 1;
      return {};
    }
    if (take("<")) {
      const std::size_t end = in_.find('>', pos_);
      if (end == std::string_view::npos) return refuse("a group's name without its end");
      pos_ = end + 1;
      out_ += "(?:";
      return {};
    }
    return group_options();
  }

  // (?im-im) and (?im-im:…): Oniguruma's m is what PCRE2 calls s.
  Status group_options() {
    out_ += "(?";
    while (!at_end()) {
      const char c = in_[pos_];
      if (c != 'i' && c != 'm' && c != '-' && c != ':' && c != ')') break;
      ++pos_;
      out_ += c == 'm' ? 's' : c;
      if (c == ':' || c == ')') return {};
    }
    return refuse("a group that is not (…), (?:…), (?i…), (?m…), (?>…), (?<name>…) or lookaround");
  }

  // {n}, {n,}, {,m}, {n,m}; anything else is a literal brace.
  Status interval() {
    std::size_t p = pos_ + 1;
    const auto digits = [&] {
      const std::size_t begin = p;
      while (p < in_.size() && std::isdigit(static_cast<unsigned char>(in_[p]))) ++p;
      return in_.substr(begin, p - begin);
    };
    const std::string_view low = digits();
    const bool comma = p < in_.size() && in_[p] == ',';
    if (comma) ++p;
    const std::string_view high = comma ? digits() : low;
    if (p >= in_.size() || in_[p] != '}' || (low.empty() && high.empty())) {
      append_literal(out_, take_char());
      return {};
    }
    pos_ = p + 1;
    out_ += '{';
    out_ += low.empty() ? "0" : low;
    if (comma) out_ += ',';
    if (comma) out_ += high;
    out_ += '}';
    // Oniguruma reads {…}+ as a repeated repeat and {n}? as an optional one.
    if (next_is("+") || (next_is("?") && !comma)) return refuse("{n}? and {…}+ are unsupported");
    return {};
  }

  Status escape() {
    FATHOM_TRY(const auto code_point, simple_escape());
    if (code_point) {
      append_literal(out_, *code_point);
      return {};
    }
    const char c = in_[pos_ + 1];
    if (c == 'A' || c == 'z' || c == 'Z') {
      pos_ += 2;
      out_ += '\\';
      out_ += c;
      return {};
    }
    FATHOM_TRY(const Set set, set_escape());
    out_ += set.negated ? "[^" : "[";
    out_ += set.items;
    out_ += ']';
    return {};
  }

  // An escape for one code point; none if it is something else, with nothing taken.
  Result<std::optional<char32_t>> simple_escape() {
    using Found = std::optional<char32_t>;
    const std::size_t start = pos_;
    if (pos_ + 1 >= in_.size()) return refuse("a lone backslash at the end");
    ++pos_;
    static constexpr std::string_view kLetters = "nrtfaev";
    static constexpr char32_t kCodes[] = {'\n', '\r', '\t', '\f', '\a', 0x1B, '\v'};
    if (const auto k = kLetters.find(in_[pos_]); k != std::string_view::npos) {
      ++pos_;
      return Found(kCodes[k]);
    }
    if (take("x{")) return hex(1, 8, '}');
    if (take("x")) return hex(1, 2, 0);
    if (take("u")) return hex(4, 4, 0);
    const char32_t c = take_char();
    if (c >= 0x80 || !std::isalnum(static_cast<int>(c))) return Found(c);
    pos_ = start;
    return Found();
  }

  Result<std::optional<char32_t>> hex(int min_digits, int max_digits, char end) {
    uint32_t value = 0;
    int n = 0;
    for (; n < max_digits && !at_end() && std::isxdigit(static_cast<unsigned char>(in_[pos_]));
         ++n) {
      const char c = static_cast<char>(std::tolower(static_cast<unsigned char>(in_[pos_++])));
      value = value * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (n < min_digits) return refuse("too few hexadecimal digits");
    if (end != 0 && !take({&end, 1})) return refuse("\\x{…} without its end");
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      return refuse(fmt::format("{:x} is not a character", value));
    }
    // \x80 to \xff are bytes to Oniguruma, halves of a character.
    if (max_digits == 2 && value >= 0x80)
      return refuse("\\x80 to \\xff are unsupported, use \\x{…}");
    return std::optional<char32_t>(value);
  }

  // What stands between the brackets of a set, and whether all but that is meant.
  struct Set {
    std::string items;
    bool negated = false;
  };

  Result<Set> set_escape() {
    const char c = in_[pos_ + 1];
    if (c == 'p' || c == 'P') return property();
    const bool negated = std::isupper(static_cast<unsigned char>(c)) != 0;
    Set set{"", negated};
    switch (std::tolower(static_cast<unsigned char>(c))) {
      case 's':
        set.items = set_of(white_space());
        break;
      case 'd':
        set.items = category("Nd");
        break;
      case 'w':
        for (const char* name : {"L", "M", "Nd", "Nl", "Pc"}) set.items += category(name);
        set.items += set_of(other_word_characters());
        break;
      case 'h':
        set.items = "0-9A-Fa-f";
        break;
      default:
        return refuse(fmt::format("the escape \\{} is unsupported", c));
    }
    pos_ += 2;
    return set;
  }

  Result<Set> property() {
    bool negated = in_[pos_ + 1] == 'P';
    const std::size_t end = in_.find('}', pos_);
    if (pos_ + 2 >= in_.size() || in_[pos_ + 2] != '{' || end == std::string_view::npos) {
      return refuse("\\p without {…}");
    }
    std::string_view name = in_.substr(pos_ + 3, end - pos_ - 3);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::string key = loose(name);
    for (const auto& [long_name, short_name] : kLongNames) {
      if (key != long_name && key != loose(short_name)) continue;
      pos_ = end + 1;
      return Set{category(short_name), negated};
    }
    for (const std::string_view script : kScripts) {
      if (key != loose(script)) continue;
      pos_ = end + 1;
      return Set{fmt::format("\\p{{sc:{}}}", script), negated};
    }
    return refuse("a property that is neither a general category nor a known script");
  }

  // A general category as set items.
  std::string category(std::string_view name) const {
    std::string out = fmt::format("\\p{{{}}}", name);
    if (tables_ == UnicodeTables::kPcre2) return out;
    for (const CategoryRange& r : categories_since_unicode_14()) {
      if (!std::string_view(r.category).starts_with(name)) continue;
      const CodePointRange range{r.first, r.last};
      out += set_of({&range, 1});
    }
    return out;
  }

  Status char_class() {
    take("[");
    out_ += take("^") ? "[^" : "[";
    bool first = true;
    while (first || !next_is("]")) {
      if (at_end()) return refuse("a set without its end");
      FATHOM_TRY_STATUS(class_item(first));
      first = false;
    }
    take("]");
    out_ += ']';
    return {};
  }

  Status class_item(bool first) {
    if (next_is("[")) return refuse("a set within a set is unsupported");
    if (next_is("&&")) return refuse("&& within a set is unsupported");
    if (!first && next_is("-") && !next_is("-]"))
      return refuse("'-' here is neither range nor last");
    FATHOM_TRY(const auto low, class_char());
    if (!low) return class_set();
    append_literal(out_, *low);
    if (!next_is("-") || next_is("-]")) return {};
    take("-");
    if (next_is("[")) return refuse("a range that ends in a set");
    if (at_end()) return refuse("a set without its end");
    FATHOM_TRY(const auto high, class_char());
    if (!high || *high < *low) return refuse("a range that does not ascend");
    out_ += '-';
    append_literal(out_, *high);
    return {};
  }

  Result<std::optional<char32_t>> class_char() {
    if (next_is("\\")) return simple_escape();
    return std::optional<char32_t>(take_char());
  }

  Status class_set() {
    const char c = in_[pos_ + 1];
    if (c == 'W') return refuse("\\W within a set is unsupported");
    FATHOM_TRY(const Set set, set_escape());
    if (!set.negated) {
      out_ += set.items;
    } else if (c == 'S') {
      out_ += complement_of(white_space());
    } else if (c == 'H') {
      out_ += R"(\x{0}-\x{2f}\x{3a}-\x{40}\x{47}-\x{60}\x{67}-\x{10ffff})";
    } else {
      // Recent code points cannot be taken out of \P within a set: they count as in PCRE2.
      out_ += "\\P" + set.items.substr(2, set.items.find('}') - 1);
    }
    return {};
  }

  std::string_view in_;
  UnicodeTables tables_;
  std::size_t pos_ = 0;
  std::string out_;
};

}  // namespace

Result<std::string> regex_to_pcre2(std::string_view pattern, UnicodeTables tables) {
  if (static_cast<int64_t>(pattern.size()) > limits::kMaxRegexBytes) {
    return resource_limit(fmt::format("{} bytes of expression, the limit is {}", pattern.size(),
                                      limits::kMaxRegexBytes));
  }
  if (!utf8_is_valid(pattern)) return invalid_argument("an expression that is not UTF-8");
  return Rewriter(pattern, tables).run();
}

std::string literal_to_pcre2(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = utf8_valid_length(text, i);
    append_literal(out, utf8_decode(text, i, n));
    i += n;
  }
  return out;
}

}  // namespace fathom
