#include "chat/dsml.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "chat/python_text.h"

namespace fathom::chat {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kParameterBegin = "<｜DSML｜parameter";
constexpr std::string_view kParameterEnd = "</｜DSML｜parameter>";
constexpr std::string_view kSpace = " \t\r\n";

void write_parameter(std::string_view name, const ordered_json& value, PromptBuilder& out) {
  const bool is_string = value.is_string();
  out.markup(kParameterBegin).markup(" name=\"").text(name);
  out.markup(is_string ? "\" string=\"true\">" : "\" string=\"false\">");
  out.text(is_string ? value.get_ref<const std::string&>() : python_json(value));
  out.markup(kParameterEnd);
}

// Takes `text` off the front of `rest`, white space before it too.
bool take(std::string_view& rest, std::string_view text) {
  const std::size_t begin = rest.find_first_not_of(kSpace);
  if (begin == rest.npos || !rest.substr(begin).starts_with(text)) return false;
  rest.remove_prefix(begin + text.size());
  return true;
}

// Takes everything up to `end`, and `end`.
std::optional<std::string_view> take_until(std::string_view& rest, std::string_view end) {
  const std::size_t at = rest.find(end);
  if (at == rest.npos) return std::nullopt;
  const std::string_view found = rest.substr(0, at);
  rest.remove_prefix(at + end.size());
  return found;
}

}  // namespace

Status write_dsml_calls(const Conversation& conversation, std::size_t i, std::string_view list,
                        PromptBuilder& out) {
  const ChatMessage& m = conversation.message(i);
  out.markup("\n\n<｜DSML｜").markup(list).markup(">");
  for (std::size_t c = 0; c < m.tool_calls->size(); ++c) {
    const ToolCall& call = (*m.tool_calls)[c];
    const auto arguments = parse_ordered_json(call.arguments, "arguments");
    // What is no object has no parameters to be taken apart: V4's encoder makes it one of its own.
    ordered_json parameters = ordered_json::object();
    if (arguments && arguments->is_object()) {
      parameters = *arguments;
    } else if (list == kDsmlListV4 && !arguments) {
      parameters["arguments"] = call.arguments;
    } else {
      return conversation.bad(i, fmt::format("tool_calls[{}].function.arguments", c),
                              json_preview(nlohmann::json(call.arguments)), "a JSON object");
    }
    out.markup("\n").markup(kDsmlInvokeBegin).markup(" name=\"").text(call.name).markup("\">\n");
    bool first = true;
    for (const auto& [name, value] : parameters.items()) {
      if (!first) out.markup("\n");
      first = false;
      write_parameter(name, value, out);
    }
    out.markup("\n").markup(kDsmlInvokeEnd);
  }
  out.markup("\n</｜DSML｜").markup(list).markup(">");
  return {};
}

void write_dsml_schemas(const ordered_json& tools, PromptBuilder& out) {
  bool first = true;
  for (const ordered_json& tool : tools) {
    if (!first) out.markup("\n");
    first = false;
    const auto function = tool.find("function");
    out.text(python_json(function == tool.end() ? tool : *function));
  }
}

void write_response_schema(const Conversation& conversation, PromptBuilder& out) {
  if (conversation.response_schema() == nullptr) return;
  out.markup(
         "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n")
      .text(python_json(*conversation.response_schema()));
}

std::optional<DsmlCall> parse_dsml_call(std::string_view body) {
  if (!take(body, "name=\"")) return std::nullopt;
  const auto name = take_until(body, "\">");
  if (!name) return std::nullopt;
  std::string arguments = "{";
  std::set<std::string_view> seen;
  while (take(body, kParameterBegin)) {
    if (!take(body, "name=\"")) return std::nullopt;
    const auto parameter = take_until(body, "\" string=\"");
    if (!parameter || !seen.insert(*parameter).second) return std::nullopt;
    const auto is_string = take_until(body, "\">");
    if (!is_string || (*is_string != "true" && *is_string != "false")) return std::nullopt;
    const auto value = take_until(body, kParameterEnd);
    if (!value) return std::nullopt;
    if (arguments.size() > 1) arguments += ", ";
    arguments += python_json(std::string(*parameter)) + ": ";
    arguments += *is_string == "true" ? python_json(std::string(*value)) : std::string(*value);
  }
  if (body.find_first_not_of(kSpace) != body.npos) return std::nullopt;
  return DsmlCall{std::string(*name), arguments + "}"};
}

}  // namespace fathom::chat
