// V3.2: thinks or not, in tool calls too. Every user turn and every list of tool results ends in
// <think> or </think>; reasoning is kept behind the last user turn alone.
//
// Source: the rules of DeepSeek's published encoding_dsv32.py, as
// tests/golden/data/chat_templates/README.md retells them.
#include <nlohmann/json.hpp>

#include "chat/dsml.h"
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

void write_tools(const nlohmann::ordered_json& tools, PromptBuilder& out) {
  out.markup(
      "\n\n## Tools\n\nYou have access to a set of tools you can use to answer the user's "
      "question.\n"
      "You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following "
      "as "
      "part of your reply to the user:\n"
      "<｜DSML｜function_calls>\n"
      "<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n"
      "<｜DSML｜parameter name=\"$PARAMETER_NAME\" "
      "string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
      "...\n"
      "</｜DSML｜invoke>\n"
      "<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n"
      "...\n"
      "</｜DSML｜invoke>\n"
      "</｜DSML｜function_calls>\n\n"
      "String and scalar parameters should be specified as is without any escaping or quotes, "
      "while "
      "lists and objects should use JSON format. The \"string\" attribute should be set to "
      "\"true\" "
      "for string type parameters and \"false\" for other types (numbers, booleans, arrays, "
      "objects).\n\n"
      "If the thinking_mode is enabled, then after function results you should strongly consider "
      "outputting a thinking block. Here is an example:\n\n"
      "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n"
      "<function_results>\n...\n</function_results>\n\n"
      "<think>...thinking about results</think>\n\n"
      "Here are the functions available in JSONSchema format:\n"
      "<functions>\n");
  write_dsml_schemas(tools, out);
  out.markup("\n</functions>\n");
}

class Encoder {
 public:
  Encoder(const Conversation& conversation, PromptBuilder& out)
      : c_(conversation), out_(out), thinking_(conversation.thinking() == true) {
    for (std::size_t i = 0; i < c_.size(); ++i)
      if (c_.role(i) == "user" || c_.role(i) == "developer") last_user_ = static_cast<int64_t>(i);
  }

  Status run() {
    out_.markup(kBos);
    const auto carrier = c_.system_carrier();
    if (!carrier) write_system_extras();
    for (std::size_t i = 0; i < c_.size(); ++i) {
      const std::string_view role = c_.role(i);
      if (role == "system") {
        out_.text(c_.content_or_empty(i));
        if (carrier == i) write_system_extras();
      } else if (role == "user") {
        write_user(i, c_.content_or_empty(i));
      } else if (role == "developer") {
        FATHOM_TRY_STATUS(write_developer(i));
      } else if (role == "tool") {
        FATHOM_TRY_STATUS(write_result(i));
      } else if (role == "assistant") {
        FATHOM_TRY_STATUS(write_answer(i));
      } else {
        return c_.bad(i, "role", "\"" + std::string(role) + "\"",
                      "system, developer, user, assistant or tool");
      }
    }
    return {};
  }

 private:
  bool last(std::size_t i) const { return i + 1 == c_.size(); }
  void write_system_extras() {
    if (c_.tools() != nullptr) write_tools(*c_.tools(), out_);
    write_response_schema(c_, out_);
  }

  void write_user(std::size_t i, std::string_view content) {
    out_.markup(kUser).text(content);
    end_user(i);
  }
  void end_user(std::size_t i) {
    if (last(i) && !c_.wants_answer()) return;
    out_.markup(kAssistant);
    out_.markup(thinking_ && static_cast<int64_t>(i) == last_user_ ? kThinkBegin : kThinkEnd);
  }

  // Instructions in a user's place. Those before the last user turn are left out of a conversation
  // with thinking, as the published encoder does.
  Status write_developer(std::size_t i) {
    if (thinking_ && static_cast<int64_t>(i) < last_user_) return {};
    if (c_.content_or_empty(i).empty()) return c_.bad(i, "content", "empty", "a text");
    out_.markup(kUser).markup("\n\n# The user's message is: ").text(c_.content_or_empty(i));
    end_user(i);
    return {};
  }

  // The results of one answer's calls form a list, in the order given.
  Status write_result(std::size_t i) {
    int64_t asked = static_cast<int64_t>(i) - 1;
    while (asked >= 0 && c_.role(static_cast<std::size_t>(asked)) == "tool") --asked;
    if (asked < 0 || c_.role(static_cast<std::size_t>(asked)) != "assistant") {
      return c_.bad(i, "role", "\"tool\"",
                    "a result behind the assistant message that called the tool");
    }
    const auto& calls = c_.message(static_cast<std::size_t>(asked)).tool_calls;
    const auto order = static_cast<int64_t>(i) - asked;
    const int64_t count = calls ? static_cast<int64_t>(calls->size()) : 0;
    if (order > count) {
      return c_.bad(i, "role", "\"tool\"",
                    "no more results than the assistant message before has calls, which is " +
                        std::to_string(count));
    }
    if (order == 1) out_.markup("\n\n<function_results>");
    out_.markup("\n<result>").text(c_.content_or_empty(i)).markup("</result>");
    if (order < count) return {};
    out_.markup("\n</function_results>");
    if (last(i) && !c_.wants_answer()) return {};
    out_.markup("\n\n");
    out_.markup(thinking_ && static_cast<int64_t>(i) >= last_user_ ? kThinkBegin : kThinkEnd);
    return {};
  }

  Status write_answer(std::size_t i) {
    const ChatMessage& m = c_.message(i);
    const bool calls = m.tool_calls.has_value() && !m.tool_calls->empty();
    const std::string_view reasoning = c_.reasoning_or_empty(i);
    if (thinking_ && static_cast<int64_t>(i) > last_user_) {
      // A continued message without reasoning goes on inside the thought.
      const bool inside = reasoning.empty() && !calls && c_.continues(i);
      if (reasoning.empty() && !calls && !inside) {
        return c_.bad(i, "reasoning_content", "missing",
                      "reasoning, as the answer stands behind the last user message and thinking "
                      "is on");
      }
      if (!inside) out_.text(reasoning).markup(kThinkEnd);
    }
    out_.text(c_.content_or_empty(i));
    if (calls) FATHOM_TRY_STATUS(write_dsml_calls(c_, i, kDsmlListV32, out_));
    out_.markup(kEos);
    return {};
  }

  const Conversation& c_;
  PromptBuilder& out_;
  const bool thinking_;
  int64_t last_user_ = -1;
};

}  // namespace

Status render_deepseek_v32(const Conversation& conversation, PromptBuilder& out) {
  return Encoder(conversation, out).run();
}

}  // namespace fathom::chat
