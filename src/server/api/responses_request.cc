#include "server/api/responses_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "chat/python_text.h"
#include "server/api/common_fields.h"
#include "server/api/tools.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr FieldSpec kResponses[] = {
    kModelField,
    {.name = "input",
     .doc = "Text, or a list of items: messages, calls, their outputs, reasoning",
     .required = true,
     .schema = R"({"oneOf":[{"type":"string"},{"type":"array","items":{"type":"object"}}]})"},
    {.name = "instructions", .type = FieldType::kString, .doc = "The system message"},
    {.name = "max_output_tokens",
     .type = FieldType::kInteger,
     .doc = "Most tokens of the answer, thoughts included; by default what the context leaves",
     .min = 1,
     .max = limits::kMaxContextTokens},
    {.name = "previous_response_id",
     .type = FieldType::kString,
     .doc = "Goes on with the conversation of a stored response",
     .min = 1,
     .max = 256},
    {.name = "background",
     .type = FieldType::kBoolean,
     .doc = "Answer at once with a response to be fetched later; needs store"},
    {.name = "store", .type = FieldType::kBoolean, .doc = "Keep the response; true"},
    {.name = "metadata",
     .type = FieldType::kObject,
     .doc = "Up to 16 pairs, given back",
     .schema = R"({"type":"object","maxProperties":16,"additionalProperties":{"type":"string",)"
               R"("maxLength":512}})"},
    {.name = "text",
     .type = FieldType::kObject,
     .doc = "The form of the answer",
     .schema = R"({"$ref":"#/components/schemas/ResponseText"})"},
    {.name = "reasoning",
     .type = FieldType::kObject,
     .doc = "How to think",
     .schema = R"({"$ref":"#/components/schemas/Reasoning"})"},
    {.name = "tools",
     .type = FieldType::kList,
     .doc = "Functions that the model may call",
     .max = limits::kMaxRequestTools,
     .schema = R"({"$ref":"#/components/schemas/ResponseTool"})"},
    {.name = "tool_choice",
     .doc = "none, auto, required, or one function",
     .schema = R"({"oneOf":[{"type":"string","enum":["none","auto","required"]},{"type":"object",)"
               R"("required":["type","name"],"properties":{"type":{"type":"string","enum":)"
               R"(["function"]},"name":{"type":"string"}}}]})"},
    kParallelToolCallsField,
    {.name = "top_logprobs",
     .type = FieldType::kInteger,
     .doc = "Log probabilities of the tokens and of so many likeliest ones",
     .min = 0,
     .max = limits::kMaxTopLogprobs},
    kStreamField,
    FATHOM_SAMPLING_FIELDS,
    kStopField,
    kStopTokenIdsField,
    kIgnoreEosField,
    kUserIdField,
    kUserField,
};

constexpr FieldSpec kText[] = {
    {.name = "format",
     .type = FieldType::kObject,
     .doc = "type text, json_object, or json_schema with name and schema"},
};

constexpr FieldSpec kFormat[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "What the answer is",
     .required = true,
     .values = "text,json_object,json_schema"},
    {.name = "name", .type = FieldType::kString, .doc = "Of the schema", .min = 1, .max = 64},
    {.name = "schema", .type = FieldType::kObject, .doc = "The JSON schema"},
};

constexpr FieldSpec kReasoning[] = {
    {.name = "effort",
     .type = FieldType::kString,
     .doc = "none switches thinking off",
     .values = kEffortNames},
};

constexpr FieldSpec kResponseTool[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "function",
     .required = true,
     .values = "function"},
    {.name = "name", .type = FieldType::kString, .doc = "Its name", .required = true},
    {.name = "description", .type = FieldType::kString, .doc = "What it does"},
    {.name = "parameters", .type = FieldType::kObject, .doc = "JSON schema of its arguments"},
    {.name = "strict", .type = FieldType::kBoolean, .doc = "Enforce the schema"},
};

constexpr FieldSpec kNamedChoice[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "function",
     .required = true,
     .values = "function"},
    {.name = "name", .type = FieldType::kString, .doc = "Its name", .required = true},
};

constexpr FieldSpec kItem[] = {
    {.name = "type", .type = FieldType::kString, .doc = "The kind of the item"},
    {.name = "role",
     .type = FieldType::kString,
     .doc = "Of a message",
     .values = "user,assistant,system,developer"},
    {.name = "content", .doc = "Of a message or a thought"},
    {.name = "call_id", .type = FieldType::kString, .doc = "Of a call or its output"},
    {.name = "name", .type = FieldType::kString, .doc = "Of a called function"},
    {.name = "arguments", .type = FieldType::kString, .doc = "Of a call"},
    {.name = "output", .doc = "Of a call"},
};

// A string, or a list of parts that have a text.
ApiResult<std::string> text_of_parts(const ordered_json* value, const std::string& path) {
  constexpr std::string_view kExpected = "a string or a list of text parts";
  if (value == nullptr) return bad_value(path, nullptr, kExpected);
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) return bad_value(path, value, kExpected);
  std::string text;
  for (std::size_t i = 0; i < value->size(); ++i) {
    const ordered_json& part = (*value)[i];
    const std::string here = fmt::format("{}[{}]", path, i);
    if (!part.is_object()) return bad_value(here, &part, "an object with type and text");
    const auto type = part.find("type");
    const bool is_text =
        type != part.end() && (*type == "input_text" || *type == "output_text" || *type == "text" ||
                               *type == "reasoning_text" || *type == "summary_text");
    if (!is_text)
      return bad_value(here + ".type", type == part.end() ? nullptr : &*type,
                       "\"input_text\" or \"output_text\": the model reads text");
    const auto content = part.find("text");
    if (content == part.end() || !content->is_string())
      return bad_value(here + ".text", content == part.end() ? nullptr : &*content, "a string");
    text += content->get_ref<const std::string&>();
  }
  return text;
}

// Collects items as messages; what belongs to one message of the assistant is joined.
class Items {
 public:
  ApiStatus add(const ordered_json& value, const std::string& path) {
    if (!value.is_object()) return bad_value(path, &value, "an object");
    const FieldReader item(value, kItem, path);
    FATHOM_TRY_STATUS(item.check());
    const std::string type = item.string("type").value_or("message");
    if (type == "message") return add_message(item);
    if (type == "function_call") return add_call(item);
    if (type == "function_call_output") return add_output(item);
    if (type == "reasoning") return add_reasoning(item);
    return item.bad("type", "one of: message,function_call,function_call_output,reasoning");
  }
  std::vector<ChatMessage> take() && { return std::move(messages_); }

 private:
  // The assistant's message that is being written.
  ChatMessage& assistant() {
    if (messages_.empty() || messages_.back().role != "assistant")
      messages_.push_back({.role = "assistant"});
    return messages_.back();
  }

  ApiStatus add_message(const FieldReader& item) {
    if (!item.has("role")) return item.bad("role", "one of: user,assistant,system,developer");
    FATHOM_TRY(std::string text, text_of_parts(item.find("content"), item.path("content")));
    const std::string role = *item.string("role");
    if (role == "assistant" && !messages_.empty() && messages_.back().role == "assistant" &&
        !messages_.back().content.has_value() && !messages_.back().tool_calls.has_value()) {
      messages_.back().content = std::move(text);  // behind its reasoning
    } else {
      messages_.push_back({.role = role == "developer" ? "system" : role, .content = text});
    }
    return {};
  }
  ApiStatus add_call(const FieldReader& item) {
    for (const char* field : {"call_id", "name", "arguments"})
      if (!item.has(field)) return item.bad(field, "a string");
    ChatMessage& m = assistant();
    if (!m.tool_calls.has_value()) m.tool_calls.emplace();
    m.tool_calls->push_back({.id = *item.string("call_id"),
                             .name = *item.string("name"),
                             .arguments = *item.string("arguments")});
    return {};
  }
  ApiStatus add_output(const FieldReader& item) {
    if (!item.has("call_id")) return item.bad("call_id", "a string");
    FATHOM_TRY(std::string text, text_of_parts(item.find("output"), item.path("output")));
    messages_.push_back(
        {.role = "tool", .content = std::move(text), .tool_call_id = *item.string("call_id")});
    return {};
  }
  ApiStatus add_reasoning(const FieldReader& item) {
    if (!item.has("content")) return {};  // a summary alone says nothing that a model may read
    FATHOM_TRY(std::string text, text_of_parts(item.find("content"), item.path("content")));
    messages_.push_back({.role = "assistant", .reasoning_content = std::move(text)});
    return {};
  }

  std::vector<ChatMessage> messages_;
};

ApiStatus read_input(const FieldReader& fields, ChatRequest& chat) {
  const ordered_json& input = *fields.find("input");
  if (input.is_string()) {
    chat.messages.push_back({.role = "user", .content = input.get<std::string>()});
    return {};
  }
  if (!input.is_array() || input.empty() || input.size() > limits::kMaxMessages)
    return fields.bad("input",
                      fmt::format("a string or a list of 1 to {} items", limits::kMaxMessages));
  Items items;
  for (std::size_t i = 0; i < input.size(); ++i)
    FATHOM_TRY_STATUS(items.add(input[i], fmt::format("input[{}]", i)));
  chat.messages = std::move(items).take();
  // A thought that led to nothing.
  std::erase_if(chat.messages, [](const ChatMessage& m) {
    return m.role == "assistant" && !m.content.has_value() && !m.tool_calls.has_value();
  });
  return {};
}

ApiStatus read_format(const FieldReader& fields, ChatRequest& chat) {
  const ordered_json* given = fields.find("text");
  if (given == nullptr) return {};
  const FieldReader text(*given, kText, "text");
  FATHOM_TRY_STATUS(text.check());
  if (!text.has("format")) return {};
  const FieldReader format(*text.find("format"), kFormat, "text.format");
  FATHOM_TRY_STATUS(format.check());
  const std::string type = *format.string("type");
  if (type == "json_object") chat.format.kind = ResponseFormat::Kind::kJsonObject;
  if (type != "json_schema") return {};
  if (!format.has("schema")) return format.bad("schema", "an object");
  const std::string name = format.string("name").value_or("");
  if (!is_api_name(name)) return format.bad("name", "1 to 64 letters, digits, _ or -");
  chat.format = {.kind = ResponseFormat::Kind::kJsonSchema,
                 .name = name,
                 .schema = chat::python_json(*format.find("schema"))};
  return {};
}

ApiStatus read_response_tools(const FieldReader& fields, ChatRequest& chat) {
  const ordered_json* list = fields.find("tools");
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const std::string path = fmt::format("tools[{}]", i);
    if (!(*list)[i].is_object()) return bad_value(path, &(*list)[i], "an object");
    const FieldReader tool((*list)[i], kResponseTool, path);
    FATHOM_TRY_STATUS(tool.check());
    FATHOM_TRY_STATUS(add_tool({.name = *tool.string("name"),
                                .description = tool.string("description").value_or(""),
                                .strict = tool.boolean("strict").value_or(false)},
                               tool.find("parameters"), path, chat));
  }
  chat.tools_json = openai_tools_json(chat.tools);
  const ordered_json* choice = fields.find("tool_choice");
  if (choice == nullptr || !choice->is_object()) return read_tool_choice(fields, chat);
  const FieldReader named(*choice, kNamedChoice, "tool_choice");
  FATHOM_TRY_STATUS(named.check());
  chat.tool_choice = {ToolChoice::Kind::kNamed, *named.string("name")};
  return {};
}

ApiStatus read_metadata(const FieldReader& fields, ResponsesRequest& request) {
  const ordered_json* given = fields.find("metadata");
  if (given == nullptr) return {};
  if (given->size() > limits::kMaxMetadataEntries)
    return bad_request("metadata", fmt::format("metadata has {} entries, expected at most {}",
                                               given->size(), limits::kMaxMetadataEntries));
  for (const auto& [key, value] : given->items()) {
    if (key.size() > 64 || !value.is_string() || value.get_ref<const std::string&>().size() > 512)
      return bad_value("metadata." + key.substr(0, 64), &value,
                       "a string of at most 512 bytes, under a key of at most 64");
    request.metadata.emplace_back(key, value.get<std::string>());
  }
  return {};
}

ApiStatus read_reasoning(const FieldReader& fields, ResponsesRequest& request) {
  const ordered_json* given = fields.find("reasoning");
  if (given == nullptr) return {};
  const FieldReader reasoning(*given, kReasoning, "reasoning");
  FATHOM_TRY_STATUS(reasoning.check());
  request.effort = reasoning.string("effort").value_or("");
  if (!request.effort.empty()) apply_effort(request.effort, request.chat);
  return {};
}

}  // namespace

FieldTable responses_fields() { return kResponses; }
FieldTable response_text_fields() { return kText; }
FieldTable response_tool_fields() { return kResponseTool; }
FieldTable reasoning_fields() { return kReasoning; }

ApiResult<ResponsesRequest> parse_responses_request(std::string_view body) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kResponses);
  FATHOM_TRY_STATUS(fields.check());
  ResponsesRequest request;
  ChatRequest& chat = request.chat;
  chat.model = *fields.string("model");
  FATHOM_TRY_STATUS(read_input(fields, chat));
  FATHOM_TRY_STATUS(read_reasoning(fields, request));
  FATHOM_TRY_STATUS(read_sampling(fields, chat.sampling));
  FATHOM_TRY_STATUS(read_stop_token_ids(fields, chat.stop_token_ids));
  FATHOM_TRY(chat.stops,
             read_strings(fields, "stop",
                          {.max_entries = limits::kMaxStops, .max_bytes = limits::kMaxStopBytes}));
  FATHOM_TRY_STATUS(read_response_tools(fields, chat));
  FATHOM_TRY_STATUS(check_tool_choice(chat));
  FATHOM_TRY_STATUS(read_format(fields, chat));
  FATHOM_TRY_STATUS(read_metadata(fields, request));
  chat.max_tokens = fields.integer("max_output_tokens");
  chat.top_logprobs = static_cast<int>(fields.integer("top_logprobs").value_or(-1));
  chat.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  chat.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  chat.stream = fields.boolean("stream").value_or(false);
  chat.user_id = fields.string("user_id").value_or(fields.string("user").value_or(""));
  request.instructions = fields.string("instructions").value_or("");
  request.previous_response_id = fields.string("previous_response_id").value_or("");
  request.background = fields.boolean("background").value_or(false);
  request.store = fields.boolean("store").value_or(true);
  if (request.background && !request.store)
    return bad_request("background",
                       "background is true, but store is false: expected store to be true");
  return request;
}

ApiResult<ChatRequest> conversation(const ResponsesRequest& request,
                                    std::span<const ChatMessage> history) {
  ChatRequest out = request.chat;
  out.messages.clear();
  if (!request.instructions.empty())
    out.messages.push_back({.role = "system", .content = request.instructions});
  out.messages.insert(out.messages.end(), history.begin(), history.end());
  out.messages.insert(out.messages.end(), request.chat.messages.begin(),
                      request.chat.messages.end());
  if (out.messages.empty()) return bad_request("input", "input has no message, expected one");
  FATHOM_TRY_STATUS(check_format(out, "text.format"));
  return out;
}

ChatMessage message_of(const Answer& answer) {
  ChatMessage m{.role = "assistant"};
  if (!answer.content.empty() || answer.calls.empty()) m.content = answer.content;
  if (!answer.reasoning.empty()) m.reasoning_content = answer.reasoning;
  for (const AnsweredCall& call : answer.calls) {
    if (!m.tool_calls.has_value()) m.tool_calls.emplace();
    m.tool_calls->push_back({.id = call.id, .name = call.name, .arguments = call.arguments});
  }
  return m;
}

}  // namespace fathom::server::api
