// What the encoders of src/chat share: the growing prompt, the conversation as the templates see
// it, and the errors of a template that cannot go on.
//
// Internal to this folder. The public face is chat.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/chat.h"

namespace fathom::chat {

// Special tokens of DeepSeek's vocabularies. The bars are U+FF5C, the low lines U+2581.
inline constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
inline constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
inline constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
inline constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
inline constexpr std::string_view kToolSep = "<｜tool▁sep｜>";
inline constexpr std::string_view kOutputsBegin = "<｜tool▁outputs▁begin｜>";
inline constexpr std::string_view kOutputsEnd = "<｜tool▁outputs▁end｜>";
inline constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
inline constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";
inline constexpr std::string_view kThinkBegin = "<think>";
inline constexpr std::string_view kThinkEnd = "</think>";
inline constexpr std::string_view kEmptyThought = "<think>\n\n</think>\n\n";

// Collects the prompt. Runs of one kind are merged.
class PromptBuilder {
 public:
  PromptBuilder& markup(std::string_view text) { return add(text, true); }
  PromptBuilder& text(std::string_view text) { return add(text, false); }
  std::vector<PromptPiece> take() && { return std::move(pieces_); }

 private:
  PromptBuilder& add(std::string_view text, bool markup);
  std::vector<PromptPiece> pieces_;
};

// A conversation on its way through an encoder. Message numbers are those of the caller.
class Conversation {
 public:
  // `last`: what stands for the final message, if not null. `tools`: null or a non-empty list of
  // objects. `response_schema`: null or a JSON schema. All must outlive the conversation.
  Conversation(std::span<const ChatMessage> messages, const ChatMessage* last,
               const RenderOptions& options, const nlohmann::ordered_json* tools,
               const nlohmann::ordered_json* response_schema = nullptr)
      : messages_(messages),
        last_(last),
        options_(options),
        tools_(tools),
        response_schema_(response_schema) {}

  std::size_t size() const { return messages_.size(); }
  const ChatMessage& message(std::size_t i) const {
    return last_ != nullptr && i + 1 == messages_.size() ? *last_ : messages_[i];
  }
  std::string_view role(std::size_t i) const { return message(i).role; }
  // The content where a template concatenates it to other text: null and absent fail there.
  Result<std::string_view> content(std::size_t i) const;
  // The content where a template prints it: null prints as None, absent as nothing.
  void print_content(std::size_t i, PromptBuilder& out) const;
  bool content_is_null(std::size_t i) const {
    return !message(i).content.has_value() && !message(i).content_absent;
  }
  // Has the field and it is not null.
  bool has_tool_calls(std::size_t i) const { return message(i).tool_calls.has_value(); }
  // "messages[3].content is null, expected …"
  Error bad(std::size_t i, std::string_view field, std::string_view seen,
            std::string_view expected) const;

  // Ends with a generation prompt, which continue_final_message excludes.
  bool wants_answer() const {
    return options_.add_generation_prompt && !options_.continue_final_message;
  }
  std::optional<bool> thinking() const { return options_.thinking; }
  const nlohmann::ordered_json* tools() const { return tools_; }
  const nlohmann::ordered_json* response_schema() const { return response_schema_; }
  std::string_view reasoning_effort() const { return options_.reasoning_effort; }
  bool drops_thinking() const { return options_.drop_thinking; }
  // The answer continues this message.
  bool continues(std::size_t i) const { return options_.continue_final_message && i + 1 == size(); }
  // It does so inside the message's thought, for there is no more of it than that.
  bool continues_thought(std::size_t i) const;
  // Where DeepSeek's own encoders write `content or ""`: nothing for null and absent alike.
  std::string_view content_or_empty(std::size_t i) const {
    const auto& content = message(i).content;
    return content ? std::string_view(*content) : std::string_view();
  }
  // Where they format it: None for both.
  std::string_view content_or_none(std::size_t i) const {
    return message(i).content ? std::string_view(*message(i).content) : "None";
  }
  std::string_view reasoning_or_empty(std::size_t i) const {
    const auto& reasoning = message(i).reasoning_content;
    return reasoning ? std::string_view(*reasoning) : std::string_view();
  }
  bool calls_tools(std::size_t i) const {
    return has_tool_calls(i) && !message(i).tool_calls->empty();
  }
  // "messages[3].role is …"
  Error bad_role(std::size_t i, std::string_view expected) const;

 private:
  std::span<const ChatMessage> messages_;
  const ChatMessage* last_;
  const RenderOptions& options_;
  const nlohmann::ordered_json* tools_;
  const nlohmann::ordered_json* response_schema_;
};

// What remains of `content` after the first or the last </think>; all of it if there is none.
std::string_view after_first_thought(std::string_view content);
std::string_view after_last_thought(std::string_view content);

// The text of a call's arguments where a template concatenates it: an object fails there.
Result<std::string_view> arguments_text(const Conversation& conversation, std::size_t message,
                                        std::size_t call);
// Its type, likewise: an absent one fails.
Result<std::string_view> call_type(const Conversation& conversation, std::size_t message,
                                   std::size_t call);
// <｜tool▁call▁begin｜>TYPE<｜tool▁sep｜>NAME, the arguments in a JSON fence, <｜tool▁call▁end｜>:
// the form of V2.5, V3 and R1.
Status write_fenced_call(const Conversation& conversation, std::size_t message, std::size_t call,
                         PromptBuilder& out);

// The contents of the system messages. Joined: all, with a blank line between, failing on null and
// absent contents. Otherwise the last one alone, printed.
Status write_joined_system(const Conversation& conversation, PromptBuilder& out);
void write_last_system(const Conversation& conversation, PromptBuilder& out);

// One entry of the caller's tools, for families whose tool text takes it apart.
struct ToolDescription {
  std::string_view name;
  std::string_view description;              // "" if absent
  const nlohmann::ordered_json* function;    // the whole object
  const nlohmann::ordered_json* parameters;  // null if absent
};
Result<std::vector<ToolDescription>> tool_descriptions(const nlohmann::ordered_json& tools);

// The encoders. Each fails only as chat.h says.
Status render_deepseek_llm(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_coder(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v25(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v3(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v3_0324(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_r1(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_r1_0528(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v31(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v31_terminus(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v32(const Conversation& conversation, PromptBuilder& out);
Status render_deepseek_v4(const Conversation& conversation, PromptBuilder& out);
Status render_r1_distill(const Conversation& conversation, PromptBuilder& out);
Status render_qwen3(const Conversation& conversation, PromptBuilder& out);
Status render_chatml(const Conversation& conversation, PromptBuilder& out);
Status render_smollm2(const Conversation& conversation, PromptBuilder& out);
Status render_nano(const Conversation& conversation, PromptBuilder& out);

}  // namespace fathom::chat
