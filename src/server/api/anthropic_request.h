// Anthropic's POST /v1/messages and /v1/messages/count_tokens, turned into a ChatRequest.
//
// Blocks become messages: the tool_results of a user message are messages of the role tool before
// the rest of it; the thinking, text and tool_use blocks of an assistant message are one message. A
// last message of the assistant is the beginning of the answer. Images and documents are refused.
//
// As DeepSeek does: container, mcp_servers and cache_control are ignored, metadata.user_id isolates
// cached prompts, output_config.effort is the effort, and thinking.budget_tokens has no effect.
// temperature goes up to 2.
#pragma once

#include <string_view>

#include "server/api/chat_request.h"

namespace fathom::server::api {

ApiResult<ChatRequest> parse_anthropic_request(std::string_view body);
// As above; max_tokens may be missing.
ApiResult<ChatRequest> parse_count_tokens_request(std::string_view body);

FieldTable anthropic_fields();
FieldTable anthropic_tool_fields();

}  // namespace fathom::server::api
