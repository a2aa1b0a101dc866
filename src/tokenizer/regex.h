// Regular expressions of Oniguruma's syntax, matched by PCRE2 with bounds on time and memory.
//
// Owns compilation (JIT where the platform has it, else interpretation), the match limits of
// base/limits.h, and the order in which Oniguruma's binding reports matches. The syntax is
// regex_syntax.h's business.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

// Working memory of one thread's matching. Used by one call at a time; cheap to keep, ~1 µs to
// make.
class RegexScratch {
 public:
  RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;
  ~RegexScratch();

  // Set per text: whether it holds code points that only the longer form of an expression knows
  // (has_recent_code_points). False negatives lose those code points' categories, nothing else.
  bool recent_code_points = false;

 private:
  friend class Regex;
  struct Data;
  std::unique_ptr<Data> data_;
};

// An expression; immutable, for any number of threads.
class Regex {
 public:
  // `where` names file and field in errors. Errors: invalid argument for what does not compile or
  // has no exact equal in PCRE2; resource limit for expressions over kMaxRegexBytes.
  static Result<Regex> compile(std::string_view pattern, std::string_view where);
  // Matches exactly `text` (valid UTF-8).
  static Result<Regex> compile_literal(std::string_view text, std::string_view where);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  enum class Outcome { kMatch, kNone, kLimit };

  // The leftmost match that begins at `from` or later; lookbehind sees the text before `from`.
  // Requires valid UTF-8 (unchecked) and `from` on a character's boundary.
  Outcome find(std::string_view text, std::size_t from, RegexScratch& scratch, Match& match) const;

  // For Outcome::kLimit.
  Error limit_error(std::string_view text, std::size_t from) const;

 private:
  struct Program;
  explicit Regex(std::unique_ptr<Program> program);
  std::unique_ptr<Program> program_;
};

// All matches of an expression in a text, in the order and by the rule of Oniguruma's Rust binding:
// an empty match right behind the last match is skipped.
class RegexMatches {
 public:
  RegexMatches(const Regex& regex, std::string_view text, RegexScratch& scratch)
      : regex_(regex), text_(text), scratch_(scratch) {}

  Regex::Outcome next(Regex::Match& match);
  // Where the next search begins, for messages.
  std::size_t position() const { return from_; }

 private:
  const Regex& regex_;
  std::string_view text_;
  RegexScratch& scratch_;
  std::size_t from_ = 0;
  std::size_t last_end_ = std::string_view::npos;
};

}  // namespace fathom
