// Numbers within bounds, as automata over their digits.
//
// Exact in decimal: no bound is rounded. Numbers that are no integers have at most 15 digits in
// all, so that a reader's conversion to double keeps them on the right side of a bound; bounded
// numbers are written without an exponent. Internal to this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "grammar/grammar_builder.h"

namespace fathom::grammar {

// negative ? -whole.fraction : whole.fraction; no zeros before `whole` but "0", none at the end of
// `fraction`. Zero is not negative.
struct Decimal {
  bool negative = false;
  std::string whole = "0";
  std::string fraction;
};

// A JSON number's text. Nothing if written out it has more than kMaxNumberDigits digits.
std::optional<Decimal> parse_decimal(std::string_view text);
int compare(const Decimal& a, const Decimal& b);
std::string to_text(const Decimal& value);

struct Bound {
  Decimal value;
  bool exclusive = false;
};

struct NumberRange {
  std::optional<Bound> low;
  std::optional<Bound> high;
  int64_t multiple_of = 1;  // of integers
  bool integer = false;

  bool is_free() const { return !low && !high && multiple_of == 1; }
  bool contains(const Decimal& value) const;  // multiple_of is not looked at
  // Narrows this to what `other` allows as well.
  void intersect(const NumberRange& other);
};

// Reads a number of the range, which is not free, from `from` to `to`. Errors: invalid argument for
// an exclusive bound too precise for doubles.
Status write_number(GrammarBuilder& builder, const NumberRange& range, StateId from, StateId to);

}  // namespace fathom::grammar
