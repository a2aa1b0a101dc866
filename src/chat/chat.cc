// The table of families, and what rendering does for all of them: checks before, the cut of
// continue_final_message after.
#include "chat/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "chat/encoder.h"
#include "chat/python_text.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

// How a generation prompt stands to thoughts.
enum class Opening {
  kNone,       // the model writes <think> itself, or never thinks
  kOnRequest,  // opened if thinking is asked for
  kUnlessOff,  // opened unless thinking is switched off
};

struct FamilyInfo {
  ChatFamily family;
  std::string_view name;
  Status (*render)(const chat::Conversation&, chat::PromptBuilder&);
  ThinkingSupport thinking = ThinkingSupport::kNever;
  Opening opening = Opening::kNone;
  bool tools = false;
};

// In the order of the enumeration.
constexpr std::array kFamilies = {
    FamilyInfo{.family = ChatFamily::kDeepseekLlm,
               .name = "deepseek_llm",
               .render = chat::render_deepseek_llm},
    FamilyInfo{.family = ChatFamily::kDeepseekCoder,
               .name = "deepseek_coder",
               .render = chat::render_deepseek_coder},
    FamilyInfo{.family = ChatFamily::kDeepseekV2,
               .name = "deepseek_v2",
               .render = chat::render_deepseek_llm},
    FamilyInfo{.family = ChatFamily::kDeepseekV25,
               .name = "deepseek_v25",
               .render = chat::render_deepseek_v25,
               .tools = true},
    FamilyInfo{.family = ChatFamily::kDeepseekV3,
               .name = "deepseek_v3",
               .render = chat::render_deepseek_v3},
    FamilyInfo{.family = ChatFamily::kDeepseekV3_0324,
               .name = "deepseek_v3_0324",
               .render = chat::render_deepseek_v3_0324},
    FamilyInfo{.family = ChatFamily::kDeepseekR1,
               .name = "deepseek_r1",
               .render = chat::render_deepseek_r1,
               .thinking = ThinkingSupport::kAlways,
               .opening = Opening::kUnlessOff},
    FamilyInfo{.family = ChatFamily::kDeepseekR1_0528,
               .name = "deepseek_r1_0528",
               .render = chat::render_deepseek_r1_0528,
               .thinking = ThinkingSupport::kAlways},
    FamilyInfo{.family = ChatFamily::kDeepseekV31,
               .name = "deepseek_v31",
               .render = chat::render_deepseek_v31,
               .thinking = ThinkingSupport::kSwitchable,
               .opening = Opening::kOnRequest,
               .tools = true},
    FamilyInfo{.family = ChatFamily::kDeepseekV31Terminus,
               .name = "deepseek_v31_terminus",
               .render = chat::render_deepseek_v31_terminus,
               .thinking = ThinkingSupport::kSwitchable,
               .opening = Opening::kOnRequest,
               .tools = true},
    FamilyInfo{.family = ChatFamily::kDeepseekV32,
               .name = "deepseek_v32",
               .render = chat::render_deepseek_v32,
               .thinking = ThinkingSupport::kSwitchable,
               .opening = Opening::kOnRequest,
               .tools = true},
    FamilyInfo{.family = ChatFamily::kDeepseekV4,
               .name = "deepseek_v4",
               .render = chat::render_deepseek_v4,
               .thinking = ThinkingSupport::kSwitchable,
               .opening = Opening::kOnRequest,
               .tools = true},
    FamilyInfo{.family = ChatFamily::kR1Distill,
               .name = "deepseek_r1_distill",
               .render = chat::render_r1_distill,
               .thinking = ThinkingSupport::kAlways,
               .opening = Opening::kUnlessOff},
    FamilyInfo{.family = ChatFamily::kQwen3,
               .name = "qwen3",
               .render = chat::render_qwen3,
               .thinking = ThinkingSupport::kSwitchable,
               .tools = true},
    FamilyInfo{.family = ChatFamily::kChatMl, .name = "chatml", .render = chat::render_chatml},
    FamilyInfo{.family = ChatFamily::kSmolLm2, .name = "smollm2", .render = chat::render_smollm2},
    FamilyInfo{.family = ChatFamily::kNano,
               .name = "nano",
               .render = chat::render_nano,
               .thinking = ThinkingSupport::kAlways,
               .opening = Opening::kUnlessOff},
};

constexpr auto kFamilyList = [] {
  std::array<ChatFamily, kFamilies.size()> list{};
  for (std::size_t i = 0; i < list.size(); ++i) list[i] = kFamilies[i].family;
  return list;
}();

const FamilyInfo& info(ChatFamily family) {
  const auto index = static_cast<std::size_t>(family);
  FATHOM_CHECK_LT(index, kFamilies.size());
  FATHOM_CHECK(kFamilies[index].family == family) << "kFamilies is out of order";
  return kFamilies[index];
}

// Stands behind the last message's content while it is rendered with continue_final_message: a byte
// that no UTF-8 text has.
constexpr char kEndMark = '\xFF';

// Ends the prompt where the mark stands, as transformers does with a mark of words. There the
// content must stand anywhere in the prompt, here it must stand before the mark.
Result<std::vector<PromptPiece>> cut_at_mark(std::vector<PromptPiece> pieces,
                                             std::string_view final_content,
                                             std::string_view family) {
  const auto has_mark = [](const PromptPiece& p) {
    return p.text.find(kEndMark) != std::string::npos;
  };
  const auto last = std::find_if(pieces.rbegin(), pieces.rend(), has_mark);
  pieces.erase(last.base(), pieces.end());
  std::string before;
  if (!pieces.empty()) {
    std::string& text = pieces.back().text;
    text.resize(text.rfind(kEndMark));
    for (const PromptPiece& piece : pieces) before += piece.text;
    if (text.empty()) pieces.pop_back();
  }
  // A template may strip the content, but not drop a part of it.
  if (!pieces.empty() && chat::python_rstrip(before).ends_with(chat::python_strip(final_content))) {
    return pieces;
  }
  return invalid_argument(fmt::format(
      "the last message cannot be continued: the form of {} leaves out a part of its content",
      family));
}

Status check_text(std::size_t i, std::string_view field, std::string_view text, int64_t& bytes) {
  bytes += static_cast<int64_t>(text.size());
  if (utf8_is_valid(text)) return {};
  return invalid_argument(
      fmt::format("messages[{}].{} is not valid UTF-8, expected UTF-8 text", i, field));
}

// Limits and UTF-8, before anything is copied.
Status check_messages(std::span<const ChatMessage> messages) {
  if (messages.empty())
    return invalid_argument("the conversation has no messages, expected at least one");
  if (static_cast<int64_t>(messages.size()) > limits::kMaxMessages) {
    return resource_limit(fmt::format("the conversation has {} messages, the limit is {}",
                                      messages.size(), limits::kMaxMessages));
  }
  int64_t bytes = 0;
  const auto view = [](const std::optional<std::string>& text) {
    return text.has_value() ? std::string_view(*text) : std::string_view();
  };
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& m = messages[i];
    FATHOM_TRY_STATUS(check_text(i, "role", m.role, bytes));
    FATHOM_TRY_STATUS(check_text(i, "content", view(m.content), bytes));
    FATHOM_TRY_STATUS(check_text(i, "reasoning_content", view(m.reasoning_content), bytes));
    FATHOM_TRY_STATUS(check_text(i, "tools", m.tools_json, bytes));
    FATHOM_TRY_STATUS(check_text(i, "response_format", m.response_schema_json, bytes));
    FATHOM_TRY_STATUS(check_text(i, "task", view(m.task), bytes));
    if (!m.tool_calls.has_value()) continue;
    for (const ToolCall& call : *m.tool_calls) {
      FATHOM_TRY_STATUS(check_text(i, "tool_calls", call.type, bytes));
      FATHOM_TRY_STATUS(check_text(i, "tool_calls", call.name, bytes));
      FATHOM_TRY_STATUS(check_text(i, "tool_calls", call.arguments, bytes));
    }
  }
  if (bytes > limits::kMaxPromptBytes) {
    return resource_limit(fmt::format("the conversation has {} bytes of text, the limit is {}",
                                      bytes, limits::kMaxPromptBytes));
  }
  return {};
}

// The tools as a list of objects; an empty list if there are none.
Result<ordered_json> read_tools(const FamilyInfo& family, const std::string& tools_json) {
  if (tools_json.empty()) return ordered_json::array();
  FATHOM_TRY(ordered_json tools, parse_ordered_json(tools_json, "tools",
                                                    {.max_bytes = limits::kMaxPromptBytes,
                                                     .max_values = limits::kMaxRequestJsonValues}));
  if (!tools.is_array()) {
    return invalid_argument(fmt::format("tools: the top is {}, expected a list of tools",
                                        json_preview(nlohmann::json(tools))));
  }
  if (static_cast<int64_t>(tools.size()) > limits::kMaxTools) {
    return resource_limit(
        fmt::format("tools: {} entries, the limit is {}", tools.size(), limits::kMaxTools));
  }
  for (std::size_t i = 0; i < tools.size(); ++i) {
    if (!tools[i].is_object()) {
      return invalid_argument(fmt::format("tools[{}] is {}, expected an object", i,
                                          json_preview(nlohmann::json(tools[i]))));
    }
  }
  if (!tools.empty() && !family.tools) {
    return invalid_argument(fmt::format(
        "{} tools were given, but {} has no published form to describe them: send none, or put "
        "their description into the system message",
        tools.size(), family.name));
  }
  return tools;
}

// The answer's schema; null if there is none.
Result<ordered_json> read_schema(const std::string& schema_json) {
  if (schema_json.empty()) return ordered_json();
  FATHOM_TRY(ordered_json schema,
             parse_ordered_json(schema_json, "response_format",
                                {.max_bytes = limits::kMaxPromptBytes,
                                 .max_values = limits::kMaxRequestJsonValues}));
  if (!schema.is_object()) {
    return invalid_argument(fmt::format("response_format: the top is {}, expected a JSON schema",
                                        json_preview(nlohmann::json(schema))));
  }
  // One that asks for nothing is none.
  return schema.empty() ? ordered_json() : schema;
}

}  // namespace

Result<std::vector<PromptPiece>> render_chat_pieces(ChatFamily family,
                                                    std::span<const ChatMessage> messages,
                                                    const RenderOptions& options) {
  const FamilyInfo& f = info(family);
  FATHOM_TRY_STATUS(check_messages(messages));
  if (options.thinking == true && f.thinking == ThinkingSupport::kNever) {
    return invalid_argument(
        fmt::format("thinking is true, but {} does not think: expected false or nothing", f.name));
  }
  FATHOM_TRY(const ordered_json tools, read_tools(f, options.tools_json));
  FATHOM_TRY(const ordered_json schema, read_schema(options.response_schema_json));

  ChatMessage marked;
  if (options.continue_final_message) {
    if (!messages.back().content.has_value()) {
      return invalid_argument(
          fmt::format("the last message cannot be continued: messages[{}].content is {}, expected "
                      "a string",
                      messages.size() - 1, messages.back().content_absent ? "missing" : "null"));
    }
    marked = messages.back();
    *marked.content += kEndMark;
  }
  const chat::Conversation conversation(
      messages, options.continue_final_message ? &marked : nullptr, options,
      tools.empty() ? nullptr : &tools, schema.is_null() ? nullptr : &schema);
  chat::PromptBuilder out;
  FATHOM_TRY_STATUS(f.render(conversation, out));
  std::vector<PromptPiece> pieces = std::move(out).take();
  if (options.continue_final_message) {
    FATHOM_TRY(pieces, cut_at_mark(std::move(pieces), *messages.back().content, f.name));
  }
  std::size_t bytes = 0;
  for (const PromptPiece& piece : pieces) bytes += piece.text.size();
  if (static_cast<int64_t>(bytes) > limits::kMaxPromptBytes) {
    return resource_limit(
        fmt::format("the prompt has {} bytes, the limit is {}", bytes, limits::kMaxPromptBytes));
  }
  return pieces;
}

Result<std::string> render_chat(ChatFamily family, std::span<const ChatMessage> messages,
                                const RenderOptions& options) {
  FATHOM_TRY(const std::vector<PromptPiece> pieces, render_chat_pieces(family, messages, options));
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

Result<std::string> normal_reasoning_effort(std::string_view effort) {
  if (effort.empty()) return std::string();
  for (const std::string_view name : {"minimal", "low", "medium", "high", "xhigh"})
    if (effort == name) return std::string("high");
  if (effort == "max" || effort == "ultra") return std::string("max");
  return invalid_argument(fmt::format(
      "reasoning effort is {}, expected minimal, low, medium, high, xhigh, max or ultra",
      json_preview(nlohmann::json(utf8_sanitize(effort)))));
}

Result<ChatFamily> chat_family_from_name(std::string_view name) {
  std::string names;
  for (const FamilyInfo& f : kFamilies) {
    if (f.name == name) return f.family;
    names += (names.empty() ? "" : ", ") + std::string(f.name);
  }
  return invalid_argument(fmt::format("chat family {} is unknown, expected one of: {}",
                                      json_preview(nlohmann::json(utf8_sanitize(name))), names));
}

std::string_view chat_family_name(ChatFamily family) { return info(family).name; }

std::span<const ChatFamily> all_chat_families() { return kFamilyList; }

ThinkingSupport can_think(ChatFamily family) { return info(family).thinking; }

bool can_describe_tools(ChatFamily family) { return info(family).tools; }

bool prompt_opens_thinking(ChatFamily family, const RenderOptions& options) {
  if (!options.add_generation_prompt || options.continue_final_message) return false;
  switch (info(family).opening) {
    case Opening::kOnRequest:
      return options.thinking == true;
    case Opening::kUnlessOff:
      return options.thinking != false;
    case Opening::kNone:
      return false;
  }
  return false;
}

bool prompt_opens_thinking(std::span<const PromptPiece> prompt) {
  const auto ends_in_tag = [](std::string_view text) {
    return chat::strip_trailing_newlines(text).ends_with(chat::kThinkBegin);
  };
  if (prompt.empty()) return false;
  if (prompt.back().markup) return ends_in_tag(prompt.back().text);
  // A continued message: the thought was opened in it or right before it.
  const std::string_view content = prompt.back().text;
  const std::size_t begin = content.rfind(chat::kThinkBegin);
  const std::size_t end = content.rfind(chat::kThinkEnd);
  if (end != content.npos) return begin != content.npos && begin > end;
  return begin != content.npos ||
         (prompt.size() > 1 && ends_in_tag(prompt[prompt.size() - 2].text));
}

}  // namespace fathom
