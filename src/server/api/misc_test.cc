#include "server/api/misc.h"

#include "server/api/anthropic_request.h"
#include "server/api/test_support.h"

namespace fathom::server::api {
namespace misc_test {

using nlohmann::ordered_json;
using test::message_of;
using test::served;

TEST(MiscTest, Models) {
  const std::shared_ptr<const ServedModel> models[] = {served("nano", ChatFamily::kNano)};
  EXPECT_EQ(
      models_body(models),
      R"({"object":"list","data":[{"id":"nano","object":"model","created":1700000000,"owned_by":"fathom","max_model_len":2048}]})");
  EXPECT_EQ(models_body({}), R"({"object":"list","data":[]})");
}

TEST(MiscTest, Balance) {
  EXPECT_EQ(
      balance_body(),
      R"({"is_available":true,"balance_infos":[{"currency":"CNY","total_balance":"0.00","granted_balance":"0.00","topped_up_balance":"0.00"}]})");
}

TEST(MiscTest, TokenizeAndBack) {
  const auto model = served("nano", ChatFamily::kNano);
  auto request = parse_tokenize_request(
      R"({"model":"nano","content":"qz","add_special_tokens":false,"return_token_strs":true})");
  ASSERT_TRUE(request.has_value()) << message_of(request);
  const auto body = ordered_json::parse(*tokenize_body(*request, *model));
  EXPECT_EQ(body["count"], body["tokens"].size());
  EXPECT_EQ(body["token_strs"].dump(), R"(["q","z"])");
  EXPECT_EQ(body["max_model_len"], 2048);
  auto back =
      parse_detokenize_request(R"({"model":"nano","tokens":)" + body["tokens"].dump() + "}");
  EXPECT_EQ(*detokenize_body(*back, *model), R"({"prompt":"qz"})");
}

TEST(MiscTest, TokenizeAConversation) {
  const auto model = served("nano", ChatFamily::kNano);
  auto request =
      parse_tokenize_request(R"({"model":"nano","messages":[{"role":"user","content":"a"}]})");
  ASSERT_TRUE(request.has_value()) << message_of(request);
  const auto body = ordered_json::parse(*tokenize_body(*request, *model));
  EXPECT_EQ(test::tokenizer("nano")->decode(body["tokens"].get<std::vector<int32_t>>()).value(),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think>\n");
}

TEST(MiscTest, TokenizeRefusals) {
  EXPECT_EQ(message_of(parse_tokenize_request(R"({"model":"m"})")),
            "0 of prompt, content and messages are given, expected one");
  EXPECT_EQ(message_of(parse_tokenize_request(R"({"model":"m","prompt":"a","content":"a"})")),
            "2 of prompt, content and messages are given, expected one");
  EXPECT_EQ(message_of(parse_detokenize_request(R"({"model":"m","tokens":["a"]})")),
            "tokens[0] is \"a\", expected a token id");
  auto unknown = parse_detokenize_request(R"({"model":"m","tokens":[9999999]})");
  EXPECT_FALSE(detokenize_body(*unknown, *served("nano", std::nullopt)).has_value());
}

TEST(MiscTest, CountTokens) {
  auto request =
      parse_count_tokens_request(R"({"model":"nano","messages":[{"role":"user","content":"a"}]})");
  const auto model = served("nano", ChatFamily::kNano);
  EXPECT_EQ(*count_tokens_body(*request, *model), R"({"input_tokens":6})");
}

TEST(MiscTest, EmbeddingsAreRefused) {
  EXPECT_TRUE(parse_embeddings_request(R"({"model":"m","input":"a"})").has_value());
  EXPECT_EQ(message_of(parse_embeddings_request(R"({"model":"m"})")),
            "input is missing, expected a value");
  EXPECT_EQ(no_embeddings("nano").message,
            "the model nano does not support embeddings: it generates text");
}

}  // namespace misc_test
}  // namespace fathom::server::api
