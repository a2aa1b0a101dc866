#include "server/api/prepare.h"

#include <fmt/format.h>

#include <algorithm>

#include "chat/encode_prompt.h"
#include "server/api/constraint.h"
#include "server/service.h"

namespace fathom::server::api {
namespace {

constexpr std::string_view kThinkEnd = "</think>";
// What models that open their thoughts themselves write first.
constexpr std::string_view kThinkOpener = "<think>\n";

struct ChatPrompt {
  std::vector<int32_t> ids;
  bool opens_thinking = false;
};

std::optional<bool> thinking_of(const ChatRequest& request, ThinkingSupport support) {
  if (request.thinking.has_value()) {
    // Not thinking is what a model without thoughts does anyway.
    if (support == ThinkingSupport::kNever && !*request.thinking) return std::nullopt;
    return request.thinking;
  }
  if (support != ThinkingSupport::kSwitchable) return std::nullopt;
  if (request.model == "deepseek-reasoner") return true;
  if (request.model == "deepseek-chat") return false;
  return std::nullopt;
}

// The model writes <think> itself, if it thinks.
bool writes_think_tag(ChatFamily family) {
  return can_think(family) != ThinkingSupport::kNever &&
         !prompt_opens_thinking(family, RenderOptions{.thinking = true});
}

bool is_hosted_hybrid(ChatFamily family) {
  return family == ChatFamily::kDeepseekV31 || family == ChatFamily::kDeepseekV31Terminus ||
         family == ChatFamily::kDeepseekV32 || family == ChatFamily::kDeepseekV4;
}

// What a message with calls looks like in a family's form.
enum class CallMessages {
  kNone,
  kInsteadOfText,  // the template prints one of the two
  kBesideNull,     // text may stand before the calls; none is null
  kBesideText,     // none is ""
};

CallMessages call_messages(ChatFamily family) {
  switch (family) {
    case ChatFamily::kDeepseekV25:
    case ChatFamily::kDeepseekV3:
    case ChatFamily::kDeepseekV3_0324:
    case ChatFamily::kR1Distill:
      return CallMessages::kInsteadOfText;
    case ChatFamily::kDeepseekR1:
    case ChatFamily::kDeepseekR1_0528:
    case ChatFamily::kDeepseekV31:
    case ChatFamily::kDeepseekV31Terminus:
      return CallMessages::kBesideNull;
    case ChatFamily::kQwen3:
    case ChatFamily::kDeepseekV32:
    case ChatFamily::kDeepseekV4:
      return CallMessages::kBesideText;
    case ChatFamily::kDeepseekLlm:
    case ChatFamily::kDeepseekCoder:
    case ChatFamily::kDeepseekV2:
    case ChatFamily::kChatMl:
    case ChatFamily::kSmolLm2:
    case ChatFamily::kNano:
      break;
  }
  return CallMessages::kNone;
}

// See prepare.h: the form in which the family's template prints all of a message, or an error.
ApiResult<std::vector<ChatMessage>> as_templates_take_them(const std::vector<ChatMessage>& messages,
                                                           ChatFamily family) {
  const CallMessages form = call_messages(family);
  std::vector<ChatMessage> out = messages;
  for (std::size_t i = 0; i < out.size(); ++i) {
    ChatMessage& m = out[i];
    const auto formless = [&](std::string_view what) {
      return bad_request("messages", fmt::format("messages[{}] is {}, for which {} has no form", i,
                                                 what, chat_family_name(family)));
    };
    if (m.role == "latest_reminder" && family != ChatFamily::kDeepseekV4)
      return formless("a latest_reminder");
    if (m.tool_calls.has_value() && m.tool_calls->empty()) m.tool_calls.reset();
    if (form == CallMessages::kNone && m.role == "tool") return formless("a tool's result");
    m.content_absent = false;
    if (!m.tool_calls.has_value()) continue;
    if (form == CallMessages::kNone) return formless("a call");
    for (ToolCall& call : *m.tool_calls)
      if (call.type.empty()) call.type = "function";
    if (form == CallMessages::kBesideText) m.content = m.content.value_or("");
    if (form == CallMessages::kInsteadOfText) m.content.reset();
    if (form == CallMessages::kBesideNull && m.content == "") m.content.reset();
  }
  return out;
}

ApiResult<ChatPrompt> render(const ChatRequest& request, const ServedModel& model) {
  if (!model.chat_family.has_value())
    return bad_request("model", fmt::format("the model {} has no chat form that is known: expected "
                                            "a request to /completions",
                                            model.id));
  if (model.tokenizer == nullptr)
    return bad_request("model", fmt::format("the model {} has no tokenizer", model.id));
  const ChatFamily family = *model.chat_family;
  RenderOptions options;
  options.thinking = thinking_of(request, can_think(family));
  if (options.thinking == true && can_think(family) == ThinkingSupport::kNever)
    return bad_request("thinking",
                       fmt::format("thinking is asked for, but the model {} does not think: "
                                   "expected {{\"type\": \"disabled\"}} or nothing",
                                   model.id));
  options.continue_final_message = request.continue_final_message;
  options.add_generation_prompt = !request.continue_final_message;
  if (request.tool_choice.kind != ToolChoice::Kind::kNone) options.tools_json = request.tools_json;
  if (request.effort == Effort::kMax) options.reasoning_effort = "max";
  if (request.format.kind == ResponseFormat::Kind::kJsonSchema)
    options.response_schema_json = request.format.schema;
  FATHOM_TRY(const auto messages, as_templates_take_them(request.messages, family));
  auto pieces = render_chat_pieces(family, messages, options);
  if (!pieces) return bad_request(pieces.error(), "messages");
  const bool constrained = make_constraint(request, family).kind != ConstraintSpec::Kind::kNone;
  if (constrained && options.thinking != false && options.add_generation_prompt &&
      writes_think_tag(family)) {
    if (pieces->empty() || !pieces->back().markup) pieces->push_back({.markup = true});
    pieces->back().text += kThinkOpener;
  }
  ChatPrompt prompt;
  prompt.opens_thinking = prompt_opens_thinking(*pieces);
  auto ids = encode_prompt(*model.tokenizer, *pieces);
  if (!ids) return bad_request(ids.error(), "messages");
  prompt.ids = *std::move(ids);
  return prompt;
}

SamplingParams sampling_of(const CommonFields& fields, const PrepareContext& context) {
  const SamplingFields& given = *fields.sampling;
  SamplingParams p = context.model->default_sampling;
  const auto set = [](float& to, const std::optional<double>& from) {
    if (from.has_value()) to = static_cast<float>(*from);
  };
  if (!fields.ignore_temperature) {
    set(p.temperature, given.temperature);
    set(p.presence_penalty, given.presence_penalty);
    set(p.frequency_penalty, given.frequency_penalty);
  }
  set(p.top_p, given.top_p);
  set(p.min_p, given.min_p);
  set(p.repetition_penalty, given.repetition_penalty);
  if (given.top_k.has_value()) p.top_k = static_cast<int32_t>(*given.top_k);
  p.logit_bias = given.logit_bias;
  p.seed = given.seed.has_value() ? static_cast<uint64_t>(*given.seed) : context.random_seed;
  return p;
}

}  // namespace

std::string tenant_of(std::string_view identity, std::string_view user_id) {
  // The length keeps "a" + "b/c" and "a/b" + "c" apart.
  return fmt::format("{}:{}/{}", identity.size(), identity, user_id);
}

ApiResult<Prepared> prepare_prompt(std::vector<int32_t> prompt, const CommonFields& fields,
                                   const PrepareContext& context) {
  const ServedModel& model = *context.model;
  const auto tokens = static_cast<int64_t>(prompt.size());
  if (prompt.empty()) return bad_request("prompt", "the prompt is empty, expected a token or more");
  if (tokens >= model.context_tokens) {
    ApiError error = bad_request(
        "", fmt::format("the prompt has {} tokens, expected fewer than {}, the context of {}",
                        tokens, model.context_tokens, model.id));
    error.code = "context_length_exceeded";
    return error;
  }
  Prepared out;
  const int64_t room = model.context_tokens - tokens;
  out.request.max_tokens = std::min(fields.max_tokens.value_or(room), room);
  out.request.prompt = std::move(prompt);
  out.request.sampling = sampling_of(fields, context);
  auto valid = validate(out.request.sampling, model.vocab_size);
  if (!valid) return bad_request(valid.error());
  if (!fields.ignore_eos) out.request.stop_tokens = model.eos_token_ids;
  out.request.stop_tokens.insert(out.request.stop_tokens.end(), fields.stop_token_ids->begin(),
                                 fields.stop_token_ids->end());
  out.request.top_logprobs = fields.top_logprobs;
  out.request.tenant = tenant_of(context.identity, fields.user_id);
  out.spec = {.tokenizer = model.tokenizer,
              .call_id_prefix = context.call_id_prefix,
              .stops = *fields.stops,
              .stop_tokens = out.request.stop_tokens,
              .top_logprobs = fields.top_logprobs,
              .prompt_tokens = tokens};
  return out;
}

ApiResult<Prepared> prepare_chat(const ChatRequest& request, const PrepareContext& context) {
  const ServedModel& model = *context.model;
  FATHOM_TRY(ChatPrompt prompt, render(request, model));
  const ChatFamily family = *model.chat_family;
  const CommonFields fields = {
      .sampling = &request.sampling,
      .max_tokens = request.max_tokens,
      .stops = &request.stops,
      .stop_token_ids = &request.stop_token_ids,
      .ignore_eos = request.ignore_eos,
      .top_logprobs = request.top_logprobs,
      .user_id = request.user_id,
      .ignore_temperature = prompt.opens_thinking && is_hosted_hybrid(family)};
  FATHOM_TRY(Prepared out, prepare_prompt(std::move(prompt.ids), fields, context));
  out.spec.family = family;
  out.spec.starts_in_thinking = prompt.opens_thinking;
  out.spec.parse_tools =
      !request.tools.empty() && request.tool_choice.kind != ToolChoice::Kind::kNone;
  out.request.constraint = make_constraint(request, family);
  if (out.request.constraint.kind == ConstraintSpec::Kind::kNone || !prompt.opens_thinking)
    return out;
  const auto end = model.tokenizer->token_to_id(kThinkEnd);
  if (!end.has_value())
    return bad_request("response_format",
                       fmt::format("the model {} has no token {}, behind which the answer could be "
                                   "constrained: switch thinking off",
                                   model.id, kThinkEnd));
  out.request.constraint.starts_after = {*end};
  return out;
}

Prepared choice_of(const Prepared& prepared, int choice) {
  Prepared out = prepared;
  if (choice == 0) return out;
  out.request.sampling.seed += static_cast<uint64_t>(choice);
  out.spec.call_id_prefix += fmt::format("{}_", choice);
  return out;
}

ApiResult<std::vector<int32_t>> chat_prompt(const ChatRequest& request, const ServedModel& model) {
  FATHOM_TRY(ChatPrompt prompt, render(request, model));
  return std::move(prompt.ids);
}

}  // namespace fathom::server::api
