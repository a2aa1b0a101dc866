// Byte-exact agreement with the `tokenizers` library on every golden row, and of the streaming
// detokenizer with decode.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tokenizer/detokenizer.h"
#include "tokenizer/test_support.h"

namespace fathom {
namespace golden_test {

using nlohmann::json;
using test::ids_of;

void expect_decodings(const Tokenizer& t, const std::vector<int32_t>& ids, const json& row) {
  for (const bool skip_special : {false, true}) {
    const char* field = skip_special ? "decoded_skip_special" : "decoded";
    const auto decoded = t.decode(ids, skip_special);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(*decoded, row.at(field).get<std::string>()) << field;
    Detokenizer stream(t, skip_special);
    std::string text;
    for (const int32_t id : ids) text += stream.push(id);
    text += stream.finish();
    EXPECT_EQ(text, *decoded) << "streaming, " << field;
  }
}

void expect_row(const Tokenizer& t, const json& row) {
  if (!row.contains("text")) {
    expect_decodings(t, row.at("ids").get<std::vector<int32_t>>(), row);
    return;
  }
  const auto text = row.at("text").get<std::string>();
  const auto ids = row.at("ids").get<std::vector<int32_t>>();
  EXPECT_EQ(ids_of(t, text), ids);
  const auto with = [&](const char* field) {  // absent: the same as ids
    return row.contains(field) ? row.at(field).get<std::vector<int32_t>>() : ids;
  };
  EXPECT_EQ(ids_of(t, text, {.add_special_tokens = true}), with("ids_add_special_tokens"));
  EXPECT_EQ(ids_of(t, text, {.special_as_text = true}), with("ids_special_as_text"));
  expect_decodings(t, ids, row);
}

void expect_file(const Tokenizer& t, const std::string& path, int rows) {
  std::istringstream lines(test::read_gzip(path));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    SCOPED_TRACE(path + " line " + std::to_string(++number) + ": " + line.substr(0, 200));
    expect_row(t, json::parse(line));
    if (::testing::Test::HasFailure()) return;  // one row tells enough
  }
  EXPECT_EQ(number, rows);
}

class Golden : public ::testing::TestWithParam<const char*> {};

TEST_P(Golden, EveryRow) {
  const std::string name = GetParam();
  expect_file(*test::golden_tokenizer(name), test::kGoldenDir + name + "/golden.jsonl", 356);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         ::testing::Values("deepseek_v3", "qwen3", "small_coder", "small_llm",
                                           "small_qwen", "small_v3"),
                         [](const auto& test) { return std::string(test.param); });

TEST(GoldenNano, EveryRow) {
  const std::string dir = FATHOM_SOURCE_DIR "/models/nano/";
  const auto t = Tokenizer::load(dir + "tokenizer.json");
  ASSERT_TRUE(t) << t.error().message;
  expect_file(**t, dir + "tokenizer_golden.jsonl", 356);
}

TEST(DeepseekV3, Facts) {
  const auto t = test::golden_tokenizer("deepseek_v3");
  EXPECT_EQ(t->vocab_size(), 128815);
  EXPECT_EQ(t->token_to_id("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_TRUE(t->is_special(0));
  EXPECT_TRUE(t->is_added(128803));
  EXPECT_EQ(t->token_content(128803), "<｜User｜>");
  EXPECT_FALSE(t->has_token(128815));
  EXPECT_EQ(t->token_bytes(128815), "");
  EXPECT_EQ(t->token_bytes(t->token_to_id("Ġthe").value_or(-1)), " the");
}

}  // namespace golden_test
}  // namespace fathom
