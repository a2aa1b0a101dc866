// DeepSeek Coder instruct (v1): "### Instruction:", "### Response:", <|EOT|>.
//
// Source: chat_template of the published tokenizer_config.json of deepseek-coder-33b-instruct.
// Every role other than system and user is printed as a response; a system message stands where it
// was sent, with nothing after it.
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

// Used when no message has the role system. It ends without a full stop.
constexpr std::string_view kDefaultSystem =
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by "
    "Deepseek "
    "Company, and you only answer questions related to computer science. For politically sensitive "
    "questions, security and privacy issues, and other non-computer science questions, you will "
    "refuse to answer\n";

}  // namespace

Status render_deepseek_coder(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  bool has_system = false;
  for (std::size_t i = 0; i < conversation.size(); ++i)
    has_system = has_system || conversation.role(i) == "system";
  if (!has_system) out.markup(kDefaultSystem);
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role == "system") {
      conversation.print_content(i, out);
      continue;
    }
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    if (role == "user") {
      out.markup("### Instruction:\n").text(content).markup("\n");
    } else {
      out.markup("### Response:\n").text(content).markup("\n<|EOT|>\n");
    }
  }
  if (conversation.wants_answer()) out.markup("### Response:\n");
  return {};
}

}  // namespace fathom::chat
