#include "grammar/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/limits.h"

namespace fathom::grammar {
namespace {

constexpr int kMaxIndent = 40;
constexpr int kMaxTabs = 10;
constexpr int kMaxIntegerDigits = 18;
constexpr int kMaxNumberDigits = 15;
constexpr int kMaxExponentDigits = 2;
constexpr char32_t kBehindAll = kLastChar + 1;

// The letter of a two-character escape; 0 if there is none.
char short_escape(char32_t c) {
  switch (c) {
    case '"':
      return '"';
    case '\\':
      return '\\';
    case '\b':
      return 'b';
    case '\f':
      return 'f';
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    case '\t':
      return 't';
    default:
      return 0;
  }
}

}  // namespace

std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (const char letter = short_escape(byte); letter != 0) {
      out += '\\';
      out += letter;
    } else if (byte < 0x20) {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

StateId JsonText::space(StateId from) {
  if (compact_) return from;
  if (!space_) {
    space_ = b_.state();
    b_.jump(*space_, b_.end());
    b_.edge(*space_, ' ', b_.end());
    const StateId line = b_.state();
    b_.edge(*space_, '\n', line);
    b_.jump(line, b_.end());
    for (const auto& [byte, count] : {std::pair(' ', kMaxIndent), std::pair('\t', kMaxTabs)}) {
      StateId at = line;
      for (int i = 0; i < count; ++i) {
        const StateId to = b_.state();
        b_.edge(at, byte, to);
        b_.jump(to, b_.end());
        at = to;
      }
    }
  }
  const StateId back = b_.state();
  b_.call(from, *space_, back);
  return back;
}

StateId JsonText::space_behind_colon(StateId from) {
  if (compact_) return from;
  const StateId to = b_.state();
  b_.jump(from, to);
  b_.edge(from, ' ', to);
  return to;
}

StateId JsonText::space_at_begin(StateId from) {
  if (compact_) return from;
  const StateId to = b_.state();
  const StateId line = b_.state();
  b_.jump(from, to);
  b_.edge(from, ' ', to);
  b_.edge(from, '\n', line);
  b_.jump(line, to);
  b_.edge(line, '\n', to);
  return to;
}

StateId JsonText::continuation(uint8_t first, uint8_t last, StateId to) {
  const auto [it, fresh] = continuations_.try_emplace({first, last, to}, 0);
  if (fresh) {
    it->second = b_.state();
    b_.edge(it->second, first, last, to);
  }
  return it->second;
}

void JsonText::utf8(StateId from, char32_t first, char32_t last, StateId to) {
  constexpr std::array<char32_t, 4> kLastOfLength = {0x7F, 0x7FF, 0xFFFF, kLastChar};
  for (int length = 1; length <= 4 && first <= last; ++length) {
    const char32_t end = std::min(last, kLastOfLength[length - 1]);
    if (first > end) continue;
    // Surrogates are no characters.
    if (length == 3) {
      if (first < 0xD800) utf8_of_length(from, 3, first, std::min<char32_t>(end, 0xD7FF), to);
      if (end > 0xDFFF) utf8_of_length(from, 3, std::max<char32_t>(first, 0xE000), end, to);
    } else {
      utf8_of_length(from, length, first, end, to);
    }
    first = end + 1;
  }
}

// Splits the range until all but its first bytes vary independently.
void JsonText::utf8_of_length(StateId from, int length, char32_t first, char32_t last, StateId to) {
  for (int tail = 1; tail < length; ++tail) {
    const char32_t mask = (char32_t{1} << (6 * tail)) - 1;
    if ((first & ~mask) == (last & ~mask)) continue;
    if ((first & mask) != 0) {
      utf8_of_length(from, length, first, first | mask, to);
      return utf8_of_length(from, length, (first | mask) + 1, last, to);
    }
    if ((last & mask) != mask) {
      utf8_of_length(from, length, first, (last & ~mask) - 1, to);
      return utf8_of_length(from, length, last & ~mask, last, to);
    }
  }
  constexpr std::array<uint8_t, 4> kLead = {0x00, 0xC0, 0xE0, 0xF0};
  StateId next = to;
  for (int i = 0; i + 1 < length; ++i) {
    const auto low = static_cast<uint8_t>(0x80 | (first >> (6 * i) & 0x3F));
    const auto high = static_cast<uint8_t>(0x80 | (last >> (6 * i) & 0x3F));
    next = continuation(low, high, next);
  }
  const int shift = 6 * (length - 1);
  b_.edge(from, static_cast<uint8_t>(kLead[length - 1] | first >> shift),
          static_cast<uint8_t>(kLead[length - 1] | last >> shift), next);
}

// The one escape of each character from `first` to `last`, which all need one, behind the
// backslash.
void JsonText::escapes_of(StateId backslash, char32_t first, char32_t last, StateId to) {
  for (char32_t c = first; c <= last; ++c) {
    if (const char letter = short_escape(c); letter != 0) {
      b_.edge(backslash, letter, to);
      continue;
    }
    // A run of \u00XY with one X, and Ys that are all digits or all letters.
    const char32_t end_of_run = (c & 0xF) < 10 ? (c | 0xF) - 6 : c | 0xF;
    char32_t run_end = c;
    while (run_end < std::min(last, end_of_run) && short_escape(run_end + 1) == 0) ++run_end;
    const std::string_view hex = "0123456789abcdef";
    StateId at = continuation(static_cast<uint8_t>(hex[c & 0xF]),
                              static_cast<uint8_t>(hex[run_end & 0xF]), to);
    for (const char digit : {hex[c >> 4], '0', '0'}) {
      const auto byte = static_cast<uint8_t>(digit);
      at = continuation(byte, byte, at);
    }
    b_.edge(backslash, 'u', at);
    c = run_end;
  }
}

void JsonText::free_character(StateId from, StateId to) {
  utf8(from, 0x20, 0x21, to);
  utf8(from, 0x23, 0x5B, to);
  utf8(from, 0x5D, kLastChar, to);
  const StateId backslash = b_.state();
  b_.edge(from, '\\', backslash);
  for (const char c : std::string_view("\"\\/bfnrt")) b_.edge(backslash, c, to);
  const auto hex = [&](StateId a, StateId b, std::string_view digits) {
    for (const char c : digits) {
      b_.edge(a, c, b);
      if (c >= 'a') b_.edge(a, static_cast<char>(c - 'a' + 'A'), b);
    }
  };
  constexpr std::string_view kHex = "0123456789abcdef";
  const StateId u = b_.state();
  b_.edge(backslash, 'u', u);
  const StateId h3 = b_.state(), h2 = b_.state(), h1 = b_.state(), d = b_.state();
  hex(u, h3, "0123456789abcef");
  hex(h3, h2, kHex);
  hex(h2, h1, kHex);
  hex(h1, to, kHex);
  hex(u, d, "d");
  hex(d, h2, "01234567");
  StateId at = b_.state();
  hex(d, at, "89ab");  // the first of a pair of surrogates; what follows is the second
  for (int i = 0; i < 2; ++i) {
    const StateId next = b_.state();
    hex(at, next, kHex);
    at = next;
  }
  at = b_.text(at, "\\u");
  const StateId low = b_.state();
  hex(at, low, "d");
  hex(low, h2, "cdef");
}

StateId JsonText::character_rule() {
  if (!character_) {
    character_ = b_.state();
    free_character(*character_, b_.end());
    b_.set_covered(*character_);
  }
  return *character_;
}

StateId JsonText::string_loop() {
  if (!loop_) {
    loop_ = b_.state();
    free_character(*loop_, *loop_);
    b_.edge(*loop_, '"', b_.end());
    b_.set_string_place(*loop_, {.min_left = 0, .max_left = -1});
  }
  return *loop_;
}

StateId JsonText::string_rule() {
  if (!string_) {
    string_ = b_.state();
    b_.edge(*string_, '"', string_loop());
  }
  return *string_;
}

void JsonText::string_of_length(StateId from, int64_t min, int64_t max, StateId to) {
  StateId at = b_.state();
  b_.edge(from, '"', at);
  const int64_t last = max < 0 ? min : max;
  for (int64_t i = 0; i <= last && !b_.full(); ++i) {
    if (i >= min) b_.edge(at, '"', to);
    b_.set_string_place(
        at, {.min_left = std::max<int64_t>(min - i, 0), .max_left = max < 0 ? -1 : max - i});
    if (i == last) break;
    const StateId next = b_.state();
    b_.call(at, character_rule(), next);
    at = next;
  }
  if (max < 0) b_.call(at, character_rule(), at);
}

void JsonText::string_of(StateId from, const CharDfa& dfa, StateId to) {
  std::vector<StateId> states;
  for (std::size_t i = 0; i < dfa.states.size() && !b_.full(); ++i) states.push_back(b_.state());
  if (b_.full()) return;
  b_.edge(from, '"', states[0]);
  for (std::size_t s = 0; s < states.size(); ++s) {
    if (dfa.states[s].accepts) b_.edge(states[s], '"', to);
    std::optional<StateId> backslash;
    const auto escaped = [&](char32_t first, char32_t last, StateId target) {
      if (!backslash) {
        backslash = b_.state();
        b_.edge(states[s], '\\', *backslash);
      }
      escapes_of(*backslash, first, last, target);
    };
    for (const CharDfa::Edge& edge : dfa.states[s].edges) {
      if (b_.full()) return;
      const StateId target = states[edge.to];
      if (edge.first < 0x20) escaped(edge.first, std::min<char32_t>(edge.last, 0x1F), target);
      char32_t first = std::max<char32_t>(edge.first, 0x20);
      for (const char32_t special : {U'"', U'\\', kBehindAll}) {
        const char32_t last = std::min<char32_t>(edge.last, special - 1);
        if (first <= last) utf8(states[s], first, last, target);
        if (first <= special && special <= edge.last) escaped(special, special, target);
        first = std::max<char32_t>(first, special + 1);
      }
    }
  }
}

void JsonText::text_of(StateId from, const CharDfa& dfa, StateId to) {
  std::vector<StateId> states;
  for (std::size_t i = 0; i < dfa.states.size() && !b_.full(); ++i) states.push_back(b_.state());
  if (b_.full()) return;
  b_.jump(from, states[0]);
  for (std::size_t s = 0; s < states.size() && !b_.full(); ++s) {
    if (dfa.states[s].accepts) b_.jump(states[s], to);
    for (const CharDfa::Edge& edge : dfa.states[s].edges)
      utf8(states[s], edge.first, edge.last, states[edge.to]);
  }
}

StateId JsonText::quoted(StateId from, std::string_view text) {
  return b_.text(from, json_quoted(text));
}

// One to `max` digits, of which each may be the last.
void JsonText::digits(StateId from, int max, StateId last_to) {
  for (int i = 0; i < max; ++i) {
    const StateId to = b_.state();
    b_.edge(from, '0', '9', to);
    b_.jump(to, last_to);
    from = to;
  }
}

StateId JsonText::integer_rule() {
  if (integer_) return *integer_;
  integer_ = b_.state();
  const StateId natural = b_.state();
  b_.edge(*integer_, '0', b_.end());
  b_.jump(*integer_, natural);
  b_.edge(*integer_, '-', natural);
  const StateId first = b_.state();
  b_.edge(natural, '1', '9', first);
  b_.jump(first, b_.end());
  digits(first, kMaxIntegerDigits - 1, b_.end());
  return *integer_;
}

StateId JsonText::number_rule() {
  if (number_) return *number_;
  number_ = b_.state();
  const StateId natural = b_.state(), first = b_.state(), whole = b_.state();
  b_.jump(*number_, natural);
  b_.edge(*number_, '-', natural);
  b_.edge(natural, '0', whole);
  b_.edge(natural, '1', '9', first);
  b_.jump(first, whole);
  digits(first, kMaxNumberDigits - 1, whole);
  const StateId point = b_.state(), fraction = b_.state(), exponent = b_.state(),
                signed_exponent = b_.state();
  b_.edge(whole, '.', point);
  digits(point, kMaxNumberDigits, fraction);
  b_.jump(whole, fraction);
  b_.jump(fraction, b_.end());
  for (const char e : {'e', 'E'}) b_.edge(fraction, e, exponent);
  b_.jump(exponent, signed_exponent);
  for (const char sign : {'+', '-'}) b_.edge(exponent, sign, signed_exponent);
  digits(signed_exponent, kMaxExponentDigits, b_.end());
  return *number_;
}

StateId JsonText::array_rule() {
  if (array_) return *array_;
  array_ = b_.state();
  const StateId open = b_.state();
  b_.edge(*array_, '[', open);
  const StateId begin = space(open);
  b_.edge(begin, ']', b_.end());
  const StateId item = b_.state(), behind = b_.state(), comma = b_.state();
  b_.jump(begin, item);
  b_.call(item, value_rule(), behind);
  b_.edge(behind, ',', comma);
  b_.jump(space(comma), item);
  b_.edge(space(behind), ']', b_.end());
  return *array_;
}

StateId JsonText::object_rule() {
  if (object_) return *object_;
  object_ = b_.state();
  const StateId open = b_.state();
  b_.edge(*object_, '{', open);
  const StateId begin = space(open);
  b_.edge(begin, '}', b_.end());
  const StateId pair = b_.state(), name = b_.state(), colon = b_.state(), behind = b_.state(),
                comma = b_.state();
  b_.jump(begin, pair);
  b_.call(pair, string_rule(), name);
  b_.edge(name, ':', colon);
  b_.call(space_behind_colon(colon), value_rule(), behind);
  b_.edge(behind, ',', comma);
  b_.jump(space(comma), pair);
  b_.edge(space(behind), '}', b_.end());
  return *object_;
}

StateId JsonText::value_rule() {
  if (value_) return *value_;
  value_ = b_.state();
  b_.jump(*value_, value_but_string_rule());
  b_.jump(*value_, string_rule());
  return *value_;
}

StateId JsonText::value_but_string_rule() {
  if (other_value_) return *other_value_;
  other_value_ = b_.state();
  for (const std::string_view word : {"null", "true", "false"})
    b_.jump(b_.text(*other_value_, word), b_.end());
  b_.jump(*other_value_, number_rule());
  b_.jump(*other_value_, array_rule());
  b_.jump(*other_value_, object_rule());
  return *other_value_;
}

}  // namespace fathom::grammar
