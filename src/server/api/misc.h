// The small endpoints: models, balance, tokenize, detokenize, count_tokens, embeddings.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/api/chat_request.h"

namespace fathom::server {
struct ServedModel;
}

namespace fathom::server::api {

// GET /models and /models/{id}: OpenAI's list, with the context's length beside.
std::string models_body(std::span<const std::shared_ptr<const ServedModel>> models);
std::string model_body(const ServedModel& model);

// POST /models/{id}/load and /unload: its state afterwards.
std::string model_state_body(const ServedModel& model, std::string_view state);

// GET /user/balance: who runs the model here pays no one, so there is always enough.
std::string cache_erased_body();
std::string balance_body();

// POST /tokenize: a text, or a conversation as its prompt.
struct TokenizeRequest {
  std::string model;
  std::variant<std::string, ChatRequest> input;
  bool add_special_tokens = true;  // of a text
  bool return_token_strs = false;
};
ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body);
ApiResult<std::string> tokenize_body(const TokenizeRequest& request, const ServedModel& model);

// POST /detokenize.
struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};
ApiResult<DetokenizeRequest> parse_detokenize_request(std::string_view body);
ApiResult<std::string> detokenize_body(const DetokenizeRequest& request, const ServedModel& model);

// POST /anthropic/v1/messages/count_tokens.
ApiResult<std::string> count_tokens_body(const ChatRequest& request, const ServedModel& model);

// POST /embeddings: checked, and then refused, since no architecture that is served has them.
struct EmbeddingsRequest {
  std::string model;
};
ApiResult<EmbeddingsRequest> parse_embeddings_request(std::string_view body);
ApiError no_embeddings(std::string_view model);

FieldTable tokenize_fields();
FieldTable detokenize_fields();
FieldTable embeddings_fields();

}  // namespace fathom::server::api
