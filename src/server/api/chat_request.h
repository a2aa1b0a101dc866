// ChatRequest: what a client wants answered, in one form for all dialects, and the reader of
// DeepSeek's and OpenAI's POST /chat/completions.
//
// Owns validation that needs no model. prepare.h does what depends on the model. Plain, /v1 and
// /beta routes take the same body: prefix completion, strict tools and our extensions work on all.
//
// Where the public APIs differ or leave room, this holds:
//  - Roles are DeepSeek's: system, user, assistant, tool, latest_reminder. developer is refused, as
//    there; the Responses dialect, which is OpenAI's alone, takes it as system.
//  - max_tokens and max_completion_tokens mean the same; both may be given if they agree.
//  - user_id (DeepSeek) goes before user (OpenAI); either isolates cached prompts.
//  - A schema is enforced whether strict or not: an answer that fits is what both want.
//  - n answers may be asked for, up to limits::kMaxChoices.
//  - reasoning_content is never demanded: no family that is served today thinks while it calls
//    tools in a form that would need it back.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/chat.h"
#include "server/api/fields.h"

namespace fathom::server::api {

// As DeepSeek maps reasoning_effort: minimal, low → low; medium, high, xhigh → high; max, ultra →
// max. V4 alone has words for it; no family refuses it.
enum class Effort : uint8_t { kLow, kHigh, kMax };

// What was said about sampling; nothing: the model's own defaults.
struct SamplingFields {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<double> presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<int64_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;
};

struct ResponseFormat {
  enum class Kind : uint8_t { kText, kJsonObject, kJsonSchema };
  Kind kind = Kind::kText;
  std::string name;    // kJsonSchema
  std::string schema;  // kJsonSchema: JSON text
};

struct ToolSpec {
  std::string name;
  std::string description;
  std::string parameters;  // JSON text of the schema; "" if none was given
  bool strict = false;
};

struct ToolChoice {
  enum class Kind : uint8_t { kAuto, kNone, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name;  // kNamed
};

struct ChatRequest {
  std::string model;
  std::vector<ChatMessage> messages;
  // The last message is the beginning of the answer.
  bool continue_final_message = false;
  std::optional<bool> thinking;
  std::optional<Effort> effort;
  std::optional<int64_t> max_tokens;
  SamplingFields sampling;
  std::vector<std::string> stops;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  ResponseFormat format;
  std::vector<ToolSpec> tools;
  std::string tools_json;  // the tools in OpenAI's form, for the prompt; "" if there are none
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  int top_logprobs = -1;  // < 0: no logprobs
  int choices = 1;
  bool stream = false;
  bool include_usage = false;
  std::string user_id;
};

ApiResult<ChatRequest> parse_chat_request(std::string_view body);

// The tables of the body and of the objects in it, for openapi.h.
FieldTable chat_fields();
FieldTable stream_options_fields();
FieldTable thinking_fields();

// What dialects share.
inline constexpr std::string_view kEffortNames = "none,minimal,low,medium,high,xhigh,max,ultra";
// Effort; "none" switches thinking off.
void apply_effort(std::string_view name, ChatRequest& request);
// Temperature, top_p, …: FATHOM_SAMPLING_FIELDS of common_fields.h.
ApiStatus read_sampling(const FieldReader& fields, SamplingFields& sampling);
ApiStatus read_stop_token_ids(const FieldReader& fields, std::vector<int32_t>& ids);
// stream_options.include_usage; the options need stream.
ApiResult<bool> read_include_usage(const FieldReader& fields);

}  // namespace fathom::server::api
