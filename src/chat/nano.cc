// The nano model: R1's form without tools.
//
// Source: models/nano/tokenizer_config.json. Earlier thoughts are cut off and what remains is
// stripped; messages of other roles, and assistant messages whose content is null, are left out.
#include "chat/encoder.h"
#include "chat/python_text.h"

namespace fathom::chat {

Status render_nano(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  write_last_system(conversation, out);
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role == "user") {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      out.markup(kUser).text(content);
    } else if (role == "assistant" && !conversation.content_is_null(i)) {
      FATHOM_TRY(std::string_view content, conversation.content(i));
      if (content.find(kThinkEnd) != std::string_view::npos)
        content = python_strip(after_last_thought(content));
      out.markup(kAssistant).text(content).markup(kEos);
    }
  }
  if (conversation.wants_answer()) {
    out.markup(kAssistant);
    out.markup(conversation.thinking() == false ? kEmptyThought : "<think>\n");
  }
  return {};
}

}  // namespace fathom::chat
