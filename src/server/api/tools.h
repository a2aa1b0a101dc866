// Tools, tool choice and response format of requests: reading and checking them.
//
// Owns what DeepSeek demands of strict tools. Does not own the grammar that enforces a schema, and
// so cannot say whether every keyword of it is supported.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/chat_request.h"

namespace fathom::server::api {

// OpenAI's form: [{"type": "function", "function": {"name", "description", "parameters",
// "strict"}}]. Fills tools and tools_json.
ApiStatus read_tools(const FieldReader& fields, ChatRequest& request);
// "none" | "auto" | "required" | {"type": "function", "function": {"name"}}.
ApiStatus read_tool_choice(const FieldReader& fields, ChatRequest& request);
// {"type": "text" | "json_object" | "json_schema", "json_schema": {"name", "schema", "strict"}}.
ApiStatus read_response_format(const FieldReader& fields, ChatRequest& request);

// One tool: checks and adds it; `path` names it in errors. `parameters` may be null.
ApiStatus add_tool(ToolSpec tool, const nlohmann::ordered_json* parameters, const std::string& path,
                   ChatRequest& request);
// tools_json of `tools`, for dialects whose own form is another one.
std::string openai_tools_json(const std::vector<ToolSpec>& tools);
// The name must be one of a tool; required and named choices need tools.
ApiStatus check_tool_choice(const ChatRequest& request);
// json_object: some message must speak of JSON, or models write blanks without end.
ApiStatus check_format(const ChatRequest& request, const std::string& param);

// Every object closed (additionalProperties false) with all properties required, string formats
// only those of DeepSeek's list.
ApiStatus check_strict_schema(const nlohmann::ordered_json& schema, const std::string& path,
                              int depth = 0);

FieldTable tool_fields();
FieldTable function_fields();
FieldTable response_format_fields();
FieldTable json_schema_fields();

}  // namespace fathom::server::api
