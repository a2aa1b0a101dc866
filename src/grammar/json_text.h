// The pieces of JSON text as rules of a grammar: white space, strings, numbers, values.
//
// What may be written, of all that JSON allows:
//  - White space stands behind "{", "[" and ",", before "}" and "]" and behind ":" only, and is
//    nothing, one space, or a newline with at most kMaxIndent spaces or kMaxTabs tabs (behind ":"
//    at most one space). So it never runs away.
//  - Numbers have at most 15 digits before the point (integers: 18), 15 behind it, and two in the
//    exponent: what a double holds, and an end.
//  - A free string may use every escape; \u escapes of surrogates come in pairs only. Strings that
//  a
//    pattern or a name fixes are spelled one way: escapes only where JSON asks for them.
//
// Rules are made when first asked for. Internal to this folder.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>

#include "grammar/char_dfa.h"
#include "grammar/grammar_builder.h"

namespace fathom::grammar {

class JsonText {
 public:
  JsonText(GrammarBuilder& builder, bool compact) : b_(builder), compact_(compact) {}

  // Each reads optional white space and gives the state behind it.
  StateId space(StateId from);
  StateId space_behind_colon(StateId from);
  // What may stand before the whole text: up to two newlines or a space, as models write behind a
  // thought.
  StateId space_at_begin(StateId from);

  // Whole rules, to be called or jumped to.
  StateId string_rule();
  StateId value_rule();
  StateId value_but_string_rule();
  StateId object_rule();
  StateId array_rule();
  StateId number_rule();
  StateId integer_rule();
  // One character of a free string.
  StateId character_rule();

  // A string of min to max characters (max < 0: without end).
  void string_of_length(StateId from, int64_t min, int64_t max, StateId to);
  // A string of the automaton's language.
  void string_of(StateId from, const CharDfa& dfa, StateId to);
  // The automaton's strings as they are, without quotes or escapes; behind each, `to`.
  void text_of(StateId from, const CharDfa& dfa, StateId to);
  // One fixed string. The state behind its closing quote.
  StateId quoted(StateId from, std::string_view text);

 private:
  void utf8(StateId from, char32_t first, char32_t last, StateId to);
  void utf8_of_length(StateId from, int length, char32_t first, char32_t last, StateId to);
  StateId continuation(uint8_t first, uint8_t last, StateId to);
  void escapes_of(StateId backslash, char32_t first, char32_t last, StateId to);
  void free_character(StateId from, StateId to);
  StateId string_loop();  // inside a free string, before any of its characters
  void digits(StateId from, int max, StateId last_to);

  GrammarBuilder& b_;
  bool compact_;
  std::optional<StateId> space_, begin_space_, string_, loop_, character_, value_, other_value_,
      object_, array_, number_, integer_;
  std::map<std::tuple<uint8_t, uint8_t, StateId>, StateId> continuations_;
};

// The text as a JSON string spells it, with quotes, escaped only where JSON asks for it.
std::string json_quoted(std::string_view text);

}  // namespace fathom::grammar
