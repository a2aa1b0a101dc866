#include "server/api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "server/api/common_fields.h"
#include "server/api/tools.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr FieldSpec kChat[] = {
    kModelField,
    {.name = "messages",
     .type = FieldType::kList,
     .doc = "The conversation, in order",
     .required = true,
     .min = 1,
     .max = limits::kMaxMessages,
     .schema = R"({"$ref":"#/components/schemas/Message"})"},
    kThinkingField,
    kEffortField,
    {.name = "max_tokens",
     .type = FieldType::kInteger,
     .doc = "Most tokens of the answer, thoughts included; by default what the context leaves",
     .min = 1,
     .max = limits::kMaxContextTokens},
    {.name = "max_completion_tokens",
     .type = FieldType::kInteger,
     .doc = "The same as max_tokens",
     .min = 1,
     .max = limits::kMaxContextTokens},
    {.name = "response_format",
     .type = FieldType::kObject,
     .doc = "Text, a JSON object, or JSON after a schema; enforced while sampling",
     .schema = R"({"$ref":"#/components/schemas/ResponseFormat"})"},
    kStopField,
    kStreamField,
    {.name = "stream_options",
     .type = FieldType::kObject,
     .doc = "With stream only",
     .schema = R"({"$ref":"#/components/schemas/StreamOptions"})"},
    FATHOM_SAMPLING_FIELDS,
    kChoicesField,
    {.name = "tools",
     .type = FieldType::kList,
     .doc = "Functions that the model may call",
     .max = limits::kMaxRequestTools,
     .schema = R"({"$ref":"#/components/schemas/Tool"})"},
    {.name = "tool_choice",
     .doc = "none, auto, required, or one function",
     .schema = R"({"oneOf":[{"type":"string","enum":["none","auto","required"]},{"type":"object",)"
               R"("required":["type","function"],"properties":{"type":{"type":"string","enum":)"
               R"(["function"]},"function":{"type":"object","required":["name"],"properties":)"
               R"({"name":{"type":"string"}}}}}]})"},
    kParallelToolCallsField,
    {.name = "logprobs", .type = FieldType::kBoolean, .doc = "Log probabilities of the tokens"},
    {.name = "top_logprobs",
     .type = FieldType::kInteger,
     .doc = "And of so many likeliest ones; needs logprobs",
     .min = 0,
     .max = limits::kMaxTopLogprobs},
    kUserIdField,
    kUserField,
    kIgnoreEosField,
    kStopTokenIdsField,
};

constexpr FieldSpec kStreamOptions[] = {
    {.name = "include_usage",
     .type = FieldType::kBoolean,
     .doc = "A last chunk without choices that holds the usage"},
};

constexpr FieldSpec kThinking[] = {
    {.name = "type",
     .type = FieldType::kString,
     .doc = "On or off",
     .required = true,
     .values = "enabled,disabled"},
};

ApiStatus check_message(const ChatMessage& m, bool is_last, std::size_t i) {
  const auto bad = [&](std::string_view field, std::string_view seen, std::string_view expected) {
    return bad_request("messages",
                       fmt::format("messages[{}].{} is {}, expected {}", i, field, seen, expected));
  };
  if (m.role == "developer")
    return bad("role", "\"developer\"", "\"system\", which means the same here");
  if (m.role != "system" && m.role != "user" && m.role != "assistant" && m.role != "tool" &&
      m.role != "latest_reminder") {
    return bad("role", preview(m.role), "one of: system,user,assistant,tool,latest_reminder");
  }
  const bool calls = m.tool_calls.has_value() && !m.tool_calls->empty();
  if (!m.content.has_value() && (m.role != "assistant" || !calls))
    return bad("content", m.content_absent ? "missing" : "null", "a string");
  if (calls && m.role != "assistant")
    return bad("tool_calls", "given", "nothing in a message of another role than assistant");
  if (m.prefix && (m.role != "assistant" || !is_last || !m.content.has_value()))
    return bad("prefix", "true", "false in all but a last message of the assistant with content");
  return {};
}

ApiStatus read_messages(const FieldReader& fields, ChatRequest& request) {
  auto messages = messages_of_json(*fields.find("messages"), "messages");
  if (!messages) return bad_request(messages.error(), "messages");
  for (std::size_t i = 0; i < messages->size(); ++i)
    FATHOM_TRY_STATUS(check_message((*messages)[i], i + 1 == messages->size(), i));
  request.messages = *std::move(messages);
  request.continue_final_message = request.messages.back().prefix;
  return {};
}

ApiStatus read_max_tokens(const FieldReader& fields, ChatRequest& request) {
  const auto a = fields.integer("max_tokens");
  const auto b = fields.integer("max_completion_tokens");
  if (a && b && *a != *b)
    return bad_request(
        "max_completion_tokens",
        fmt::format("max_completion_tokens is {} and max_tokens is {}: they mean the "
                    "same, expected one of them",
                    *b, *a));
  request.max_tokens = b ? b : a;
  return {};
}

ApiStatus read_logprobs(const FieldReader& fields, ChatRequest& request) {
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs");
  if (top && !logprobs)
    return bad_request(
        "top_logprobs",
        fmt::format("top_logprobs is {}, but logprobs is not true: expected both", *top));
  if (logprobs) request.top_logprobs = static_cast<int>(top.value_or(0));
  return {};
}

ApiStatus read_thinking(const FieldReader& fields, ChatRequest& request) {
  if (const auto effort = fields.string("reasoning_effort")) apply_effort(*effort, request);
  const ordered_json* given = fields.find("thinking");
  if (given == nullptr) return {};
  const FieldReader thinking(*given, kThinking, "thinking");
  FATHOM_TRY_STATUS(thinking.check());
  request.thinking = *thinking.string("type") == "enabled";
  return {};
}

ApiStatus read_logit_bias(const FieldReader& fields,
                          std::vector<std::pair<int32_t, float>>& logit_bias) {
  const ordered_json* given = fields.find("logit_bias");
  if (given == nullptr) return {};
  if (given->size() > limits::kMaxLogitBiases)
    return bad_request("logit_bias", fmt::format("logit_bias has {} entries, expected at most {}",
                                                 given->size(), limits::kMaxLogitBiases));
  for (const auto& [key, value] : given->items()) {
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || key.size() > 10)
      return bad_request(
          "logit_bias", fmt::format("logit_bias has the key {}, expected token ids", preview(key)));
    if (!value.is_number() || !(value.get<double>() >= -100) || !(value.get<double>() <= 100))
      return bad_value("logit_bias." + key, &value, "a number from -100 to 100");
    logit_bias.emplace_back(id, value.get<float>());
  }
  return {};
}

}  // namespace

FieldTable chat_fields() { return kChat; }
FieldTable stream_options_fields() { return kStreamOptions; }
FieldTable thinking_fields() { return kThinking; }

void apply_effort(std::string_view name, ChatRequest& request) {
  if (name == "none") {
    request.thinking = false;
  } else if (name == "minimal" || name == "low") {
    request.effort = Effort::kLow;
  } else if (name == "max" || name == "ultra") {
    request.effort = Effort::kMax;
  } else {
    request.effort = Effort::kHigh;
  }
}

ApiStatus read_sampling(const FieldReader& fields, SamplingFields& sampling) {
  sampling.temperature = fields.number("temperature");
  sampling.top_p = fields.number("top_p");
  sampling.min_p = fields.number("min_p");
  sampling.repetition_penalty = fields.number("repetition_penalty");
  sampling.presence_penalty = fields.number("presence_penalty");
  sampling.frequency_penalty = fields.number("frequency_penalty");
  sampling.top_k = fields.integer("top_k");
  sampling.seed = fields.integer("seed");
  return read_logit_bias(fields, sampling.logit_bias);
}

ApiResult<bool> read_include_usage(const FieldReader& fields) {
  const ordered_json* given = fields.find("stream_options");
  if (given == nullptr) return false;
  if (!fields.boolean("stream").value_or(false))
    return bad_request("stream_options",
                       "stream_options is given, but stream is not true: expected both or neither");
  const FieldReader options(*given, kStreamOptions, "stream_options");
  FATHOM_TRY_STATUS(options.check());
  return options.boolean("include_usage").value_or(false);
}

ApiStatus read_stop_token_ids(const FieldReader& fields, std::vector<int32_t>& ids) {
  const ordered_json* given = fields.find("stop_token_ids");
  if (given == nullptr) return {};
  for (std::size_t i = 0; i < given->size(); ++i) {
    const ordered_json& v = (*given)[i];
    if (!v.is_number_unsigned() || v.get<uint64_t>() >= limits::kMaxVocab)
      return bad_value(fmt::format("stop_token_ids[{}]", i), &v, "a token id");
    ids.push_back(v.get<int32_t>());
  }
  return {};
}

ApiResult<ChatRequest> parse_chat_request(std::string_view body) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kChat);
  FATHOM_TRY_STATUS(fields.check());
  ChatRequest request;
  request.model = *fields.string("model");
  FATHOM_TRY_STATUS(read_messages(fields, request));
  FATHOM_TRY_STATUS(read_thinking(fields, request));
  FATHOM_TRY_STATUS(read_max_tokens(fields, request));
  FATHOM_TRY(request.include_usage, read_include_usage(fields));
  request.stream = fields.boolean("stream").value_or(false);
  FATHOM_TRY_STATUS(read_sampling(fields, request.sampling));
  FATHOM_TRY_STATUS(read_logprobs(fields, request));
  FATHOM_TRY_STATUS(read_stop_token_ids(fields, request.stop_token_ids));
  FATHOM_TRY(request.stops,
             read_strings(fields, "stop",
                          {.max_entries = limits::kMaxStops, .max_bytes = limits::kMaxStopBytes}));
  FATHOM_TRY_STATUS(read_tools(fields, request));
  FATHOM_TRY_STATUS(read_tool_choice(fields, request));
  FATHOM_TRY_STATUS(check_tool_choice(request));
  FATHOM_TRY_STATUS(read_response_format(fields, request));
  FATHOM_TRY_STATUS(check_format(request, "response_format"));
  request.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  request.choices = static_cast<int>(fields.integer("n").value_or(1));
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  request.user_id = fields.string("user_id").value_or(fields.string("user").value_or(""));
  return request;
}

}  // namespace fathom::server::api
