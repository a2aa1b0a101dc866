// V3.2: thinks or not, in tool calls too. Every user turn and every list of tool results ends in
// <think> or </think>; reasoning is kept behind the last user turn alone.
//
// Source: the rules of DeepSeek's published encoding_dsv32.py, as
// tests/golden/data/chat_templates/README.md retells them. `developer`, whose messages stand in a
// user's place, is the role of DeepSeek's search agent.
#include <string>

#include "chat/dsml.h"
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

constexpr DsmlForm kV32Form = {
    .calls_begin = kDsmlCallsBeginV32,
    .calls_end = kDsmlCallsEndV32,
    .before_tools = R"(## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your reply to the user:
<｜DSML｜function_calls>
<｜DSML｜invoke name="$FUNCTION_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$FUNCTION_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types (numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:

<｜DSML｜function_calls>
...
</｜DSML｜function_calls>

<function_results>
...
</function_results>

<think>...thinking about results</think>

Here are the functions available in JSONSchema format:
<functions>
)",
    .after_tools = "\n</functions>\n",
};

class V32Encoder {
 public:
  V32Encoder(const Conversation& conversation, PromptBuilder& out)
      : c_(conversation), out_(out), thinking_(conversation.thinking() == true) {
    for (std::size_t i = 0; i < c_.size(); ++i)
      if (c_.role(i) == "user" || c_.role(i) == "developer") last_user_ = static_cast<int64_t>(i);
  }

  Status run() {
    if (thinking_ && c_.drops_thinking()) FATHOM_TRY_STATUS(refuse_what_would_be_dropped());
    out_.markup(kBos);
    if (!dsml_carrier(c_)) FATHOM_TRY_STATUS(write_dsml_extras(c_, std::nullopt, kV32Form, out_));
    for (std::size_t i = 0; i < c_.size(); ++i) FATHOM_TRY_STATUS(write(i));
    return {};
  }

 private:
  // The published encoder drops such messages and then fails, for it still counts them.
  Status refuse_what_would_be_dropped() const {
    for (std::size_t i = 0; static_cast<int64_t>(i) < last_user_; ++i) {
      const std::string_view role = c_.role(i);
      if (role != "user" && role != "system" && role != "tool" && role != "assistant") {
        return c_.bad_role(i,
                           "system, user, assistant or tool before the last user message, where "
                           "thinking is on and earlier thinking is dropped");
      }
    }
    return {};
  }

  Status write(std::size_t i) {
    const std::string_view role = c_.role(i);
    if (role == "system") {
      out_.text(c_.content_or_empty(i));
      return write_dsml_extras(c_, i, kV32Form, out_);
    }
    if (role == "user") {
      out_.markup(kUser).text(c_.content_or_none(i));
      end_user(i);
      return {};
    }
    if (role == "developer") return write_developer(i);
    if (role == "tool") return write_result(i);
    if (role == "assistant") return write_answer(i);
    return c_.bad_role(i, "system, developer, user, assistant or tool");
  }

  bool opens_answer(std::size_t i) const { return i + 1 < c_.size() || c_.wants_answer(); }

  void end_user(std::size_t i) {
    if (!opens_answer(i)) return;
    const bool last = static_cast<int64_t>(i) == last_user_;
    out_.markup(kAssistant).markup(thinking_ && last ? kThinkBegin : kThinkEnd);
  }

  Status write_developer(std::size_t i) {
    if (c_.content_or_empty(i).empty()) return c_.bad(i, "content", "empty", "a text");
    out_.markup(kUser);
    FATHOM_TRY_STATUS(write_dsml_extras(c_, i, kV32Form, out_));
    out_.markup("\n\n# The user's message is: ").text(c_.content_or_empty(i));
    end_user(i);
    return {};
  }

  // The results of one answer's calls form a list, in the order given. It is closed behind the last
  // of them: a list that lacks some stays open.
  Status write_result(std::size_t i) {
    std::size_t asked = i;
    while (asked > 0 && c_.role(asked) == "tool") --asked;
    if (c_.role(asked) != "assistant" || !c_.calls_tools(asked))
      return c_.bad_role(i, "a result behind the assistant message that called the tool");
    const std::size_t count = c_.message(asked).tool_calls->size();
    const std::size_t order = i - asked;
    if (order > count) {
      return c_.bad_role(i, "no more results than the assistant message before has calls, " +
                                std::to_string(count));
    }
    if (order == 1) out_.markup("\n\n<function_results>");
    out_.markup("\n<result>").text(c_.content_or_none(i)).markup("</result>");
    if (order < count) return {};
    out_.markup("\n</function_results>");
    if (!opens_answer(i)) return {};
    const bool current = static_cast<int64_t>(i) >= last_user_;
    out_.markup("\n\n").markup(thinking_ && current ? kThinkBegin : kThinkEnd);
    return {};
  }

  Status write_answer(std::size_t i) {
    const std::string_view reasoning = c_.reasoning_or_empty(i);
    if (thinking_ && static_cast<int64_t>(i) > last_user_) {
      if (reasoning.empty() && !c_.calls_tools(i) && !c_.continues(i)) {
        return c_.bad(i, "reasoning_content", "missing",
                      "reasoning, as the answer stands behind the last user message and thinking "
                      "is on");
      }
      out_.text(reasoning);
      if (!c_.continues_thought(i)) out_.markup(kThinkEnd);
    }
    out_.text(c_.content_or_empty(i));
    if (c_.calls_tools(i)) FATHOM_TRY_STATUS(write_dsml_calls(c_, i, kV32Form, out_));
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
  return V32Encoder(conversation, out).run();
}

}  // namespace fathom::chat
