// Fuzzes the requests of the HTTP API and the forms of its answers.
//
// The input is a byte that picks the dialect, one that picks the chat family, and the body. A body
// that is taken is prepared for a model whose tokens are bytes, and its own bytes are then the
// answer. Properties beyond "no crash": an error has a message of bounded length and is valid
// JSON; an engine would take what was prepared; every event and body is valid JSON.
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/check.h"
#include "server/api/anthropic_request.h"
#include "server/api/anthropic_response.h"
#include "server/api/chat_response.h"
#include "server/api/completions_request.h"
#include "server/api/completions_response.h"
#include "server/api/misc.h"
#include "server/api/responses_response.h"
#include "server/service.h"
#include "tokenizer/byte_alphabet.h"

namespace fathom::server::api {
namespace {

std::shared_ptr<const Tokenizer> byte_tokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    TokenizerSpec spec;
    for (int b = 0; b < 256; ++b)
      spec.vocab.push_back({std::string(byte_to_alphabet(static_cast<uint8_t>(b))), b});
    spec.pretokenizer.emplace_back(ByteLevelStage{.add_prefix_space = false, .use_regex = false});
    spec.decoder.kind = DecoderKind::kByteLevel;
    return std::shared_ptr<const Tokenizer>(Tokenizer::from_spec(std::move(spec)).value());
  }();
  return tokenizer;
}

std::shared_ptr<const ServedModel> model_of(uint8_t family) {
  auto model = std::make_shared<ServedModel>();
  model->id = "fuzz";
  model->tokenizer = byte_tokenizer();
  model->chat_family = all_chat_families()[family % all_chat_families().size()];
  model->context_tokens = 1 << 20;
  model->vocab_size = 256;
  model->eos_token_ids = {0};
  return model;
}

void check_error(const ApiError& error) {
  FATHOM_CHECK(!error.message.empty());
  FATHOM_CHECK_LT(error.message.size(), 4096U);
  FATHOM_CHECK(nlohmann::json::accept(openai_error_body(error)));
  FATHOM_CHECK(nlohmann::json::accept(anthropic_error_body(error, "r")));
}

void check_events(const std::vector<SseEvent>& events) {
  for (const SseEvent& e : events) {
    FATHOM_CHECK(e.data == "[DONE]" || nlohmann::json::accept(e.data)) << e.data;
    FATHOM_CHECK_EQ(e.data.find('\n'), std::string::npos);
  }
}

// The body's bytes as an answer, in all forms.
void check_answer(const Prepared& prepared, std::string_view text,
                  const ResponsesRequest& responses) {
  FATHOM_CHECK(validate(prepared.request.sampling, 256).has_value());
  FATHOM_CHECK(!prepared.request.prompt.empty() && prepared.request.max_tokens > 0);
  AnswerAssembler answer(prepared.spec);
  const ResponseMeta meta{.id = "id", .request_id = "r", .model = "fuzz"};
  const bool logprobs = prepared.spec.top_logprobs >= 0;
  ChatStream chat(meta, {.logprobs = logprobs}, byte_tokenizer());
  ResponsesStream items(meta, responses, byte_tokenizer());
  AnthropicStream blocks(meta);
  check_events(items.begin());
  check_events(blocks.begin(answer.answer().usage));
  const auto check = [&](const std::vector<Delta>& deltas) {
    check_events(chat.deltas(0, deltas));
    check_events(items.deltas(deltas));
    check_events(blocks.deltas(deltas));
  };
  for (const char c : text.substr(0, 2000)) {
    const SampledToken token{.token = static_cast<uint8_t>(c)};
    check(answer.push({&token, 1}));
  }
  check(answer.finish(FinishReason::kLength));
  check_events(chat.finish(0, answer.answer()));
  check_events(chat.end());
  check_events(items.finish(answer.answer()));
  check_events(blocks.finish(answer.answer()));
  const Answer* answers[] = {&answer.answer()};
  FATHOM_CHECK(nlohmann::json::accept(
      chat_body(meta, answers, logprobs ? byte_tokenizer().get() : nullptr)));
  FATHOM_CHECK(nlohmann::json::accept(items.body()));
  FATHOM_CHECK(nlohmann::json::accept(blocks.body()));
}

void check_chat(const ApiResult<ChatRequest>& request, const PrepareContext& context,
                std::string_view body, const ResponsesRequest& responses) {
  if (!request) return check_error(request.error());
  ApiResult<ChatRequest> copy = request;
  auto prepared = prepare_chat(*copy, context);
  if (!prepared) return check_error(prepared.error());
  check_answer(*prepared, body, responses);
}

void check_completions(std::string_view body, const PrepareContext& context) {
  auto request = parse_completion_request(body);
  if (!request) return check_error(request.error());
  auto prepared = prepare_completions(*request, context);
  if (!prepared) return check_error(prepared.error());
  for (const PreparedCompletion& p : *prepared) FATHOM_CHECK(!p.prepared.request.prompt.empty());
}

}  // namespace
}  // namespace fathom::server::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using namespace fathom::server::api;
  if (size < 2) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 2, size - 2);
  const PrepareContext context{.model = model_of(data[1]), .call_id_prefix = "call_"};
  switch (data[0] % 6) {
    case 0:
      check_chat(parse_chat_request(body), context, body, {});
      break;
    case 1:
      check_completions(body, context);
      break;
    case 2: {
      auto request = parse_responses_request(body);
      if (request) {
        check_chat(conversation(*request, {}), context, body, *request);
      } else {
        check_error(request.error());
      }
      break;
    }
    case 3:
      check_chat(parse_anthropic_request(body), context, body, {});
      break;
    case 4: {
      auto request = parse_tokenize_request(body);
      if (request) (void)tokenize_body(*request, *context.model);
      break;
    }
    default: {
      auto request = parse_detokenize_request(body);
      if (request) (void)detokenize_body(*request, *context.model);
    }
  }
  return 0;
}
