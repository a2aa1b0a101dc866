// What the tests of the API share: tokenizers, served models, tokens of a text, readable events.
//
// Not compiled into the library: only *_test.cc include it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/api/answer.h"
#include "server/api/prepare.h"
#include "server/api/wire.h"
#include "server/service.h"
#include "tokenizer/test_support.h"

namespace fathom::server::api::test {

using nlohmann::ordered_json;

// Of models/nano, or of a folder under tests/golden/data/tokenizers. Loaded once.
inline std::shared_ptr<const Tokenizer> tokenizer(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>> loaded;
  auto& t = loaded[name];
  if (t == nullptr) {
    t = name == "nano"
            ? std::shared_ptr<const Tokenizer>(
                  Tokenizer::load(FATHOM_SOURCE_DIR "/models/nano/tokenizer.json").value())
            : std::shared_ptr<const Tokenizer>(fathom::test::golden_tokenizer(name));
  }
  return t;
}

inline std::shared_ptr<ServedModel> served(const std::string& tokenizer_name,
                                           std::optional<ChatFamily> family) {
  auto model = std::make_shared<ServedModel>();
  model->id = tokenizer_name;
  model->created_unix_s = 1700000000;
  model->tokenizer = tokenizer(tokenizer_name);
  model->chat_family = family;
  model->context_tokens = 2048;
  model->vocab_size = model->tokenizer->vocab_size();
  model->eos_token_ids = {1};
  model->default_sampling.temperature = 0.6F;
  model->fingerprint = "fp_0123456789";
  return model;
}

inline std::vector<SampledToken> tokens_of(const Tokenizer& t, std::string_view text) {
  std::vector<SampledToken> out;
  for (const int32_t id : fathom::test::ids_of(t, text)) {
    SampledToken token{.token = id, .logprob = -0.5F};
    token.top = {{id, -0.5F}};
    out.push_back(token);
  }
  return out;
}

// The deltas of all tokens, cut behind `first` tokens: pushed in two lots, or one by one if 0.
inline std::vector<std::vector<Delta>> push_in_lots(AnswerAssembler& a,
                                                    const std::vector<SampledToken>& tokens,
                                                    std::size_t first, FinishReason reason) {
  std::vector<std::vector<Delta>> out;
  const std::span<const SampledToken> all(tokens);
  if (first == 0) {
    for (std::size_t i = 0; i < all.size(); ++i) out.push_back(a.push(all.subspan(i, 1)));
  } else {
    out.push_back(a.push(all.first(first)));
    out.push_back(a.push(all.subspan(first)));
  }
  out.push_back(a.finish(reason));
  return out;
}

template <typename T>
std::string message_of(const ApiResult<T>& result) {
  return result ? "(no error)" : result.error().message;
}

inline std::vector<ordered_json> data_of(const std::vector<SseEvent>& events) {
  std::vector<ordered_json> out;
  for (const SseEvent& e : events)
    out.push_back(e.data == "[DONE]" ? ordered_json(e.data) : ordered_json::parse(e.data));
  return out;
}

}  // namespace fathom::server::api::test
