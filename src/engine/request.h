// Request: what to generate. TokenEvent: what came of it, token by token.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"

namespace fathom {

// What the answer must look like; enforced by masking tokens while sampling.
struct ConstraintSpec {
  enum class Kind : uint8_t {
    kNone,
    kJsonObject,  // any JSON object
    kJsonSchema,  // text: the schema
    kToolCalls,   // text: the tools and their form (grammar/tool_calls.h)
  };
  Kind kind = Kind::kNone;
  std::string text;
  // Empty: from the first token on. Otherwise behind the first of these tokens (</think>).
  std::vector<int32_t> starts_after;
};

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  // Tokens that were generated before, by this process or another: generation goes on behind them,
  // exactly as if it had not stopped.
  std::vector<int32_t> emitted;
  SamplingParams sampling;
  int64_t max_tokens = 0;            // of the whole answer, `emitted` included; at least one
  std::vector<int32_t> stop_tokens;  // end the answer; the stop token itself is reported
  int top_logprobs = -1;             // < 0: no logprobs
  ConstraintSpec constraint;
  std::string tenant;    // cached prompts are shared within a tenant only
  int32_t priority = 0;  // the larger goes first
};

enum class FinishReason : uint8_t {
  kStop,    // a stop token
  kLength,  // max_tokens, or the context is full
  kError,   // see TokenEvent::error
};

// One token of one request, or its end by an error (then there is no token).
struct TokenEvent {
  uint64_t request_id = 0;
  int64_t index = 0;          // 0 = first token of the answer
  int64_t cached_tokens = 0;  // of the prompt, that were found in the cache
  SampledToken sampled;
  std::optional<FinishReason> finish;
  std::string error;
};

}  // namespace fathom
