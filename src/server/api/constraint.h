// Which constraint the engine enforces for a request. The only place that knows the form in which
// the grammar wants tools described.
#pragma once

#include "engine/request.h"
#include "server/api/chat_request.h"

namespace fathom::server::api {

// Kind and text; starts_after is prepare.cc's, which knows the prompt.
ConstraintSpec make_constraint(const ChatRequest& request, ChatFamily family);

// Tools that bind the answer: a choice that demands a call, a strict tool, or at most one call.
bool needs_tool_constraint(const ChatRequest& request);
ConstraintSpec make_tool_constraint(const ChatRequest& request, ChatFamily family);

}  // namespace fathom::server::api
