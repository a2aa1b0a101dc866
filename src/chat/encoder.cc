// The shared parts of the encoders: see encoder.h. Whatever a template of one family does alone
// stands in that family's file.
#include "chat/encoder.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"

namespace fathom::chat {

using nlohmann::ordered_json;

PromptBuilder& PromptBuilder::add(std::string_view text, bool markup) {
  if (text.empty()) return *this;
  if (pieces_.empty() || pieces_.back().markup != markup) pieces_.push_back({"", markup});
  pieces_.back().text += text;
  return *this;
}

Error Conversation::bad(std::size_t i, std::string_view field, std::string_view seen,
                        std::string_view expected) const {
  return invalid_argument(
      fmt::format("messages[{}].{} is {}, expected {}", i, field, seen, expected));
}

Result<std::string_view> Conversation::content(std::size_t i) const {
  const ChatMessage& m = message(i);
  if (m.content.has_value()) return std::string_view(*m.content);
  const bool is_null = content_is_null(i);
  // The role is foreign text: printed as JSON so that it stays one line.
  return bad(
      i, "content", is_null ? "null" : "missing",
      fmt::format("a string in a message with role {}", json_preview(nlohmann::json(m.role))));
}

void Conversation::print_content(std::size_t i, PromptBuilder& out) const {
  if (message(i).content.has_value()) {
    out.text(*message(i).content);
  } else if (content_is_null(i)) {
    out.text("None");
  }
}

Error Conversation::bad_role(std::size_t i, std::string_view expected) const {
  // The role is foreign text: printed as JSON so that it stays one line.
  return bad(i, "role", json_preview(nlohmann::json(message(i).role)), expected);
}

bool Conversation::continues_thought(std::size_t i) const {
  // Of the caller's message: the one that is rendered has a mark in its content.
  return continues(i) && messages_[i].content.value_or("").empty() && !calls_tools(i);
}

std::string_view after_first_thought(std::string_view content) {
  const std::size_t end = content.find(kThinkEnd);
  return end == std::string_view::npos ? content : content.substr(end + kThinkEnd.size());
}

std::string_view after_last_thought(std::string_view content) {
  const std::size_t end = content.rfind(kThinkEnd);
  return end == std::string_view::npos ? content : content.substr(end + kThinkEnd.size());
}

Result<std::string_view> arguments_text(const Conversation& conversation, std::size_t message,
                                        std::size_t call) {
  const ToolCall& c = (*conversation.message(message).tool_calls)[call];
  if (!c.arguments_is_object) return std::string_view(c.arguments);
  return conversation.bad(message, fmt::format("tool_calls[{}].function.arguments", call),
                          "an object", "a string of JSON, as this family's template requires");
}

Result<std::string_view> call_type(const Conversation& conversation, std::size_t message,
                                   std::size_t call) {
  const ToolCall& c = (*conversation.message(message).tool_calls)[call];
  if (!c.type.empty()) return std::string_view(c.type);
  return conversation.bad(message, fmt::format("tool_calls[{}].type", call), "missing",
                          "\"function\"");
}

Status write_fenced_call(const Conversation& conversation, std::size_t message, std::size_t call,
                         PromptBuilder& out) {
  FATHOM_TRY(const std::string_view type, call_type(conversation, message, call));
  FATHOM_TRY(const std::string_view arguments, arguments_text(conversation, message, call));
  out.markup(kCallBegin).text(type).markup(kToolSep);
  out.text((*conversation.message(message).tool_calls)[call].name);
  out.markup("\n```json\n").text(arguments).markup("\n```").markup(kCallEnd);
  return {};
}

Status write_joined_system(const Conversation& conversation, PromptBuilder& out) {
  bool first = true;
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    if (conversation.role(i) != "system") continue;
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    if (!first) out.markup("\n\n");
    out.text(content);
    first = false;
  }
  return {};
}

void write_last_system(const Conversation& conversation, PromptBuilder& out) {
  for (std::size_t i = conversation.size(); i-- > 0;) {
    if (conversation.role(i) != "system") continue;
    conversation.print_content(i, out);
    return;
  }
}

Result<std::vector<ToolDescription>> tool_descriptions(const ordered_json& tools) {
  std::vector<ToolDescription> out;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const auto bad = [&](std::string_view field, const ordered_json* value,
                         std::string_view expected) {
      return invalid_argument(fmt::format(
          "tools[{}].{} is {}, expected {}", i, field,
          value == nullptr ? std::string("missing") : json_preview(nlohmann::json(*value)),
          expected));
    };
    const auto member = [](const ordered_json& object, const char* key) -> const ordered_json* {
      const auto it = object.find(key);
      return it == object.end() || it->is_null() ? nullptr : &*it;
    };
    const ordered_json* function = member(tools[i], "function");
    if (function == nullptr || !function->is_object())
      return bad("function", function, "an object");
    const ordered_json* name = member(*function, "name");
    if (name == nullptr || !name->is_string()) return bad("function.name", name, "a string");
    const ordered_json* description = member(*function, "description");
    if (description != nullptr && !description->is_string())
      return bad("function.description", description, "a string");
    const ordered_json* parameters = member(*function, "parameters");
    if (parameters != nullptr && !parameters->is_object())
      return bad("function.parameters", parameters, "an object");
    out.push_back(
        {name->get_ref<const std::string&>(),
         description == nullptr ? std::string_view() : description->get_ref<const std::string&>(),
         function, parameters});
  }
  return out;
}

}  // namespace fathom::chat
