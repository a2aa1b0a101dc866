// Which family a model file's chat template belongs to, by phrases that only the published
// templates of that family contain.
//
// A template that fits none is not guessed at: a prompt in the wrong form costs answers, silently.
#include "chat/chat.h"
#include "chat/encoder.h"

namespace fathom {
namespace {

// The forms that DeepSeek trained after R1 stand apart by these.
std::optional<ChatFamily> detect_user_assistant(std::string_view t) {
  const auto has = [&](std::string_view phrase) { return t.find(phrase) != t.npos; };
  if (!has(chat::kCallsBegin)) {
    // Without tools, and with what remains after a thought stripped: the nano model's.
    if (has("<｜Assistant｜><think>") && has("| trim")) return ChatFamily::kNano;
    return std::nullopt;
  }
  // As published, or as some GGUF files have it, with an empty thought in front of answers.
  if (has("<｜Assistant｜></think>") || has("<｜Assistant｜><think></think>"))
    return has("is_only_sys") ? ChatFamily::kDeepseekV31Terminus : ChatFamily::kDeepseekV31;
  if (has("'<｜User｜>' + content + '<｜Assistant｜>'")) return ChatFamily::kDeepseekR1_0528;
  if (has("message['content'] + '<｜Assistant｜>'")) return ChatFamily::kDeepseekV3_0324;
  const bool joins_systems = has("is_first_sp");
  if (has("<｜Assistant｜><think>"))
    return joins_systems ? ChatFamily::kDeepseekR1 : ChatFamily::kR1Distill;
  // R1's first revision cut thoughts but did not open one. It is none of the forms here.
  if (has("split('</think>')")) return std::nullopt;
  return joins_systems ? ChatFamily::kDeepseekV3 : ChatFamily::kDeepseekV25;
}

std::optional<ChatFamily> detect_chatml(std::string_view t) {
  const auto has = [&](std::string_view phrase) { return t.find(phrase) != t.npos; };
  // Their successors, which write calls and thoughts otherwise, keep most of the words.
  if (has("enable_thinking") && has("<tool_response>") && has("last_query_index")) {
    return has("<function=") ? std::nullopt : std::optional(ChatFamily::kQwen3);
  }
  if (has("named SmolLM, trained by Hugging Face") && !has("enable_thinking"))
    return ChatFamily::kSmolLm2;
  // Other templates of this form have default system prompts or tools of their own.
  const bool plain = has("'<|im_start|>' + message['role'] + '") && !has("tool") &&
                     !has("messages[0]") && !has("system");
  return plain ? std::optional(ChatFamily::kChatMl) : std::nullopt;
}

// Without a template: what was published with this architecture and tokenizer. Of DeepSeek's V3 and
// R1, which share both, the plain V3 form serves either without a thought opened.
std::optional<ChatFamily> detect_by_tokenizer(std::string_view model_type,
                                              std::string_view tokenizer_pre) {
  static constexpr struct {
    std::string_view model_type, tokenizer_pre;
    ChatFamily family;
  } kPublished[] = {
      {"llama", "deepseek-llm", ChatFamily::kDeepseekLlm},
      {"llama", "deepseek-coder", ChatFamily::kDeepseekCoder},
      {"llama", "smollm", ChatFamily::kSmolLm2},
      {"qwen2", "deepseek-r1-qwen", ChatFamily::kR1Distill},
      {"qwen3", "deepseek-r1-qwen", ChatFamily::kDeepseekR1_0528},
      {"qwen3", "qwen2", ChatFamily::kQwen3},
      {"deepseek_v2", "deepseek-llm", ChatFamily::kDeepseekV2},
      {"deepseek_v3", "deepseek-v3", ChatFamily::kDeepseekV3},
  };
  for (const auto& p : kPublished)
    if (p.model_type == model_type && p.tokenizer_pre == tokenizer_pre) return p.family;
  return std::nullopt;
}

}  // namespace

std::optional<ChatFamily> detect_chat_family(std::string_view chat_template,
                                             std::string_view model_type,
                                             std::string_view tokenizer_pre) {
  if (chat_template.empty()) {
    // Published without a template: the architecture alone says it.
    if (model_type == "deepseek_v32") return ChatFamily::kDeepseekV32;
    if (model_type == "deepseek_v4") return ChatFamily::kDeepseekV4;
    return detect_by_tokenizer(model_type, tokenizer_pre);
  }
  const auto has = [&](std::string_view phrase) {
    return chat_template.find(phrase) != chat_template.npos;
  };
  // V3.2 and V4 as others wrote them in Jinja: the marks of their tool language.
  if (has("DSML")) {
    if (has("tool_calls>") && model_type != "deepseek_v32") return ChatFamily::kDeepseekV4;
    if (has("function_calls>")) return ChatFamily::kDeepseekV32;
    return std::nullopt;
  }
  if (has(chat::kAssistant)) return detect_user_assistant(chat_template);
  if (has("### Instruction:") && has("<|EOT|>")) return ChatFamily::kDeepseekCoder;
  if (has("'User: ' + message['content']") && has("'Assistant: ' + message['content']")) {
    // One text for two families; the architecture tells them apart.
    return model_type == "deepseek_v2" ? ChatFamily::kDeepseekV2 : ChatFamily::kDeepseekLlm;
  }
  if (has("<|im_start|>")) return detect_chatml(chat_template);
  return std::nullopt;
}

}  // namespace fathom
