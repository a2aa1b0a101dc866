// V4: thinks or not, with an effort. Tool results are a user's turn; whether earlier reasoning is
// kept depends on whether there are tools.
//
// Source: the rules of DeepSeek's published encoding_dsv4.py, the one beside the first weights,
// whose output tests/golden/data/chat_templates/golden_v4.json has. Its quick tasks and the roles
// latest_reminder and developer are for DeepSeek's own services.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/json.h"
#include "chat/dsml.h"
#include "chat/encoder.h"

namespace fathom::chat {
namespace {

constexpr std::string_view kLatestReminder = "<｜latest_reminder｜>";
constexpr std::string_view kTasks[] = {"action", "query", "authority",
                                       "domain", "title", "read_url"};

constexpr std::string_view kMaximumEffort =
    R"(Reasoning Effort: Absolute maximum with no shortcuts permitted.
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.

)";

constexpr DsmlForm kV4Form = {
    .calls_begin = kDsmlCallsBeginV4,
    .calls_end = kDsmlCallsEndV4,
    .before_tools = R"(## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

)",
    .after_tools =
        "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke "
        "tool calls.\n",
    .wraps_what_is_no_json = true,
};

// A message, or what several make together: neighbouring user messages and tool results are one
// user's turn.
struct Turn {
  std::string_view role;
  std::vector<std::size_t> messages;  // one, unless it is a user's
  std::optional<std::string_view> task;
};

class V4Encoder {
 public:
  V4Encoder(const Conversation& conversation, PromptBuilder& out)
      : c_(conversation), out_(out), thinking_(conversation.thinking() == true) {}

  Status run() {
    const std::string_view effort = c_.reasoning_effort();
    if (!effort.empty() && effort != "high" && effort != "max") {
      return invalid_argument(
          fmt::format("the reasoning effort is {}, expected \"high\" or \"max\"",
                      json_preview(nlohmann::json(std::string(effort)))));
    }
    collect_turns();
    FATHOM_TRY_STATUS(sort_results());
    drops_ = c_.drops_thinking() && !has_tools();
    if (thinking_ && drops_) drop();
    last_user_ = last_user();
    out_.markup(kBos);
    if (thinking_ && effort == "max") out_.markup(kMaximumEffort);
    if (!dsml_carrier(c_)) FATHOM_TRY_STATUS(write_dsml_extras(c_, std::nullopt, kV4Form, out_));
    for (std::size_t t = 0; t < turns_.size(); ++t) {
      FATHOM_TRY_STATUS(write_turn(t));
      FATHOM_TRY_STATUS(end_turn(t));
    }
    return {};
  }

 private:
  // A turn takes its task from its first message, and a user's message with a task takes no further
  // user's message in, though tool results.
  void collect_turns() {
    for (std::size_t i = 0; i < c_.size(); ++i) {
      const std::string_view role = c_.role(i);
      const bool result = role == "tool";
      const bool joins = !turns_.empty() && turns_.back().role == "user" &&
                         (result || (role == "user" && !turns_.back().task));
      if (joins) {
        turns_.back().messages.push_back(i);
        continue;
      }
      turns_.push_back({.role = result ? "user" : role, .messages = {i}, .task = {}});
      if (!result && c_.message(i).task) turns_.back().task = *c_.message(i).task;
    }
  }

  // Results come in the order of the calls that they answer; texts between them keep their places.
  Status sort_results() {
    std::map<std::string_view, std::size_t> order;
    for (Turn& turn : turns_) {
      if (turn.role == "assistant" && c_.calls_tools(turn.messages[0])) {
        const auto& calls = *c_.message(turn.messages[0]).tool_calls;
        order.clear();
        for (std::size_t k = 0; k < calls.size(); ++k)
          if (!calls[k].id.empty()) order[calls[k].id] = k;
      } else if (turn.role == "user" && !order.empty()) {
        sort_results_of(turn, order);
      }
    }
    const std::size_t last = c_.size() - 1;
    if (!c_.continues(last) || turns_.back().messages.back() == last) return {};
    return c_.bad_role(last,
                       "another one, as a result that stands before others, in the order of "
                       "the calls, cannot be continued");
  }
  void sort_results_of(Turn& turn, const std::map<std::string_view, std::size_t>& order) {
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

  bool has_tools() const {
    return c_.tools() != nullptr ||
           std::any_of(turns_.begin(), turns_.end(), [&](const Turn& turn) {
             return turn.role != "user" && !c_.message(turn.messages[0]).tools_json.empty();
           });
  }

  int64_t last_user() const {
    const auto last = std::find_if(turns_.rbegin(), turns_.rend(), [](const Turn& turn) {
      return turn.role == "user" || turn.role == "developer";
    });
    return turns_.rend() - last - 1;
  }

  // Before the last user turn, developers' messages are left out.
  void drop() {
    const int64_t last = last_user();
    std::vector<Turn> kept;
    for (std::size_t t = 0; t < turns_.size(); ++t) {
      if (static_cast<int64_t>(t) >= last || turns_[t].role != "developer")
        kept.push_back(std::move(turns_[t]));
    }
    turns_ = std::move(kept);
  }

  Status write_turn(std::size_t t) {
    const Turn& turn = turns_[t];
    const std::size_t i = turn.messages[0];
    if (turn.role == "system") {
      out_.text(c_.content_or_empty(i));
      return write_dsml_extras(c_, i, kV4Form, out_);
    }
    if (turn.role == "developer") {
      if (c_.content_or_empty(i).empty()) return c_.bad(i, "content", "empty", "a text");
      out_.markup(kUser).text(c_.content_or_empty(i));
      return write_dsml_extras(c_, i, kV4Form, out_);
    }
    if (turn.role == "latest_reminder") {
      out_.markup(kLatestReminder).text(c_.content_or_none(i));
      return {};
    }
    if (turn.role == "user") return write_user(turn);
    if (turn.role == "assistant") return write_answer(t);
    return c_.bad_role(i, "system, developer, user, assistant, tool or latest_reminder");
  }

  Status write_user(const Turn& turn) {
    out_.markup(kUser);
    for (std::size_t k = 0; k < turn.messages.size(); ++k) {
      const std::size_t i = turn.messages[k];
      if (k > 0) out_.markup("\n\n");
      if (c_.role(i) == "tool") {
        write_result(i);
      } else {
        if (c_.content_is_null(i)) FATHOM_TRY_STATUS(c_.content(i));
        out_.text(c_.content_or_empty(i));
      }
    }
    return {};
  }

  // The parts of a result that came in parts stand apart.
  void write_result(std::size_t i) {
    const std::string_view content =
        c_.content_is_null(i) ? c_.content_or_none(i) : c_.content_or_empty(i);
    out_.markup("<tool_result>");
    std::size_t begin = 0;
    for (const std::size_t end : c_.message(i).part_begins) {
      out_.text(content.substr(begin, end - begin)).markup("\n\n");
      begin = end;
    }
    out_.text(content.substr(begin)).markup("</tool_result>");
  }

  Status write_answer(std::size_t t) {
    const std::size_t i = turns_[t].messages[0];
    const bool does_task = t > 0 && turns_[t - 1].task.has_value();
    if (thinking_ && !does_task && (!drops_ || static_cast<int64_t>(t) > last_user_)) {
      out_.text(c_.reasoning_or_empty(i));
      if (!c_.continues_thought(i)) out_.markup(kThinkEnd);
    }
    out_.text(c_.content_or_empty(i));
    if (c_.calls_tools(i)) FATHOM_TRY_STATUS(write_dsml_calls(c_, i, kV4Form, out_));
    if (!c_.message(i).without_end) out_.markup(kEos);
    return {};
  }

  // What stands between a turn and the answer or the reminder behind it, or ends the prompt.
  Status end_turn(std::size_t t) {
    const Turn& turn = turns_[t];
    if (t + 1 == turns_.size()
            ? !c_.wants_answer()
            : turns_[t + 1].role != "assistant" && turns_[t + 1].role != "latest_reminder") {
      return {};
    }
    if (turn.task) return write_task(turn);
    if (turn.role != "user" && turn.role != "developer") return {};
    const bool open = thinking_ && (!drops_ || static_cast<int64_t>(t) >= last_user_);
    out_.markup(kAssistant).markup(open ? kThinkBegin : kThinkEnd);
    return {};
  }
  Status write_task(const Turn& turn) {
    if (std::find(std::begin(kTasks), std::end(kTasks), *turn.task) == std::end(kTasks)) {
      return c_.bad(turn.messages[0], "task", json_preview(nlohmann::json(std::string(*turn.task))),
                    fmt::format("one of: {}", fmt::join(kTasks, ", ")));
    }
    if (turn.task == "action") out_.markup(kAssistant).markup(thinking_ ? kThinkBegin : kThinkEnd);
    out_.markup(fmt::format("<｜{}｜>", *turn.task));
    return {};
  }

  const Conversation& c_;
  PromptBuilder& out_;
  const bool thinking_;
  bool drops_ = false;  // reasoning before the last user turn
  std::vector<Turn> turns_;
  int64_t last_user_ = -1;  // into turns_
};

}  // namespace

Status render_deepseek_v4(const Conversation& conversation, PromptBuilder& out) {
  return V4Encoder(conversation, out).run();
}

}  // namespace fathom::chat
