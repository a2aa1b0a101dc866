#include "server/api/constraint.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/api/wire.h"

namespace fathom::server::api {

namespace {

using nlohmann::ordered_json;

// How a family writes calls: what its published template prints, which is what it was trained on.
struct CallForm {
  std::string_view list_begin, call_begin, name_end, call_end, between_calls, list_end, trigger;
  bool in_dsml = false;  // its arguments are parameters
};

CallForm call_form(ChatFamily family) {
  switch (family) {
    case ChatFamily::kQwen3:
      return {.call_begin = "<tool_call>\n{\"name\": \"",
              .name_end = "\", \"arguments\": ",
              .call_end = "}\n</tool_call>",
              .between_calls = "\n"};
    case ChatFamily::kDeepseekV31:
    case ChatFamily::kDeepseekV31Terminus:
      return {.list_begin = "<｜tool▁calls▁begin｜>",
              .call_begin = "<｜tool▁call▁begin｜>",
              .name_end = "<｜tool▁sep｜>",
              .call_end = "<｜tool▁call▁end｜>",
              .list_end = "<｜tool▁calls▁end｜>"};
    case ChatFamily::kDeepseekV32:
      return {.list_begin = "<｜DSML｜function_calls>\n",
              .call_begin = "<｜DSML｜invoke name=\"",
              .name_end = "\">\n",
              .call_end = "\n</｜DSML｜invoke>",
              .between_calls = "\n",
              .list_end = "\n</｜DSML｜function_calls>",
              .trigger = "<｜DSML｜function_calls>",
              .in_dsml = true};
    case ChatFamily::kDeepseekV4:
      return {.list_begin = "<｜DSML｜tool_calls>\n",
              .call_begin = "<｜DSML｜invoke name=\"",
              .name_end = "\">\n",
              .call_end = "\n</｜DSML｜invoke>",
              .between_calls = "\n",
              .list_end = "\n</｜DSML｜tool_calls>",
              .trigger = "<｜DSML｜tool_calls>",
              .in_dsml = true};
    default:
      return {.list_begin = "<｜tool▁calls▁begin｜>",
              .call_begin = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
              .name_end = "\n```json\n",
              .call_end = "\n```<｜tool▁call▁end｜>",
              .between_calls = "\n",
              .list_end = "<｜tool▁calls▁end｜>"};
  }
}

// The parameters of DSML. Reading stops at any closing tag, so no string may hold the beginning
// that they share.
ordered_json dsml_parameters() {
  return {{"begin", "<｜DSML｜parameter name=\""},
          {"name_end", "\" string=\""},
          {"text", "true\">"},
          {"json", "false\">"},
          {"end", "</｜DSML｜parameter>"},
          {"between", "\n"},
          {"not_in_text", "</｜"}};
}

}  // namespace

bool needs_tool_constraint(const ChatRequest& request) {
  if (request.tools.empty()) return false;
  switch (request.tool_choice.kind) {
    case ToolChoice::Kind::kNone:
      return false;
    case ToolChoice::Kind::kRequired:
    case ToolChoice::Kind::kNamed:
      return true;
    case ToolChoice::Kind::kAuto:
      break;
  }
  return !request.parallel_tool_calls ||
         std::any_of(request.tools.begin(), request.tools.end(),
                     [](const ToolSpec& tool) { return tool.strict; });
}

ConstraintSpec make_tool_constraint(const ChatRequest& request, ChatFamily family) {
  ordered_json tools = ordered_json::array();
  for (const ToolSpec& tool : request.tools)
    tools.push_back({{"name", tool.name}, {"schema", tool.parameters}, {"strict", tool.strict}});
  ordered_json choice = "auto";
  if (request.tool_choice.kind == ToolChoice::Kind::kRequired) choice = "required";
  if (request.tool_choice.kind == ToolChoice::Kind::kNamed)
    choice = {{"name", request.tool_choice.name}};
  const CallForm f = call_form(family);
  ordered_json form = {
      {"list_begin", f.list_begin}, {"call_begin", f.call_begin},       {"name_end", f.name_end},
      {"call_end", f.call_end},     {"between_calls", f.between_calls}, {"list_end", f.list_end},
      {"trigger", f.trigger}};
  if (f.in_dsml) form["parameters"] = dsml_parameters();
  return {.kind = ConstraintSpec::Kind::kToolCalls,
          .text = wire_text({{"form", std::move(form)},
                             {"tools", std::move(tools)},
                             {"choice", std::move(choice)},
                             {"parallel", request.parallel_tool_calls}})};
}

ConstraintSpec make_constraint(const ChatRequest& request, ChatFamily family) {
  if (needs_tool_constraint(request)) return make_tool_constraint(request, family);
  switch (request.format.kind) {
    case ResponseFormat::Kind::kJsonObject:
      return {.kind = ConstraintSpec::Kind::kJsonObject};
    case ResponseFormat::Kind::kJsonSchema:
      return {.kind = ConstraintSpec::Kind::kJsonSchema, .text = request.format.schema};
    case ResponseFormat::Kind::kText:
      break;
  }
  return {};
}

}  // namespace fathom::server::api
