// DSML, the tool language of V3.2 and V4: tags around an invocation's name and its parameters,
// whose values are text as it is (string="true") or JSON (string="false"). The two differ in the
// name of the list of calls and in the words that describe the tools.
//
// Owns what both encoders write in one way, and the reading of a call. Internal to this folder.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/encoder.h"

namespace fathom::chat {

inline constexpr std::string_view kDsmlCallsBeginV32 = "<｜DSML｜function_calls>";
inline constexpr std::string_view kDsmlCallsEndV32 = "</｜DSML｜function_calls>";
inline constexpr std::string_view kDsmlCallsBeginV4 = "<｜DSML｜tool_calls>";
inline constexpr std::string_view kDsmlCallsEndV4 = "</｜DSML｜tool_calls>";
inline constexpr std::string_view kDsmlInvokeBegin = "<｜DSML｜invoke";
inline constexpr std::string_view kDsmlInvokeEnd = "</｜DSML｜invoke>";
inline constexpr std::string_view kDsmlParameterBegin = "<｜DSML｜parameter";
inline constexpr std::string_view kDsmlParameterEnd = "</｜DSML｜parameter>";

struct DsmlForm {
  std::string_view calls_begin, calls_end;
  std::string_view before_tools, after_tools;  // the words around the tools' descriptions
  // Arguments that are no JSON become one parameter named "arguments"; else they are an error.
  bool wraps_what_is_no_json = false;
};

// A blank line and the calls of message i.
Status write_dsml_calls(const Conversation& conversation, std::size_t i, const DsmlForm& form,
                        PromptBuilder& out);

// The system message behind which the tools and the answer's schema of the conversation stand: the
// first. nullopt: there is none, and an empty one in front of the conversation carries them.
std::optional<std::size_t> dsml_carrier(const Conversation& conversation);

// The tools and the schema that message i brings itself or, as the carrier, for the conversation.
Status write_dsml_extras(const Conversation& conversation, std::optional<std::size_t> i,
                         const DsmlForm& form, PromptBuilder& out);

// A call as a model wrote it, between kDsmlInvokeBegin and kDsmlInvokeEnd; white space between the
// tags may be any. nullopt if it is none: a parameter twice, a value that is no JSON, text outside.
struct DsmlCall {
  std::string name;
  std::string arguments;  // a JSON object, values of string="false" as they were written
};
std::optional<DsmlCall> parse_dsml_call(std::string_view body);

}  // namespace fathom::chat
