// Fuzzes the chat layer: reading messages, rendering them in every family, and the output parser.
//
// The input is a header of four bytes, then JSON messages, then after a byte 0x00 the tools, then
// after another the text of an answer. The answer is parsed whole and cut at random, which must
// give the same events. Properties beyond "no crash": a prompt is valid UTF-8 and its pieces
// alternate; an answer without calls loses nothing but newlines and the tags of its thought.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "chat/chat.h"
#include "chat/output_parser.h"

namespace fathom {
namespace {

std::string_view take_until_zero(std::string_view& rest) {
  const std::size_t end = std::min(rest.find('\0'), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

RenderOptions options_of(uint8_t flags, std::string_view tools) {
  RenderOptions options{.add_generation_prompt = (flags & 1) != 0,
                        .continue_final_message = (flags & 2) != 0,
                        .tools_json = std::string(tools)};
  if ((flags & 4) != 0) options.thinking = (flags & 8) != 0;
  return options;
}

void check_rendering(std::span<const ChatMessage> messages, const RenderOptions& options) {
  for (const ChatFamily family : all_chat_families()) {
    const auto pieces = render_chat_pieces(family, messages, options);
    if (!pieces.has_value()) {
      FATHOM_CHECK(!pieces.error().message.empty() && utf8_is_valid(pieces.error().message));
      continue;
    }
    std::string text;
    for (std::size_t i = 0; i < pieces->size(); ++i) {
      const PromptPiece& piece = (*pieces)[i];
      FATHOM_CHECK(!piece.text.empty() && utf8_is_valid(piece.text));
      FATHOM_CHECK(i == 0 || piece.markup != (*pieces)[i - 1].markup);
      text += piece.text;
    }
    FATHOM_CHECK(render_chat(family, messages, options).value() == text);
    prompt_opens_thinking(*pieces);
  }
}

std::vector<OutputEvent> parse(ChatFamily family, const OutputParserOptions& options,
                               std::string_view text, uint32_t random) {
  OutputParser parser(family, options);
  std::vector<OutputEvent> events;
  const auto take = [&](std::vector<OutputEvent> more) {
    for (OutputEvent& event : more) events.push_back(std::move(event));
  };
  while (!text.empty()) {
    std::size_t length = text.size();
    if (random != 0) {
      random = random * 1664525 + 1013904223;
      length = std::min<std::size_t>(length, 1 + (random >> 24) % 13);
    }
    take(parser.feed(text.substr(0, length)));
    text.remove_prefix(length);
  }
  take(parser.finish());
  return merge_events(std::move(events));
}

// What is left when every character that a thought's tags or the newlines around them have is gone.
std::string without_tag_characters(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("<think>/\n").find(c) == std::string_view::npos) out += c;
  }
  return out;
}

void check_output(std::string_view text, uint8_t flags, uint32_t seed) {
  const OutputParserOptions options{.starts_in_thinking = (flags & 16) != 0,
                                    .parse_tools = (flags & 32) != 0};
  for (const ChatFamily family : all_chat_families()) {
    const auto whole = parse(family, options, text, 0);
    FATHOM_CHECK(parse(family, options, text, seed | 1) == whole)
        << chat_family_name(family) << ": cutting the text changed the events";
    std::string all;
    bool has_calls = false;
    for (const OutputEvent& event : whole) {
      has_calls = has_calls || event.kind == OutputEvent::Kind::kToolCallBegin;
      all += event.text;
    }
    if (has_calls) continue;
    FATHOM_CHECK(without_tag_characters(all) == without_tag_characters(text))
        << chat_family_name(family) << ": text was lost";
  }
}

void run(std::string_view input) {
  if (input.size() < 4) return;
  const auto flags = static_cast<uint8_t>(input[0]);
  uint32_t seed = 0;
  for (int i = 1; i < 4; ++i) seed = seed * 256 + static_cast<uint8_t>(input[i]);
  std::string_view rest = input.substr(4);
  const std::string_view messages_json = take_until_zero(rest);
  const std::string_view tools = take_until_zero(rest);
  const auto messages = parse_messages(messages_json, "fuzz.json");
  if (messages.has_value()) {
    check_rendering(*messages, options_of(flags, tools));
  } else {
    FATHOM_CHECK(utf8_is_valid(messages.error().message));
  }
  check_output(rest, flags, seed);
  // Recognition reads any text.
  (void)detect_chat_family(rest, "deepseek_v2");
}

}  // namespace
}  // namespace fathom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  fathom::run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
