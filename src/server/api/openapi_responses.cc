#include "server/api/openapi_responses.h"

namespace fathom::server::api {

std::string_view response_schemas() {
  return R"json({
"Error": {"type": "object", "required": ["error"], "properties": {"error": {
  "type": "object", "required": ["message", "type", "param", "code"], "properties": {
    "message": {"type": "string"}, "type": {"type": "string"},
    "param": {"type": ["string", "null"]}, "code": {"type": "string"}}}}},
"AnthropicError": {"type": "object", "required": ["type", "error"], "properties": {
  "type": {"type": "string", "enum": ["error"]}, "request_id": {"type": "string"},
  "error": {"type": "object", "required": ["type", "message"], "properties": {
    "type": {"type": "string"}, "message": {"type": "string"}}}}},
"Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens",
    "prompt_cache_hit_tokens", "prompt_cache_miss_tokens"], "properties": {
  "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
  "total_tokens": {"type": "integer"}, "prompt_cache_hit_tokens": {"type": "integer"},
  "prompt_cache_miss_tokens": {"type": "integer"},
  "prompt_tokens_details": {"type": "object", "required": ["cached_tokens"],
    "properties": {"cached_tokens": {"type": "integer"}}},
  "completion_tokens_details": {"type": "object", "required": ["reasoning_tokens"],
    "properties": {"reasoning_tokens": {"type": "integer"}}}}},
"FinishReason": {"type": "string",
  "enum": ["stop", "length", "tool_calls", "content_filter", "insufficient_system_resource"]},
"ToolCall": {"type": "object", "required": ["id", "type", "function"], "properties": {
  "id": {"type": "string"}, "type": {"type": "string", "enum": ["function"]},
  "function": {"type": "object", "required": ["name", "arguments"], "properties": {
    "name": {"type": "string"}, "arguments": {"type": "string"}}}}},
"TokenLogprob": {"type": "object", "required": ["token", "logprob", "bytes"], "properties": {
  "token": {"type": "string"}, "logprob": {"type": "number"},
  "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
  "top_logprobs": {"type": "array", "items": {"$ref": "#/components/schemas/TokenLogprob"}}}},
"Logprobs": {"type": "object", "required": ["content"], "properties": {
  "content": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/TokenLogprob"}},
  "reasoning_content": {"type": ["array", "null"],
    "items": {"$ref": "#/components/schemas/TokenLogprob"}},
  "refusal": {"type": "null"}}},
"ChatCompletion": {"type": "object",
  "required": ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
  "properties": {
    "id": {"type": "string"}, "object": {"type": "string", "enum": ["chat.completion"]},
    "created": {"type": "integer"}, "model": {"type": "string"},
    "system_fingerprint": {"type": "string"},
    "usage": {"$ref": "#/components/schemas/Usage"},
    "choices": {"type": "array", "items": {"type": "object",
      "required": ["index", "message", "logprobs", "finish_reason"], "properties": {
        "index": {"type": "integer"},
        "message": {"type": "object", "required": ["role", "content"], "properties": {
          "role": {"type": "string", "enum": ["assistant"]},
          "content": {"type": ["string", "null"]},
          "reasoning_content": {"type": ["string", "null"]},
          "tool_calls": {"type": "array", "items": {"$ref": "#/components/schemas/ToolCall"}}}},
        "logprobs": {"anyOf": [{"$ref": "#/components/schemas/Logprobs"}, {"type": "null"}]},
        "finish_reason": {"$ref": "#/components/schemas/FinishReason"}}}}}},
"ChatCompletionChunk": {"type": "object",
  "required": ["id", "object", "created", "model", "choices", "system_fingerprint"],
  "properties": {
    "id": {"type": "string"}, "object": {"type": "string", "enum": ["chat.completion.chunk"]},
    "created": {"type": "integer"}, "model": {"type": "string"},
    "system_fingerprint": {"type": "string"},
    "usage": {"anyOf": [{"$ref": "#/components/schemas/Usage"}, {"type": "null"}]},
    "choices": {"type": "array", "items": {"type": "object",
      "required": ["index", "delta", "logprobs", "finish_reason"], "properties": {
        "index": {"type": "integer"},
        "delta": {"type": "object", "properties": {
          "role": {"type": "string", "enum": ["assistant"]},
          "content": {"type": ["string", "null"]},
          "reasoning_content": {"type": ["string", "null"]},
          "tool_calls": {"type": "array", "items": {"type": "object",
            "required": ["index", "function"], "properties": {
              "index": {"type": "integer"}, "id": {"type": "string"}, "type": {"type": "string"},
              "function": {"type": "object", "required": ["arguments"], "properties": {
                "name": {"type": "string"}, "arguments": {"type": "string"}}}}}}}},
        "logprobs": {"anyOf": [{"$ref": "#/components/schemas/Logprobs"}, {"type": "null"}]},
        "finish_reason": {"anyOf": [{"$ref": "#/components/schemas/FinishReason"},
          {"type": "null"}]}}}}}},
"Completion": {"type": "object",
  "required": ["id", "object", "created", "model", "choices", "system_fingerprint"],
  "properties": {
    "id": {"type": "string"}, "object": {"type": "string", "enum": ["text_completion"]},
    "created": {"type": "integer"}, "model": {"type": "string"},
    "system_fingerprint": {"type": "string"},
    "usage": {"anyOf": [{"$ref": "#/components/schemas/Usage"}, {"type": "null"}]},
    "choices": {"type": "array", "items": {"type": "object",
      "required": ["index", "text", "logprobs", "finish_reason"], "properties": {
        "index": {"type": "integer"}, "text": {"type": "string"},
        "logprobs": {"type": ["object", "null"],
          "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"], "properties": {
            "tokens": {"type": "array", "items": {"type": "string"}},
            "token_logprobs": {"type": "array", "items": {"type": "number"}},
            "top_logprobs": {"type": "array", "items": {"type": "object",
              "additionalProperties": {"type": "number"}}},
            "text_offset": {"type": "array", "items": {"type": "integer"}}}},
        "finish_reason": {"anyOf": [{"$ref": "#/components/schemas/FinishReason"},
          {"type": "null"}]}}}}}},
"Response": {"type": "object", "required": ["id", "object", "created_at", "status", "error",
    "incomplete_details", "instructions", "metadata", "model", "output", "parallel_tool_calls",
    "temperature", "tool_choice", "tools", "top_p", "usage"], "properties": {
  "id": {"type": "string"}, "object": {"type": "string", "enum": ["response"]},
  "created_at": {"type": "integer"},
  "status": {"type": "string", "enum": ["queued", "in_progress", "completed", "incomplete",
    "failed", "cancelled"]},
  "background": {"type": "boolean"},
  "error": {"type": ["object", "null"], "required": ["code", "message"], "properties": {
    "code": {"type": "string"}, "message": {"type": "string"}}},
  "incomplete_details": {"type": ["object", "null"], "required": ["reason"],
    "properties": {"reason": {"type": "string"}}},
  "instructions": {"type": ["string", "null"]},
  "max_output_tokens": {"type": ["integer", "null"]},
  "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
  "model": {"type": "string"},
  "output": {"type": "array", "items": {"type": "object", "required": ["id", "type", "status"],
    "properties": {"id": {"type": "string"},
      "type": {"type": "string", "enum": ["reasoning", "message", "function_call"]},
      "status": {"type": "string", "enum": ["in_progress", "completed", "incomplete"]}}}},
  "parallel_tool_calls": {"type": "boolean"},
  "previous_response_id": {"type": ["string", "null"]},
  "reasoning": {"type": "object"}, "store": {"type": "boolean"},
  "temperature": {"type": ["number", "null"]}, "text": {"type": "object"},
  "tool_choice": {"type": ["string", "object"]},
  "tools": {"type": "array", "items": {"type": "object"}},
  "top_p": {"type": ["number", "null"]}, "truncation": {"type": "string"},
  "usage": {"type": ["object", "null"],
    "required": ["input_tokens", "output_tokens", "total_tokens"], "properties": {
      "input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"},
      "total_tokens": {"type": "integer"}, "input_tokens_details": {"type": "object"},
      "output_tokens_details": {"type": "object"}}},
  "user": {"type": ["string", "null"]}}},
"AnthropicAnswer": {"type": "object", "required": ["id", "type", "role", "model", "content",
    "stop_reason", "stop_sequence", "usage"], "properties": {
  "id": {"type": "string"}, "type": {"type": "string", "enum": ["message"]},
  "role": {"type": "string", "enum": ["assistant"]}, "model": {"type": "string"},
  "content": {"type": "array", "items": {"type": "object", "required": ["type"], "properties": {
    "type": {"type": "string", "enum": ["thinking", "text", "tool_use"]},
    "thinking": {"type": "string"}, "signature": {"type": "string"}, "text": {"type": "string"},
    "id": {"type": "string"}, "name": {"type": "string"}, "input": {"type": "object"}}}},
  "stop_reason": {"type": ["string", "null"],
    "enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use", null]},
  "stop_sequence": {"type": ["string", "null"]},
  "usage": {"type": "object", "required": ["input_tokens", "output_tokens"], "properties": {
    "input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"},
    "cache_creation_input_tokens": {"type": "integer"},
    "cache_read_input_tokens": {"type": "integer"}}}}},
"CountTokens": {"type": "object", "required": ["input_tokens"],
  "properties": {"input_tokens": {"type": "integer"}}},
"Model": {"type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
  "id": {"type": "string"}, "object": {"type": "string", "enum": ["model"]},
  "created": {"type": "integer"}, "owned_by": {"type": "string"},
  "max_model_len": {"type": "integer"}}},
"ModelState": {"type": "object", "required": ["id", "object", "state"], "properties": {
  "id": {"type": "string"}, "object": {"type": "string", "enum": ["model"]},
  "state": {"type": "string", "enum": ["loading", "ready", "restarting", "failed", "unloading",
    "unloaded"]}}},
"ModelList": {"type": "object", "required": ["object", "data"], "properties": {
  "object": {"type": "string", "enum": ["list"]},
  "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
"Balance": {"type": "object", "required": ["is_available", "balance_infos"], "properties": {
  "is_available": {"type": "boolean"},
  "balance_infos": {"type": "array", "items": {"type": "object",
    "required": ["currency", "total_balance", "granted_balance", "topped_up_balance"],
    "additionalProperties": {"type": "string"}}}}},
"Tokens": {"type": "object", "required": ["count", "max_model_len", "tokens"], "properties": {
  "count": {"type": "integer"}, "max_model_len": {"type": "integer"},
  "tokens": {"type": "array", "items": {"type": "integer"}},
  "token_strs": {"type": "array", "items": {"type": "string"}}}},
"Text": {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
"Deleted": {"type": "object", "required": ["id", "object", "deleted"], "properties": {
  "id": {"type": "string"}, "object": {"type": "string"}, "deleted": {"type": "boolean"}}},
"State": {"type": "object"}
})json";
}

}  // namespace fathom::server::api
