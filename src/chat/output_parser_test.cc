// The output parser: what it makes of whole answers, and that no cutting changes it.
#include "chat/output_parser.h"

#include <gtest/gtest.h>

#include <random>

namespace fathom {
namespace output_parser_test {

using Kind = OutputEvent::Kind;

OutputEvent reasoning(std::string text) {
  return {.kind = Kind::kReasoning, .text = std::move(text)};
}
OutputEvent content(std::string text) { return {.kind = Kind::kContent, .text = std::move(text)}; }

std::vector<OutputEvent> call(int index, std::string name, std::string arguments) {
  return {{.kind = Kind::kToolCallBegin,
           .index = index,
           .id = "call_" + std::to_string(index),
           .name = std::move(name)},
          {.kind = Kind::kToolCallArguments, .text = std::move(arguments), .index = index},
          {.kind = Kind::kToolCallEnd, .index = index}};
}

std::vector<OutputEvent> join(std::initializer_list<std::vector<OutputEvent>> lists) {
  std::vector<OutputEvent> out;
  for (const auto& list : lists) out.insert(out.end(), list.begin(), list.end());
  return out;
}

struct Case {
  const char* name;
  ChatFamily family;
  bool starts_in_thinking;
  std::string text;
  std::vector<OutputEvent> expected;
};

const std::string kFencedParis =
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```"
    "<｜tool▁call▁end｜>";
const std::string kFencedTokyo =
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"东京\"}\n```"
    "<｜tool▁call▁end｜>";
const std::string kBegin = "<｜tool▁calls▁begin｜>";
const std::string kEnd = "<｜tool▁calls▁end｜>";

std::vector<Case> thinking_cases() {
  using F = ChatFamily;
  return {
      {"thought opened by the prompt",
       F::kNano,
       true,
       "\nOne.\n\nTwo.\n</think>\n\nThree.\n",
       {reasoning("One.\n\nTwo."), content("Three.\n")}},
      {"thought opened by the model",
       F::kQwen3,
       false,
       "\n<think>\nOne.\n</think>\n\nTwo.",
       {reasoning("One."), content("Two.")}},
      {"empty thought", F::kQwen3, false, "<think>\n\n</think>\n\nTwo.", {content("Two.")}},
      {"no thought",
       F::kQwen3,
       false,
       "\n\nTwo <think>three</think>.",
       {content("\n\nTwo <think>three</think>.")}},
      {"unfinished thought", F::kR1Distill, true, "One\n</thin\n", {reasoning("One\n</thin\n")}},
      {"unfinished tag", F::kDeepseekR1_0528, false, "<thin", {content("<thin")}},
      {"nothing but newlines in the thought", F::kNano, true, "\n\n", {}},
      {"nothing but newlines in the answer", F::kNano, false, "\n\n", {content("\n\n")}},
      {"nothing", F::kQwen3, false, "", {}},
      {"a second end is content",
       F::kNano,
       true,
       "a</think>b</think>c\n<think>",
       {reasoning("a"), content("b</think>c\n<think>")}},
      {"looks like a tag",
       F::kNano,
       true,
       "1 < 2 </ </t</think</think> <b>",
       {reasoning("1 < 2 </ </t</think"), content(" <b>")}},
      {"V3.1 without thinking",
       F::kDeepseekV31,
       false,
       "<think>x</think>y",
       {content("<think>x</think>y")}},
      {"V3.1 with thinking", F::kDeepseekV31, true, "x</think>y", {reasoning("x"), content("y")}},
  };
}

std::vector<Case> call_cases() {
  using F = ChatFamily;
  const std::string plain =
      "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": [1, 2]}<｜tool▁call▁end｜>";
  const std::string xml =
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\":1,\"a\":1e5}}\n</tool_call>";
  const std::string xml_arguments = "{\"b\": 1, \"a\": 100000.0}";
  return {
      {"V3: one", F::kDeepseekV3, false, kBegin + kFencedParis + kEnd,
       call(0, "get_weather", "{\"city\": \"Paris\"}")},
      {"V2.5: two and content", F::kDeepseekV25, false,
       "I look.\n\n" + kBegin + kFencedParis + "\n" + kFencedTokyo + kEnd + "\nDone.\n",
       join({{content("I look.")},
             call(0, "get_weather", "{\"city\": \"Paris\"}"),
             call(1, "get_weather", "{\"city\": \"东京\"}"),
             {content("Done.\n")}})},
      {"R1: without the end of the list", F::kDeepseekR1, true,
       "Think.\n</think>\n\n" + kBegin + kFencedParis + "\n",
       join({{reasoning("Think.")}, call(0, "get_weather", "{\"city\": \"Paris\"}")})},
      {"V3.1: two", F::kDeepseekV31, false, "Hm." + kBegin + plain + plain + kEnd,
       join({{content("Hm.")}, call(0, "f", "{\"a\": [1, 2]}"), call(1, "f", "{\"a\": [1, 2]}")})},
      {"Qwen3: two", F::kQwen3, false, "<think>\nT\n</think>\n\nA\n" + xml + "\n" + xml,
       join({{reasoning("T"), content("A")},
             call(0, "f", xml_arguments),
             call(1, "f", xml_arguments)})},
      {"two lists", F::kDeepseekV31, false, kBegin + plain + kEnd + "and\n" + kBegin + plain + kEnd,
       join({call(0, "f", "{\"a\": [1, 2]}"), {content("and")}, call(1, "f", "{\"a\": [1, 2]}")})},
      {"calls in a thought are thoughts", F::kQwen3, true, xml, {reasoning(xml)}},
      {"a family without calls", F::kNano, false, xml + kBegin, {content(xml + kBegin)}},
  };
}

std::vector<Case> malformed_cases() {
  using F = ChatFamily;
  const std::string plain = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>";
  const std::string bad = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": <｜tool▁call▁end｜>";
  std::vector<Case> cases;
  const auto whole = [&](const char* name, F family, std::string text) {
    cases.push_back({name, family, false, text, {content(text)}});
  };
  whole("empty list", F::kDeepseekV3, "x\n" + kBegin + "\n" + kEnd + "\ny");
  whole("no call in the list", F::kDeepseekV3, "\n" + kBegin + "oops" + kEnd);
  whole("unfinished call", F::kDeepseekV3, kBegin + kFencedParis.substr(0, 60));
  whole("unfinished tag", F::kDeepseekV3, "a\n" + kBegin.substr(0, 8));
  whole("not JSON", F::kDeepseekV31, "\n\n" + kBegin + bad + kEnd);
  whole("JSON, but no object", F::kDeepseekV31,
        kBegin + "<｜tool▁call▁begin｜>f<｜tool▁sep｜>[1]<｜tool▁call▁end｜>" + kEnd);
  whole("no name", F::kDeepseekV31,
        kBegin + "<｜tool▁call▁begin｜> <｜tool▁sep｜>{}<｜tool▁call▁end｜>" + kEnd);
  whole("no separator", F::kDeepseekV31,
        kBegin + "<｜tool▁call▁begin｜>f{}<｜tool▁call▁end｜>" + kEnd);
  whole("V3.1's form from V3", F::kDeepseekV3, kBegin + plain + kEnd);
  whole("V3's form from V3.1", F::kDeepseekV31, kBegin + kFencedParis + kEnd);
  whole("no fence", F::kDeepseekV3,
        kBegin + "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n{}\n<｜tool▁call▁end｜>" + kEnd);
  whole("end of a list without one", F::kDeepseekV3, "a" + kEnd + "b");
  whole("Qwen3: not JSON", F::kQwen3, "a\n<tool_call>\nf(x)\n</tool_call>\nb");
  whole("Qwen3: arguments missing", F::kQwen3, "<tool_call>{\"name\": \"f\"}</tool_call>");
  whole("Qwen3: unfinished", F::kQwen3, "<tool_call>\n{\"name\": \"f\"");
  cases.push_back({"a bad call before a good one", F::kDeepseekV31, false,
                   kBegin + bad + plain + kEnd + "z",
                   join({{content(kBegin + bad)}, call(0, "f", "{}"), {content("z")}})});
  cases.push_back({"a bad call after a good one", F::kDeepseekV31, false,
                   kBegin + plain + bad + kEnd, join({call(0, "f", "{}"), {content(bad)}})});
  cases.push_back({"a second list that was not ended", F::kDeepseekV31, false,
                   kBegin + plain + kBegin + kEnd,
                   join({call(0, "f", "{}"), {content(kBegin + kEnd)}})});
  cases.push_back({"a second list, the first was not ended", F::kDeepseekV31, false,
                   kBegin + plain + kBegin + plain + kEnd,
                   join({call(0, "f", "{}"), call(1, "f", "{}")})});
  cases.push_back({"text in a list", F::kDeepseekV31, false,
                   "a\n" + kBegin + plain + " hello" + kEnd,
                   join({{content("a")}, call(0, "f", "{}"), {content(" hello" + kEnd)}})});
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<Case> out = thinking_cases();
  for (auto& c : call_cases()) out.push_back(c);
  for (auto& c : malformed_cases()) out.push_back(c);
  return out;
}

// Feeds the text in pieces whose lengths `next` gives.
template <typename Next>
std::vector<OutputEvent> parse(const Case& c, Next next) {
  OutputParser parser(c.family, {.starts_in_thinking = c.starts_in_thinking, .parse_tools = true});
  std::vector<OutputEvent> events;
  const auto take = [&](std::vector<OutputEvent> more) {
    for (OutputEvent& e : more) {
      EXPECT_TRUE(e.kind == Kind::kToolCallBegin || e.kind == Kind::kToolCallEnd ||
                  !e.text.empty());
      events.push_back(std::move(e));
    }
  };
  for (std::size_t at = 0; at < c.text.size();) {
    const std::size_t length = std::min(c.text.size() - at, next());
    take(parser.feed(std::string_view(c.text).substr(at, length)));
    at += length;
  }
  take(parser.finish());
  return merge_events(std::move(events));
}

void expect_events(const std::vector<OutputEvent>& got, const std::vector<OutputEvent>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(static_cast<int>(got[i].kind), static_cast<int>(expected[i].kind)) << "event " << i;
    EXPECT_EQ(got[i].text, expected[i].text) << "event " << i;
    EXPECT_EQ(got[i].name, expected[i].name) << "event " << i;
    EXPECT_EQ(got[i].id, expected[i].id) << "event " << i;
    EXPECT_EQ(got[i].index, expected[i].index) << "event " << i;
  }
}

TEST(OutputParser, ParsesWholeAnswers) {
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(c.name);
    expect_events(parse(c, [] { return std::size_t{1} << 20; }), c.expected);
  }
}

TEST(OutputParser, OneByteAtATimeGivesTheSame) {
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(c.name);
    expect_events(parse(c, [] { return std::size_t{1}; }), c.expected);
  }
}

TEST(OutputParser, EveryCutInTwoGivesTheSame) {
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(c.name);
    for (std::size_t cut = 1; cut < c.text.size(); ++cut) {
      const auto got = parse(c, [first = true, cut]() mutable {
        return std::exchange(first, false) ? cut : std::size_t{1} << 20;
      });
      ASSERT_EQ(got, c.expected) << "cut at byte " << cut;
    }
  }
}

TEST(OutputParser, RandomCutsGiveTheSame) {
  std::mt19937 random(7);
  const std::vector<Case> cases = all_cases();
  const int rounds = 12'000 / static_cast<int>(cases.size()) + 1;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    for (int round = 0; round < rounds; ++round) {
      const std::size_t longest = 1 + random() % 24;
      ASSERT_EQ(parse(c, [&] { return 1 + random() % longest; }), c.expected) << "round " << round;
    }
  }
}

TEST(OutputParser, HoldsBackNothingThatIsCertain) {
  OutputParser parser(ChatFamily::kDeepseekV3, {.parse_tools = true});
  EXPECT_EQ(parser.feed("a < b").back().text, "a < b");
  EXPECT_TRUE(parser.feed("\n").empty());  // may stand before a call
  EXPECT_EQ(parser.feed("c").back().text, "\nc");
  EXPECT_TRUE(parser.feed("<｜tool").empty());
  EXPECT_EQ(parser.feed("x").back().text, "<｜toolx");
  EXPECT_TRUE(parser.finish().empty());

  OutputParser plain(ChatFamily::kDeepseekV3, {});
  EXPECT_EQ(plain.feed("a\n").back().text, "a\n");
  EXPECT_EQ(plain.feed("<｜tool").back().text, "<｜tool");
}

TEST(OutputParser, CallsAreContentUnlessToolsAreParsed) {
  OutputParser parser(ChatFamily::kDeepseekV3, {});
  const std::string text = kBegin + kFencedParis + kEnd;
  const auto events = parser.feed(text);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0], content(text));
}

TEST(OutputParser, UsesTheGivenPrefixForIds) {
  OutputParser parser(ChatFamily::kDeepseekV3, {.parse_tools = true, .call_id_prefix = "c7-"});
  EXPECT_EQ(parser.feed(kBegin + kFencedParis).front().id, "c7-0");
}

// A megabyte of what must be held back, byte by byte: each byte is looked at once.
TEST(OutputParser, LongHeldTextIsNotScannedAgain) {
  const std::string opener = kBegin + "<｜tool▁call▁begin｜>";
  for (const std::string& start : {std::string("x"), kBegin, opener}) {
    OutputParser parser(ChatFamily::kDeepseekV3, {.parse_tools = true});
    std::size_t bytes = 0;
    const auto count = [&](const std::vector<OutputEvent>& events) {
      for (const OutputEvent& e : events) bytes += e.text.size();
    };
    count(parser.feed(start));
    for (int i = 0; i < 1'000'000; ++i) count(parser.feed("\n"));
    count(parser.finish());
    EXPECT_EQ(bytes, start.size() + 1'000'000);
  }
}

}  // namespace output_parser_test
}  // namespace fathom
