// DSML, the form of tool calls that V3.2 and V4 share: tags around an invocation's name and its
// parameters, whose values are text as it is (string="true") or JSON (string="false").
//
// Internal to this folder.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/encoder.h"

namespace fathom::chat {

// The list of calls is a "function_calls" (V3.2) or a "tool_calls" (V4).
inline constexpr std::string_view kDsmlListV32 = "function_calls";
inline constexpr std::string_view kDsmlListV4 = "tool_calls";

inline constexpr std::string_view kDsmlInvokeBegin = "<｜DSML｜invoke";
inline constexpr std::string_view kDsmlInvokeEnd = "</｜DSML｜invoke>";

// A blank line and the calls of message i, in a list of that name.
Status write_dsml_calls(const Conversation& conversation, std::size_t i, std::string_view list,
                        PromptBuilder& out);

// The tools as one JSON object a line, as both describe them.
void write_dsml_schemas(const nlohmann::ordered_json& tools, PromptBuilder& out);

// "\n\n## Response Format: …" with the schema, if there is one.
void write_response_schema(const Conversation& conversation, PromptBuilder& out);

// A call as a model wrote it, between kDsmlInvokeBegin and kDsmlInvokeEnd.
struct DsmlCall {
  std::string name;
  std::string arguments;  // a JSON object
};
std::optional<DsmlCall> parse_dsml_call(std::string_view body);

}  // namespace fathom::chat
