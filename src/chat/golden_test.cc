// Every published rendering in tests/golden/data/chat_templates/golden.json, byte for byte.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "chat/chat.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

const ordered_json& golden() {
  static const ordered_json cases = [] {
    const std::string path = FATHOM_SOURCE_DIR "/tests/golden/data/chat_templates/golden.json";
    const Result<std::string> text = read_file(path, limits::kMaxJsonBytes);
    FATHOM_CHECK(text.has_value()) << text.error().message;
    return parse_ordered_json(*text, path).value()["cases"];
  }();
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

}  // namespace
}  // namespace fathom
