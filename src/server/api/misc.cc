#include "server/api/misc.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "base/utf8.h"
#include "server/api/common_fields.h"
#include "server/api/completions_request.h"
#include "server/api/prepare.h"
#include "server/api/wire.h"
#include "server/service.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;

constexpr FieldSpec kTokenize[] = {
    kModelField,
    {.name = "prompt", .type = FieldType::kString, .doc = "The text"},
    {.name = "content", .type = FieldType::kString, .doc = "The same by another name"},
    {.name = "messages",
     .type = FieldType::kList,
     .doc = "A conversation instead; with the other fields of a chat request",
     .schema = R"({"$ref":"#/components/schemas/Message"})"},
    {.name = "add_special_tokens",
     .type = FieldType::kBoolean,
     .doc = "Put the begin-of-sentence token before a text; true"},
    {.name = "return_token_strs", .type = FieldType::kBoolean, .doc = "The tokens' texts too"},
};

constexpr FieldSpec kDetokenize[] = {
    kModelField,
    {.name = "tokens",
     .type = FieldType::kList,
     .doc = "Token ids",
     .required = true,
     .max = limits::kMaxRequestJsonValues,
     .schema = R"({"type":"integer","minimum":0})"},
};

constexpr FieldSpec kEmbeddings[] = {
    kModelField,
    {.name = "input",
     .doc = "Text, token ids, or a list of either",
     .required = true,
     .schema = R"({"oneOf":[{"type":"string"},{"type":"array"}]})"},
    {.name = "encoding_format",
     .type = FieldType::kString,
     .doc = "Of the numbers",
     .values = "float,base64"},
    {.name = "dimensions",
     .type = FieldType::kInteger,
     .doc = "How many",
     .min = 1,
     .max = limits::kMaxHiddenSize},
    kUserField,
};

ordered_json model_json(const ServedModel& model) {
  return {{"id", model.id},
          {"object", "model"},
          {"created", model.created_unix_s},
          {"owned_by", "fathom"},
          {"max_model_len", model.context_tokens}};
}

ApiStatus needs_tokenizer(const ServedModel& model) {
  if (model.tokenizer != nullptr) return {};
  return bad_request("model", fmt::format("the model {} has no tokenizer", model.id));
}

}  // namespace

FieldTable tokenize_fields() { return kTokenize; }
FieldTable detokenize_fields() { return kDetokenize; }
FieldTable embeddings_fields() { return kEmbeddings; }

std::string models_body(std::span<const std::shared_ptr<const ServedModel>> models) {
  ordered_json list = ordered_json::array();
  for (const auto& model : models) list.push_back(model_json(*model));
  return wire_text({{"object", "list"}, {"data", std::move(list)}});
}

std::string model_body(const ServedModel& model) { return wire_text(model_json(model)); }

std::string model_state_body(const ServedModel& model, std::string_view state) {
  return wire_text({{"id", model.id}, {"object", "model"}, {"state", state}});
}

std::string cache_erased_body() { return wire_text({{"object", "cache"}, {"deleted", true}}); }

std::string balance_body() {
  return wire_text({{"is_available", true},
                    {"balance_infos", ordered_json::array({{{"currency", "CNY"},
                                                            {"total_balance", "0.00"},
                                                            {"granted_balance", "0.00"},
                                                            {"topped_up_balance", "0.00"}}})}});
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kTokenize);
  FATHOM_TRY_STATUS(fields.check());
  TokenizeRequest request;
  request.model = *fields.string("model");
  request.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  request.return_token_strs = fields.boolean("return_token_strs").value_or(false);
  const int given = static_cast<int>(fields.has("prompt")) +
                    static_cast<int>(fields.has("content")) +
                    static_cast<int>(fields.has("messages"));
  if (given != 1)
    return bad_request("prompt", fmt::format("{} of prompt, content and messages are given, "
                                             "expected one",
                                             given));
  if (fields.has("messages")) {
    FATHOM_TRY(ChatRequest chat, parse_chat_request(body));
    request.input = std::move(chat);
  } else {
    request.input = fields.string(fields.has("prompt") ? "prompt" : "content").value_or("");
  }
  return request;
}

ApiResult<std::string> tokenize_body(const TokenizeRequest& request, const ServedModel& model) {
  FATHOM_TRY_STATUS(needs_tokenizer(model));
  std::vector<int32_t> ids;
  if (const auto* text = std::get_if<std::string>(&request.input)) {
    FATHOM_TRY(ids, encode_text(*model.tokenizer, *text, request.add_special_tokens));
  } else {
    FATHOM_TRY(ids, chat_prompt(std::get<ChatRequest>(request.input), model));
  }
  ordered_json body = {
      {"count", ids.size()}, {"max_model_len", model.context_tokens}, {"tokens", ids}};
  if (request.return_token_strs) {
    body["token_strs"] = ordered_json::array();
    for (const int32_t id : ids)
      body["token_strs"].push_back(utf8_sanitize(model.tokenizer->token_bytes(id)));
  }
  return wire_text(body);
}

ApiResult<DetokenizeRequest> parse_detokenize_request(std::string_view body) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kDetokenize);
  FATHOM_TRY_STATUS(fields.check());
  DetokenizeRequest request{.model = *fields.string("model")};
  const ordered_json& tokens = *fields.find("tokens");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (!tokens[i].is_number_unsigned() || tokens[i].get<uint64_t>() >= limits::kMaxVocab)
      return bad_value(fmt::format("tokens[{}]", i), &tokens[i], "a token id");
    request.tokens.push_back(tokens[i].get<int32_t>());
  }
  return request;
}

ApiResult<std::string> detokenize_body(const DetokenizeRequest& request, const ServedModel& model) {
  FATHOM_TRY_STATUS(needs_tokenizer(model));
  auto text = model.tokenizer->decode(request.tokens);
  if (!text) return bad_request(text.error(), "tokens");
  return wire_text({{"prompt", *text}});
}

ApiResult<std::string> count_tokens_body(const ChatRequest& request, const ServedModel& model) {
  FATHOM_TRY(const std::vector<int32_t> ids, chat_prompt(request, model));
  return wire_text({{"input_tokens", ids.size()}});
}

ApiResult<EmbeddingsRequest> parse_embeddings_request(std::string_view body) {
  FATHOM_TRY(const ordered_json object, parse_body(body));
  const FieldReader fields(object, kEmbeddings);
  FATHOM_TRY_STATUS(fields.check());
  const ordered_json& input = *fields.find("input");
  if (!input.is_string() && !input.is_array())
    return fields.bad("input", "a string, token ids, or a list of either");
  return EmbeddingsRequest{*fields.string("model")};
}

ApiError no_embeddings(std::string_view model) {
  return bad_request("model", fmt::format("the model {} does not support embeddings: it generates "
                                          "text",
                                          model));
}

}  // namespace fathom::server::api
