// CompletionRequest: POST /completions, a prompt without a chat form around it, and its way to
// engine requests. With `suffix` it is fill-in-the-middle: DeepSeek's /beta/completions.
//
// Where the public APIs leave room, this holds:
//  - max_tokens is 16 by default, as in OpenAI's API: a model without chat often never stops.
//  - A prompt of text is taken as it is: control tokens in it are meant, and the vocabulary's
//    begin-of-sentence token is put in front unless it is there or add_special_tokens is false.
//    Of fill-in-the-middle prompts only the tokens that we put are control tokens.
//  - echo puts the prompt before the answer. With logprobs it is refused: they are computed for
//    generated tokens only.
//  - text_offset counts characters from the start of the choice's text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/api/chat_request.h"
#include "server/api/prepare.h"

namespace fathom::server::api {

using PromptText = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  std::string model;
  std::vector<PromptText> prompts;  // each gets `choices` answers
  std::optional<std::string> suffix;
  bool echo = false;
  bool add_special_tokens = true;
  int64_t max_tokens = 16;
  SamplingFields sampling;
  std::vector<std::string> stops;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  int top_logprobs = -1;
  int choices = 1;
  bool stream = false;
  bool include_usage = false;
  std::string user_id;
};

ApiResult<CompletionRequest> parse_completion_request(std::string_view body);

// One entry per choice of the response, in its order: all answers to the first prompt, to the
// second, …
struct PreparedCompletion {
  Prepared prepared;
  std::string echo;  // stands before the answer; "" unless asked for
};
ApiResult<std::vector<PreparedCompletion>> prepare_completions(const CompletionRequest& request,
                                                               const PrepareContext& context);

// The ids of a text as a prompt; with the begin-of-sentence token if asked for.
ApiResult<std::vector<int32_t>> encode_text(const Tokenizer& tokenizer, std::string_view text,
                                            bool add_special_tokens);

FieldTable completion_fields();

}  // namespace fathom::server::api
