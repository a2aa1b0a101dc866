// Every published rendering in tests/golden/data/chat_templates, byte for byte.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "chat/chat.h"
#include "chat/output_parser.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace golden_test {

using nlohmann::ordered_json;

ordered_json golden_file(const std::string& name) {
  const std::string path = FATHOM_SOURCE_DIR "/tests/golden/data/chat_templates/" + name;
  return parse_ordered_json(test::read_gzip(path), path).value();
}

const ordered_json& golden() {
  static const ordered_json cases = golden_file("golden.json")["cases"];
  return cases;
}

// The arguments of apply_chat_template, whose default is no generation prompt.
RenderOptions options_of(const ordered_json& given) {
  RenderOptions options;
  options.add_generation_prompt = given.value("add_generation_prompt", false);
  options.continue_final_message = given.value("continue_final_message", false);
  if (given.contains("thinking")) options.thinking = given["thinking"].get<bool>();
  if (given.contains("enable_thinking")) options.thinking = given["enable_thinking"].get<bool>();
  if (given.contains("tools")) options.tools_json = given["tools"].dump();
  return options;
}

TEST(ChatGolden, RendersEveryPublishedCase) {
  ASSERT_EQ(golden().size(), 195U);
  for (std::size_t i = 0; i < golden().size(); ++i) {
    const ordered_json& c = golden()[i];
    SCOPED_TRACE("case " + std::to_string(i) + ": " + c["template"].get<std::string>() + " " +
                 c["options"].dump() + " " + c["messages"].dump());
    const Result<ChatFamily> family = chat_family_from_name(c["template"].get<std::string>());
    ASSERT_TRUE(family.has_value()) << family.error().message;
    const auto messages = parse_messages(c["messages"].dump(), "golden.json");
    ASSERT_TRUE(messages.has_value()) << messages.error().message;
    const auto rendered = render_chat(*family, *messages, options_of(c["options"]));
    if (c.contains("error")) {
      EXPECT_FALSE(rendered.has_value()) << "the template raises, here: " << *rendered;
      continue;
    }
    ASSERT_TRUE(rendered.has_value()) << rendered.error().message;
    EXPECT_EQ(*rendered, c["rendered"].get<std::string>());
  }
}

TEST(ChatGolden, TextOfTheClientIsNeverMarkup) {
  for (const ordered_json& c : golden()) {
    const ChatFamily family = chat_family_from_name(c["template"].get<std::string>()).value();
    auto messages = parse_messages(c["messages"].dump(), "golden.json").value();
    for (ChatMessage& m : messages)
      if (m.content.has_value()) *m.content += "CLIENT";
    const auto pieces = render_chat_pieces(family, messages, options_of(c["options"]));
    if (!pieces.has_value()) continue;
    for (const PromptPiece& piece : *pieces) {
      EXPECT_FALSE(piece.text.empty());
      if (!piece.markup) continue;
      EXPECT_EQ(piece.text.find("CLIENT"), std::string::npos) << piece.text;
    }
  }
}

// Of V3.2 and V4, whose published form is an encoder and no template.
ordered_json encoder_cases() {
  ordered_json all = ordered_json::array();
  for (const char* file : {"golden_v32.json", "golden_v4.json", "golden_dsml.json.gz"}) {
    const ordered_json read = golden_file(file);
    for (const ordered_json& c : read["cases"]) all.push_back(c);
  }
  return all;
}

// The arguments of the published encode_messages, and what it wants in the first system message.
RenderOptions encoder_options_of(const ordered_json& c) {
  const ordered_json& given = c["options"];
  RenderOptions options;
  options.thinking = given.value("thinking", false);
  options.drop_thinking = given.value("drop_thinking", true);
  if (const auto effort = given.find("reasoning_effort");
      effort != given.end() && effort->is_string()) {
    options.reasoning_effort = effort->get<std::string>();
  }
  if (c.contains("tools") && c["tools"].is_array()) options.tools_json = c["tools"].dump();
  if (c.contains("response_format")) options.response_schema_json = c["response_format"].dump();
  return options;
}

TEST(ChatGolden, EncodersOfV32AndV4) {
  int errors = 0;
  const ordered_json cases = encoder_cases();
  EXPECT_EQ(cases.size(), 26U + 113U + 227U);
  for (const ordered_json& c : cases) {
    SCOPED_TRACE(c["family"].dump() + " " + c["conversation"].dump() + " " + c["options"].dump());
    const ChatFamily family = chat_family_from_name(c["family"].get<std::string>()).value();
    const auto messages = parse_messages(c["messages"].dump(), "golden");
    ASSERT_TRUE(messages.has_value()) << messages.error().message;
    const auto rendered = render_chat(family, *messages, encoder_options_of(c));
    if (!c.contains("rendered")) {
      ++errors;
      EXPECT_FALSE(rendered.has_value()) << "the encoder raises, here: " << *rendered;
      continue;
    }
    ASSERT_TRUE(rendered.has_value()) << rendered.error().message;
    EXPECT_EQ(*rendered, c["rendered"].get<std::string>());
  }
  EXPECT_EQ(errors, 40);
}

TEST(ChatGolden, TextOfTheClientIsNeverMarkupInEncoders) {
  int rendered = 0;
  for (const ordered_json& c : encoder_cases()) {
    const ChatFamily family = chat_family_from_name(c["family"].get<std::string>()).value();
    auto messages = parse_messages(c["messages"].dump(), "golden").value();
    for (ChatMessage& m : messages) {
      for (auto* text : {&m.content, &m.reasoning_content})
        if (text->has_value()) **text += "CLIENT";
      if (!m.tool_calls.has_value()) continue;
      for (ToolCall& call : *m.tool_calls) call.name += "CLIENT";
    }
    const auto pieces = render_chat_pieces(family, messages, encoder_options_of(c));
    if (!pieces.has_value()) continue;
    ++rendered;
    bool was_markup = false;
    for (const PromptPiece& piece : *pieces) {
      EXPECT_FALSE(piece.text.empty());
      EXPECT_NE(std::exchange(was_markup, piece.markup), piece.markup);
      if (!piece.markup) continue;
      for (const char* client : {"CLIENT", "get_weather", "Paris", "open_pages"})
        EXPECT_EQ(piece.text.find(client), std::string::npos) << piece.text;
    }
  }
  EXPECT_GT(rendered, 300);
}

// What V4 writes, as its published parser takes it apart. Where that one refuses a text, ours gives
// what there is: an unfinished thought is reasoning, and text behind the calls is content.
TEST(ChatGolden, CompletionsOfV4) {
  int errors = 0;
  const ordered_json list = golden_file("golden_v4.json")["completions"];
  for (const ordered_json& c : list) {
    std::string text = c["text"].get<std::string>();
    SCOPED_TRACE(text);
    constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";  // a stop token, which nobody is fed
    if (text.ends_with(kEnd)) text.resize(text.size() - kEnd.size());
    OutputParser parser(ChatFamily::kDeepseekV4,
                        {.starts_in_thinking = c["thinking"].get<bool>(), .parse_tools = true});
    std::vector<OutputEvent> events = parser.feed(text);
    for (OutputEvent& e : parser.finish()) events.push_back(std::move(e));
    std::string content, reasoning;
    ordered_json calls = ordered_json::array();
    for (const OutputEvent& e : merge_events(events)) {
      if (e.kind == OutputEvent::Kind::kContent) content += e.text;
      if (e.kind == OutputEvent::Kind::kReasoning) reasoning += e.text;
      if (e.kind == OutputEvent::Kind::kToolCallBegin)
        calls.push_back({{"type", "function"}, {"function", {{"name", e.name}}}});
      if (e.kind == OutputEvent::Kind::kToolCallArguments)
        calls.back()["function"]["arguments"] = e.text;
    }
    if (c.contains("error")) {
      ++errors;
      EXPECT_EQ((content + reasoning).find("DSML"), std::string::npos);
      continue;
    }
    EXPECT_EQ(content, c["message"]["content"].get<std::string>());
    EXPECT_EQ(reasoning, c["message"]["reasoning_content"].get<std::string>());
    EXPECT_EQ(calls, c["message"]["tool_calls"]);
  }
  EXPECT_EQ(errors, 3);
}

}  // namespace golden_test
}  // namespace fathom
