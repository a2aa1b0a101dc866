// Grammars for answers that call tools.
//
// A call is written list_begin (call_begin NAME name_end ARGUMENTS call_end), between_calls between
// two of them, list_end; these are the literal texts of a model family's form, tags spelled out.
// Where the vocabulary has an added token of a tag's text, that token is the one way to write it.
// ARGUMENTS is a JSON object: one that satisfies the tool's schema if the tool is strict. Or, where
// the form has parameters, the members of that object one by one, each
//   begin NAME name_end text STRING end   or   begin NAME name_end json VALUE end
// and `between` between two of them: a string stands there as it is, any other value as JSON. A
// strict tool's come in the order of its schema, as in JSON, with the flag that the value needs.
// Two things can be in JSON and not in parameters: a string in which not_in_text stands (no such
// text is written, an enum with one is refused), and names with quotes, < or control characters, or
// none at all (refused where the schema has them). As in objects, a name that the schema does not
// have may come twice. Values that are JSON may hold strings that spell a tag out, byte by byte.
//
// With Choice::kAuto the answer is free text until `trigger` appears, and then a list of calls; the
// answer ends with the list. Otherwise it is a list from the first character on, behind at most two
// newlines. Owns this description and its JSON text, in which it travels to the engine; the
// families' forms are chat/'s.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grammar/json_schema.h"

namespace fathom {

// How arguments are written that are no JSON object.
struct ToolParameterForm {
  std::string begin;     // e.g. <｜DSML｜parameter name="
  std::string name_end;  // begins with a quote, e.g. " string="
  std::string text;      // e.g. true">
  std::string json;      // e.g. false">
  std::string end;       // e.g. </｜DSML｜parameter>
  std::string between;
  // A beginning of `end`, and of every tag at which a reader would stop inside a string.
  std::string not_in_text;
};

struct ToolCallForm {
  std::string list_begin;  // e.g. <｜tool▁calls▁begin｜>; empty in some families
  std::string call_begin;  // e.g. <｜tool▁call▁begin｜>function<｜tool▁sep｜>
  std::string name_end;    // e.g. \n```json\n
  std::string call_end;    // e.g. \n```<｜tool▁call▁end｜>
  std::string between_calls;
  std::string list_end;  // e.g. <｜tool▁calls▁end｜>
  // What free text cannot hold without opening a list: a beginning of list_begin + call_begin.
  // Empty: list_begin, or without one, call_begin up to its first white space.
  std::string trigger;
  std::optional<ToolParameterForm> parameters;  // otherwise arguments are an object
};

struct ToolDefinition {
  std::string name;     // no white space, quotes, backslash, "`" or "<"
  std::string schema;   // JSON text; empty: any object
  bool strict = false;  // otherwise the schema is not enforced, only that there is an object
};

struct ToolCallSpec {
  enum class Choice { kAuto, kRequired, kNamed };
  ToolCallForm form;
  std::vector<ToolDefinition> tools;
  Choice choice = Choice::kAuto;
  std::string named;     // kNamed: the tool
  bool parallel = true;  // more than one call
};

// The description as JSON text, and back. Errors: invalid argument or resource limit.
std::string tool_calls_text(const ToolCallSpec& spec);
Result<ToolCallSpec> parse_tool_calls(std::string_view text);

// Errors: as compile_json_schema; the message names the tool.
Result<std::shared_ptr<const Grammar>> compile_tool_calls(const ToolCallSpec& spec,
                                                          const GrammarOptions& options = {});

}  // namespace fathom
