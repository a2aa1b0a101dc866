#include "server/api/constraint.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/api/wire.h"

namespace fathom::server::api {

using nlohmann::ordered_json;

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
  const ToolChoice& choice = request.tool_choice;
  const bool named = choice.kind == ToolChoice::Kind::kNamed;
  ordered_json tools = ordered_json::array();
  for (const ToolSpec& tool : request.tools) {
    if (named && tool.name != choice.name) continue;
    tools.push_back({{"name", tool.name},
                     {"strict", tool.strict},
                     {"parameters", tool.parameters.empty() ? ordered_json::object()
                                                            : ordered_json::parse(tool.parameters)}});
  }
  const bool required = named || choice.kind == ToolChoice::Kind::kRequired;
  return {.kind = ConstraintSpec::Kind::kToolCalls,
          .text = wire_text({{"family", chat_family_name(family)},
                             {"required", required},
                             {"parallel", request.parallel_tool_calls && !named},
                             {"tools", std::move(tools)}})};
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
