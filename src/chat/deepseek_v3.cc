// V2.5, V3 and the R1 distills: three templates with one skeleton, which differ in the system
// prompt, in what becomes of earlier thoughts and in the generation prompt.
//
// Sources: tests/golden/data/chat_templates/{deepseek_v3,deepseek_r1_distill}.jinja; V2.5: the chat
// form and the tool text of its model card. The quirks of the skeleton: calls are printed only if
// the message's content is null; the flag "first call of the conversation" is never reset, and only
// calls after that first one close the list of calls and the turn.
#include "chat/encoder.h"
#include "chat/python_text.h"

namespace fathom::chat {
namespace {

struct Style {
  bool drop_thoughts = false;   // of earlier assistant messages
  std::string_view generation;  // the generation prompt
};

Status write_calls(const Conversation& conversation, std::size_t i, bool& first_call_done,
                   PromptBuilder& out) {
  const ChatMessage& m = conversation.message(i);
  if (m.tool_calls_null) {
    return conversation.bad(i, "tool_calls", "null",
                            "a list, because the message's content is null as well");
  }
  if (!m.tool_calls.has_value()) return {};
  for (std::size_t c = 0; c < m.tool_calls->size(); ++c) {
    if (!first_call_done) {
      out.markup(kAssistant).markup(kCallsBegin);
      FATHOM_TRY_STATUS(write_fenced_call(conversation, i, c, out));
      first_call_done = true;
    } else {
      out.markup("\n");
      FATHOM_TRY_STATUS(write_fenced_call(conversation, i, c, out));
      out.markup(kCallsEnd).markup(kEos);
    }
  }
  return {};
}

Status write_turns(const Conversation& conversation, const Style& style, PromptBuilder& out) {
  bool first_call_done = false;
  bool in_outputs = false;
  bool first_output_done = false;
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role == "assistant" && conversation.content_is_null(i)) {
      in_outputs = false;
      FATHOM_TRY_STATUS(write_calls(conversation, i, first_call_done, out));
      continue;
    }
    if (role != "user" && role != "assistant" && role != "tool") continue;
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    if (role == "user") {
      in_outputs = false;
      out.markup(kUser).text(content);
    } else if (role == "tool") {
      in_outputs = true;
      out.markup(first_output_done ? "\n" : kOutputsBegin);
      out.markup(kOutputBegin).text(content).markup(kOutputEnd);
      first_output_done = true;
    } else if (in_outputs) {
      in_outputs = false;
      out.markup(kOutputsEnd).text(content).markup(kEos);
    } else {
      out.markup(kAssistant);
      out.text(style.drop_thoughts ? after_last_thought(content) : content).markup(kEos);
    }
  }
  if (in_outputs) {
    out.markup(kOutputsEnd);
  } else if (conversation.wants_answer()) {
    out.markup(style.generation);
  }
  return {};
}

// The tool text of V2.5's model card, which follows the system prompt.
Status write_v25_tools(const Conversation& conversation, PromptBuilder& out) {
  FATHOM_TRY(const std::vector<ToolDescription> tools, tool_descriptions(*conversation.tools()));
  out.markup("\n\n## Tools\n\n### Function\n\nYou have the following functions available:\n");
  for (const ToolDescription& tool : tools) {
    out.markup("\n- `").text(tool.name).markup("`:\n```json\n");
    out.text(python_json(*tool.function, 4)).markup("\n```");
  }
  return {};
}

}  // namespace

Status render_deepseek_v25(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  if (conversation.tools() != nullptr) {
    PromptBuilder system;
    write_last_system(conversation, system);
    const std::vector<PromptPiece> pieces = std::move(system).take();
    if (pieces.empty()) out.markup("You are a helpful Assistant.");  // as the card's example has it
    for (const PromptPiece& piece : pieces) out.text(piece.text);
    FATHOM_TRY_STATUS(write_v25_tools(conversation, out));
  } else {
    write_last_system(conversation, out);
  }
  return write_turns(conversation, {.generation = kAssistant}, out);
}

Status render_deepseek_v3(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  FATHOM_TRY_STATUS(write_joined_system(conversation, out));
  return write_turns(conversation, {.generation = kAssistant}, out);
}

Status render_r1_distill(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  write_last_system(conversation, out);
  const bool skip_thought = conversation.thinking() == false;
  return write_turns(conversation,
                     {.drop_thoughts = true,
                      .generation = skip_thought ? "<｜Assistant｜><think>\n\n</think>\n\n"
                                                 : "<｜Assistant｜><think>\n"},
                     out);
}

}  // namespace fathom::chat
