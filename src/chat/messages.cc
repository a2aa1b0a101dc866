// Reading a list of messages in OpenAI's form: types are checked here, meaning in the encoders.
//
// A template sees whether a field is null or absent, so this keeps the difference. Fields beyond
// OpenAI's form, which DeepSeek's own conversations have, are read from files only: what a request
// may say is the API's to decide.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "chat/chat.h"
#include "chat/python_text.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

// An object of the list and the place it stands in, for messages.
class Fields {
 public:
  Fields(const ordered_json& object, std::string_view source, std::string path)
      : object_(object), source_(source), path_(std::move(path)) {}

  // Null if absent; a null value is returned as such.
  const ordered_json* find(const char* field) const {
    const auto it = object_.find(field);
    return it == object_.end() ? nullptr : &*it;
  }
  std::string path(std::string_view field) const { return fmt::format("{}.{}", path_, field); }
  Error bad(std::string_view field, const ordered_json* seen, std::string_view expected) const {
    return invalid_argument(fmt::format(
        "{}{}{} is {}, expected {}", source_, source_.empty() ? "" : ": ", path(field),
        seen == nullptr ? std::string("missing") : json_preview(nlohmann::json(*seen)), expected));
  }
  Result<std::string> required_string(const char* field) const {
    const ordered_json* v = find(field);
    if (v == nullptr || !v->is_string()) return bad(field, v, "a string");
    return v->get<std::string>();
  }
  // Absent and null alike give nullopt.
  Result<std::optional<std::string>> optional_string(const char* field) const {
    const ordered_json* v = find(field);
    if (v == nullptr || v->is_null()) return std::optional<std::string>();
    if (!v->is_string()) return bad(field, v, "a string or null");
    return std::optional<std::string>(v->get<std::string>());
  }
  std::string_view source() const { return source_; }

 private:
  const ordered_json& object_;
  std::string_view source_;
  std::string path_;
};

Status read_content(const Fields& fields, ChatMessage& message) {
  const ordered_json* v = fields.find("content");
  message.content_absent = v == nullptr;
  if (v == nullptr || v->is_null()) return {};
  if (v->is_string()) {
    message.content = v->get<std::string>();
    return {};
  }
  if (!v->is_array()) return fields.bad("content", v, "a string, null or a list of text parts");
  std::string& text = message.content.emplace();
  for (std::size_t i = 0; i < v->size(); ++i) {
    const std::string name = fmt::format("content[{}]", i);
    if (!(*v)[i].is_object())
      return fields.bad(name, &(*v)[i], "an object {\"type\": \"text\", \"text\": …}");
    const Fields part((*v)[i], fields.source(), fields.path(name));
    FATHOM_TRY(const std::string type, part.required_string("type"));
    if (type != "text")
      return part.bad("type", part.find("type"), "\"text\": the model reads text");
    FATHOM_TRY(const std::string part_text, part.required_string("text"));
    if (i > 0) message.part_begins.push_back(text.size());
    text += part_text;
  }
  return {};
}

Result<ToolCall> read_tool_call(const Fields& fields) {
  ToolCall call;
  FATHOM_TRY(const std::optional<std::string> id, fields.optional_string("id"));
  FATHOM_TRY(const std::optional<std::string> type, fields.optional_string("type"));
  call.id = id.value_or("");
  call.type = type.value_or("");
  const ordered_json* function = fields.find("function");
  if (function == nullptr || !function->is_object())
    return fields.bad("function", function, "an object");
  const Fields in_function(*function, fields.source(), fields.path("function"));
  FATHOM_TRY(call.name, in_function.required_string("name"));
  if (const ordered_json* id_here = in_function.find("id");
      call.id.empty() && id_here != nullptr && id_here->is_string()) {
    call.id = id_here->get<std::string>();
  }
  const ordered_json* arguments = in_function.find("arguments");
  if (arguments != nullptr && arguments->is_string()) {
    call.arguments = arguments->get<std::string>();
  } else if (arguments != nullptr && arguments->is_object()) {
    call.arguments = chat::python_json(*arguments);
    call.arguments_is_object = true;
  } else {
    return in_function.bad("arguments", arguments, "a string of JSON or an object");
  }
  return call;
}

Status read_tool_calls(const Fields& fields, ChatMessage& message) {
  const ordered_json* v = fields.find("tool_calls");
  if (v == nullptr) return {};
  if (v->is_null()) {
    message.tool_calls_null = true;
    return {};
  }
  if (!v->is_array()) return fields.bad("tool_calls", v, "a list or null");
  message.tool_calls.emplace();
  for (std::size_t i = 0; i < v->size(); ++i) {
    const std::string name = fmt::format("tool_calls[{}]", i);
    if (!(*v)[i].is_object()) return fields.bad(name, &(*v)[i], "an object");
    FATHOM_TRY(ToolCall call, read_tool_call(Fields((*v)[i], fields.source(), fields.path(name))));
    message.tool_calls->push_back(std::move(call));
  }
  return {};
}

// As DeepSeek's encoders read it: what Python takes for false counts as absent.
bool says_nothing(const ordered_json* v) {
  if (v == nullptr || v->is_null()) return true;
  if (v->is_boolean()) return !v->get<bool>();
  if (v->is_number()) return *v == 0;
  return v->is_string() ? v->get_ref<const std::string&>().empty() : v->empty();
}

// See chat.h: the fields beyond OpenAI's form.
Status read_extras(const Fields& fields, ChatMessage& message) {
  if (const ordered_json* tools = fields.find("tools"); !says_nothing(tools)) {
    if (!tools->is_array()) return fields.bad("tools", tools, "a list or null");
    message.tools_json = chat::python_json(*tools);
  }
  if (const ordered_json* schema = fields.find("response_format"); !says_nothing(schema))
    message.response_schema_json = chat::python_json(*schema);
  FATHOM_TRY(message.task, fields.optional_string("task"));
  message.without_end = !says_nothing(fields.find("wo_eos"));
  return {};
}

Result<ChatMessage> read_message(const Fields& fields, bool with_extras) {
  ChatMessage message;
  FATHOM_TRY(message.role, fields.required_string("role"));
  FATHOM_TRY_STATUS(read_content(fields, message));
  FATHOM_TRY(message.reasoning_content, fields.optional_string("reasoning_content"));
  FATHOM_TRY_STATUS(read_tool_calls(fields, message));
  FATHOM_TRY(const std::optional<std::string> tool_call_id, fields.optional_string("tool_call_id"));
  FATHOM_TRY(const std::optional<std::string> name, fields.optional_string("name"));
  message.tool_call_id = tool_call_id.value_or("");
  message.name = name.value_or("");
  const ordered_json* prefix = fields.find("prefix");
  if (prefix != nullptr && !prefix->is_null()) {
    if (!prefix->is_boolean()) return fields.bad("prefix", prefix, "true or false");
    message.prefix = prefix->get<bool>();
  }
  if (with_extras) FATHOM_TRY_STATUS(read_extras(fields, message));
  return message;
}

Status check_list(const ordered_json& list, std::string_view name, std::string_view top) {
  if (!list.is_array()) {
    return invalid_argument(fmt::format("{}{} is {}, expected a list of messages", name, top,
                                        json_preview(nlohmann::json(list))));
  }
  if (static_cast<int64_t>(list.size()) > limits::kMaxMessages) {
    return resource_limit(
        fmt::format("{}: {} messages, the limit is {}", name, list.size(), limits::kMaxMessages));
  }
  return {};
}

// `name` begins the errors about entries that are no objects, source and path those about fields.
Result<std::vector<ChatMessage>> read_list(const ordered_json& list, std::string_view name,
                                           std::string_view source, std::string_view path,
                                           bool with_extras) {
  std::vector<ChatMessage> messages;
  messages.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_object()) {
      return invalid_argument(fmt::format("{}[{}] is {}, expected an object", name, i,
                                          json_preview(nlohmann::json(list[i]))));
    }
    FATHOM_TRY(ChatMessage message,
               read_message(Fields(list[i], source, fmt::format("{}[{}]", path, i)), with_extras));
    messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace

Result<std::vector<ChatMessage>> parse_messages(std::string_view json_text,
                                                std::string_view source) {
  FATHOM_TRY(const ordered_json list,
             parse_ordered_json(json_text, source,
                                {.max_bytes = limits::kMaxPromptBytes,
                                 .max_values = limits::kMaxRequestJsonValues}));
  FATHOM_TRY_STATUS(check_list(list, source, ": the top"));
  return read_list(list, fmt::format("{}: ", source), source, "", true);
}

Result<std::vector<ChatMessage>> messages_of_json(const ordered_json& list,
                                                  const std::string& path) {
  FATHOM_TRY_STATUS(check_list(list, path, ""));
  return read_list(list, path, "", path, false);
}

}  // namespace fathom
