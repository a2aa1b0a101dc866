// Answers in the form of POST /chat/completions: chunks of a stream, and whole bodies.
//
// The first chunk of a choice holds the role; where a thought comes first it also holds
// reasoning_content "". The finish_reason stands in a chunk of its own.
//
// Usage: with stream_options.include_usage it stands in a last chunk without choices, and is null
// in all others (OpenAI's and DeepSeek's documents). Without, it stands in the chunk of the last
// finish_reason (DeepSeek's habit). Never in both: clients add the chunks' usage up.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/api_error.h"
#include "server/api/wire.h"

namespace fathom::server::api {

// What the caller chooses for a response.
struct ResponseMeta {
  std::string id;          // "chatcmpl-…"
  std::string request_id;  // stands in the ids of events
  int64_t created_unix_s = 0;
  std::string model;
  std::string fingerprint;
};

nlohmann::ordered_json usage_json(const Usage& usage);
std::string_view finish_name(Finish finish);
// {"token", "logprob", "bytes", "top_logprobs"}
nlohmann::ordered_json logprob_json(const Tokenizer& tokenizer, const SampledToken& token);

struct ChatStreamOptions {
  bool include_usage = false;
  bool logprobs = false;
  int choices = 1;
};

class ChatStream {
 public:
  ChatStream(ResponseMeta meta, ChatStreamOptions options,
             std::shared_ptr<const Tokenizer> tokenizer);

  std::vector<SseEvent> deltas(int choice, std::span<const Delta> deltas);
  // The choice is complete.
  std::vector<SseEvent> finish(int choice, const Answer& answer);
  // Once all choices are: the usage, if asked for, and [DONE].
  std::vector<SseEvent> end();
  // Instead of what is still to come.
  SseEvent error(const ApiError& error);

 private:
  void begin(int choice, bool thinks, std::vector<SseEvent>& out);
  SseEvent chunk(int choice, nlohmann::ordered_json delta, std::span<const SampledToken> reasoning,
                 std::span<const SampledToken> content);
  nlohmann::ordered_json head() const;

  ResponseMeta meta_;
  ChatStreamOptions options_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  SseCounter counter_;
  struct Choice {
    bool begun = false, thinks = false;
  };
  std::vector<Choice> choices_;
  std::vector<Usage> usages_;  // of the finished choices
};

// The answer(s) as one body.
std::string chat_body(const ResponseMeta& meta, std::span<const Answer* const> answers,
                      const Tokenizer* logprobs_tokenizer);

}  // namespace fathom::server::api
