#include "server/api/completions_request.h"
#include "server/api/completions_response.h"
#include "server/api/test_support.h"

namespace fathom::server::api {
namespace completions_test {

using nlohmann::ordered_json;
using test::data_of;
using test::message_of;
using test::served;
using test::tokens_of;
using ::testing::HasSubstr;

ApiResult<CompletionRequest> parse(const std::string& patch) {
  ordered_json body = ordered_json::parse(R"({"model":"nano","prompt":"Once"})");
  body.merge_patch(ordered_json::parse(patch));
  return parse_completion_request(body.dump());
}

ApiResult<std::vector<PreparedCompletion>> prepare(std::shared_ptr<const ServedModel> model,
                                                   const std::string& patch) {
  auto request = parse(patch);
  if (!request) return request.error();
  return prepare_completions(*request, {.model = std::move(model), .random_seed = 3});
}

std::string text_of(const Prepared& p) {
  return p.spec.tokenizer->decode(p.request.prompt).value();
}

struct Refusal {
  const char* patch;
  const char* message;
};
void PrintTo(const Refusal& r, std::ostream* out) { *out << r.patch; }

class CompletionRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(CompletionRefusal, NamesFieldValueAndExpectation) {
  EXPECT_EQ(message_of(parse(GetParam().patch)), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, CompletionRefusal,
    ::testing::Values(
        Refusal{R"({"prompt":null})", "prompt is missing, expected a value"},
        Refusal{R"({"prompt":7})",
                "prompt is 7, expected a string, token ids, or a list of either"},
        Refusal{R"({"prompt":[]})",
                "prompt is a list of 0, expected a string, token ids, or a list of either"},
        Refusal{R"({"prompt":[1,-1]})", "prompt[1] is -1, expected a token id"},
        Refusal{R"({"prompt":["a",1]})", "prompt[1] is 1, expected a string or token ids"},
        Refusal{R"({"prompt":[[1],["a"]]})", "prompt[1][0] is \"a\", expected a token id"},
        Refusal{R"({"max_tokens":0})", "max_tokens is 0, expected an integer from 1 to 134217728"},
        Refusal{R"({"logprobs":true})", "logprobs is true, expected an integer from 0 to 20"},
        Refusal{R"({"logprobs":21})", "logprobs is 21, expected an integer from 0 to 20"},
        Refusal{R"({"echo":"yes"})", "echo is \"yes\", expected true or false"},
        Refusal{R"({"echo":true,"logprobs":0})",
                "echo is true and logprobs is given, but logprobs are computed for generated "
                "tokens only: expected one of the two"},
        Refusal{R"({"suffix":"b","prompt":[1,2]})",
                "suffix is given, but the prompt is token ids, expected text"},
        Refusal{R"({"n":8,"prompt":["1","2","3","4","5","6","7","8","9"]})",
                "9 prompts with n 8 ask for 72 answers, expected at most 64"},
        Refusal{R"({"temperature":3})", "temperature is 3, expected a number from 0 to 2"},
        Refusal{R"({"stream_options":{}})",
                "stream_options is given, but stream is not true: expected both or neither"}));

TEST(CompletionTest, DefaultsOfTheSmallestBody) {
  auto p = prepare(served("nano", std::nullopt), "{}");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  ASSERT_EQ(p->size(), 1U);
  const Prepared& first = (*p)[0].prepared;
  EXPECT_EQ(text_of(first), "<｜begin▁of▁sentence｜>Once");
  EXPECT_EQ(first.request.max_tokens, 16);
  EXPECT_EQ(first.request.sampling.seed, 3U);
  EXPECT_EQ(first.spec.family, std::nullopt);
  EXPECT_EQ((*p)[0].echo, "");
}

TEST(CompletionTest, TheBeginOfSentenceIsPutOnce) {
  const auto model = served("nano", std::nullopt);
  EXPECT_EQ(text_of((*prepare(model, R"({"prompt":"<｜begin▁of▁sentence｜>a"})"))[0].prepared),
            "<｜begin▁of▁sentence｜>a");
  EXPECT_EQ(text_of((*prepare(model, R"({"add_special_tokens":false})"))[0].prepared), "Once");
  // Its post-processor puts one by itself.
  EXPECT_EQ(text_of((*prepare(served("small_coder", std::nullopt), "{}"))[0].prepared),
            "<｜begin▁of▁sentence｜>Once");
  const std::string twice = R"({"prompt":"<｜begin▁of▁sentence｜>a"})";
  EXPECT_EQ(text_of((*prepare(served("small_coder", std::nullopt), twice))[0].prepared),
            "<｜begin▁of▁sentence｜>a");
  EXPECT_EQ(text_of((*prepare(served("qwen3", std::nullopt), "{}"))[0].prepared), "Once");
}

TEST(CompletionTest, PromptsTimesChoicesInOrder) {
  auto p = prepare(served("nano", std::nullopt), R"({"prompt":["a",[5,6]],"n":2,"echo":true})");
  ASSERT_TRUE(p.has_value()) << message_of(p);
  ASSERT_EQ(p->size(), 4U);
  EXPECT_EQ((*p)[0].echo, "a");
  EXPECT_EQ((*p)[1].echo, "a");
  EXPECT_EQ((*p)[2].prepared.request.prompt, (std::vector<int32_t>{5, 6}));
  EXPECT_EQ((*p)[3].echo, test::tokenizer("nano")->decode(std::vector<int32_t>{5, 6}).value());
  EXPECT_EQ((*p)[1].prepared.request.sampling.seed, 4U);
}

TEST(CompletionTest, FillsTheGapInEachVocabularysForm) {
  const std::string gap = R"j({"prompt":"a(","suffix":")"})j";
  EXPECT_EQ(text_of((*prepare(served("deepseek_v3", std::nullopt), gap))[0].prepared),
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>a(<｜fim▁hole｜>)<｜fim▁end｜>");
  EXPECT_EQ(text_of((*prepare(served("small_coder", std::nullopt), gap))[0].prepared),
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>a(<｜fim▁hole｜>)<｜fim▁end｜>");
  EXPECT_EQ(text_of((*prepare(served("qwen3", std::nullopt), gap))[0].prepared),
            "<|fim_prefix|>a(<|fim_suffix|>)<|fim_middle|>");
  EXPECT_EQ(message_of(prepare(served("small_qwen", std::nullopt), gap)),
            "suffix is given, but the vocabulary of small_qwen has no tokens for a gap: expected "
            "none");
}

TEST(CompletionTest, TextAroundAGapCannotSpellItsTokens) {
  auto p = prepare(served("qwen3", std::nullopt), R"({"prompt":"<|fim_suffix|>","suffix":"b"})");
  const auto& ids = (*p)[0].prepared.request.prompt;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 151661), 1);
}

TEST(CompletionTest, IdsMustBeInTheVocabulary) {
  EXPECT_THAT(message_of(prepare(served("nano", std::nullopt), R"({"prompt":[999999]})")),
              HasSubstr("prompt has the token id 999999, expected 0 to"));
}

ResponseMeta meta() { return {"cmpl-1", "r", 1700000000, "nano", "fp_0"}; }

TEST(CompletionStreamTest, EchoLogprobsAndUsage) {
  const auto t = test::tokenizer("nano");
  const AnswerSpec spec = {.tokenizer = t, .top_logprobs = 1, .prompt_tokens = 2};
  AnswerAssembler a(spec);
  CompletionStream s(meta(), {.include_usage = true, .logprobs = true}, {"é"}, 1, t);
  std::vector<SseEvent> events;
  for (const SampledToken& token : tokens_of(*t, "qz"))
    for (SseEvent& e : s.deltas(0, a.push({&token, 1}))) events.push_back(e);
  a.finish(FinishReason::kLength);
  for (SseEvent& e : s.finish(0, a.answer())) events.push_back(e);
  for (SseEvent& e : s.end()) events.push_back(e);
  const auto data = data_of(events);
  ASSERT_EQ(data.size(), 5U);
  EXPECT_EQ(
      data[0].dump(),
      R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"nano","system_fingerprint":"fp_0","choices":[{"index":0,"text":"éq","logprobs":{"tokens":["q"],"token_logprobs":[-0.5],"top_logprobs":[{"q":-0.5}],"text_offset":[0]},"finish_reason":null}],"usage":null})");
  EXPECT_EQ(data[1]["choices"][0]["logprobs"]["text_offset"], ordered_json::array({2}));
  EXPECT_EQ(data[2]["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(data[3]["usage"]["total_tokens"], 4);
  EXPECT_EQ(data[4], "[DONE]");
}

TEST(CompletionBodyTest, PromptsCountOnceEach) {
  Answer a, b, c, d;
  a.usage = b.usage = {.prompt_tokens = 5, .completion_tokens = 1};
  c.usage = d.usage = {.prompt_tokens = 7, .completion_tokens = 1};
  a.content = "x";
  const CompletionChoice choices[] = {{&a, "e"}, {&b, ""}, {&c, ""}, {&d, ""}};
  const auto body = ordered_json::parse(completion_body(meta(), choices, 2, nullptr));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 12);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
  EXPECT_EQ(body["choices"][0]["text"], "ex");
  EXPECT_EQ(body["choices"][3]["index"], 3);
}

}  // namespace completions_test
}  // namespace fathom::server::api
