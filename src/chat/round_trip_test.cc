// What an encoder writes of an answer, the parser reads back, however the text is cut.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "chat/output_parser.h"

namespace fathom {
namespace round_trip_test {

using Kind = OutputEvent::Kind;
using nlohmann::ordered_json;

struct Answer {
  std::string reasoning, content;
  std::vector<ToolCall> calls;
};

class Writer {
 public:
  explicit Writer(uint32_t seed) : random_(seed) {}

  Answer answer(bool thinks, bool after_text) {
    Answer a;
    if (thinks) a.reasoning = text();
    const int calls = static_cast<int>(random_() % 4);
    if (after_text || calls == 0) a.content = text();
    for (int i = 0; i < calls; ++i)
      a.calls.push_back({.id = "c" + std::to_string(i),
                         .name = pick({"get_weather", "f", "search-2"}),
                         .arguments = object(2).dump()});
    return a;
  }
  std::size_t number(std::size_t below) { return random_() % below; }

 private:
  std::string pick(std::initializer_list<const char*> list) {
    return *(list.begin() + static_cast<std::ptrdiff_t>(random_() % list.size()));
  }
  // Neither begins nor ends in white space, which belongs to the forms.
  std::string text() {
    std::string out = "a";
    for (std::size_t n = random_() % 12; n > 0; --n) {
      out += pick({" word", "\n", "\n\n", "东京", "<", "<｜", "<｜DSML", "｜DSML｜", "</thin", "</",
                   "😀", "\"", "{\"a\": 1}", "<tool_c", "<｜tool▁calls▁b", "`", "\t"});
    }
    return out + ".";
  }
  ordered_json value(int depth) {
    switch (random_() % (depth > 0 ? 7 : 5)) {
      case 0:
        return text();
      case 1:
        return static_cast<int>(random_() % 1000) - 500;
      case 2:
        return 0.25 * static_cast<double>(random_() % 100) + 0.125;
      case 3:
        return random_() % 2 == 0;
      case 4:
        return nullptr;
      case 5: {
        ordered_json list = ordered_json::array();
        for (std::size_t n = random_() % 3; n > 0; --n) list.push_back(value(depth - 1));
        return list;
      }
      default:
        return object(depth - 1);
    }
  }
  ordered_json object(int depth) {
    ordered_json out = ordered_json::object();
    for (std::size_t n = random_() % 4; n > 0; --n)
      out[pick({"city", "days", "的", "x y", "query"})] = value(depth);
    return out;
  }

  std::mt19937 random_;
};

// What the model would have written, behind the prompt.
std::string written(ChatFamily family, const Answer& a, const RenderOptions& options) {
  std::vector<ChatMessage> messages = {{.role = "user", .content = "Hi"}};
  const std::string prompt = render_chat(family, messages, options).value();
  ChatMessage m{.role = "assistant", .content = a.content};
  if (!a.reasoning.empty()) m.reasoning_content = a.reasoning;
  if (!a.calls.empty()) m.tool_calls = a.calls;
  if (family == ChatFamily::kDeepseekV31 && a.content.empty()) m.content.reset();
  messages.push_back(m);
  RenderOptions whole = options;
  whole.add_generation_prompt = false;
  std::string text = render_chat(family, messages, whole).value();
  EXPECT_TRUE(text.starts_with(prompt)) << text << "\n" << prompt;
  text.erase(0, prompt.size());
  const std::string end = "<｜end▁of▁sentence｜>";
  EXPECT_TRUE(text.ends_with(end));
  return text.substr(0, text.size() - end.size());
}

struct Parsed {
  std::string reasoning, content;
  std::vector<std::pair<std::string, ordered_json>> calls;
  bool operator==(const Parsed&) const = default;
};

template <typename Next>
Parsed parse(ChatFamily family, bool thinking, const std::string& text, const Next& next) {
  OutputParser parser(family, {.starts_in_thinking = thinking, .parse_tools = true});
  std::vector<OutputEvent> events;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = std::min(text.size() - at, next());
    for (OutputEvent& e : parser.feed(std::string_view(text).substr(at, length)))
      events.push_back(std::move(e));
    at += length;
  }
  for (OutputEvent& e : parser.finish()) events.push_back(std::move(e));
  Parsed out;
  for (const OutputEvent& e : merge_events(std::move(events))) {
    if (e.kind == Kind::kReasoning) out.reasoning += e.text;
    if (e.kind == Kind::kContent) out.content += e.text;
    if (e.kind == Kind::kToolCallBegin) out.calls.emplace_back(e.name, nullptr);
    if (e.kind == Kind::kToolCallArguments)
      out.calls.back().second = ordered_json::parse(e.text, nullptr, false);
  }
  return out;
}

// 12,000 cuts of 1,500 answers.
TEST(RoundTrip, EncodedAnswersCutAtRandom) {
  int cuts = 0, calls = 0;
  for (const ChatFamily family :
       {ChatFamily::kDeepseekV31, ChatFamily::kDeepseekV32, ChatFamily::kDeepseekV4}) {
    for (uint32_t seed = 0; seed < 500; ++seed) {
      Writer writer(seed);
      const bool thinks = family != ChatFamily::kDeepseekV31 && seed % 2 == 0;
      const Answer answer = writer.answer(thinks, seed % 3 != 0);
      const std::string text = written(family, answer, {.thinking = thinks});
      SCOPED_TRACE(text);
      Parsed expected{answer.reasoning, answer.content, {}};
      for (const ToolCall& c : answer.calls)
        expected.calls.emplace_back(c.name, ordered_json::parse(c.arguments));
      calls += static_cast<int>(answer.calls.size());
      for (int round = 0; round < 8; ++round, ++cuts) {
        const std::size_t longest = 1 + writer.number(40);
        ASSERT_EQ(parse(family, thinks, text, [&] { return 1 + writer.number(longest); }),
                  expected);
      }
    }
  }
  EXPECT_EQ(cuts, 12'000);
  EXPECT_GT(calls, 1'500);
  RecordProperty("cuts", cuts);
}

}  // namespace round_trip_test
}  // namespace fathom
