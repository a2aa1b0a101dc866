// Plain ChatML, and SmolLM2, which adds a system prompt of its own if the conversation has none.
//
// Sources: the template of OpenHermes 2.5, from which the form has its name's usual meaning; the
// published tokenizer_config.json of SmolLM2-135M-Instruct. Every role is printed as it came.
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

Status write_turns(const Conversation& conversation, PromptBuilder& out) {
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    const std::string_view role = conversation.role(i);
    out.markup("<|im_start|>");
    // Anything but a known role is the client's text.
    const bool known = role == "system" || role == "user" || role == "assistant" || role == "tool";
    if (known) {
      out.markup(role);
    } else {
      out.text(role);
    }
    out.markup("\n").text(content).markup("<|im_end|>\n");
  }
  if (conversation.wants_answer()) out.markup("<|im_start|>assistant\n");
  return {};
}

}  // namespace

Status render_chatml(const Conversation& conversation, PromptBuilder& out) {
  return write_turns(conversation, out);
}

Status render_smollm2(const Conversation& conversation, PromptBuilder& out) {
  if (conversation.role(0) != "system") {
    out.markup(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n");
  }
  return write_turns(conversation, out);
}

}  // namespace fathom::chat
