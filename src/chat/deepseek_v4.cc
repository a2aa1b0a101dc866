// V4: thinks or not, with an effort. Tool results are a user's turn; whether earlier reasoning is
// kept depends on whether there are tools.
//
// Source: the rules of DeepSeek's published encoding_dsv4.py, whose output
// tests/golden/data/chat_templates/golden_v4.json has. Its task tokens (<｜action｜> and the like)
// are for DeepSeek's own services and have no place in a message's OpenAI form: they are left out.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "chat/dsml.h"
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

constexpr std::string_view kLatestReminder = "<｜latest_reminder｜>";
constexpr std::string_view kMaximumEffort =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to "
    "resolve "
    "the root cause, rigorously stress-testing your logic against all potential paths, edge cases, "
    "and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, "
    "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
    "unchecked.\n\n";

void write_tools(const nlohmann::ordered_json& tools, PromptBuilder& out) {
  out.markup(
      "\n\n## Tools\n\nYou have access to a set of tools to help answer the user's question. You "
      "can "
      "invoke tools by writing a \"<｜DSML｜tool_calls>\" block like the following:\n\n"
      "<｜DSML｜tool_calls>\n"
      "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
      "<｜DSML｜parameter name=\"$PARAMETER_NAME\" "
      "string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
      "...\n"
      "</｜DSML｜invoke>\n"
      "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
      "...\n"
      "</｜DSML｜invoke>\n"
      "</｜DSML｜tool_calls>\n\n"
      "String parameters should be specified as is and set `string=\"true\"`. For all other types "
      "(numbers, booleans, arrays, objects), pass the value in JSON format and set "
      "`string=\"false\"`.\n\n"
      "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning "
      "inside <think>...</think> BEFORE any tool calls or final response.\n\n"
      "Otherwise, output directly after </think> with tool calls or final response.\n\n"
      "### Available Tool Schemas\n\n");
  write_dsml_schemas(tools, out);
  out.markup(
      "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke "
      "tool "
      "calls.\n");
}

// A message, or what several make together: neighbouring user messages and tool results are one
// turn.
struct Turn {
  std::string_view role;
  std::size_t message = 0;            // of a turn that is one message
  std::vector<std::size_t> messages;  // of a user's turn
};

class Encoder {
 public:
  Encoder(const Conversation& conversation, PromptBuilder& out)
      : c_(conversation),
        out_(out),
        thinking_(conversation.thinking() == true),
        drops_(conversation.drops_thinking() && conversation.tools() == nullptr) {}

  Status run() {
    FATHOM_TRY_STATUS(collect_turns());
    sort_results();
    for (std::size_t i = 0; i < turns_.size(); ++i)
      if (turns_[i].role == "user" || turns_[i].role == "developer")
        last_user_ = static_cast<int64_t>(i);
    out_.markup(kBos);
    if (thinking_ && c_.reasoning_effort() == "max") out_.markup(kMaximumEffort);
    carrier_ = c_.system_carrier();
    if (!carrier_) write_system_extras();
    for (std::size_t i = 0; i < turns_.size(); ++i) FATHOM_TRY_STATUS(write_turn(i));
    return {};
  }

 private:
  Status collect_turns() {
    for (std::size_t i = 0; i < c_.size(); ++i) {
      const std::string_view role = c_.role(i);
      if (role == "user" || role == "tool") {
        if (turns_.empty() || turns_.back().role != "user")
          turns_.push_back({.role = "user", .message = i, .messages = {}});
        turns_.back().messages.push_back(i);
      } else if (role == "system" || role == "developer" || role == "assistant" ||
                 role == "latest_reminder") {
        turns_.push_back({.role = role, .message = i, .messages = {}});
      } else {
        return c_.bad(i, "role", "\"" + std::string(role) + "\"",
                      "system, developer, user, assistant, tool or latest_reminder");
      }
    }
    return {};
  }

  // Results come in the order of the calls that they answer; texts between them keep their places.
  void sort_results() {
    std::map<std::string_view, std::size_t> order;
    for (Turn& turn : turns_) {
      if (turn.role == "assistant") {
        const auto& calls = c_.message(turn.message).tool_calls;
        if (!calls || calls->empty()) continue;
        order.clear();
        for (std::size_t k = 0; k < calls->size(); ++k)
          if (!(*calls)[k].id.empty()) order[(*calls)[k].id] = k;
      } else if (turn.role == "user" && !order.empty()) {
        std::vector<std::size_t> results;
        for (const std::size_t i : turn.messages)
          if (c_.role(i) == "tool") results.push_back(i);
        const auto rank = [&](std::size_t i) {
          const auto known = order.find(c_.message(i).tool_call_id);
          return known == order.end() ? 0 : known->second;
        };
        std::stable_sort(results.begin(), results.end(),
                         [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
        std::size_t next = 0;
        for (std::size_t& i : turn.messages)
          if (c_.role(i) == "tool") i = results[next++];
      }
    }
  }

  void write_system_extras() {
    if (c_.tools() != nullptr) write_tools(*c_.tools(), out_);
    write_response_schema(c_, out_);
  }

  Status write_turn(std::size_t i) {
    const Turn& turn = turns_[i];
    if (turn.role == "system") {
      out_.text(c_.content_or_empty(turn.message));
      if (carrier_ == turn.message) write_system_extras();
    } else if (turn.role == "latest_reminder") {
      out_.markup(kLatestReminder).text(c_.content_or_empty(turn.message));
    } else if (turn.role == "assistant") {
      return write_answer(i);
    } else {
      // Instructions before the last user turn are left out where reasoning is.
      if (turn.role == "developer" && thinking_ && drops_ && static_cast<int64_t>(i) < last_user_)
        return {};
      out_.markup(kUser);
      if (turn.role == "developer") out_.text(c_.content_or_empty(turn.message));
      for (std::size_t k = 0; k < turn.messages.size(); ++k) {
        if (k > 0) out_.markup("\n\n");
        const std::string_view content = c_.content_or_empty(turn.messages[k]);
        if (c_.role(turn.messages[k]) == "tool") {
          out_.markup("<tool_result>").text(content).markup("</tool_result>");
        } else {
          out_.text(content);
        }
      }
      end_user(i);
    }
    return {};
  }

  void end_user(std::size_t i) {
    if (i + 1 == turns_.size()
            ? !c_.wants_answer()
            : turns_[i + 1].role != "assistant" && turns_[i + 1].role != "latest_reminder")
      return;
    out_.markup(kAssistant);
    const bool open = thinking_ && (!drops_ || static_cast<int64_t>(i) >= last_user_);
    out_.markup(open ? kThinkBegin : kThinkEnd);
  }

  Status write_answer(std::size_t i) {
    const std::size_t message = turns_[i].message;
    const ChatMessage& m = c_.message(message);
    const bool calls = m.tool_calls.has_value() && !m.tool_calls->empty();
    const std::string_view reasoning = c_.reasoning_or_empty(message);
    if (thinking_ && (!drops_ || static_cast<int64_t>(i) > last_user_)) {
      // A continued message without reasoning goes on inside the thought.
      if (!reasoning.empty() || calls || !c_.continues(message))
        out_.text(reasoning).markup(kThinkEnd);
    }
    out_.text(c_.content_or_empty(message));
    if (calls) FATHOM_TRY_STATUS(write_dsml_calls(c_, message, kDsmlListV4, out_));
    out_.markup(kEos);
    return {};
  }

  const Conversation& c_;
  PromptBuilder& out_;
  const bool thinking_;
  const bool drops_;  // reasoning before the last user turn
  std::vector<Turn> turns_;
  std::optional<std::size_t> carrier_;
  int64_t last_user_ = -1;
};

}  // namespace

Status render_deepseek_v4(const Conversation& conversation, PromptBuilder& out) {
  return Encoder(conversation, out).run();
}

}  // namespace fathom::chat
