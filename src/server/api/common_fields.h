// Fields that stand in the tables of several kinds of requests, with one meaning in all of them.
#pragma once

#include "base/limits.h"
#include "server/api/chat_request.h"
#include "server/api/fields.h"

namespace fathom::server::api {

inline constexpr FieldSpec kModelField = {.name = "model",
                                          .type = FieldType::kString,
                                          .doc = "Name or alias of a served model",
                                          .required = true,
                                          .min = 1,
                                          .max = 256};
inline constexpr FieldSpec kThinkingField = {
    .name = "thinking",
    .type = FieldType::kObject,
    .doc = "Switches thinking on or off, where the model allows it",
    .schema = R"({"$ref":"#/components/schemas/Thinking"})"};
inline constexpr FieldSpec kEffortField = {
    .name = "reasoning_effort",
    .type = FieldType::kString,
    .doc = "How much to think; ignored by models that know no effort, none switches thinking off",
    .values = kEffortNames};
inline constexpr FieldSpec kStopField = {
    .name = "stop",
    .doc = "Strings that end the answer and are left out of it",
    .schema = R"({"oneOf":[{"type":"string","minLength":1,"maxLength":1024},{"type":"array",)"
              R"("maxItems":16,"items":{"type":"string","minLength":1,"maxLength":1024}}]})"};
inline constexpr FieldSpec kStreamField = {
    .name = "stream", .type = FieldType::kBoolean, .doc = "Send the answer as it comes"};
inline constexpr FieldSpec kTemperatureField = {
    .name = "temperature",
    .type = FieldType::kNumber,
    .doc = "0 takes the likeliest token. Ignored by DeepSeek's hybrid models while they think",
    .min = 0,
    .max = 2};
inline constexpr FieldSpec kTopPField = {
    .name = "top_p",
    .type = FieldType::kNumber,
    .doc = "Keep the fewest tokens whose probabilities reach it",
    .min = 0,
    .max = 1};
inline constexpr FieldSpec kTopKField = {.name = "top_k",
                                         .type = FieldType::kInteger,
                                         .doc = "Keep so many tokens, 0 = all (extension)",
                                         .min = 0,
                                         .max = limits::kMaxVocab};
inline constexpr FieldSpec kMinPField = {
    .name = "min_p",
    .type = FieldType::kNumber,
    .doc = "Keep tokens with so much of the largest probability (extension)",
    .min = 0,
    .max = 1};
inline constexpr FieldSpec kRepetitionPenaltyField = {
    .name = "repetition_penalty",
    .type = FieldType::kNumber,
    .doc = "Divides the odds of tokens seen before (extension)",
    .min = 0.01,
    .max = 100};
inline constexpr FieldSpec kPresencePenaltyField = {
    .name = "presence_penalty",
    .type = FieldType::kNumber,
    .doc = "Against tokens that the answer has already",
    .min = -2,
    .max = 2};
inline constexpr FieldSpec kFrequencyPenaltyField = {.name = "frequency_penalty",
                                                     .type = FieldType::kNumber,
                                                     .doc = "The same, for every time",
                                                     .min = -2,
                                                     .max = 2};
inline constexpr FieldSpec kLogitBiasField = {
    .name = "logit_bias",
    .type = FieldType::kObject,
    .doc = "Token id → −100 to 100, added to its logit",
    .schema = R"({"type":"object","maxProperties":1024,"additionalProperties":)"
              R"({"type":"number","minimum":-100,"maximum":100}})"};
inline constexpr FieldSpec kSeedField = {
    .name = "seed",
    .type = FieldType::kInteger,
    .doc = "The same seed gives the same answer; random by default"};
inline constexpr FieldSpec kChoicesField = {.name = "n",
                                            .type = FieldType::kInteger,
                                            .doc = "Number of answers",
                                            .min = 1,
                                            .max = limits::kMaxChoices};
inline constexpr FieldSpec kParallelToolCallsField = {
    .name = "parallel_tool_calls",
    .type = FieldType::kBoolean,
    .doc = "false: at most one call in an answer"};
inline constexpr FieldSpec kUserIdField = {
    .name = "user_id",
    .type = FieldType::kString,
    .doc = "Isolates cached prompts and shares the machine fairly",
    .max = limits::kMaxUserIdBytes};
inline constexpr FieldSpec kUserField = {.name = "user",
                                         .type = FieldType::kString,
                                         .doc = "The same, by OpenAI's name",
                                         .max = limits::kMaxUserIdBytes};
inline constexpr FieldSpec kIgnoreEosField = {
    .name = "ignore_eos",
    .type = FieldType::kBoolean,
    .doc = "Go on behind the end of the answer, up to max_tokens (extension)"};
inline constexpr FieldSpec kStopTokenIdsField = {.name = "stop_token_ids",
                                                 .type = FieldType::kList,
                                                 .doc = "Tokens that end the answer (extension)",
                                                 .max = limits::kMaxStops,
                                                 .schema = R"({"type":"integer","minimum":0})"};

// What read_sampling reads: every table that it is used with holds all of them.
#define FATHOM_SAMPLING_FIELDS                                                    \
  kTemperatureField, kTopPField, kTopKField, kMinPField, kRepetitionPenaltyField, \
      kPresencePenaltyField, kFrequencyPenaltyField, kLogitBiasField, kSeedField

}  // namespace fathom::server::api
