// DeepSeek LLM chat, V2 chat and Coder-V2 instruct: "User: …", "Assistant: …" in plain words.
//
// Source: chat_template of the published tokenizer_config.json of deepseek-llm-7b-chat and
// DeepSeek-V2-Lite-Chat, which are the same text. Messages of other roles are left out.
#include "chat/encoder.h"

namespace fathom::chat {

Status render_deepseek_llm(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role != "user" && role != "assistant" && role != "system") continue;
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    if (role == "user") {
      out.markup("User: ").text(content).markup("\n\n");
    } else if (role == "assistant") {
      out.markup("Assistant: ").text(content).markup(kEos);
    } else {
      out.text(content).markup("\n\n");
    }
  }
  // No space after the colon: the model begins its answer with one.
  if (conversation.wants_answer()) out.markup("Assistant:");
  return {};
}

}  // namespace fathom::chat
