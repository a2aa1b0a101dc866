// Answers in the form of POST /completions: object "text_completion", streamed or whole.
//
// Usage stands where chat_response.h puts it. Thoughts and calls have no form here: all is text.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/api/chat_response.h"

namespace fathom::server::api {

class CompletionStream {
 public:
  // `echoes`: one entry per choice, what stands before its text ("" for nothing).
  // `prompts`: choices_of_one_prompt answers share a prompt, whose tokens count once.
  CompletionStream(ResponseMeta meta, ChatStreamOptions options, std::vector<std::string> echoes,
                   int choices_of_one_prompt, std::shared_ptr<const Tokenizer> tokenizer);

  std::vector<SseEvent> deltas(int choice, std::span<const Delta> deltas);
  std::vector<SseEvent> finish(int choice, const Answer& answer);
  std::vector<SseEvent> end();
  SseEvent error(const ApiError& error);

 private:
  SseEvent chunk(int choice, std::string text, std::span<const SampledToken> tokens);
  nlohmann::ordered_json head() const;

  ResponseMeta meta_;
  ChatStreamOptions options_;
  std::vector<std::string> echoes_;  // taken by the first chunk
  int choices_of_one_prompt_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  SseCounter counter_;
  std::vector<int64_t> characters_;  // sent so far, of each choice
  std::vector<Usage> usages_;        // of each choice
  int finished_ = 0;
};

struct CompletionChoice {
  const Answer* answer = nullptr;
  std::string echo;
};
std::string completion_body(const ResponseMeta& meta, std::span<const CompletionChoice> choices,
                            int choices_of_one_prompt, const Tokenizer* logprobs_tokenizer);

// Of answers in order, `choices` to each prompt.
Usage sum_usage_of_prompts(std::span<const Usage> usages, int choices_of_one_prompt);

}  // namespace fathom::server::api
