#include "grammar/parameter_text.h"

namespace fathom::grammar {
namespace {

// One character or more, none of which could be taken for the end of the name or for a tag.
CharDfa names_of_parameters() {
  CharDfa out;
  out.states.resize(2);
  out.states[1].accepts = true;
  for (const CharRange& range : complement_of({{0, 0x1F}, {'"', '"'}, {'<', '<'}})) {
    for (CharDfa::State& state : out.states) state.edges.push_back({range.first, range.last, 1});
  }
  return out;
}

}  // namespace

ParameterText::ParameterText(GrammarBuilder& builder, JsonText& text, const ToolParameterForm& form)
    : b_(builder),
      text_(text),
      form_(form),
      texts_(strings_without(form.not_in_text)),
      names_(names_of_parameters()) {}

StateId ParameterText::begin_rule() {
  if (!begin_) {
    begin_ = b_.state();
    b_.jump(b_.literal(*begin_, form_.begin), b_.end());
  }
  return *begin_;
}

StateId ParameterText::end_rule() {
  if (!end_) {
    end_ = b_.state();
    b_.jump(b_.literal(*end_, form_.end), b_.end());
  }
  return *end_;
}

StateId ParameterText::text_rule() {
  if (!any_text_) {
    any_text_ = b_.state();
    text_.text_of(*any_text_, texts_, end_rule());
  }
  return *any_text_;
}

}  // namespace fathom::grammar
