#include "grammar/tool_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/json.h"
#include "base/limits.h"
#include "grammar/parameter_text.h"
#include "grammar/schema_compiler.h"

namespace fathom {

using grammar::GrammarBuilder;
using grammar::JsonText;
using grammar::SchemaCompiler;
using grammar::SchemaSet;
using grammar::StateId;
using nlohmann::json;

namespace {

constexpr std::string_view kSource = "tool calls";

bool is_name(std::string_view text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
    return (c >= 0 && c <= ' ') || c == '<' || c == '"' || c == '`' || c == '\\' || c == '\x7f';
  });
}

std::string trigger_of(const ToolCallForm& form) {
  if (!form.trigger.empty()) return form.trigger;
  if (!form.list_begin.empty()) return form.list_begin;
  return form.call_begin.substr(0, form.call_begin.find_first_of(" \n\t\r"));
}

Status check(const ToolCallSpec& spec) {
  if (spec.tools.empty() || static_cast<int64_t>(spec.tools.size()) > limits::kMaxTools) {
    return invalid_argument(fmt::format("{}: {} tools, expected 1 to {}", kSource,
                                        spec.tools.size(), limits::kMaxTools));
  }
  std::unordered_set<std::string_view> names;
  for (const ToolDefinition& tool : spec.tools) {
    if (!is_name(tool.name)) {
      return invalid_argument(
          fmt::format("{}: the tool's name is {}, expected one without white space, quotes, "
                      "backslashes, ` and <",
                      kSource, json_preview(json(tool.name))));
    }
    if (!names.insert(tool.name).second) {
      return invalid_argument(
          fmt::format("{}: two tools are named {}, expected one", kSource, tool.name));
    }
  }
  if (spec.choice == ToolCallSpec::Choice::kNamed && !names.contains(spec.named)) {
    return invalid_argument(fmt::format("{}: the choice is {}, expected the name of a tool",
                                        kSource, json_preview(json(spec.named))));
  }
  const std::string trigger = trigger_of(spec.form);
  if (trigger.empty() || !(spec.form.list_begin + spec.form.call_begin).starts_with(trigger)) {
    return invalid_argument(fmt::format(
        "{}: the form's trigger is {}, expected a beginning of list_begin and call_begin", kSource,
        json_preview(json(trigger))));
  }
  if (!spec.form.parameters) return {};
  const ToolParameterForm& p = *spec.form.parameters;
  if (p.begin.empty() || !p.name_end.starts_with('"') || p.text == p.json ||
      p.not_in_text.empty() || !p.end.starts_with(p.not_in_text)) {
    return invalid_argument(
        fmt::format("{}: the form's parameters lack what tells them apart, expected a begin, a "
                    "name_end that begins with a quote, different text and json, and an end that "
                    "begins with not_in_text",
                    kSource));
  }
  return {};
}

class ToolCallCompiler {
 public:
  ToolCallCompiler(const ToolCallSpec& spec, const GrammarOptions& options)
      : spec_(spec), text_(b_, options.compact) {
    if (spec.form.parameters) parameters_.emplace(b_, text_, *spec.form.parameters);
  }

  Result<std::shared_ptr<const Grammar>> compile() {
    const ToolCallForm& form = spec_.form;
    const std::string trigger = trigger_of(form);
    const StateId start = b_.state();
    const StateId list = b_.state();  // behind the trigger
    if (spec_.choice == ToolCallSpec::Choice::kAuto) {
      write_free_text(start, trigger, list);
    } else {
      b_.jump(b_.literal(text_.space_at_begin(start), trigger), list);
    }
    // The rest of the opening, of which the trigger took a part.
    const StateId first_call = b_.state();
    const std::string opening = form.list_begin + form.call_begin;
    b_.jump(b_.literal(list, std::string_view(opening).substr(trigger.size())), first_call);
    const StateId name = b_.state();
    b_.jump(first_call, name);
    const StateId behind = b_.state();
    FATHOM_TRY_STATUS(write_tools(name, behind));
    const StateId called = b_.literal(behind, form.call_end);
    b_.jump(b_.literal(called, form.list_end), b_.end());
    if (spec_.parallel) b_.jump(b_.literal(called, form.between_calls + form.call_begin), name);
    return std::move(b_).build(start, kSource);
  }

 private:
  // Anything that does not hold `trigger`, then the trigger: the automaton of Knuth, Morris and
  // Pratt.
  void write_free_text(StateId start, const std::string& trigger, StateId behind) {
    std::vector<StateId> states = {start};
    for (std::size_t i = 1; i < trigger.size(); ++i) states.push_back(b_.state());
    states.push_back(behind);
    std::size_t fallback = 0;  // the state of trigger[1, i): where a mismatch at i goes on
    std::vector<std::array<std::size_t, 256>> moves(trigger.size());
    for (std::size_t i = 0; i < trigger.size(); ++i) {
      moves[i] = i == 0 ? std::array<std::size_t, 256>{} : moves[fallback];
      const auto byte = static_cast<uint8_t>(trigger[i]);
      if (i > 0) fallback = moves[fallback][byte];
      moves[i][byte] = i + 1;
      b_.set_final(states[i]);
      b_.set_text(states[i]);
      for (std::size_t first = 0; first < 256;) {
        std::size_t last = first;
        while (last < 255 && moves[i][last + 1] == moves[i][first]) ++last;
        b_.edge(states[i], static_cast<uint8_t>(first), static_cast<uint8_t>(last),
                states[moves[i][first]]);
        first = last + 1;
      }
    }
  }

  // NAME name_end ARGUMENTS of each tool. Names share their beginnings in a trie.
  Status write_tools(StateId from, StateId to) {
    std::map<std::pair<StateId, char>, StateId> trie;
    for (const ToolDefinition& tool : spec_.tools) {
      if (spec_.choice == ToolCallSpec::Choice::kNamed && tool.name != spec_.named) continue;
      StateId at = from;
      for (const char byte : tool.name) {
        const auto [it, fresh] = trie.try_emplace({at, byte}, 0);
        if (fresh) {
          it->second = b_.state();
          b_.edge(at, byte, it->second);
        }
        at = it->second;
      }
      at = b_.literal(at, spec_.form.name_end);
      if (tool.strict && !tool.schema.empty()) {
        const std::string source = "tool " + tool.name;
        FATHOM_TRY(const StateId rule, arguments_rule(tool.schema, source));
        b_.call(at, rule, to);
        b_.must_end(at, source + ", whose arguments are an object");
        continue;
      }
      if (!any_arguments_) {
        FATHOM_TRY(any_arguments_,
                   parameters_ ? arguments_rule("{}", kSource) : text_.object_rule());
      }
      b_.call(at, *any_arguments_, to);
    }
    return {};
  }

  // The rule of arguments that satisfy `schema`.
  Result<StateId> arguments_rule(std::string_view schema, std::string_view source) {
    FATHOM_TRY(const SchemaSet schemas, SchemaSet::parse(schema, source));
    SchemaCompiler compiler(b_, text_, schemas, budget_, source,
                            parameters_ ? &*parameters_ : nullptr);
    const StateId rule = compiler.rule_of(
        {schemas.root(), schemas.any_object()},
        parameters_ ? SchemaCompiler::Part::kParameters : SchemaCompiler::Part::kJson);
    FATHOM_TRY_STATUS(compiler.compile());
    return rule;
  }

  const ToolCallSpec& spec_;
  GrammarBuilder b_;
  JsonText text_;
  std::optional<grammar::ParameterText> parameters_;
  std::optional<StateId> any_arguments_;  // of tools that are not strict
  grammar::WorkBudget budget_{limits::kMaxPatternWork};
};

// The members of each form with their names in JSON text.
template <typename Form>
auto fields_of(Form& f) {
  return std::array{std::pair("list_begin", &f.list_begin),
                    std::pair("call_begin", &f.call_begin),
                    std::pair("name_end", &f.name_end),
                    std::pair("call_end", &f.call_end),
                    std::pair("between_calls", &f.between_calls),
                    std::pair("list_end", &f.list_end),
                    std::pair("trigger", &f.trigger)};
}
template <typename Form>
auto parameter_fields_of(Form& f) {
  return std::array{std::pair("begin", &f.begin),
                    std::pair("name_end", &f.name_end),
                    std::pair("text", &f.text),
                    std::pair("json", &f.json),
                    std::pair("end", &f.end),
                    std::pair("between", &f.between),
                    std::pair("not_in_text", &f.not_in_text)};
}

}  // namespace

std::string tool_calls_text(const ToolCallSpec& spec) {
  json tools = json::array();
  for (const ToolDefinition& tool : spec.tools)
    tools.push_back({{"name", tool.name}, {"schema", tool.schema}, {"strict", tool.strict}});
  json choice = spec.choice == ToolCallSpec::Choice::kAuto ? json("auto") : json("required");
  if (spec.choice == ToolCallSpec::Choice::kNamed) choice = {{"name", spec.named}};
  json form;
  for (const auto& [name, field] : fields_of(spec.form)) form[name] = *field;
  if (spec.form.parameters) {
    for (const auto& [name, field] : parameter_fields_of(*spec.form.parameters))
      form["parameters"][name] = *field;
  }
  const json out = {{"form", std::move(form)},
                    {"tools", std::move(tools)},
                    {"choice", std::move(choice)},
                    {"parallel", spec.parallel}};
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<ToolCallSpec> parse_tool_calls(std::string_view text) {
  FATHOM_TRY(const json root, parse_json(text, kSource,
                                         {.max_bytes = limits::kMaxToolCallsBytes,
                                          .max_depth = 8,
                                          .max_values = 8 * limits::kMaxTools}));
  if (!root.is_object())
    return invalid_argument(fmt::format("{}: {}, expected an object", kSource, json_preview(root)));
  const JsonReader reader(root, std::string(kSource));
  ToolCallSpec out;
  FATHOM_TRY(const auto form, reader.object("form"));
  if (!form) return reader.bad("form", "an object");
  for (const auto& [name, field] : fields_of(out.form)) {
    FATHOM_TRY(*field, form->string_or(name, ""));
  }
  FATHOM_TRY(const auto parameters, form->object("parameters"));
  if (parameters) {
    out.form.parameters.emplace();
    for (const auto& [name, field] : parameter_fields_of(*out.form.parameters)) {
      FATHOM_TRY(*field, parameters->string_or(name, ""));
    }
  }
  const auto tools = root.find("tools");
  if (tools == root.end() || !tools->is_array()) return reader.bad("tools", "a list");
  for (const json& entry : *tools) {
    if (!entry.is_object()) return reader.bad("tools", "a list of objects");
    const JsonReader tool(entry, std::string(kSource), fmt::format("tools[{}]", out.tools.size()));
    ToolDefinition made;
    FATHOM_TRY(made.name, tool.string("name"));
    FATHOM_TRY(made.schema, tool.string_or("schema", ""));
    FATHOM_TRY(made.strict, tool.boolean_or("strict", false));
    out.tools.push_back(std::move(made));
  }
  FATHOM_TRY(out.parallel, reader.boolean_or("parallel", true));
  const json choice = root.value("choice", json("auto"));
  if (choice.is_object()) {
    out.choice = ToolCallSpec::Choice::kNamed;
    FATHOM_TRY(out.named, JsonReader(choice, std::string(kSource), "choice").string("name"));
  } else if (choice == "required") {
    out.choice = ToolCallSpec::Choice::kRequired;
  } else if (choice != "auto") {
    return reader.bad("choice", "\"auto\", \"required\" or {\"name\": …}");
  }
  return out;
}

Result<std::shared_ptr<const Grammar>> compile_tool_calls(const ToolCallSpec& spec,
                                                          const GrammarOptions& options) {
  FATHOM_TRY_STATUS(check(spec));
  return ToolCallCompiler(spec, options).compile();
}

}  // namespace fathom
