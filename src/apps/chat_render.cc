// fathom chat-render: the prompt a conversation becomes.
#include <fmt/format.h>

#include <cstdio>

#include "apps/app.h"
#include "base/file.h"
#include "base/limits.h"

namespace fathom {
namespace chat_render_command {

struct Options {
  std::string model, messages, tools, effort, schema;
  bool keep_thinking = false;
  bool thinking = false, no_thinking = false, no_generation_prompt = false, continue_final = false;
};

// A family's name (also where a directory of that name stands about), or a model whose template is
// a family's.
Result<ChatFamily> family_of(const std::string& name) {
  auto family = chat_family_from_name(name);
  if (family) return family;
  auto path = resolve_model(name);
  if (!path) return family;
  FATHOM_TRY(const ModelFiles files, open_model_files(*path));
  const auto detected = model_chat_family(files);
  if (!detected) {
    return invalid_argument(
        fmt::format("{}: its chat template is none that fathom knows; name a family instead "
                    "(fathom chat-render --help)",
                    files.directory));
  }
  return *detected;
}

Status run(const Options& o) {
  FATHOM_TRY(const ChatFamily family, family_of(o.model));
  FATHOM_TRY(const std::string text, read_file(o.messages, limits::kMaxPromptBytes));
  FATHOM_TRY(const auto messages, parse_messages(text, o.messages));
  RenderOptions options;
  options.add_generation_prompt = !o.no_generation_prompt && !o.continue_final;
  options.continue_final_message = o.continue_final;
  if (o.thinking) options.thinking = true;
  if (o.no_thinking) options.thinking = false;
  FATHOM_TRY(options.reasoning_effort, normal_reasoning_effort(o.effort));
  options.drop_thinking = !o.keep_thinking;
  if (!o.schema.empty()) {
    FATHOM_TRY(options.response_schema_json, read_file(o.schema, limits::kMaxPromptBytes));
  }
  if (!o.tools.empty()) {
    FATHOM_TRY(options.tools_json, read_file(o.tools, limits::kMaxPromptBytes));
  }
  auto prompt = render_chat(family, messages, options);
  if (!prompt) {
    const bool in_tools = prompt.error().message.starts_with("tools");
    return Error{prompt.error().code,
                 fmt::format("{}: {}", in_tools ? o.tools : o.messages, prompt.error().message)};
  }
  std::fwrite(prompt->data(), 1, prompt->size(), stdout);
  return {};
}

}  // namespace chat_render_command

Action add_chat_render(CLI::App& program, CLI::App*& command) {
  using namespace chat_render_command;
  command = program.add_subcommand("chat-render", "Print the prompt that a conversation becomes");
  auto o = std::make_shared<Options>();
  std::string families;
  for (const ChatFamily f : all_chat_families())
    families += (families.empty() ? "" : ", ") + std::string(chat_family_name(f));
  command->add_option("MODEL", o->model, "Model, or a family: " + families)->required();
  command->add_option("--messages", o->messages, "JSON list of messages in OpenAI's form")
      ->required();
  command->add_option("--tools", o->tools, "JSON list of tools in OpenAI's form");
  auto* on = command->add_flag("--thinking", o->thinking, "Switch thinking on");
  command->add_flag("--no-thinking", o->no_thinking, "Switch thinking off")->excludes(on);
  command->add_option("--reasoning-effort", o->effort,
                      "minimal, low, medium, high, xhigh, max or ultra; V4 alone has words for it");
  command->add_flag("--keep-thinking", o->keep_thinking,
                    "V4: keep the reasoning before the last user message");
  command->add_option("--response-schema", o->schema,
                      "JSON schema that the answer is to follow, for V3.2 and V4");
  command->add_flag("--no-generation-prompt", o->no_generation_prompt,
                    "Do not open the assistant's answer");
  command->add_flag("--continue", o->continue_final, "End inside the last message");
  command->footer(
      "Example:\n  echo '[{\"role\":\"user\",\"content\":\"Hi\"}]' > m.json\n"
      "  fathom chat-render deepseek_v31 --messages m.json --thinking");
  return [o] { return run(*o); };
}

}  // namespace fathom
