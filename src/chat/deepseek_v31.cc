// V3.1 and V3.1-Terminus: one model that thinks or not. <think> or </think> right after
// <｜Assistant｜> says which.
//
// Sources: tests/golden/data/chat_templates/deepseek_v31.jinja; Terminus: chat_template of its
// published tokenizer_config.json, which also answers without a user message. The templates take no
// tools; the tool text and its place are those of V3.1's model card (section ToolCall), which
// supports tools without thinking only. Whether to combine the two is the caller's choice.
#include <nlohmann/json.hpp>

#include "chat/encoder.h"
#include "chat/python_text.h"

namespace fathom::chat {
namespace {

Status write_tools(const Conversation& conversation, PromptBuilder& out) {
  FATHOM_TRY(const std::vector<ToolDescription> tools, tool_descriptions(*conversation.tools()));
  out.markup("\n\n## Tools\nYou have access to the following tools:\n");
  for (const ToolDescription& tool : tools) {
    out.markup("\n### ").text(tool.name).markup("\nDescription: ").text(tool.description);
    out.markup("\n\nParameters: ");
    out.text(tool.parameters == nullptr ? "{}" : python_json(*tool.parameters)).markup("\n");
  }
  out.markup("\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n")
      .markup(kCallsBegin)
      .markup(kCallBegin)
      .markup("tool_call_name")
      .markup(kToolSep)
      .markup("tool_call_arguments")
      .markup(kCallEnd)
      .markup("{additional_tool_calls}")
      .markup(kCallsEnd)
      .markup(
          "\n\nWhere:\n"
          "- `tool_call_name` must be an exact match to one of the available tools\n"
          "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters "
          "Schema\n"
          "- For multiple tool calls, chain them directly without separators or spaces");
  return {};
}

struct State {
  bool in_outputs = false;
  bool last_is_user = false;
  bool only_system = false;  // Terminus: nothing but system messages so far, and at least one
  bool has_prefix = false;   // Terminus: some assistant message was a prefix
};

Status write_call_message(const Conversation& conversation, std::size_t i, State& state,
                          PromptBuilder& out) {
  const ChatMessage& m = conversation.message(i);
  if (state.last_is_user || state.only_system) out.markup(kAssistant).markup(kThinkEnd);
  state.last_is_user = state.in_outputs = false;
  for (std::size_t c = 0; c < m.tool_calls->size(); ++c) {
    FATHOM_TRY(const std::string_view arguments, arguments_text(conversation, i, c));
    if (c == 0) {
      if (!conversation.content_is_null(i)) {
        FATHOM_TRY(const std::string_view content, conversation.content(i));
        out.text(content);
      }
      out.markup(kCallsBegin);
    }
    out.markup(kCallBegin).text((*m.tool_calls)[c].name).markup(kToolSep);
    out.text(arguments).markup(kCallEnd);
  }
  out.markup(kCallsEnd).markup(kEos);
  return {};
}

Status write_answer(const Conversation& conversation, std::size_t i, State& state,
                    PromptBuilder& out) {
  FATHOM_TRY(const std::string_view content, conversation.content(i));
  const bool prefix = conversation.message(i).prefix;
  if (state.last_is_user) {
    out.markup(kAssistant);
    out.markup(prefix && conversation.thinking() == true ? kThinkBegin : kThinkEnd);
  }
  state.has_prefix = state.has_prefix || prefix;
  state.last_is_user = false;
  // After tool results the text stands as it is, thoughts included.
  out.text(state.in_outputs ? content : after_first_thought(content)).markup(kEos);
  state.in_outputs = false;
  return {};
}

Status render(const Conversation& conversation, bool terminus, PromptBuilder& out) {
  out.markup(kBos);
  FATHOM_TRY_STATUS(write_joined_system(conversation, out));
  if (conversation.tools() != nullptr) FATHOM_TRY_STATUS(write_tools(conversation, out));
  State state;
  for (std::size_t i = 0; terminus && i < conversation.size(); ++i)
    state.only_system = state.only_system || conversation.role(i) == "system";
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role == "user") {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      state.in_outputs = false;
      state.last_is_user = true;
      out.markup(kUser).text(content);
    } else if (role == "assistant" && conversation.has_tool_calls(i)) {
      FATHOM_TRY_STATUS(write_call_message(conversation, i, state, out));
    } else if (role == "assistant") {
      FATHOM_TRY_STATUS(write_answer(conversation, i, state, out));
    } else if (role == "tool") {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      state.last_is_user = false;
      state.in_outputs = true;
      out.markup(kOutputBegin).text(content).markup(kOutputEnd);
    }
    if (role != "system") state.only_system = false;
  }
  const bool open =
      terminus ? state.last_is_user || state.only_system || !state.has_prefix : state.last_is_user;
  if (conversation.wants_answer() && open && !state.in_outputs) {
    out.markup(kAssistant);
    out.markup(conversation.thinking() == true ? kThinkBegin : kThinkEnd);
  }
  return {};
}

}  // namespace

Status render_deepseek_v31(const Conversation& conversation, PromptBuilder& out) {
  return render(conversation, false, out);
}

Status render_deepseek_v31_terminus(const Conversation& conversation, PromptBuilder& out) {
  return render(conversation, true, out);
}

}  // namespace fathom::chat
