// Conversations as the text a DeepSeek model was trained on, one encoder in C++ per family.
//
// Owns the message form, the choice of a family and the rendering. Does not own the tokenizer: a
// prompt is text that contains special tokens as text, so callers encode it with special tokens
// recognised and without adding any. Does not interpret Jinja: a model file is data, never a
// program; its template only serves to recognise the family (detect_chat_family).
//
// The encoders reproduce what transformers' apply_chat_template makes of the published templates,
// and of V3.2 and V4 what DeepSeek's published encoders make, byte for byte, including what looks
// odd (tests/golden/data/NOTES.md, section 8). Where a template fails, they return an Error.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

enum class ChatFamily {
  kDeepseekLlm,          // DeepSeek LLM 7B/67B chat
  kDeepseekCoder,        // DeepSeek Coder instruct (v1)
  kDeepseekV2,           // V2(-Lite) chat, Coder-V2 instruct: the text of kDeepseekLlm
  kDeepseekV25,          // V2.5
  kDeepseekV3,           // V3 of December 2024
  kDeepseekV3_0324,      // V3-0324
  kDeepseekR1,           // R1 of January 2025
  kDeepseekR1_0528,      // R1-0528 and R1-0528-Qwen3-8B
  kDeepseekV31,          // V3.1
  kDeepseekV31Terminus,  // V3.1-Terminus, V3.2-Exp
  kDeepseekV32,          // V3.2
  kDeepseekV4,           // V4 Flash and Pro
  kR1Distill,            // the R1 distills on Qwen 2.5 and Llama 3
  kQwen3,
  kChatMl,   // <|im_start|>role, nothing else
  kSmolLm2,  // kChatMl with SmolLM2's default system prompt
  kNano,     // models/nano
};

// One call that an assistant message made.
struct ToolCall {
  std::string id;
  std::string type = "function";  // "" if the caller gave none
  std::string name;
  std::string arguments;  // JSON text; as given if it came as a string
  // The caller gave a JSON object instead of its text. Only Qwen3's template takes that.
  bool arguments_is_object = false;
};

// One message in OpenAI's form. Templates tell a field that is null from one that is absent, hence
// the two flags. Text is UTF-8.
struct ChatMessage {
  std::string role;
  std::optional<std::string> content;
  // Of a content that was a list of parts: where in it each part but the first begins.
  std::vector<std::size_t> part_begins;
  std::optional<std::string> reasoning_content;
  std::optional<std::vector<ToolCall>> tool_calls;
  std::string tool_call_id;
  std::string name;
  bool prefix = false;          // the answer continues this assistant message (DeepSeek's beta API)
  bool content_absent = false;  // content is nullopt because there was no such field
  bool tool_calls_null = false;  // tool_calls is nullopt because the field was null

  // Fields of DeepSeek's own conversations beyond OpenAI's form, for the encoders of V3.2 and V4.
  // Files may have them (parse_messages), requests to the API may not.
  std::string tools_json;            // of a system or developer message: "" or a list of tools
  std::string response_schema_json;  // likewise ("response_format"): "" or a JSON schema
  std::optional<std::string> task;   // V4: "action", "title", …: a quick task for the next answer
  bool without_end = false;          // V4 ("wo_eos"): the assistant's message stays open
};

struct RenderOptions {
  // Ends the prompt where the assistant's answer begins. Not used with continue_final_message.
  bool add_generation_prompt = true;
  // nullopt: as the family does by itself. See ThinkingSupport for what may be asked of whom.
  std::optional<bool> thinking;
  // Ends the prompt inside the last message's content, so that the model goes on with it.
  bool continue_final_message = false;
  // "" or a JSON list of tools in OpenAI's form. Families without a published form refuse tools.
  std::string tools_json;
  // "", "high" or "max" (normal_reasoning_effort): how hard to think. Only V4 has words for it, and
  // only while it thinks; all others ignore it, as DeepSeek's API does.
  std::string reasoning_effort;
  // V4, thinking and without tools, leaves out the reasoning before the last user turn and
  // developers' messages there. False: both stay. V3.2 never prints that reasoning, and while it
  // drops, takes no developers' messages there.
  bool drop_thinking = true;
  // "" or a JSON schema that the answer is to follow, for families that put it into the prompt
  // (V3.2, V4); others leave it to the grammar.
  std::string response_schema_json;
};

// A run of prompt text. markup: it comes from the template, and special tokens in it are meant.
// Otherwise a client supplied it, and special-token text in it should be encoded as plain text.
// Two runs that touch may still share a token: encode the prompt as one text.
struct PromptPiece {
  std::string text;
  bool markup = false;
  bool operator==(const PromptPiece&) const = default;
};

enum class ThinkingSupport {
  kNever,       // thinking = true is an error
  kSwitchable,  // both ways
  kAlways,      // thinking = false pre-fills an empty thought
};

// Parses a JSON list of messages. Content may be a string, null, or a list of {type: text, text}
// parts, which are joined without anything between. Unknown fields are ignored. Errors name
// `source`, the field, the value seen and the value expected.
Result<std::vector<ChatMessage>> parse_messages(std::string_view json_text,
                                                std::string_view source);
// The same of a list that is parsed already, without the fields beyond OpenAI's form. Errors say
// "<path>[2].role is …".
Result<std::vector<ChatMessage>> messages_of_json(const nlohmann::ordered_json& list,
                                                  const std::string& path);

// The prompt in runs. No two neighbours are of the same kind, none is empty. Errors: no messages,
// what makes the published template fail, tools or thinking where the family has none, text that is
// not UTF-8, limits::kMaxPromptBytes.
Result<std::vector<PromptPiece>> render_chat_pieces(ChatFamily family,
                                                    std::span<const ChatMessage> messages,
                                                    const RenderOptions& options);

// The same prompt as one text.
Result<std::string> render_chat(ChatFamily family, std::span<const ChatMessage> messages,
                                const RenderOptions& options);

// "deepseek_v3", "qwen3", …; the error lists the names.
Result<ChatFamily> chat_family_from_name(std::string_view name);
std::string_view chat_family_name(ChatFamily family);
std::span<const ChatFamily> all_chat_families();

// The family of a model from tokenizer_config.json's chat_template and config.json's model_type;
// nullopt if the template is none of those above. V3.2 and V4 are published without one, for their
// encoders are not Jinja: without a template, model_type alone says that it is these two (and that
// of their base models, which nobody can tell apart). Old GGUF files of chat models have none
// either: where `tokenizer_pre`, GGUF's name of the pre-tokenizer, is given, it and model_type
// decide, if the two stand for one family. Other base models have none and are recognised by
// nothing.
std::optional<ChatFamily> detect_chat_family(std::string_view chat_template,
                                             std::string_view model_type,
                                             std::string_view tokenizer_pre = "");

// An effort as DeepSeek's API takes it, in the two words that V4 knows: max and ultra are "max",
// minimal, low, medium, high and xhigh are "high". "" for "". An error for other words.
Result<std::string> normal_reasoning_effort(std::string_view effort);

ThinkingSupport can_think(ChatFamily family);
// Whether the family has a published way to describe tools in the prompt.
bool can_describe_tools(ChatFamily family);

// Does the model's output start inside a thought, because the generation prompt opened it? False
// for families that write <think> themselves. For a conversation that ends in tool results some
// families add no generation prompt: ask the overload below, which looks at the prompt.
bool prompt_opens_thinking(ChatFamily family, const RenderOptions& options);
bool prompt_opens_thinking(std::span<const PromptPiece> prompt);

}  // namespace fathom
