// The normal forms: decomposition and composition by utf8proc, canonical ordering by a stable sort.
//
// utf8proc orders combining marks by repeated swaps, quadratic for a text of nothing but marks;
// hence our own ordering between its two halves. Source: Unicode 15, section 3.11; UAX 15.
#include "tokenizer/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/unicode_data.h"

namespace fathom {
namespace {

using Kind = NormalizerStep::Kind;

// Characters that utf8proc 2.8 (Unicode 15) decomposes or orders and the `tokenizers` library 0.23
// does not (its tables are those of Unicode 9): left as they are, as when today's vocabularies were
// trained. Made by comparing both for every code point, alone and beside marks of five classes.
constexpr CodePointRange kUnknownToReference[] = {
    // clang-format off
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C},
    {0xD3B, 0xD3C}, {0xEBA, 0xEBA}, {0x1715, 0x1715}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF}, {0xA7F2, 0xA7F4}, {0xA82C, 0xA82C}, {0xAB69, 0xAB69}, {0x10781, 0x107BA},
    {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9}
    // clang-format on
};

bool is_unknown_to_reference(char32_t c) {
  const auto* it =
      std::upper_bound(std::begin(kUnknownToReference), std::end(kUnknownToReference), c,
                       [](char32_t x, const CodePointRange& r) { return x < r.first; });
  return it != std::begin(kUnknownToReference) && c <= std::prev(it)->last;
}

int combining_class(utf8proc_int32_t c) {
  const int ccc = utf8proc_get_property(c)->combining_class;
  return ccc == 0 || is_unknown_to_reference(static_cast<char32_t>(c)) ? 0 : ccc;
}

// Appends the decomposition of `c`.
void decompose(char32_t c, utf8proc_option_t options, std::vector<utf8proc_int32_t>& out) {
  if (c < 0x80 || is_unknown_to_reference(c)) {
    out.push_back(static_cast<utf8proc_int32_t>(c));
    return;
  }
  constexpr int kLongest = 32;  // U+FDFA gives 18 under NFKD
  utf8proc_int32_t buffer[kLongest];
  int boundary = 0;
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, kLongest,
                                             options, &boundary);
  FATHOM_CHECK(count >= 0 && count <= kLongest)
      << " U+" << std::hex << uint32_t{c} << ": " << count;
  out.insert(out.end(), buffer, buffer + count);
}

// Sorts every run of marks by class; equal classes keep their order.
void order_marks(std::span<utf8proc_int32_t> text) {
  for (std::size_t i = 0; i < text.size();) {
    if (combining_class(text[i]) == 0) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(i),
                     text.begin() + static_cast<std::ptrdiff_t>(end),
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    i = end;
  }
}

std::string normal_form(std::string_view text, Kind kind) {
  const bool compose = kind == Kind::kNfc || kind == Kind::kNfkc;
  const bool compatible = kind == Kind::kNfkc || kind == Kind::kNfkd;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = utf8_valid_length(text, i);
    decompose(utf8_decode(text, i, n), options, points);
    i += n;
  }
  order_marks(points);
  auto size = static_cast<utf8proc_ssize_t>(points.size());
  if (compose) {
    size = utf8proc_normalize_utf32(
        points.data(), size, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    FATHOM_CHECK_GE(size, 0);
  }
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < size; ++i) utf8_append(out, static_cast<char32_t>(points[i]));
  return out;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

Result<std::string> replace_all(std::string_view text, const Regex& regex, std::string_view content,
                                RegexScratch& scratch) {
  std::string out;
  std::size_t done = 0;
  RegexMatches matches(regex, text, scratch);
  Regex::Match match;
  for (;;) {
    const Regex::Outcome outcome = text.empty() ? Regex::Outcome::kNone : matches.next(match);
    if (outcome == Regex::Outcome::kLimit) return regex.limit_error(text, matches.position());
    if (outcome == Regex::Outcome::kNone) break;
    out += text.substr(done, match.begin - done);
    out += content;
    done = match.end;
  }
  out += text.substr(done);
  return out;
}

}  // namespace

Result<Normalizer> Normalizer::create(const std::vector<NormalizerStep>& steps,
                                      std::string_view source) {
  Normalizer out;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    Step step{steps[i], {}};
    if (step.spec.kind == Kind::kReplace) {
      const std::string where = fmt::format("{}: normalizer[{}].pattern", source, i);
      FATHOM_TRY(Regex regex, step.spec.is_regex
                                  ? Regex::compile(step.spec.pattern, where)
                                  : Regex::compile_literal(step.spec.pattern, where));
      step.regex.push_back(std::move(regex));
    }
    out.steps_.push_back(std::move(step));
  }
  return out;
}

Result<std::string_view> Normalizer::apply(std::string_view text, std::string& storage,
                                           RegexScratch& scratch) const {
  std::string_view current = text;
  for (const Step& step : steps_) {
    if (step.spec.kind == Kind::kPrepend) {
      if (!current.empty()) storage = step.spec.content + std::string(current);
      if (!current.empty()) current = storage;
    } else if (step.spec.kind == Kind::kReplace) {
      FATHOM_TRY(storage, replace_all(current, step.regex.front(), step.spec.content, scratch));
      current = storage;
    } else if (!is_ascii(current)) {
      storage = normal_form(current, step.spec.kind);
      current = storage;
    }
  }
  return current;
}

}  // namespace fathom
