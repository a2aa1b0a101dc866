#include "chat/dsml.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "base/limits.h"
#include "chat/python_text.h"

namespace fathom::chat {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kSpace = " \t\r\n";

constexpr JsonLimits kOfPrompts = {.max_bytes = limits::kMaxPromptBytes,
                                   .max_values = limits::kMaxRequestJsonValues};

void write_parameter(std::string_view name, const ordered_json& value, PromptBuilder& out) {
  const bool is_string = value.is_string();
  out.markup(kDsmlParameterBegin).markup(" name=\"").text(name);
  out.markup(is_string ? "\" string=\"true\">" : "\" string=\"false\">");
  out.text(is_string ? value.get_ref<const std::string&>() : python_json(value));
  out.markup(kDsmlParameterEnd);
}

// The parameters of a call as an object.
Result<ordered_json> parameters_of(const Conversation& conversation, std::size_t i, std::size_t c,
                                   const DsmlForm& form) {
  const ToolCall& call = (*conversation.message(i).tool_calls)[c];
  const std::string field = fmt::format("tool_calls[{}].function.arguments", c);
  const auto bad = [&](const std::string& seen) {
    return conversation.bad(i, field, seen, "a string that holds a JSON object");
  };
  const bool is_json = !call.arguments_is_object && ordered_json::accept(call.arguments);
  if (!is_json && form.wraps_what_is_no_json) {
    // An object is no string of JSON either, and stays an object.
    ordered_json whole = call.arguments;
    if (call.arguments_is_object) {
      FATHOM_TRY(whole, parse_ordered_json(call.arguments, field, kOfPrompts));
    }
    return ordered_json{{"arguments", std::move(whole)}};
  }
  if (call.arguments_is_object) return bad("an object");
  const auto parsed = parse_ordered_json(call.arguments, field, kOfPrompts);
  if (!parsed) return invalid_argument(fmt::format("messages[{}].{}", i, parsed.error().message));
  if (!parsed->is_object()) return bad(json_preview(nlohmann::json(call.arguments)));
  return *parsed;
}

// A caller's list of tools, each as one line of JSON.
Status write_tools(const ordered_json& tools, std::string_view path, const DsmlForm& form,
                   PromptBuilder& out) {
  out.markup("\n\n").markup(form.before_tools);
  for (std::size_t k = 0; k < tools.size(); ++k) {
    const auto function = tools[k].find("function");
    if (!tools[k].is_object() || function == tools[k].end() || !function->is_object()) {
      return invalid_argument(fmt::format("{}[{}].function is {}, expected an object", path, k,
                                          function == tools[k].end() || !tools[k].is_object()
                                              ? std::string("missing")
                                              : json_preview(nlohmann::json(*function))));
    }
    if (k > 0) out.markup("\n");
    out.text(python_json(*function));
  }
  out.markup(form.after_tools);
  return {};
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

Status write_dsml_calls(const Conversation& conversation, std::size_t i, const DsmlForm& form,
                        PromptBuilder& out) {
  const ChatMessage& m = conversation.message(i);
  out.markup("\n\n").markup(form.calls_begin);
  for (std::size_t c = 0; c < m.tool_calls->size(); ++c) {
    FATHOM_TRY(const ordered_json parameters, parameters_of(conversation, i, c, form));
    out.markup("\n").markup(kDsmlInvokeBegin).markup(" name=\"");
    out.text((*m.tool_calls)[c].name).markup("\">\n");
    bool first = true;
    for (const auto& [name, value] : parameters.items()) {
      if (!first) out.markup("\n");
      first = false;
      write_parameter(name, value, out);
    }
    out.markup("\n").markup(kDsmlInvokeEnd);
  }
  out.markup("\n").markup(form.calls_end);
  return {};
}

std::optional<std::size_t> dsml_carrier(const Conversation& conversation) {
  for (std::size_t i = 0; i < conversation.size(); ++i)
    if (conversation.role(i) == "system") return i;
  return std::nullopt;
}

Status write_dsml_extras(const Conversation& conversation, std::optional<std::size_t> i,
                         const DsmlForm& form, PromptBuilder& out) {
  static const std::string kNone;
  const std::string& own_tools = i ? conversation.message(*i).tools_json : kNone;
  const std::string& own_schema = i ? conversation.message(*i).response_schema_json : kNone;
  const bool carries = i == dsml_carrier(conversation);
  const auto given_twice = [&](std::string_view field) {
    return conversation.bad(*i, field, "given", "nothing, as the whole conversation has them");
  };
  if (carries && conversation.tools() != nullptr) {
    if (!own_tools.empty()) return given_twice("tools");
    FATHOM_TRY_STATUS(write_tools(*conversation.tools(), "tools", form, out));
  } else if (!own_tools.empty()) {
    const std::string path = fmt::format("messages[{}].tools", *i);
    FATHOM_TRY(const ordered_json tools, parse_ordered_json(own_tools, path, kOfPrompts));
    FATHOM_TRY_STATUS(write_tools(tools, path, form, out));
  }
  const bool of_conversation = carries && conversation.response_schema() != nullptr;
  if (of_conversation && !own_schema.empty()) return given_twice("response_format");
  if (!of_conversation && own_schema.empty()) return {};
  out.markup(
      "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n");
  out.text(of_conversation ? python_json(*conversation.response_schema()) : own_schema);
  return {};
}

std::optional<DsmlCall> parse_dsml_call(std::string_view body) {
  if (!take(body, "name=\"")) return std::nullopt;
  const auto name = take_until(body, "\">");
  if (!name) return std::nullopt;
  std::string arguments = "{";
  std::set<std::string_view> seen;
  while (take(body, kDsmlParameterBegin)) {
    if (!take(body, "name=\"")) return std::nullopt;
    const auto parameter = take_until(body, "\" string=\"");
    if (!parameter || !seen.insert(*parameter).second) return std::nullopt;
    const auto is_string = take_until(body, "\">");
    if (!is_string || (*is_string != "true" && *is_string != "false")) return std::nullopt;
    const auto value = take_until(body, kDsmlParameterEnd);
    // Each value by itself, or a comma in one could add a parameter.
    if (!value || (*is_string == "false" && !nlohmann::json::accept(*value))) return std::nullopt;
    if (arguments.size() > 1) arguments += ", ";
    arguments += python_json(std::string(*parameter)) + ": ";
    arguments += *is_string == "true" ? python_json(std::string(*value)) : std::string(*value);
  }
  if (body.find_first_not_of(kSpace) != body.npos) return std::nullopt;
  return DsmlCall{std::string(*name), arguments + "}"};
}

}  // namespace fathom::chat
