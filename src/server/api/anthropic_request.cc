#include "server/api/anthropic_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "chat/python_text.h"
#include "server/api/common_fields.h"
#include "server/api/tools.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr FieldSpec kMessages[] = {
    kModelField,
    {.name = "messages",
     .type = FieldType::kList,
     .doc = "The conversation, in order",
     .required = true,
     .min = 1,
     .max = limits::kMaxMessages,
     .schema = R"({"$ref":"#/components/schemas/AnthropicMessage"})"},
    // Required by the Messages route; count_tokens does without.
    {.name = "max_tokens",
     .type = FieldType::kInteger,
     .doc = "Most tokens of the answer, thoughts included",
     .min = 1,
     .max = limits::kMaxContextTokens},
    {.name = "system",
     .doc = "The system message: text, or a list of text blocks",
     .schema = R"({"oneOf":[{"type":"string"},{"type":"array","items":{"type":"object"}}]})"},
    {.name = "stop_sequences",
     .type = FieldType::kList,
     .doc = "Strings that end the answer and are left out of it",
     .max = limits::kMaxStops,
     .schema = R"({"type":"string","minLength":1,"maxLength":1024})"},
    kStreamField,
    {.name = "thinking",
     .type = FieldType::kObject,
     .doc = "enabled, disabled or adaptive",
     .schema = R"({"type":"object","required":["type"],"properties":{"type":{"type":"string",)"
               R"("enum":["enabled","disabled","adaptive"]},"budget_tokens":{"type":"integer",)"
               R"("minimum":1}}})"},
    {.name = "output_config",
     .type = FieldType::kObject,
     .doc = "effort: how much to think",
     .schema = R"({"type":"object","properties":{"effort":{"type":["string","null"],"enum":)"
               R"(["none","minimal","low","medium","high","xhigh","max","ultra",null]}}})"},
    {.name = "tools",
     .type = FieldType::kList,
     .doc = "Functions that the model may call",
     .max = limits::kMaxRequestTools,
     .schema = R"({"$ref":"#/components/schemas/AnthropicTool"})"},
    {.name = "tool_choice",
     .type = FieldType::kObject,
     .doc = "auto, any, none, or one tool",
     .schema = R"({"type":"object","required":["type"],"properties":{"type":{"type":"string",)"
               R"("enum":["auto","any","tool","none"]},"name":{"type":"string"},)"
               R"("disable_parallel_tool_use":{"type":"boolean"}}})"},
    {.name = "metadata",
     .type = FieldType::kObject,
     .doc = "user_id isolates cached prompts and shares the machine fairly",
     .schema = R"({"type":"object","properties":{"user_id":{"type":["string","null"],)"
               R"("maxLength":512}}})"},
    FATHOM_SAMPLING_FIELDS,
    kStopTokenIdsField,
    kIgnoreEosField,
};

constexpr FieldSpec kTool[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "custom: tools that the server would run "
            "itself do not exist here",
     .values = "custom"},
    {.name = "name", .type = FieldType::kString, .doc = "Its name", .required = true},
    {.name = "description", .type = FieldType::kString, .doc = "What it does"},
    {.name = "input_schema",
     .type = FieldType::kObject,
     .doc = "JSON schema of its arguments",
     .required = true},
    {.name = "strict", .type = FieldType::kBoolean, .doc = "Enforce the schema"},
};

constexpr FieldSpec kThinkingObject[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "On or off",
     .required = true,
     .values = "enabled,disabled,adaptive"},
    {.name = "budget_tokens", .type = FieldType::kInteger, .doc = "Not used", .min = 1},
};
constexpr FieldSpec kOutputConfig[] = {
    {.name = "effort", .type = FieldType::kString, .doc = "How much", .values = kEffortNames},
};
constexpr FieldSpec kMetadata[] = {
    {.name = "user_id",
     .type = FieldType::kString,
     .doc = "Who asks",
     .max = limits::kMaxUserIdBytes},
};
constexpr FieldSpec kChoice[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "Which",
     .required = true,
     .values = "auto,any,tool,none"},
    {.name = "name", .type = FieldType::kString, .doc = "With type tool"},
    {.name = "disable_parallel_tool_use", .type = FieldType::kBoolean, .doc = "At most one call"},
};
constexpr FieldSpec kMessage[] = {
    {.name = "role",
     .type = FieldType::kString,
     .doc = "Who speaks",
     .required = true,
     .values = "user,assistant"},
    {.name = "content", .doc = "Text or blocks", .required = true},
};
constexpr FieldSpec kBlock[] = {
    {.name = "type", .type = FieldType::kString, .doc = "The kind", .required = true},
    {.name = "text", .type = FieldType::kString, .doc = "Of a text"},
    {.name = "thinking", .type = FieldType::kString, .doc = "Of a thought"},
    {.name = "id", .type = FieldType::kString, .doc = "Of a tool_use"},
    {.name = "name", .type = FieldType::kString, .doc = "Of a tool_use"},
    {.name = "input", .type = FieldType::kObject, .doc = "Of a tool_use"},
    {.name = "tool_use_id", .type = FieldType::kString, .doc = "Of a tool_result"},
    {.name = "content", .doc = "Of a tool_result"},
    {.name = "is_error", .type = FieldType::kBoolean, .doc = "Of a tool_result; not used"},
};

// A string, or a list of text blocks; `value` may be null where that is nothing.
ApiResult<std::string> text_of_blocks(const ordered_json* value, const std::string& path) {
  constexpr std::string_view kExpected = "a string or a list of text blocks";
  if (value == nullptr) return std::string();
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) return bad_value(path, value, kExpected);
  std::string out;
  for (std::size_t i = 0; i < value->size(); ++i) {
    const std::string here = fmt::format("{}[{}]", path, i);
    if (!(*value)[i].is_object()) return bad_value(here, &(*value)[i], "a text block");
    const FieldReader block((*value)[i], kBlock, here);
    FATHOM_TRY_STATUS(block.check());
    if (*block.string("type") != "text") return block.bad("type", "\"text\": the model reads text");
    if (!block.has("text")) return block.bad("text", "a string");
    if (!out.empty()) out += "\n";
    out += *block.string("text");
  }
  return out;
}

// The blocks of one message.
class Blocks {
 public:
  explicit Blocks(bool assistant) : assistant_(assistant) {
    message_.role = assistant ? "assistant" : "user";
  }

  ApiStatus add(const FieldReader& block) {
    const std::string type = *block.string("type");
    if (type == "text") return add_text(block);
    if (assistant_ && type == "thinking") {
      if (!block.has("thinking")) return block.bad("thinking", "a string");
      message_.reasoning_content =
          message_.reasoning_content.value_or("") + *block.string("thinking");
      return {};
    }
    if (assistant_ && type == "redacted_thinking") return {};
    if (assistant_ && type == "tool_use") return add_call(block);
    if (!assistant_ && type == "tool_result") return add_result(block);
    return block.bad("type", assistant_ ? "one of: text,thinking,redacted_thinking,tool_use"
                                        : "one of: text,tool_result (the model reads text)");
  }
  // Results, then the message, if it has anything.
  void finish(std::vector<ChatMessage>& out) && {
    const bool has_results = !results_.empty();
    for (ChatMessage& result : results_) out.push_back(std::move(result));
    if (message_.content.has_value() || message_.tool_calls.has_value()) {
      out.push_back(std::move(message_));
    } else if (!has_results) {
      message_.content = "";
      out.push_back(std::move(message_));
    }
  }

 private:
  ApiStatus add_text(const FieldReader& block) {
    if (!block.has("text")) return block.bad("text", "a string");
    std::string& content =
        message_.content.has_value() ? *message_.content : message_.content.emplace();
    if (!content.empty()) content += "\n";
    content += *block.string("text");
    return {};
  }
  ApiStatus add_call(const FieldReader& block) {
    if (!block.has("id")) return block.bad("id", "a string");
    if (!block.has("name")) return block.bad("name", "a string");
    if (!block.has("input")) return block.bad("input", "an object");
    if (!message_.tool_calls.has_value()) message_.tool_calls.emplace();
    message_.tool_calls->push_back({.id = *block.string("id"),
                                    .name = *block.string("name"),
                                    .arguments = chat::python_json(*block.find("input"))});
    return {};
  }
  ApiStatus add_result(const FieldReader& block) {
    if (!block.has("tool_use_id")) return block.bad("tool_use_id", "a string");
    FATHOM_TRY(std::string text, text_of_blocks(block.find("content"), block.path("content")));
    results_.push_back(
        {.role = "tool", .content = std::move(text), .tool_call_id = *block.string("tool_use_id")});
    return {};
  }

  bool assistant_;
  ChatMessage message_;
  std::vector<ChatMessage> results_;
};

ApiStatus read_message(const ordered_json& value, const std::string& path,
                       std::vector<ChatMessage>& out) {
  if (!value.is_object()) return bad_value(path, &value, "an object");
  const FieldReader message(value, kMessage, path);
  FATHOM_TRY_STATUS(message.check());
  const ordered_json& content = *message.find("content");
  const std::string role = *message.string("role");
  if (content.is_string()) {
    out.push_back({.role = role, .content = content.get<std::string>()});
    return {};
  }
  if (!content.is_array()) return message.bad("content", "a string or a list of blocks");
  Blocks blocks(role == "assistant");
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string here = fmt::format("{}.content[{}]", path, i);
    if (!content[i].is_object()) return bad_value(here, &content[i], "an object");
    const FieldReader block(content[i], kBlock, here);
    FATHOM_TRY_STATUS(block.check());
    FATHOM_TRY_STATUS(blocks.add(block));
  }
  std::move(blocks).finish(out);
  return {};
}

ApiStatus read_anthropic_messages(const FieldReader& fields, ChatRequest& request) {
  FATHOM_TRY(std::string system, text_of_blocks(fields.find("system"), "system"));
  if (!system.empty()) request.messages.push_back({.role = "system", .content = std::move(system)});
  const ordered_json& list = *fields.find("messages");
  for (std::size_t i = 0; i < list.size(); ++i)
    FATHOM_TRY_STATUS(read_message(list[i], fmt::format("messages[{}]", i), request.messages));
  const ChatMessage& last = request.messages.back();
  request.continue_final_message = last.role == "assistant" && !last.tool_calls.has_value();
  return {};
}

ApiStatus read_tools_of(const FieldReader& fields, ChatRequest& request) {
  const ordered_json* list = fields.find("tools");
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const std::string path = fmt::format("tools[{}]", i);
    if (!(*list)[i].is_object()) return bad_value(path, &(*list)[i], "an object");
    const FieldReader tool((*list)[i], kTool, path);
    FATHOM_TRY_STATUS(tool.check());
    FATHOM_TRY_STATUS(add_tool({.name = *tool.string("name"),
                                .description = tool.string("description").value_or(""),
                                .strict = tool.boolean("strict").value_or(false)},
                               tool.find("input_schema"), path, request));
  }
  request.tools_json = openai_tools_json(request.tools);
  const ordered_json* given = fields.find("tool_choice");
  if (given == nullptr) return {};
  const FieldReader choice(*given, kChoice, "tool_choice");
  FATHOM_TRY_STATUS(choice.check());
  const std::string type = *choice.string("type");
  if (type == "none") request.tool_choice.kind = ToolChoice::Kind::kNone;
  if (type == "any") request.tool_choice.kind = ToolChoice::Kind::kRequired;
  if (type == "tool") {
    if (!choice.has("name")) return choice.bad("name", "the name of a tool");
    request.tool_choice = {ToolChoice::Kind::kNamed, *choice.string("name")};
  }
  request.parallel_tool_calls = !choice.boolean("disable_parallel_tool_use").value_or(false);
  return check_tool_choice(request);
}

ApiStatus read_objects(const FieldReader& fields, ChatRequest& request) {
  if (const ordered_json* given = fields.find("output_config")) {
    const FieldReader config(*given, kOutputConfig, "output_config");
    FATHOM_TRY_STATUS(config.check());
    if (const auto effort = config.string("effort")) apply_effort(*effort, request);
  }
  if (const ordered_json* given = fields.find("thinking")) {
    const FieldReader thinking(*given, kThinkingObject, "thinking");
    FATHOM_TRY_STATUS(thinking.check());
    const std::string type = *thinking.string("type");
    if (type != "adaptive") request.thinking = type == "enabled";
  }
  if (const ordered_json* given = fields.find("metadata")) {
    const FieldReader metadata(*given, kMetadata, "metadata");
    FATHOM_TRY_STATUS(metadata.check());
    request.user_id = metadata.string("user_id").value_or("");
  }
  return {};
}

ApiResult<ChatRequest> parse(std::string_view body, bool needs_max_tokens) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kMessages);
  FATHOM_TRY_STATUS(fields.check());
  if (needs_max_tokens && !fields.has("max_tokens"))
    return fields.bad("max_tokens", "an integer of at least 1");
  ChatRequest request;
  request.model = *fields.string("model");
  FATHOM_TRY_STATUS(read_anthropic_messages(fields, request));
  FATHOM_TRY_STATUS(read_objects(fields, request));
  FATHOM_TRY_STATUS(read_sampling(fields, request.sampling));
  FATHOM_TRY_STATUS(read_stop_token_ids(fields, request.stop_token_ids));
  FATHOM_TRY(request.stops,
             read_strings(fields, "stop_sequences",
                          {.max_entries = limits::kMaxStops, .max_bytes = limits::kMaxStopBytes}));
  FATHOM_TRY_STATUS(read_tools_of(fields, request));
  request.max_tokens = fields.integer("max_tokens");
  request.stream = fields.boolean("stream").value_or(false);
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  return request;
}

}  // namespace

FieldTable anthropic_fields() { return kMessages; }
FieldTable anthropic_tool_fields() { return kTool; }

ApiResult<ChatRequest> parse_anthropic_request(std::string_view body) { return parse(body, true); }

ApiResult<ChatRequest> parse_count_tokens_request(std::string_view body) {
  return parse(body, false);
}

}  // namespace fathom::server::api
