#include "server/api/chat_response.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;
using Kind = OutputEvent::Kind;

// JSON has no −inf; this is what OpenAI's API says instead.
constexpr float kLeastLogprob = -9999;

ordered_json token_json(const Tokenizer& tokenizer, int32_t id, float logprob) {
  const std::string_view bytes = tokenizer.token_bytes(id);
  ordered_json list = ordered_json::array();
  for (const char c : bytes) list.push_back(static_cast<uint8_t>(c));
  return {{"token", utf8_sanitize(bytes)},
          {"logprob", std::isfinite(logprob) ? logprob : kLeastLogprob},
          {"bytes", std::move(list)}};
}

ordered_json logprob_list(const Tokenizer& tokenizer, std::span<const SampledToken> tokens) {
  ordered_json list = ordered_json::array();
  for (const SampledToken& token : tokens) list.push_back(logprob_json(tokenizer, token));
  return list;
}

ordered_json logprobs_json(const Tokenizer& tokenizer, std::span<const SampledToken> reasoning,
                           std::span<const SampledToken> content) {
  ordered_json out = {{"content", nullptr}, {"refusal", nullptr}};
  if (!content.empty()) out["content"] = logprob_list(tokenizer, content);
  if (!reasoning.empty()) out["reasoning_content"] = logprob_list(tokenizer, reasoning);
  return out;
}

ordered_json call_json(const AnsweredCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

ordered_json message_json(const Answer& answer) {
  ordered_json message = {{"role", "assistant"}, {"content", answer.content}};
  if (answer.content.empty() && !answer.calls.empty()) message["content"] = nullptr;
  if (!answer.reasoning.empty()) message["reasoning_content"] = answer.reasoning;
  if (answer.calls.empty()) return message;
  message["tool_calls"] = ordered_json::array();
  for (const AnsweredCall& call : answer.calls) message["tool_calls"].push_back(call_json(call));
  return message;
}

}  // namespace

ordered_json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_prompt_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"prompt_cache_hit_tokens", usage.cached_prompt_tokens},
          {"prompt_cache_miss_tokens", usage.prompt_tokens - usage.cached_prompt_tokens}};
}

std::string_view finish_name(Finish finish) {
  switch (finish) {
    case Finish::kLength:
      return "length";
    case Finish::kToolCalls:
      return "tool_calls";
    case Finish::kStop:
      break;
  }
  return "stop";
}

ordered_json logprob_json(const Tokenizer& tokenizer, const SampledToken& token) {
  ordered_json out = token_json(tokenizer, token.token, token.logprob);
  out["top_logprobs"] = ordered_json::array();
  for (const TokenLogprob& top : token.top)
    out["top_logprobs"].push_back(token_json(tokenizer, top.token, top.logprob));
  return out;
}

ChatStream::ChatStream(ResponseMeta meta, ChatStreamOptions options,
                       std::shared_ptr<const Tokenizer> tokenizer)
    : meta_(std::move(meta)),
      options_(options),
      tokenizer_(std::move(tokenizer)),
      counter_(meta_.request_id),
      choices_(static_cast<std::size_t>(options.choices)) {}

ordered_json ChatStream::head() const {
  return {{"id", meta_.id},
          {"object", "chat.completion.chunk"},
          {"created", meta_.created_unix_s},
          {"model", meta_.model},
          {"system_fingerprint", meta_.fingerprint}};
}

SseEvent ChatStream::chunk(int choice, ordered_json delta, std::span<const SampledToken> reasoning,
                           std::span<const SampledToken> content) {
  ordered_json body = head();
  ordered_json entry = {{"index", choice},
                        {"delta", std::move(delta)},
                        {"logprobs", nullptr},
                        {"finish_reason", nullptr}};
  if (options_.logprobs && !(reasoning.empty() && content.empty()))
    entry["logprobs"] = logprobs_json(*tokenizer_, reasoning, content);
  body["choices"] = ordered_json::array({std::move(entry)});
  if (options_.include_usage) body["usage"] = nullptr;
  return counter_.event("", wire_text(body));
}

void ChatStream::begin(int choice, bool thinks, std::vector<SseEvent>& out) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  if (state.begun) return;
  state = {.begun = true, .thinks = thinks};
  ordered_json delta = {{"role", "assistant"}, {"content", ""}};
  if (thinks) {
    delta["content"] = nullptr;
    delta["reasoning_content"] = "";
  }
  out.push_back(chunk(choice, std::move(delta), {}, {}));
}

std::vector<SseEvent> ChatStream::deltas(int choice, std::span<const Delta> deltas) {
  std::vector<SseEvent> out;
  for (const Delta& d : deltas) {
    const OutputEvent& e = d.event;
    begin(choice, e.kind == Kind::kReasoning, out);
    switch (e.kind) {
      case Kind::kReasoning:
        out.push_back(
            chunk(choice, {{"content", nullptr}, {"reasoning_content", e.text}}, d.tokens, {}));
        break;
      case Kind::kContent: {
        ordered_json delta = {{"content", e.text}};
        if (choices_[static_cast<std::size_t>(choice)].thinks) delta["reasoning_content"] = nullptr;
        out.push_back(chunk(choice, std::move(delta), {}, d.tokens));
        break;
      }
      case Kind::kToolCallBegin: {
        ordered_json call = {{"index", e.index},
                             {"id", e.id},
                             {"type", "function"},
                             {"function", {{"name", e.name}, {"arguments", ""}}}};
        out.push_back(
            chunk(choice, {{"tool_calls", ordered_json::array({std::move(call)})}}, {}, {}));
        break;
      }
      case Kind::kToolCallArguments: {
        ordered_json call = {{"index", e.index}, {"function", {{"arguments", e.text}}}};
        out.push_back(
            chunk(choice, {{"tool_calls", ordered_json::array({std::move(call)})}}, {}, {}));
        break;
      }
      case Kind::kToolCallEnd:
        break;
    }
  }
  return out;
}

std::vector<SseEvent> ChatStream::finish(int choice, const Answer& answer) {
  std::vector<SseEvent> out;
  begin(choice, false, out);
  usages_.push_back(answer.usage);
  ordered_json delta = {{"content", ""}};
  if (choices_[static_cast<std::size_t>(choice)].thinks) delta["reasoning_content"] = nullptr;
  ordered_json body = head();
  body["choices"] = ordered_json::array({{{"index", choice},
                                          {"delta", std::move(delta)},
                                          {"logprobs", nullptr},
                                          {"finish_reason", finish_name(answer.finish)}}});
  if (options_.include_usage) {
    body["usage"] = nullptr;
  } else if (usages_.size() == choices_.size()) {
    body["usage"] = usage_json(sum_usage(usages_));
  }
  out.push_back(counter_.event("", wire_text(body)));
  return out;
}

std::vector<SseEvent> ChatStream::end() {
  std::vector<SseEvent> out;
  if (options_.include_usage) {
    ordered_json body = head();
    body["choices"] = ordered_json::array();
    body["usage"] = usage_json(sum_usage(usages_));
    out.push_back(counter_.event("", wire_text(body)));
  }
  out.push_back(counter_.event("", "[DONE]"));
  return out;
}

SseEvent ChatStream::error(const ApiError& error) {
  return counter_.event("", openai_error_body(error));
}

std::string chat_body(const ResponseMeta& meta, std::span<const Answer* const> answers,
                      const Tokenizer* logprobs_tokenizer) {
  ordered_json choices = ordered_json::array();
  std::vector<Usage> usages;
  for (const Answer* answer : answers) {
    usages.push_back(answer->usage);
    ordered_json logprobs = nullptr;
    if (logprobs_tokenizer != nullptr)
      logprobs =
          logprobs_json(*logprobs_tokenizer, answer->reasoning_tokens, answer->content_tokens);
    choices.push_back({{"index", choices.size()},
                       {"message", message_json(*answer)},
                       {"logprobs", std::move(logprobs)},
                       {"finish_reason", finish_name(answer->finish)}});
  }
  return wire_text({{"id", meta.id},
                    {"object", "chat.completion"},
                    {"created", meta.created_unix_s},
                    {"model", meta.model},
                    {"choices", std::move(choices)},
                    {"usage", usage_json(sum_usage(usages))},
                    {"system_fingerprint", meta.fingerprint}});
}

}  // namespace fathom::server::api
