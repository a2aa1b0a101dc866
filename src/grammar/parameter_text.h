// The pieces of a call whose arguments are written as parameters, one tag for each (tool_calls.h).
//
// Owns which texts a tag can hold. Rules are made when first asked for. Internal to this folder.
#pragma once

#include <optional>
#include <string_view>

#include "grammar/char_dfa.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_text.h"
#include "grammar/tool_calls.h"

namespace fathom::grammar {

class ParameterText {
 public:
  // All arguments must outlive this.
  ParameterText(GrammarBuilder& builder, JsonText& text, const ToolParameterForm& form);

  const ToolParameterForm& form() const { return form_; }
  // What can stand between a parameter's tags as it is, and what can be its name.
  const CharDfa& texts() const { return texts_; }
  const CharDfa& names() const { return names_; }

  // Whole rules, to be called or jumped to: the text before a name, the end of a parameter, and any
  // text with that end behind it. The end belongs to the rules of texts, of which every character
  // may be the last: a mask would have to look behind each otherwise.
  StateId begin_rule();
  StateId end_rule();
  StateId text_rule();

 private:
  GrammarBuilder& b_;
  JsonText& text_;
  const ToolParameterForm& form_;
  CharDfa texts_;
  CharDfa names_;
  std::optional<StateId> begin_, end_, any_text_;
};

}  // namespace fathom::grammar
