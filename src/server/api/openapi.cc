#include "server/api/openapi.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "server/api/anthropic_request.h"
#include "server/api/chat_request.h"
#include "server/api/completions_request.h"
#include "server/api/misc.h"
#include "server/api/openapi_responses.h"
#include "server/api/responses_request.h"
#include "server/api/tools.h"
#include "server/api/wire.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr ApiRoute kRoutes[] = {
    {"post", "/chat/completions", "Answer a conversation", "ChatRequest", "ChatCompletion", true},
    {"post", "/v1/chat/completions", "Answer a conversation", "ChatRequest", "ChatCompletion",
     true},
    {"post", "/beta/chat/completions", "Answer a conversation", "ChatRequest", "ChatCompletion",
     true},
    {"post", "/completions", "Go on with a text, or fill a gap", "CompletionRequest", "Completion",
     true},
    {"post", "/v1/completions", "Go on with a text, or fill a gap", "CompletionRequest",
     "Completion", true},
    {"post", "/beta/completions", "Go on with a text, or fill a gap", "CompletionRequest",
     "Completion", true},
    {"post", "/responses", "Answer, with state kept here", "ResponsesRequest", "Response", true},
    {"post", "/v1/responses", "Answer, with state kept here", "ResponsesRequest", "Response", true},
    {"get", "/responses/{response}", "A stored response, or its events again", "", "Response",
     true},
    {"get", "/v1/responses/{response}", "A stored response, or its events again", "", "Response",
     true},
    {"delete", "/responses/{response}", "Forget a stored response", "", "Deleted"},
    {"delete", "/v1/responses/{response}", "Forget a stored response", "", "Deleted"},
    {"post", "/responses/{response}/cancel", "Stop a response in the background", "", "Response"},
    {"post", "/v1/responses/{response}/cancel", "Stop a response in the background", "",
     "Response"},
    {"post", "/anthropic/v1/messages", "Answer a conversation", "AnthropicRequest",
     "AnthropicAnswer", true},
    {"post", "/anthropic/v1/messages/count_tokens", "Tokens of a conversation",
     "AnthropicCountRequest", "CountTokens"},
    {"post", "/v1/messages", "Answer a conversation", "AnthropicRequest", "AnthropicAnswer", true},
    {"post", "/v1/messages/count_tokens", "Tokens of a conversation", "AnthropicCountRequest",
     "CountTokens"},
    {"get", "/models", "What is served", "", "ModelList"},
    {"get", "/v1/models", "What is served", "", "ModelList"},
    {"get", "/models/{model}", "One model", "", "Model"},
    {"get", "/v1/models/{model}", "One model", "", "Model"},
    {"post", "/models/{model}/load", "Start a model's engines", "", "ModelState"},
    {"post", "/models/{model}/unload", "End a model's engines once its answers have ended", "",
     "ModelState"},
    {"get", "/user/balance", "Always enough", "", "Balance"},
    {"post", "/embeddings", "Refused: no served model has embeddings", "EmbeddingsRequest",
     "Error"},
    {"post", "/v1/embeddings", "Refused: no served model has embeddings", "EmbeddingsRequest",
     "Error"},
    {"post", "/tokenize", "Text or conversation to token ids", "TokenizeRequest", "Tokens"},
    {"post", "/v1/tokenize", "Text or conversation to token ids", "TokenizeRequest", "Tokens"},
    {"post", "/detokenize", "Token ids to text", "DetokenizeRequest", "Text"},
    {"post", "/v1/detokenize", "Token ids to text", "DetokenizeRequest", "Text"},
    {"delete", "/v1/cache", "Forget what the caches hold of the caller, or of its user_id", "",
     "State"},
    {"get", "/status", "Models, workers and host", "", "State"},
    {"get", "/health", "Is the server alive?", "", "State", false, true},
    {"get", "/ready", "Can it answer?", "", "State", false, true},
    {"get", "/metrics", "For Prometheus", "", ""},
    {"get", "/openapi.json", "This document", "", "State"},
};

ordered_json integer_or_number(double d) {
  return d == std::floor(d) && std::abs(d) < 9e15 ? ordered_json(static_cast<int64_t>(d))
                                                  : ordered_json(d);
}

void add_range(const FieldSpec& spec, const char* min, const char* max, ordered_json& schema) {
  if (std::isfinite(spec.min)) schema[min] = integer_or_number(spec.min);
  if (std::isfinite(spec.max)) schema[max] = integer_or_number(spec.max);
}

// null stands for absent, unless the field is required.
ordered_json type_of(std::string_view type, const FieldSpec& spec) {
  return spec.required ? ordered_json(type) : ordered_json({type, "null"});
}

ordered_json enumeration(const FieldSpec& spec) {
  ordered_json values = ordered_json::array();
  for (std::string_view rest = spec.values; !rest.empty();) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    values.push_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  if (!spec.required) values.push_back(nullptr);
  return values;
}

ordered_json schema_of(const FieldSpec& spec) {
  ordered_json schema;
  switch (spec.type) {
    case FieldType::kBoolean:
      schema["type"] = type_of("boolean", spec);
      break;
    case FieldType::kInteger:
      schema["type"] = type_of("integer", spec);
      add_range(spec, "minimum", "maximum", schema);
      break;
    case FieldType::kNumber:
      schema["type"] = type_of("number", spec);
      add_range(spec, "minimum", "maximum", schema);
      break;
    case FieldType::kString:
      schema["type"] = type_of("string", spec);
      if (!spec.values.empty()) {
        schema["enum"] = enumeration(spec);
      } else {
        add_range(spec, "minLength", "maxLength", schema);
      }
      break;
    case FieldType::kList:
      schema["type"] = type_of("array", spec);
      add_range(spec, "minItems", "maxItems", schema);
      if (!spec.schema.empty()) schema["items"] = ordered_json::parse(spec.schema);
      break;
    case FieldType::kObject:
    case FieldType::kOther:
      if (spec.schema.empty()) {
        if (spec.type == FieldType::kObject) schema["type"] = type_of("object", spec);
      } else if (spec.required) {
        schema = ordered_json::parse(spec.schema);
      } else {
        schema["anyOf"] = {ordered_json::parse(spec.schema), {{"type", "null"}}};
      }
      break;
  }
  schema["description"] = spec.doc;
  return schema;
}

ordered_json schema_of(FieldTable table) {
  ordered_json required = ordered_json::array(), properties = ordered_json::object();
  for (const FieldSpec& spec : table) {
    if (spec.required) required.push_back(spec.name);
    properties[std::string(spec.name)] = schema_of(spec);
  }
  ordered_json out = {{"type", "object"}};
  if (!required.empty()) out["required"] = std::move(required);
  out["properties"] = std::move(properties);
  return out;
}

// The same fields as count_tokens has, but an answer must have a limit.
ordered_json anthropic_answer_schema() {
  ordered_json schema = schema_of(anthropic_fields());
  schema["required"].push_back("max_tokens");
  schema["properties"]["max_tokens"]["type"] = "integer";
  return schema;
}

// Objects in requests that chat/ reads, or that say more than a table can.
constexpr std::string_view kHandWritten = R"json({
"Message": {"type": "object", "required": ["role"], "properties": {
  "role": {"type": "string", "enum": ["system", "user", "assistant", "tool", "latest_reminder"]},
  "content": {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "array", "items": {
    "type": "object", "required": ["type", "text"], "properties": {
      "type": {"type": "string", "enum": ["text"]}, "text": {"type": "string"}}}}]},
  "reasoning_content": {"type": ["string", "null"]},
  "name": {"type": ["string", "null"]},
  "tool_call_id": {"type": ["string", "null"]},
  "tool_calls": {"type": ["array", "null"],
    "items": {"$ref": "#/components/schemas/ToolCall"}},
  "prefix": {"type": ["boolean", "null"],
    "description": "On the last message, of the assistant: the answer goes on from it"}}},
"AnthropicMessage": {"type": "object", "required": ["role", "content"], "properties": {
  "role": {"type": "string", "enum": ["user", "assistant"]},
  "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object",
    "required": ["type"], "properties": {"type": {"type": "string",
      "enum": ["text", "thinking", "redacted_thinking", "tool_use", "tool_result"]}}}}]}}}
})json";

ordered_json components() {
  ordered_json schemas = {{"ChatRequest", schema_of(chat_fields())},
                          {"StreamOptions", schema_of(stream_options_fields())},
                          {"Thinking", schema_of(thinking_fields())},
                          {"ResponseFormat", schema_of(response_format_fields())},
                          {"JsonSchema", schema_of(json_schema_fields())},
                          {"Tool", schema_of(tool_fields())},
                          {"Function", schema_of(function_fields())},
                          {"CompletionRequest", schema_of(completion_fields())},
                          {"ResponsesRequest", schema_of(responses_fields())},
                          {"ResponseText", schema_of(response_text_fields())},
                          {"ResponseTool", schema_of(response_tool_fields())},
                          {"Reasoning", schema_of(reasoning_fields())},
                          {"AnthropicRequest", anthropic_answer_schema()},
                          {"AnthropicCountRequest", schema_of(anthropic_fields())},
                          {"AnthropicTool", schema_of(anthropic_tool_fields())},
                          {"TokenizeRequest", schema_of(tokenize_fields())},
                          {"DetokenizeRequest", schema_of(detokenize_fields())},
                          {"EmbeddingsRequest", schema_of(embeddings_fields())}};
  for (const std::string_view text : {kHandWritten, response_schemas()}) {
    const ordered_json more = ordered_json::parse(text);
    for (const auto& [name, schema] : more.items()) schemas[name] = schema;
  }
  return {{"schemas", std::move(schemas)},
          {"securitySchemes",
           {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
            {"x-api-key", {{"type", "apiKey"}, {"in", "header"}, {"name", "x-api-key"}}}}}};
}

ordered_json json_content(std::string_view component) {
  return {{"application/json",
           {{"schema", {{"$ref", "#/components/schemas/" + std::string(component)}}}}}};
}

ordered_json operation(const ApiRoute& route) {
  ordered_json op = {{"summary", route.summary}};
  const std::size_t brace = route.path.find('{');
  if (brace != route.path.npos) {
    const std::size_t end = route.path.find('}');
    op["parameters"] =
        ordered_json::array({{{"name", route.path.substr(brace + 1, end - brace - 1)},
                              {"in", "path"},
                              {"required", true},
                              {"schema", {{"type", "string"}}}}});
  }
  if (!route.request.empty())
    op["requestBody"] = {{"required", true}, {"content", json_content(route.request)}};
  const bool anthropic = route.request.starts_with("Anthropic");
  const std::string_view error = anthropic ? "AnthropicError" : "Error";
  ordered_json content = route.response.empty()
                             ? ordered_json{{"text/plain", {{"schema", {{"type", "string"}}}}}}
                             : json_content(route.response);
  if (route.streams)
    content["text/event-stream"] = {{"schema", {{"description", "Server-sent events"}}}};
  ordered_json responses = ordered_json::object();
  // Embeddings are refused whatever is asked.
  if (route.response != error)
    responses["200"] = {{"description", "Done"}, {"content", std::move(content)}};
  const auto add_error = [&](const char* status, std::string_view description) {
    responses[status] = {{"description", description}, {"content", json_content(error)}};
  };
  if (!route.request.empty()) {
    add_error("400", "The request is wrong: the message names field, value and expectation");
    add_error("413", "The body is too large");
    add_error("429", "Too much at once: Retry-After says when to come back");
    add_error("503", "No worker is up");
  }
  if (route.path.find("{response}") != route.path.npos && route.method != "delete")
    add_error("400", "The response did not run in the background, so it has no events and no end");
  if (!route.request.empty() || brace != route.path.npos)
    add_error("404", "No such model or response");
  if (route.path == "/v1/cache") add_error("503", "No worker is up");
  if (route.open) {
    op["security"] = ordered_json::array();
    responses["503"] = {{"description", "Not now"}, {"content", json_content("State")}};
  } else {
    add_error("401", "The key is missing or wrong");
  }
  add_error("500", "A fault of the server");
  op["responses"] = std::move(responses);
  return op;
}

}  // namespace

std::span<const ApiRoute> api_routes() { return kRoutes; }

std::string openapi_body(std::string_view version) {
  ordered_json paths = ordered_json::object();
  for (const ApiRoute& route : kRoutes)
    paths[std::string(route.path)][std::string(route.method)] = operation(route);
  return wire_text(
      {{"openapi", "3.1.0"},
       {"info",
        {{"title", "fathom"},
         {"version", version},
         {"description",
          "DeepSeek's, OpenAI's and Anthropic's API for models on your own machine."}}},
       {"security", ordered_json::array({{{"bearer", ordered_json::array()}},
                                         {{"x-api-key", ordered_json::array()}}})},
       {"paths", std::move(paths)},
       {"components", components()}});
}

}  // namespace fathom::server::api
