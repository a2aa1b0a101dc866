// AnswerAssembler: the tokens of one generation in, the parts of an answer out, before any dialect
// gives them its form.
//
// Owns the order of things: stop tokens, AnswerStream, which token belongs to which part, the
// reason why the answer ended, the usage. Does not own the generation: once stopped() is true the
// caller must end it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/answer_stream.h"
#include "engine/request.h"
#include "server/api/logprob_spans.h"

namespace fathom::server::api {

struct AnswerSpec {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatFamily> family;  // none: all text is content
  bool starts_in_thinking = false;   // the prompt opened the thought
  bool parse_tools = false;
  std::string call_id_prefix = "call_";  // ids of calls are this and the call's number
  std::vector<std::string> stops;
  std::vector<int32_t> stop_tokens;
  int top_logprobs = -1;  // < 0: no logprobs
  int64_t prompt_tokens = 0;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_prompt_tokens = 0;  // of prompt_tokens
  int64_t completion_tokens = 0;     // the stop token included
  int64_t reasoning_tokens = 0;      // of completion_tokens
};
// Of several answers to one prompt: the prompt counts once.
Usage sum_usage(std::span<const Usage> usages);

// What became certain: the event, and the tokens that it is made of (if logprobs were asked for).
struct Delta {
  OutputEvent event;
  std::vector<SampledToken> tokens;
};

struct AnsweredCall {
  std::string id, name, arguments;
};

enum class Finish : uint8_t { kStop, kLength, kToolCalls };

// All that came out.
struct Answer {
  std::string reasoning, content;
  std::vector<AnsweredCall> calls;
  std::vector<SampledToken> reasoning_tokens, content_tokens;  // if logprobs were asked for
  Finish finish = Finish::kStop;
  std::string stop_string;  // the one that ended it; "" if none did
  Usage usage;
};

class AnswerAssembler {
 public:
  explicit AnswerAssembler(AnswerSpec spec);

  // What the tokens make certain. Tokens behind a stop string are ignored.
  std::vector<Delta> push(std::span<const SampledToken> tokens);
  // What was held back. Call once, at the end: `reason` is the engine's, or kStop after stopped().
  std::vector<Delta> finish(FinishReason reason);

  // A stop string came: the generation has nothing more to add.
  bool stopped() const { return stream_.stopped(); }
  void set_cached_prompt_tokens(int64_t tokens) { answer_.usage.cached_prompt_tokens = tokens; }
  const Answer& answer() const { return answer_; }
  const AnswerSpec& spec() const { return spec_; }

 private:
  void push_one(const SampledToken& token, std::vector<Delta>& out);
  void take(std::vector<OutputEvent> events, std::vector<Delta>& out);
  void count_reasoning(const SampledToken& token, const std::vector<OutputEvent>& events);

  AnswerSpec spec_;
  AnswerStream stream_;
  LogprobSpans spans_;
  Answer answer_;
  std::optional<int32_t> think_end_;  // the token, where </think> is one
  enum class Thought : uint8_t { kNotYet, kOpen, kClosed };
  Thought thought_;
};

}  // namespace fathom::server::api
