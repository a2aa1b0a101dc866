#include "server/api/tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/limits.h"
#include "chat/python_text.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr FieldSpec kTool[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "function",
     .required = true,
     .values = "function"},
    {.name = "function", .type = FieldType::kObject, .doc = "The function", .required = true},
};

constexpr FieldSpec kFunction[] = {
    {.name = "name",
     .type = FieldType::kString,
     .doc = "Letters, digits, _ and -, at most 64 of them",
     .required = true,
     .min = 1,
     .max = 64},
    {.name = "description", .type = FieldType::kString, .doc = "What it does"},
    {.name = "parameters", .type = FieldType::kObject, .doc = "JSON schema of its arguments"},
    {.name = "strict",
     .type = FieldType::kBoolean,
     .doc = "Enforce the schema while sampling; it must have closed objects, all properties "
            "required"},
};

constexpr FieldSpec kResponseFormat[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "What the answer is",
     .required = true,
     .values = "text,json_object,json_schema"},
    {.name = "json_schema", .type = FieldType::kObject, .doc = "With type json_schema"},
};

constexpr FieldSpec kJsonSchema[] = {
    {.name = "name",
     .type = FieldType::kString,
     .doc = "Letters, digits, _ and -, at most 64 of them",
     .required = true,
     .min = 1,
     .max = 64},
    {.name = "description", .type = FieldType::kString, .doc = "Not used"},
    {.name = "schema", .type = FieldType::kObject, .doc = "The JSON schema", .required = true},
    {.name = "strict", .type = FieldType::kBoolean, .doc = "Not used: it is enforced either way"},
};

constexpr FieldSpec kNamedChoice[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "function",
     .required = true,
     .values = "function"},
    {.name = "function", .type = FieldType::kObject, .doc = "Which one", .required = true},
};

constexpr FieldSpec kNamedFunction[] = {
    {.name = "name", .type = FieldType::kString, .doc = "Its name", .required = true},
};

constexpr std::string_view kFormats[] = {"email", "hostname", "ipv4", "ipv6", "uuid"};

bool speaks_of_json(std::string_view text) {
  constexpr std::string_view kWord = "json";
  const auto same = [](char a, char b) {
    return b == (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a);
  };
  return std::search(text.begin(), text.end(), kWord.begin(), kWord.end(), same) != text.end();
}

ApiStatus check_strict_object(const ordered_json& schema, const std::string& path) {
  const auto closed = schema.find("additionalProperties");
  if (closed == schema.end() || !closed->is_boolean() || closed->get<bool>())
    return bad_value(path + ".additionalProperties", closed == schema.end() ? nullptr : &*closed,
                     "false in every object of a strict schema");
  const auto properties = schema.find("properties");
  if (properties == schema.end()) return {};
  if (!properties->is_object()) return bad_value(path + ".properties", &*properties, "an object");
  // A set: who sends the schema chooses how many there are.
  std::set<std::string_view> required;
  if (const auto list = schema.find("required"); list != schema.end() && list->is_array()) {
    for (const ordered_json& name : *list)
      if (name.is_string()) required.insert(name.get_ref<const std::string&>());
  }
  for (const auto& [name, property] : properties->items()) {
    if (!required.contains(name))
      return bad_request(path + ".required",
                         fmt::format("{}.required leaves out {}, expected every property in a "
                                     "strict schema",
                                     path, preview(name)));
  }
  return {};
}

}  // namespace

FieldTable tool_fields() { return kTool; }
FieldTable function_fields() { return kFunction; }
FieldTable response_format_fields() { return kResponseFormat; }
FieldTable json_schema_fields() { return kJsonSchema; }

ApiStatus check_strict_schema(const ordered_json& schema, const std::string& path, int depth) {
  if (depth > limits::kMaxToolSchemaDepth)
    return bad_request(
        path, fmt::format("{} is nested deeper than {} levels", path, limits::kMaxToolSchemaDepth));
  if (schema.is_array()) {
    for (std::size_t i = 0; i < schema.size(); ++i)
      FATHOM_TRY_STATUS(check_strict_schema(schema[i], fmt::format("{}[{}]", path, i), depth + 1));
    return {};
  }
  if (!schema.is_object()) return {};
  const auto type = schema.find("type");
  const bool is_object = type != schema.end() && *type == "object";
  if (is_object || schema.contains("properties"))
    FATHOM_TRY_STATUS(check_strict_object(schema, path));
  const auto format = schema.find("format");
  if (format != schema.end() && format->is_string() &&
      std::find(std::begin(kFormats), std::end(kFormats), format->get_ref<const std::string&>()) ==
          std::end(kFormats)) {
    return bad_value(path + ".format", &*format,
                     fmt::format("one of: {}", fmt::join(kFormats, ", ")));
  }
  for (const char* key : {"items", "anyOf", "allOf", "oneOf"}) {
    if (schema.contains(key))
      FATHOM_TRY_STATUS(
          check_strict_schema(schema[key], fmt::format("{}.{}", path, key), depth + 1));
  }
  for (const char* key : {"properties", "$defs", "definitions"}) {
    if (!schema.contains(key) || !schema[key].is_object()) continue;
    for (const auto& [name, property] : schema[key].items())
      FATHOM_TRY_STATUS(
          check_strict_schema(property, fmt::format("{}.{}.{}", path, key, name), depth + 2));
  }
  return {};
}

ApiStatus add_tool(ToolSpec tool, const ordered_json* parameters, const std::string& path,
                   ChatRequest& request) {
  if (!is_api_name(tool.name)) {
    const ordered_json name = tool.name;
    return bad_value(path + ".name", &name, "1 to 64 letters, digits, _ or -");
  }
  for (const ToolSpec& other : request.tools) {
    if (other.name == tool.name)
      return bad_request(path + ".name",
                         fmt::format("{}.name is \"{}\", which another tool has too, expected "
                                     "different names",
                                     path, tool.name));
  }
  if (parameters != nullptr) {
    if (tool.strict) FATHOM_TRY_STATUS(check_strict_schema(*parameters, path + ".parameters"));
    tool.parameters = chat::python_json(*parameters);
  }
  request.tools.push_back(std::move(tool));
  return {};
}

ApiStatus read_tools(const FieldReader& fields, ChatRequest& request) {
  const ordered_json* list = fields.find("tools");
  if (list == nullptr) return {};
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = fmt::format("{}[{}]", fields.path("tools"), i);
    if (!(*list)[i].is_object()) return bad_value(path, &(*list)[i], "an object");
    const FieldReader tool((*list)[i], kTool, path);
    FATHOM_TRY_STATUS(tool.check());
    const FieldReader function(*tool.find("function"), kFunction, path + ".function");
    FATHOM_TRY_STATUS(function.check());
    FATHOM_TRY_STATUS(add_tool({.name = *function.string("name"),
                                .description = function.string("description").value_or(""),
                                .strict = function.boolean("strict").value_or(false)},
                               function.find("parameters"), path + ".function", request));
  }
  if (!list->empty()) request.tools_json = chat::python_json(*list);
  return {};
}

std::string openai_tools_json(const std::vector<ToolSpec>& tools) {
  if (tools.empty()) return "";
  ordered_json list = ordered_json::array();
  for (const ToolSpec& tool : tools) {
    ordered_json function = {{"name", tool.name}};
    if (!tool.description.empty()) function["description"] = tool.description;
    if (!tool.parameters.empty()) function["parameters"] = ordered_json::parse(tool.parameters);
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return chat::python_json(list);
}

ApiStatus read_tool_choice(const FieldReader& fields, ChatRequest& request) {
  const ordered_json* choice = fields.find("tool_choice");
  if (choice == nullptr) return {};
  constexpr std::string_view kExpected =
      "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}";
  if (choice->is_object()) {
    const FieldReader named(*choice, kNamedChoice, fields.path("tool_choice"));
    FATHOM_TRY_STATUS(named.check());
    const FieldReader function(*named.find("function"), kNamedFunction, named.path("function"));
    FATHOM_TRY_STATUS(function.check());
    request.tool_choice = {ToolChoice::Kind::kNamed, *function.string("name")};
    return {};
  }
  if (*choice == "none") {
    request.tool_choice.kind = ToolChoice::Kind::kNone;
  } else if (*choice == "auto") {
    request.tool_choice.kind = ToolChoice::Kind::kAuto;
  } else if (*choice == "required") {
    request.tool_choice.kind = ToolChoice::Kind::kRequired;
  } else {
    return fields.bad("tool_choice", kExpected);
  }
  return {};
}

ApiStatus check_tool_choice(const ChatRequest& request) {
  const ToolChoice& choice = request.tool_choice;
  if (choice.kind == ToolChoice::Kind::kRequired && request.tools.empty())
    return bad_request(
        "tool_choice",
        "tool_choice is \"required\", but there are no tools, expected at least one");
  if (choice.kind != ToolChoice::Kind::kNamed) return {};
  for (const ToolSpec& tool : request.tools)
    if (tool.name == choice.name) return {};
  return bad_request("tool_choice",
                     fmt::format("tool_choice names the function {}, expected one of tools",
                                 preview(choice.name)));
}

ApiStatus read_response_format(const FieldReader& fields, ChatRequest& request) {
  const ordered_json* given = fields.find("response_format");
  if (given == nullptr) return {};
  const FieldReader format(*given, kResponseFormat, fields.path("response_format"));
  FATHOM_TRY_STATUS(format.check());
  const std::string type = *format.string("type");
  if (type == "json_object") request.format.kind = ResponseFormat::Kind::kJsonObject;
  if (type != "json_schema") return {};
  if (!format.has("json_schema"))
    return format.bad("json_schema", "an object with name and schema");
  const FieldReader schema(*format.find("json_schema"), kJsonSchema, format.path("json_schema"));
  FATHOM_TRY_STATUS(schema.check());
  request.format = {.kind = ResponseFormat::Kind::kJsonSchema,
                    .name = *schema.string("name"),
                    .schema = chat::python_json(*schema.find("schema"))};
  if (!is_api_name(request.format.name))
    return schema.bad("name", "1 to 64 letters, digits, _ or -");
  return {};
}

ApiStatus check_format(const ChatRequest& request, const std::string& param) {
  if (request.format.kind == ResponseFormat::Kind::kText) return {};
  if (request.tool_choice.kind == ToolChoice::Kind::kRequired ||
      request.tool_choice.kind == ToolChoice::Kind::kNamed) {
    return bad_request(param, fmt::format("{} asks for JSON, but tool_choice for a call: expected "
                                          "one of the two",
                                          param));
  }
  if (request.format.kind != ResponseFormat::Kind::kJsonObject) return {};
  const bool speaks = std::any_of(
      request.messages.begin(), request.messages.end(),
      [](const ChatMessage& m) { return m.content.has_value() && speaks_of_json(*m.content); });
  if (speaks) return {};
  return bad_request(param, fmt::format("{}.type is \"json_object\", but no message contains the "
                                        "word \"json\": say in the prompt that you want JSON",
                                        param));
}

}  // namespace fathom::server::api
