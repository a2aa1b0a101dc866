// From what a client asked (ChatRequest) and a served model to what an engine does (Request) and
// what is needed to read its tokens (AnswerSpec). The slow part of a request: it renders and
// tokenises the prompt, so it runs beside the io thread. Thread-safe: it only reads.
//
// Decisions that the public contracts leave to us:
//  - Thinking: what the request says; else deepseek-reasoner thinks and deepseek-chat does not,
//    where a model can be switched; else as the family does by itself. Asking a model to think that
//    cannot is an error; asking for an effort is not.
//  - DeepSeek's hybrid models (V3.1 and later) ignore temperature, presence_penalty and
//    frequency_penalty while they think, as their hosted API does. All other families, R1 among
//    them, take what the request says: their model cards advise a temperature.
//  - tool_choice "none" leaves the tools out of the prompt and takes calls for text.
//  - Where JSON or a call is enforced and the model is to think first, the thought is opened in the
//    prompt: the constraint begins behind </think>, and a model that skipped <think> would escape.
//  - Messages that a family's template would drop or misprint, because a field is null where it
//    wants "" or the reverse, are given the form in which it prints them. Where a template prints a
//    message's text or its calls but not both (V2.5, V3, R1's distills), the calls stay.
//  - Messages for which a family has no form (latest_reminder; calls and their results in families
//    that were trained without) are refused: their templates would drop them without a word.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/request.h"
#include "server/api/answer.h"
#include "server/api/chat_request.h"

namespace fathom::server {
struct ServedModel;
}

namespace fathom::server::api {

struct PrepareContext {
  std::shared_ptr<const ServedModel> model;
  uint64_t random_seed = 0;    // used if the request gives none
  std::string identity;        // who asks, as the authenticator knows them; "" for anybody
  std::string call_id_prefix;  // "call_<answer>_"
};

struct Prepared {
  Request request;
  AnswerSpec spec;
};

ApiResult<Prepared> prepare_chat(const ChatRequest& request, const PrepareContext& context);

// Of several answers to one request, number `choice`: a seed and call ids of its own.
Prepared choice_of(const Prepared& prepared, int choice);

// What all kinds of requests share, given the prompt's ids.
struct CommonFields {
  const SamplingFields* sampling = nullptr;
  std::optional<int64_t> max_tokens;
  const std::vector<std::string>* stops = nullptr;
  const std::vector<int32_t>* stop_token_ids = nullptr;
  bool ignore_eos = false;
  int top_logprobs = -1;
  std::string_view user_id;
  bool ignore_temperature = false;
};
ApiResult<Prepared> prepare_prompt(std::vector<int32_t> prompt, const CommonFields& fields,
                                   const PrepareContext& context);

// A tenant of user ids within an identity.
std::string tenant_of(std::string_view identity, std::string_view user_id);

// The prompt alone: what count_tokens and tokenize answer.
ApiResult<std::vector<int32_t>> chat_prompt(const ChatRequest& request, const ServedModel& model);

}  // namespace fathom::server::api
