#include "grammar/number_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <tuple>

#include "base/limits.h"

namespace fathom::grammar {
namespace {

constexpr std::size_t kMaxDoubleDigits = 15;  // that survive the way to a double and back
constexpr std::size_t kOpenIntegerDigits = 18;
constexpr std::size_t kOpenNumberDigits = 9;  // before the point, where no bound says more

int compare_magnitude(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int c = a.whole.compare(b.whole); c != 0) return c;
  return a.fraction.compare(b.fraction);  // "1" < "12": a prefix is the smaller
}

bool is_zero(const Decimal& d) { return d.whole == "0" && d.fraction.empty(); }

Decimal magnitude(Decimal d) {
  d.negative = false;
  return d;
}

// Digits of numbers without a sign, within bounds that are not negative.
class Digits {
 public:
  struct Range {
    Bound low;  // at least zero
    std::optional<Bound> high;
    int64_t multiple_of = 1;
    bool integer = false;
  };

  Digits(GrammarBuilder& builder, Range range, StateId to)
      : b_(builder), range_(std::move(range)), to_(to) {
    const std::size_t open = range_.integer ? kOpenIntegerDigits : kOpenNumberDigits;
    max_whole_ = range_.high ? range_.high->value.whole.size()
                             : std::max(open, range_.low.value.whole.size() + 1);
    if (!range_.integer && max_whole_ < kMaxDoubleDigits)
      max_fraction_ = kMaxDoubleDigits - max_whole_;
  }

  void write(StateId from) {
    b_.jump(from, state_of({}));
    while (!work_.empty() && !b_.full()) {
      const Place place = work_.front();
      work_.pop_front();
      if (place.fraction) {
        write_fraction(place);
      } else {
        write_whole(place);
      }
    }
  }

 private:
  // What was read: `digits` of the whole part or of the fraction. low and high: how they compare
  // with as many digits of the bound's (-1, 0, 1).
  struct Place {
    bool fraction = false;
    bool zero = false;  // the whole part is "0"
    uint32_t digits = 0;
    int low = 0;
    int high = 0;
    int64_t rest = 0;  // modulo multiple_of
    auto tied() const { return std::tie(fraction, zero, digits, low, high, rest); }
    bool operator<(const Place& other) const { return tied() < other.tied(); }
  };

  StateId state_of(const Place& place) {
    const auto [it, fresh] = states_.try_emplace(place, 0);
    if (fresh) {
      it->second = b_.state();
      work_.push_back(place);
    }
    return it->second;
  }

  static int step(int compared, const std::string& bound, uint32_t at, char digit) {
    if (compared != 0) return compared;
    const char other = at < bound.size() ? bound[at] : '0';
    return digit < other ? -1 : digit > other ? 1 : 0;
  }
  static int whole_compared(int compared, const std::string& bound, uint32_t digits) {
    if (digits != bound.size()) return digits < bound.size() ? -1 : 1;
    return compared;
  }
  // The number ends here; its fraction has `digits` digits, equal so far where compared is 0.
  bool ends_well(int low, int high, std::size_t digits, int64_t rest) const {
    const auto equal = [&](const Bound& bound) { return digits >= bound.value.fraction.size(); };
    if (rest != 0 || low < 0) return false;
    if (low == 0 && (!equal(range_.low) || range_.low.exclusive)) return false;
    if (!range_.high || high < 0) return true;
    return high == 0 && (!equal(*range_.high) || !range_.high->exclusive);
  }

  void write_whole(const Place& place) {
    const StateId from = states_.at(place);
    if (place.digits < max_whole_ && !place.zero) {
      for (char digit = '0'; digit <= '9'; ++digit) {
        Place next = place;
        next.zero = place.digits == 0 && digit == '0';
        next.low = step(place.low, range_.low.value.whole, place.digits, digit);
        if (range_.high)
          next.high = step(place.high, range_.high->value.whole, place.digits, digit);
        next.rest = (place.rest * 10 + (digit - '0')) % range_.multiple_of;
        ++next.digits;
        b_.edge(from, digit, state_of(next));
      }
    }
    if (place.digits == 0) return;
    const int low = whole_compared(place.low, range_.low.value.whole, place.digits);
    const int high =
        range_.high ? whole_compared(place.high, range_.high->value.whole, place.digits) : -1;
    if (ends_well(low, high, 0, place.rest)) b_.jump(from, to_);
    if (max_fraction_ == 0 || low < 0 || high > 0) return;
    const StateId point = b_.state();
    b_.edge(from, '.', point);
    b_.jump(point, state_of({.fraction = true, .low = low, .high = high}));
  }

  void write_fraction(const Place& place) {
    const StateId from = states_.at(place);
    if (place.digits > 0 && ends_well(place.low, place.high, place.digits, 0)) b_.jump(from, to_);
    if (place.digits == max_fraction_) return;
    for (char digit = '0'; digit <= '9'; ++digit) {
      Place next = place;
      next.low = step(place.low, range_.low.value.fraction, place.digits, digit);
      if (range_.high)
        next.high = step(place.high, range_.high->value.fraction, place.digits, digit);
      ++next.digits;
      if (next.low >= 0 && next.high <= 0) b_.edge(from, digit, state_of(next));
    }
  }

  GrammarBuilder& b_;
  Range range_;
  StateId to_;
  std::size_t max_whole_ = 0;
  std::size_t max_fraction_ = 0;
  std::map<Place, StateId> states_;
  std::deque<Place> work_;
};

bool tighter_low(const Bound& a, const Bound& b) {
  const int c = compare(a.value, b.value);
  return c > 0 || (c == 0 && a.exclusive && !b.exclusive);
}

bool tighter_high(const Bound& a, const Bound& b) {
  const int c = compare(a.value, b.value);
  return c < 0 || (c == 0 && a.exclusive && !b.exclusive);
}

Status check_precision(const std::optional<Bound>& bound) {
  if (!bound || !bound->exclusive) return {};
  const Decimal& d = bound->value;
  if ((d.whole == "0" ? 0 : d.whole.size()) + d.fraction.size() <= kMaxDoubleDigits) return {};
  return invalid_argument(
      fmt::format("the exclusive bound {} has more than {} digits, expected at most so many",
                  to_text(d), kMaxDoubleDigits));
}

}  // namespace

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal out;
  if (text.starts_with("-")) {
    out.negative = true;
    text.remove_prefix(1);
  }
  int exponent = 0;
  if (const std::size_t e = text.find_first_of("eE"); e != text.npos) {
    std::string_view digits = text.substr(e + 1);
    const bool negative = digits.starts_with("-");
    if (negative || digits.starts_with("+")) digits.remove_prefix(1);
    for (const char c : digits) exponent = std::min(exponent * 10 + (c - '0'), 1000);
    if (negative) exponent = -exponent;
    text = text.substr(0, e);
  }
  const std::size_t point = text.find('.');
  std::string whole(text.substr(0, point));
  std::string fraction(point == text.npos ? "" : text.substr(point + 1));
  if (static_cast<int>(whole.size() + fraction.size()) + std::abs(exponent) > 1200)
    return std::nullopt;
  for (; exponent > 0; --exponent) {
    whole += fraction.empty() ? '0' : fraction[0];
    if (!fraction.empty()) fraction.erase(0, 1);
  }
  for (; exponent < 0; ++exponent) {
    fraction.insert(fraction.begin(), whole.empty() ? '0' : whole.back());
    if (!whole.empty()) whole.pop_back();
  }
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (whole.size() + fraction.size() > limits::kMaxNumberDigits) return std::nullopt;
  out.whole = whole.empty() ? "0" : whole;
  out.fraction = fraction;
  if (is_zero(out)) out.negative = false;
  return out;
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  return a.negative ? compare_magnitude(b, a) : compare_magnitude(a, b);
}

std::string to_text(const Decimal& value) {
  return (value.negative ? "-" : "") + value.whole +
         (value.fraction.empty() ? "" : "." + value.fraction);
}

bool NumberRange::contains(const Decimal& value) const {
  if (integer && !value.fraction.empty()) return false;
  if (low) {
    const int c = compare(value, low->value);
    if (c < 0 || (c == 0 && low->exclusive)) return false;
  }
  if (high) {
    const int c = compare(value, high->value);
    if (c > 0 || (c == 0 && high->exclusive)) return false;
  }
  return true;
}

void NumberRange::intersect(const NumberRange& other) {
  if (other.low && (!low || tighter_low(*other.low, *low))) low = other.low;
  if (other.high && (!high || tighter_high(*other.high, *high))) high = other.high;
  multiple_of = std::lcm(multiple_of, other.multiple_of);
  integer = integer || other.integer;
}

Status write_number(GrammarBuilder& builder, const NumberRange& range, StateId from, StateId to) {
  if (!range.integer) {
    FATHOM_TRY_STATUS(check_precision(range.low));
    FATHOM_TRY_STATUS(check_precision(range.high));
  }
  const Bound zero{.value = {}, .exclusive = false};
  const bool integer = range.integer || range.multiple_of != 1;
  if (!range.high || !range.high->value.negative) {
    const bool low_counts = range.low && !range.low->value.negative;
    Digits(builder,
           {.low = low_counts ? *range.low : zero,
            .high = range.high,
            .multiple_of = range.multiple_of,
            .integer = integer},
           to)
        .write(from);
  }
  if (!range.low || range.low->value.negative) {
    // The same for what follows a minus, with the bounds' parts exchanged. Zero has no minus.
    Digits::Range mirrored{.low = {.value = {}, .exclusive = true},
                           .high = std::nullopt,
                           .multiple_of = range.multiple_of,
                           .integer = integer};
    if (range.high && range.high->value.negative)
      mirrored.low = {magnitude(range.high->value), range.high->exclusive};
    if (range.low) mirrored.high = Bound{magnitude(range.low->value), range.low->exclusive};
    const StateId minus = builder.state();
    builder.edge(from, '-', minus);
    Digits(builder, std::move(mirrored), to).write(minus);
  }
  return {};
}

}  // namespace fathom::grammar
