// ResponsesRequest: OpenAI's POST /responses, turned into a ChatRequest.
//
// Items become messages: a reasoning item, a message of the assistant and function calls that stand
// together are one message, since that is how models were trained on them. The roles developer and
// system mean the same. `instructions` is the first system message; it is not inherited from
// previous_response_id, as in OpenAI's API. Storing responses and finding earlier ones is the
// caller's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api/answer.h"
#include "server/api/chat_request.h"

namespace fathom::server::api {

struct ResponsesRequest {
  // All but the conversation, which conversation() completes: messages holds the input alone.
  ChatRequest chat;
  std::string instructions;
  std::string previous_response_id;  // "" for none
  bool background = false;
  bool store = true;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string effort;  // as given, for the response's echo
};

ApiResult<ResponsesRequest> parse_responses_request(std::string_view body);

// The request with instructions, earlier messages and input in a row. `history`: the earlier
// responses' inputs and answers, without their instructions.
ApiResult<ChatRequest> conversation(const ResponsesRequest& request,
                                    std::span<const ChatMessage> history);

// What an answer is in the history of the next request.
ChatMessage message_of(const Answer& answer);

FieldTable responses_fields();
FieldTable response_text_fields();
FieldTable response_tool_fields();
FieldTable reasoning_fields();

}  // namespace fathom::server::api
