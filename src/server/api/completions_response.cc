#include "server/api/completions_response.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

// Of UTF-8 text; the bytes of a broken character count as one.
int64_t characters_in(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

float finite(float logprob) { return std::isfinite(logprob) ? logprob : -9999.0F; }

// `offset`: where the tokens begin in the choice's text.
ordered_json logprobs_json(const Tokenizer& tokenizer, std::span<const SampledToken> tokens,
                           int64_t offset) {
  ordered_json texts = ordered_json::array(), logprobs = ordered_json::array();
  ordered_json tops = ordered_json::array(), offsets = ordered_json::array();
  for (const SampledToken& token : tokens) {
    const std::string_view bytes = tokenizer.token_bytes(token.token);
    texts.push_back(utf8_sanitize(bytes));
    logprobs.push_back(finite(token.logprob));
    offsets.push_back(offset);
    offset += characters_in(bytes);
    ordered_json top = ordered_json::object();
    for (const TokenLogprob& t : token.top)
      top[utf8_sanitize(tokenizer.token_bytes(t.token))] = finite(t.logprob);
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

}  // namespace

Usage sum_usage_of_prompts(std::span<const Usage> usages, int choices_of_one_prompt) {
  Usage sum;
  const auto step = static_cast<std::size_t>(choices_of_one_prompt);
  for (std::size_t i = 0; i < usages.size(); i += step) {
    const Usage one = sum_usage(usages.subspan(i, std::min(step, usages.size() - i)));
    sum.prompt_tokens += one.prompt_tokens;
    sum.cached_prompt_tokens += one.cached_prompt_tokens;
    sum.completion_tokens += one.completion_tokens;
    sum.reasoning_tokens += one.reasoning_tokens;
  }
  return sum;
}

CompletionStream::CompletionStream(ResponseMeta meta, ChatStreamOptions options,
                                   std::vector<std::string> echoes, int choices_of_one_prompt,
                                   std::shared_ptr<const Tokenizer> tokenizer)
    : meta_(std::move(meta)),
      options_(options),
      echoes_(std::move(echoes)),
      choices_of_one_prompt_(choices_of_one_prompt),
      tokenizer_(std::move(tokenizer)),
      counter_(meta_.request_id),
      characters_(static_cast<std::size_t>(options.choices)),
      usages_(static_cast<std::size_t>(options.choices)) {
  echoes_.resize(static_cast<std::size_t>(options.choices));
}

ordered_json CompletionStream::head() const {
  return {{"id", meta_.id},
          {"object", "text_completion"},
          {"created", meta_.created_unix_s},
          {"model", meta_.model},
          {"system_fingerprint", meta_.fingerprint}};
}

SseEvent CompletionStream::chunk(int choice, std::string text,
                                 std::span<const SampledToken> tokens) {
  const auto index = static_cast<std::size_t>(choice);
  int64_t& characters = characters_[index];
  text.insert(0, std::exchange(echoes_[index], ""));
  ordered_json logprobs = nullptr;
  if (options_.logprobs && !tokens.empty())
    logprobs = logprobs_json(*tokenizer_, tokens, characters);
  characters += characters_in(text);
  ordered_json body = head();
  body["choices"] = ordered_json::array({{{"index", choice},
                                          {"text", std::move(text)},
                                          {"logprobs", std::move(logprobs)},
                                          {"finish_reason", nullptr}}});
  if (options_.include_usage) body["usage"] = nullptr;
  return counter_.event("", wire_text(body));
}

std::vector<SseEvent> CompletionStream::deltas(int choice, std::span<const Delta> deltas) {
  std::vector<SseEvent> out;
  for (const Delta& d : deltas) out.push_back(chunk(choice, d.event.text, d.tokens));
  return out;
}

std::vector<SseEvent> CompletionStream::finish(int choice, const Answer& answer) {
  const auto index = static_cast<std::size_t>(choice);
  usages_[index] = answer.usage;
  ordered_json body = head();
  body["choices"] = ordered_json::array({{{"index", choice},
                                          {"text", std::exchange(echoes_[index], "")},
                                          {"logprobs", nullptr},
                                          {"finish_reason", finish_name(answer.finish)}}});
  if (options_.include_usage) {
    body["usage"] = nullptr;
  } else if (++finished_ == options_.choices) {
    body["usage"] = usage_json(sum_usage_of_prompts(usages_, choices_of_one_prompt_));
  }
  return {counter_.event("", wire_text(body))};
}

std::vector<SseEvent> CompletionStream::end() {
  std::vector<SseEvent> out;
  if (options_.include_usage) {
    ordered_json body = head();
    body["choices"] = ordered_json::array();
    body["usage"] = usage_json(sum_usage_of_prompts(usages_, choices_of_one_prompt_));
    out.push_back(counter_.event("", wire_text(body)));
  }
  out.push_back(counter_.event("", "[DONE]"));
  return out;
}

SseEvent CompletionStream::error(const ApiError& error) {
  return counter_.event("", openai_error_body(error));
}

std::string completion_body(const ResponseMeta& meta, std::span<const CompletionChoice> choices,
                            int choices_of_one_prompt, const Tokenizer* logprobs_tokenizer) {
  ordered_json list = ordered_json::array();
  std::vector<Usage> usages;
  for (const CompletionChoice& choice : choices) {
    const Answer& answer = *choice.answer;
    usages.push_back(answer.usage);
    ordered_json logprobs = nullptr;
    if (logprobs_tokenizer != nullptr)
      logprobs = logprobs_json(*logprobs_tokenizer, answer.content_tokens, 0);
    list.push_back({{"index", list.size()},
                    {"text", choice.echo + answer.content},
                    {"logprobs", std::move(logprobs)},
                    {"finish_reason", finish_name(answer.finish)}});
  }
  return wire_text({{"id", meta.id},
                    {"object", "text_completion"},
                    {"created", meta.created_unix_s},
                    {"model", meta.model},
                    {"choices", std::move(list)},
                    {"usage", usage_json(sum_usage_of_prompts(usages, choices_of_one_prompt))},
                    {"system_fingerprint", meta.fingerprint}});
}

}  // namespace fathom::server::api
