// R1 (January 2025, with the generation prompt of its February revision), V3-0324 and R1-0528.
//
// Source: chat_template of the published tokenizer_config.json of each. They close every list of
// calls, and print calls beside content. R1 opens the assistant's turn with the assistant's
// message; V3-0324 and R1-0528 with the end of the user's, so they need no generation prompt after
// one.
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

// How a message's content stands before its list of calls.
struct CallStyle {
  std::string_view opening;    // markup before the content
  bool drop_thoughts = false;  // of the content
};

// The list of calls of one message. Its content, if not null, comes before the first call.
Status write_calls(const Conversation& conversation, std::size_t i, const CallStyle& style,
                   bool& first_call_done, PromptBuilder& out) {
  const std::size_t count = conversation.message(i).tool_calls->size();
  for (std::size_t c = 0; c < count; ++c) {
    if (!first_call_done) {
      out.markup(style.opening);
      if (!conversation.content_is_null(i)) {
        FATHOM_TRY(const std::string_view content, conversation.content(i));
        out.text(style.drop_thoughts ? after_last_thought(content) : content);
      }
      out.markup(kCallsBegin);
      first_call_done = true;
    } else {
      out.markup("\n");
    }
    FATHOM_TRY_STATUS(write_fenced_call(conversation, i, c, out));
  }
  out.markup(kCallsEnd).markup(kEos);
  return {};
}

// V3-0324 and R1-0528. `drop_thoughts`: R1-0528 cuts earlier thoughts off. Its template fails on a
// null content although it has a branch for one; here that branch is taken.
Status render_revised(const Conversation& conversation, bool drop_thoughts, PromptBuilder& out) {
  out.markup(kBos);
  FATHOM_TRY_STATUS(write_joined_system(conversation, out));
  bool last_is_user = false;
  bool in_outputs = false;
  bool first_output_done = false;
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    if (role == "user") {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      in_outputs = false;
      last_is_user = true;
      out.markup(kUser).text(content).markup(kAssistant);
    } else if (role == "assistant" && conversation.has_tool_calls(i)) {
      if (in_outputs) out.markup(kOutputsEnd);
      last_is_user = in_outputs = first_output_done = false;
      bool first_call_done = false;
      FATHOM_TRY_STATUS(
          write_calls(conversation, i, {.drop_thoughts = drop_thoughts}, first_call_done, out));
    } else if (role == "assistant") {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      if (in_outputs) out.markup(kOutputsEnd);
      last_is_user = in_outputs = false;
      out.text(drop_thoughts ? after_last_thought(content) : content).markup(kEos);
    } else if (role == "tool") {
      FATHOM_TRY(const std::string_view content, conversation.content(i));
      last_is_user = false;
      in_outputs = true;
      out.markup(first_output_done ? "\n" : kOutputsBegin);
      out.markup(kOutputBegin).text(content).markup(kOutputEnd);
      first_output_done = true;
    }
  }
  if (in_outputs) out.markup(kOutputsEnd);
  if (conversation.wants_answer() && !in_outputs) {
    if (!last_is_user) out.markup(kAssistant);
    if (drop_thoughts && conversation.thinking() == false) out.markup(kEmptyThought);
  }
  return {};
}

}  // namespace

Status render_deepseek_v3_0324(const Conversation& conversation, PromptBuilder& out) {
  return render_revised(conversation, false, out);
}

Status render_deepseek_r1_0528(const Conversation& conversation, PromptBuilder& out) {
  return render_revised(conversation, true, out);
}

Status render_deepseek_r1(const Conversation& conversation, PromptBuilder& out) {
  out.markup(kBos);
  FATHOM_TRY_STATUS(write_joined_system(conversation, out));
  bool first_call_done = false;  // of the conversation: the template never resets it
  bool in_outputs = false;
  bool first_output_done = false;
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const std::string_view role = conversation.role(i);
    const ChatMessage& m = conversation.message(i);
    if (role == "assistant" && m.tool_calls_null)
      return conversation.bad(i, "tool_calls", "null", "a list, or no such field");
    if (role == "assistant" && m.tool_calls.has_value()) {
      in_outputs = false;
      FATHOM_TRY_STATUS(
          write_calls(conversation, i, {.opening = kAssistant}, first_call_done, out));
      continue;
    }
    if (role != "user" && role != "assistant" && role != "tool") continue;
    FATHOM_TRY(const std::string_view content, conversation.content(i));
    if (role == "user") {
      in_outputs = false;
      out.markup(kUser).text(content);
    } else if (role == "tool") {
      in_outputs = true;
      if (!first_output_done) out.markup(kOutputsBegin);
      out.markup(kOutputBegin).text(content).markup(kOutputEnd);
      first_output_done = true;
    } else if (in_outputs) {
      in_outputs = false;
      out.markup(kOutputsEnd).text(content).markup(kEos);
    } else {
      out.markup(kAssistant).text(after_last_thought(content)).markup(kEos);
    }
  }
  if (in_outputs) {
    out.markup(kOutputsEnd);
  } else if (conversation.wants_answer()) {
    out.markup(kAssistant);
    out.markup(conversation.thinking() == false ? kEmptyThought : "<think>\n");
  }
  return {};
}

}  // namespace fathom::chat
