// Qwen3: ChatML with tools in XML tags and thoughts kept only after the last real user message.
//
// Source: tests/golden/data/chat_templates/qwen3.jinja, the published template. A user message that
// is a <tool_response>…</tool_response> counts as a tool result. The model opens <think> itself;
// switched off, the generation prompt holds an empty thought.
#include <nlohmann/json.hpp>

#include "chat/encoder.h"
#include "chat/python_text.h"

namespace fathom::chat {
namespace {

constexpr std::string_view kImStart = "<|im_start|>";
constexpr std::string_view kImEnd = "<|im_end|>";

Status write_system(const Conversation& conversation, PromptBuilder& out) {
  const bool has_system = conversation.role(0) == "system";
  if (conversation.tools() == nullptr) {
    if (!has_system) return {};
    FATHOM_TRY(const std::string_view content, conversation.content(0));
    out.markup(kImStart).markup("system\n").text(content).markup(kImEnd).markup("\n");
    return {};
  }
  out.markup(kImStart).markup("system\n");
  if (has_system) {
    FATHOM_TRY(const std::string_view content, conversation.content(0));
    out.text(content).markup("\n\n");
  }
  out.markup(
      "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
      "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
  for (const nlohmann::ordered_json& tool : *conversation.tools())
    out.markup("\n").text(python_json(tool));
  out.markup(
      "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
      "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
      "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
  out.markup(kImEnd).markup("\n");
  return {};
}

// The number of the last user message that is not a tool result; the last message's if there is
// none.
Result<std::size_t> last_query(const Conversation& conversation) {
  for (std::size_t i = conversation.size(); i-- > 0;) {
    if (conversation.role(i) != "user") continue;
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    if (!content.starts_with("<tool_response>") || !content.ends_with("</tool_response>")) return i;
  }
  return conversation.size() - 1;
}

struct Answer {
  std::string_view reasoning;
  std::string_view content;
};

// Takes a thought out of the content, unless it came in its own field.
Result<Answer> split_answer(const Conversation& conversation, std::size_t i) {
  FATHOM_TRY(const std::string_view content, conversation.content(i));
  const ChatMessage& m = conversation.message(i);
  if (m.reasoning_content.has_value()) return Answer{*m.reasoning_content, content};
  const std::size_t end = content.find(kThinkEnd);
  if (end == std::string_view::npos) return Answer{"", content};
  std::string_view reasoning = strip_trailing_newlines(content.substr(0, end));
  if (const std::size_t begin = reasoning.rfind(kThinkBegin); begin != std::string_view::npos)
    reasoning.remove_prefix(begin + kThinkBegin.size());
  return Answer{strip_leading_newlines(reasoning),
                strip_leading_newlines(after_last_thought(content))};
}

Status write_assistant(const Conversation& conversation, std::size_t i, std::size_t query,
                       PromptBuilder& out) {
  FATHOM_TRY(const Answer answer, split_answer(conversation, i));
  out.markup(kImStart).markup("assistant\n");
  if (i > query && (i + 1 == conversation.size() || !answer.reasoning.empty())) {
    out.markup("<think>\n");
    out.text(strip_leading_newlines(strip_trailing_newlines(answer.reasoning)));
    out.markup("\n</think>\n\n").text(strip_leading_newlines(answer.content));
  } else {
    out.text(answer.content);
  }
  const auto& calls = conversation.message(i).tool_calls;
  for (std::size_t c = 0; calls.has_value() && c < calls->size(); ++c) {
    if (c > 0 || !answer.content.empty()) out.markup("\n");
    out.markup("<tool_call>\n{\"name\": \"").text((*calls)[c].name);
    out.markup("\", \"arguments\": ").text((*calls)[c].arguments).markup("}\n</tool_call>");
  }
  out.markup(kImEnd).markup("\n");
  return {};
}

void write_tool(const Conversation& conversation, std::size_t i, PromptBuilder& out) {
  if (i == 0 || conversation.role(i - 1) != "tool") out.markup(kImStart).markup("user");
  out.markup("\n<tool_response>\n");
  conversation.print_content(i, out);
  out.markup("\n</tool_response>");
  if (i + 1 == conversation.size() || conversation.role(i + 1) != "tool")
    out.markup(kImEnd).markup("\n");
}

}  // namespace

Status render_qwen3(const Conversation& conversation, PromptBuilder& out) {
  FATHOM_TRY_STATUS(write_system(conversation, out));
  FATHOM_TRY(const std::size_t query, last_query(conversation));
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role == "user" || (role == "system" && i > 0)) {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      out.markup(kImStart).markup(role).markup("\n").text(content).markup(kImEnd).markup("\n");
    } else if (role == "assistant") {
      FATHOM_TRY_STATUS(write_assistant(conversation, i, query, out));
    } else if (role == "tool") {
      write_tool(conversation, i, out);
    }
  }
  if (conversation.wants_answer()) {
    out.markup(kImStart).markup("assistant\n");
    if (conversation.thinking() == false) out.markup(kEmptyThought);
  }
  return {};
}

}  // namespace fathom::chat
