// Regex on PCRE2 (8-bit, UTF, UCP). Each expression is compiled up to twice: with PCRE2's own
// Unicode tables, and with the code points that came later; the second form is slower (some hundred
// ranges per property) and serves only texts that hold such a code point.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tokenizer/regex_syntax.h"
#include "tokenizer/unicode_data.h"

namespace fathom {
namespace {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};
using CodePtr = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using CompileContextPtr = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContextPtr = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchDataPtr = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;
using JitStackPtr = std::unique_ptr<pcre2_jit_stack, Freer<pcre2_jit_stack_free>>;

constexpr std::size_t kJitStackStart = 32 * 1024;
constexpr std::size_t kJitStackMax = 1024 * 1024;

struct Compiled {
  CodePtr code;
  bool jit = false;
};

Result<Compiled> compile_pcre2(const std::string& expression, std::string_view shown,
                               std::string_view where) {
  CompileContextPtr context(pcre2_compile_context_create(nullptr));
  FATHOM_CHECK(context != nullptr) << "out of memory";
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE |
                                PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK;
  Compiled out;
  out.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                               kOptions, &error, &offset, context.get()));
  if (out.code == nullptr) {
    std::array<char, 256> text{};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text.data()), text.size());
    return invalid_argument(fmt::format("{}: expression {} does not compile: {}", where,
                                        json_preview(nlohmann::json(shown)), text.data()));
  }
  // Without JIT (not built in, or no executable memory to be had) PCRE2 interprets.
  out.jit = pcre2_jit_compile(out.code.get(), PCRE2_JIT_COMPLETE) == 0;
  return out;
}

// All matches of `\s+$` in linear time; the general matcher needs quadratic time for white space
// that no line end follows, and DeepSeek LLM's chain holds this very expression.
constexpr std::string_view kTrailingSpace = R"(\s+$)";

Regex::Outcome find_trailing_space(std::string_view text, std::size_t from, Regex::Match& match) {
  std::size_t run_begin = from;     // of the white space that reaches `i`
  std::size_t last_newline = from;  // the last one in the run; at its begin: none to stop at
  for (std::size_t i = from; i < text.size();) {
    const std::size_t n = utf8_valid_length(text, i);
    if (is_white_space(utf8_decode(text, i, n))) {
      if (text[i] == '\n') last_newline = i;
      i += n;
      continue;
    }
    if (last_newline > run_begin) {
      match = {run_begin, last_newline};
      return Regex::Outcome::kMatch;
    }
    i += n;
    run_begin = last_newline = i;
  }
  if (run_begin >= text.size()) return Regex::Outcome::kNone;
  match = {run_begin, text.size()};
  return Regex::Outcome::kMatch;
}

}  // namespace

struct RegexScratch::Data {
  MatchDataPtr match;
  MatchContextPtr context;
  JitStackPtr jit_stack;
};

RegexScratch::RegexScratch() : data_(std::make_unique<Data>()) {
  data_->match.reset(pcre2_match_data_create(1, nullptr));
  data_->context.reset(pcre2_match_context_create(nullptr));
  data_->jit_stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
  FATHOM_CHECK(data_->match != nullptr && data_->context != nullptr) << "out of memory";
  pcre2_set_match_limit(data_->context.get(), limits::kRegexMatchLimit);
  pcre2_set_heap_limit(data_->context.get(), limits::kRegexHeapLimitKiB);
  // Null where PCRE2 has no JIT; then nothing uses it.
  if (data_->jit_stack != nullptr) {
    pcre2_jit_stack_assign(data_->context.get(), nullptr, data_->jit_stack.get());
  }
}
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;
RegexScratch::~RegexScratch() = default;

struct Regex::Program {
  std::string shown;  // the expression as the file has it
  std::string where;
  bool trailing_space = false;
  Compiled usual;
  Compiled recent;  // no code: same as usual
};

Regex::Regex(std::unique_ptr<Program> program) : program_(std::move(program)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::compile(std::string_view pattern, std::string_view where) {
  auto program = std::make_unique<Program>();
  program->shown = pattern;
  program->where = where;
  program->trailing_space = pattern == kTrailingSpace;
  auto usual = regex_to_pcre2(pattern, UnicodeTables::kPcre2);
  if (!usual) {
    return Error{usual.error().code,
                 fmt::format("{}: expression {}: {}", where, json_preview(nlohmann::json(pattern)),
                             usual.error().message)};
  }
  FATHOM_TRY(const std::string recent, regex_to_pcre2(pattern, UnicodeTables::kRecent));
  FATHOM_TRY(program->usual, compile_pcre2(*usual, pattern, where));
  if (recent != *usual) {
    FATHOM_TRY(program->recent, compile_pcre2(recent, pattern, where));
  }
  return Regex(std::move(program));
}

Result<Regex> Regex::compile_literal(std::string_view text, std::string_view where) {
  auto program = std::make_unique<Program>();
  program->shown = text;
  program->where = where;
  FATHOM_TRY(program->usual, compile_pcre2(literal_to_pcre2(text), text, where));
  return Regex(std::move(program));
}

Regex::Outcome Regex::find(std::string_view text, std::size_t from, RegexScratch& scratch,
                           Match& match) const {
  if (program_->trailing_space) return find_trailing_space(text, from, match);
  const bool recent = scratch.recent_code_points && program_->recent.code != nullptr;
  const Compiled& compiled = recent ? program_->recent : program_->usual;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  RegexScratch::Data& data = *scratch.data_;
  int rc = PCRE2_ERROR_JIT_STACKLIMIT;
  if (compiled.jit) {
    rc = pcre2_jit_match(compiled.code.get(), subject, text.size(), from, 0, data.match.get(),
                         data.context.get());
  }
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
    rc = pcre2_match(compiled.code.get(), subject, text.size(), from,
                     PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK, data.match.get(), data.context.get());
  }
  if (rc == PCRE2_ERROR_NOMATCH) return Outcome::kNone;
  if (rc < 0) return Outcome::kLimit;
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.match.get());
  match = {offsets[0], offsets[1]};
  return Outcome::kMatch;
}

Error Regex::limit_error(std::string_view text, std::size_t from) const {
  return resource_limit(
      fmt::format("{}: expression {} reached the match limit ({} steps, {} KiB) at byte {} of a "
                  "piece of {} bytes",
                  program_->where, json_preview(nlohmann::json(program_->shown)),
                  limits::kRegexMatchLimit, limits::kRegexHeapLimitKiB, from, text.size()));
}

Regex::Outcome RegexMatches::next(Regex::Match& match) {
  while (from_ <= text_.size()) {
    const Regex::Outcome outcome = regex_.find(text_, from_, scratch_, match);
    if (outcome != Regex::Outcome::kMatch) return outcome;
    if (match.begin != match.end || match.end != last_end_) {
      from_ = last_end_ = match.end;
      return Regex::Outcome::kMatch;
    }
    from_ += from_ < text_.size() ? utf8_valid_length(text_, from_) : 1;
  }
  return Regex::Outcome::kNone;
}

}  // namespace fathom
