#include "server/api/completions_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "chat/encode_prompt.h"
#include "server/api/common_fields.h"
#include "server/service.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr FieldSpec kCompletion[] = {
    kModelField,
    {.name = "prompt",
     .doc = "Text, token ids, or a list of either",
     .required = true,
     .schema = R"({"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"}},)"
               R"({"type":"array","items":{"type":"integer","minimum":0}},{"type":"array",)"
               R"("items":{"type":"array","items":{"type":"integer","minimum":0}}}]})"},
    {.name = "suffix",
     .type = FieldType::kString,
     .doc = "What comes behind the answer: the model fills the gap"},
    {.name = "echo", .type = FieldType::kBoolean, .doc = "Put the prompt before the answer"},
    {.name = "max_tokens",
     .type = FieldType::kInteger,
     .doc = "Most tokens of the answer; 16",
     .min = 1,
     .max = limits::kMaxContextTokens},
    {.name = "logprobs",
     .type = FieldType::kInteger,
     .doc = "Log probabilities of the tokens and of so many likeliest ones",
     .min = 0,
     .max = limits::kMaxTopLogprobs},
    FATHOM_SAMPLING_FIELDS,
    kStopField,
    kStopTokenIdsField,
    kIgnoreEosField,
    kChoicesField,
    kStreamField,
    {.name = "stream_options",
     .type = FieldType::kObject,
     .doc = "With stream only",
     .schema = R"({"$ref":"#/components/schemas/StreamOptions"})"},
    {.name = "add_special_tokens",
     .type = FieldType::kBoolean,
     .doc = "Put the begin-of-sentence token before a prompt of text; true (extension)"},
    kUserIdField,
    kUserField,
};

// The tokens around the parts of a prompt with a gap, as the models were trained on them
// (prefix, suffix, middle).
struct FimTokens {
  std::string_view begin, hole, end;
};
constexpr std::array kFimTokens = {
    FimTokens{"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},  // DeepSeek
    FimTokens{"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen 2.5 and later
    FimTokens{"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder, SmolLM
};

constexpr std::string_view kBosNames[] = {"<｜begin▁of▁sentence｜>", "<|begin_of_text|>"};

std::optional<int32_t> bos_of(const Tokenizer& tokenizer) {
  for (const std::string_view name : kBosNames)
    if (const auto id = tokenizer.token_to_id(name)) return id;
  return std::nullopt;
}

ApiResult<std::vector<int32_t>> read_ids(const ordered_json& list, const std::string& path) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const ordered_json& v = list[i];
    if (!v.is_number_unsigned() || v.get<uint64_t>() >= limits::kMaxVocab)
      return bad_value(fmt::format("{}[{}]", path, i), &v, "a token id");
    ids.push_back(v.get<int32_t>());
  }
  return ids;
}

ApiStatus read_prompts(const FieldReader& fields, CompletionRequest& request) {
  constexpr std::string_view kExpected = "a string, token ids, or a list of either";
  const ordered_json& given = *fields.find("prompt");
  if (given.is_string()) {
    request.prompts.emplace_back(given.get<std::string>());
    return {};
  }
  if (!given.is_array() || given.empty()) return fields.bad("prompt", kExpected);
  if (given[0].is_number()) {
    FATHOM_TRY(auto ids, read_ids(given, "prompt"));
    request.prompts.emplace_back(std::move(ids));
    return {};
  }
  if (given.size() > limits::kMaxCompletions)
    return fields.bad("prompt", fmt::format("at most {} prompts", limits::kMaxCompletions));
  for (std::size_t i = 0; i < given.size(); ++i) {
    const std::string path = fmt::format("prompt[{}]", i);
    if (given[i].is_string()) {
      request.prompts.emplace_back(given[i].get<std::string>());
    } else if (given[i].is_array()) {
      FATHOM_TRY(auto ids, read_ids(given[i], path));
      request.prompts.emplace_back(std::move(ids));
    } else {
      return bad_value(path, &given[i], "a string or token ids");
    }
  }
  return {};
}

ApiStatus check_together(const CompletionRequest& request) {
  if (request.echo && request.top_logprobs >= 0)
    return bad_request("echo",
                       "echo is true and logprobs is given, but logprobs are computed for "
                       "generated tokens only: expected one of the two");
  const auto all = request.prompts.size() * static_cast<std::size_t>(request.choices);
  if (all > limits::kMaxCompletions)
    return bad_request(
        "n", fmt::format("{} prompts with n {} ask for {} answers, expected at most "
                         "{}",
                         request.prompts.size(), request.choices, all, limits::kMaxCompletions));
  for (const PromptText& prompt : request.prompts) {
    if (request.suffix.has_value() && !std::holds_alternative<std::string>(prompt))
      return bad_request("suffix", "suffix is given, but the prompt is token ids, expected text");
  }
  return {};
}

ApiResult<std::vector<int32_t>> encode_gap(const ServedModel& model, const std::string& prefix,
                                           const std::string& suffix) {
  const Tokenizer& tokenizer = *model.tokenizer;
  for (const FimTokens& fim : kFimTokens) {
    if (!tokenizer.token_to_id(fim.begin) || !tokenizer.token_to_id(fim.hole) ||
        !tokenizer.token_to_id(fim.end))
      continue;
    std::vector<PromptPiece> pieces;
    const auto add = [&](std::string_view text, bool markup) {
      if (!text.empty()) pieces.push_back({std::string(text), markup});
    };
    add(fim.begin, true);
    add(prefix, false);
    add(fim.hole, true);
    add(suffix, false);
    add(fim.end, true);
    auto ids = encode_prompt(tokenizer, pieces);
    if (!ids) return bad_request(ids.error(), "prompt");
    if (const auto bos = bos_of(tokenizer)) ids->insert(ids->begin(), *bos);
    return *std::move(ids);
  }
  return bad_request("suffix",
                     fmt::format("suffix is given, but the vocabulary of {} has no tokens "
                                 "for a gap: expected none",
                                 model.id));
}

ApiResult<std::vector<int32_t>> ids_of(const CompletionRequest& request, const PromptText& prompt,
                                       const ServedModel& model) {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
    for (const int32_t id : *ids)
      if (id >= model.vocab_size)
        return bad_request("prompt", fmt::format("prompt has the token id {}, expected 0 to {}", id,
                                                 model.vocab_size - 1));
    return *ids;
  }
  const auto& text = std::get<std::string>(prompt);
  if (request.suffix.has_value()) return encode_gap(model, text, *request.suffix);
  return encode_text(*model.tokenizer, text, request.add_special_tokens);
}

}  // namespace

FieldTable completion_fields() { return kCompletion; }

ApiResult<std::vector<int32_t>> encode_text(const Tokenizer& tokenizer, std::string_view text,
                                            bool add_special_tokens) {
  auto ids = tokenizer.encode(text, {.add_special_tokens = add_special_tokens});
  if (!ids) return bad_request(ids.error(), "prompt");
  if (!add_special_tokens) return *std::move(ids);
  const auto bos = bos_of(tokenizer);
  if (!bos.has_value()) return *std::move(ids);
  if (ids->empty() || (*ids)[0] != *bos) ids->insert(ids->begin(), *bos);
  // The text had one and the vocabulary's own rule put another.
  if (ids->size() > 1 && (*ids)[1] == *bos) ids->erase(ids->begin());
  return *std::move(ids);
}

ApiResult<CompletionRequest> parse_completion_request(std::string_view body) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kCompletion);
  FATHOM_TRY_STATUS(fields.check());
  CompletionRequest request;
  request.model = *fields.string("model");
  FATHOM_TRY_STATUS(read_prompts(fields, request));
  FATHOM_TRY_STATUS(read_sampling(fields, request.sampling));
  FATHOM_TRY_STATUS(read_stop_token_ids(fields, request.stop_token_ids));
  FATHOM_TRY(request.stops,
             read_strings(fields, "stop",
                          {.max_entries = limits::kMaxStops, .max_bytes = limits::kMaxStopBytes}));
  FATHOM_TRY(request.include_usage, read_include_usage(fields));
  request.stream = fields.boolean("stream").value_or(false);
  request.suffix = fields.string("suffix");
  if (request.suffix == "") request.suffix.reset();
  request.echo = fields.boolean("echo").value_or(false);
  request.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  request.max_tokens = fields.integer("max_tokens").value_or(request.max_tokens);
  request.top_logprobs = static_cast<int>(fields.integer("logprobs").value_or(-1));
  request.choices = static_cast<int>(fields.integer("n").value_or(1));
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  request.user_id = fields.string("user_id").value_or(fields.string("user").value_or(""));
  FATHOM_TRY_STATUS(check_together(request));
  return request;
}

ApiResult<std::vector<PreparedCompletion>> prepare_completions(const CompletionRequest& request,
                                                               const PrepareContext& context) {
  const ServedModel& model = *context.model;
  if (model.tokenizer == nullptr)
    return bad_request("model", fmt::format("the model {} has no tokenizer", model.id));
  const CommonFields fields = {.sampling = &request.sampling,
                               .max_tokens = request.max_tokens,
                               .stops = &request.stops,
                               .stop_token_ids = &request.stop_token_ids,
                               .ignore_eos = request.ignore_eos,
                               .top_logprobs = request.top_logprobs,
                               .user_id = request.user_id};
  std::vector<PreparedCompletion> out;
  for (const PromptText& prompt : request.prompts) {
    FATHOM_TRY(std::vector<int32_t> ids, ids_of(request, prompt, model));
    std::string echo;
    if (request.echo) {
      const auto* text = std::get_if<std::string>(&prompt);
      auto decoded = text != nullptr ? Result<std::string>(*text) : model.tokenizer->decode(ids);
      if (!decoded) return bad_request(decoded.error(), "prompt");
      echo = *std::move(decoded);
    }
    FATHOM_TRY(const Prepared first, prepare_prompt(std::move(ids), fields, context));
    for (int choice = 0; choice < request.choices; ++choice)
      out.push_back({choice_of(first, choice), echo});
  }
  return out;
}

}  // namespace fathom::server::api
