// Hostile and unsupported tokenizer.json: each ends in an error that names the field, what was seen
// and what was expected, and none crashes or allocates without bound.
#include "tokenizer/tokenizer_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tokenizer/test_support.h"

namespace fathom {
namespace tokenizer_json_test {

using nlohmann::json;

json small_file() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": {"strategy": "BatchLongest"},
    "added_tokens": [{"id": 4, "content": "<s>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
      {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}]}]},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": ["a b"]}})");
}

std::string error_of(const json& file) {
  const auto t = Tokenizer::from_json(file.dump(), "f.json");
  return t ? "no error" : t.error().message;
}

// `pointer` in the small file replaced by `value` (as JSON text): the error has all of `parts`.
void expect_error(const char* pointer, const char* value, const std::vector<std::string>& parts) {
  json file = small_file();
  file[json::json_pointer(pointer)] = json::parse(value);
  const std::string message = error_of(file);
  EXPECT_TRUE(message.starts_with("f.json: ")) << pointer << " = " << value << ": " << message;
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos)
        << pointer << " = " << value << ": '" << message << "' lacks '" << part << "'";
  }
}

TEST(TokenizerJson, SmallFileWorks) {
  const auto t = Tokenizer::from_json(small_file().dump(), "f.json");
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_EQ(*(*t)->encode("abc<s>a", {.add_special_tokens = true}),
            (std::vector<int32_t>{4, 2, 3, 4, 0}));
  EXPECT_EQ((*t)->vocab_size(), 5);
}

TEST(TokenizerJson, MergesComeInBothForms) {
  json file = small_file();
  file["model"]["merges"] = json::parse(R"([["a", "b"]])");
  EXPECT_EQ(error_of(file), "no error");
  file["model"]["merges"] = json::parse(R"(["#version: 0.2", "a b"])");
  EXPECT_EQ(error_of(file), "no error");
}

TEST(TokenizerJson, ModelErrors) {
  expect_error("/version", "\"2.0\"", {"version is \"2.0\"", "expected \"1.0\""});
  expect_error("/model", "null", {"model is missing", "expected an object"});
  expect_error("/model", "[]", {"model is []", "expected an object"});
  expect_error("/model/type", "\"Unigram\"", {"model.type is \"Unigram\"", "BPE"});
  expect_error("/model/dropout", "0.1", {"model.dropout is 0.1", "null or 0"});
  expect_error("/model/unk_token", "5", {"model.unk_token is 5", "a string"});
  expect_error("/model/end_of_word_suffix", "\"</w>\"", {"model.end_of_word_suffix is \"</w>\""});
  expect_error("/model/continuing_subword_prefix", "\"##\"", {"is \"##\"", "unsupported"});
  expect_error("/model/ignore_merges", "1", {"model.ignore_merges is 1", "true or false"});
  expect_error("/model/vocab", "[]", {"model.vocab is []", "an object"});
  expect_error("/model/vocab/a", "-1", {"model.vocab[\"a\"] is -1", "an id from 0 to 16777215"});
  expect_error("/model/vocab/a", "1.5", {"model.vocab[\"a\"] is 1.5"});
  expect_error("/model/vocab/a", "\"0\"", {"model.vocab[\"a\"] is \"0\""});
  expect_error("/model/vocab/a", "2147483648", {"model.vocab[\"a\"] is 2147483648"});
  expect_error("/model/vocab/a", "18446744073709551615", {"model.vocab[\"a\"]"});
  expect_error("/model/vocab/a", "16777215", {"model.vocab", "largest id is 16777215", "5 tokens"});
  expect_error("/model/vocab/a", "1", {"model.vocab", "\"b\" has the id 1", "\"a\" has already"});
  expect_error("/model/merges", "null", {"model.merges is missing", "a list"});
  expect_error("/model/merges", "{}", {"model.merges is {}", "a list"});
  expect_error("/model/merges", "[\"a b\", [\"a\", \"b\"]]", {"model.merges[1] is [\"a\",\"b\"]"});
  expect_error("/model/merges", "[[\"a\", \"b\"], \"a b\"]", {"model.merges[1] is \"a b\""});
  expect_error("/model/merges", "[\"ab\"]", {"model.merges[0] is \"ab\"", "one space"});
  expect_error("/model/merges", "[\"a b c\"]", {"model.merges[0] is \"a b c\""});
  expect_error("/model/merges", "[7]", {"model.merges[0] is 7"});
  expect_error("/model/merges", "[[\"a\"]]",
               {"model.merges[0] is [\"a\"]", "a list of two tokens"});
  expect_error("/model/merges", "[\"a x\"]", {"model.merges[0]", "names \"x\""});
  expect_error("/model/merges", "[\"b a\"]", {"model.merges[0]", "gives \"ba\""});
}

TEST(TokenizerJson, AddedTokenErrors) {
  expect_error("/added_tokens", "{}", {"added_tokens is {}", "a list"});
  expect_error("/added_tokens/0", "3", {"added_tokens[0] is 3", "an object"});
  expect_error("/added_tokens/0/id", "null", {"added_tokens[0].id is missing"});
  expect_error("/added_tokens/0/id", "4294967296", {"added_tokens[0].id is 4294967296"});
  expect_error("/added_tokens/0/id", "2000000", {"largest id is 2000000"});
  expect_error("/added_tokens/0/id", "2", {"added_tokens", "\"<s>\" has the id 2", "\"ab\""});
  expect_error("/added_tokens/0/content", "\"a\"", {"\"a\" has the id 4", "expected 0"});
  expect_error("/added_tokens/0/content", "\"\"", {"added_tokens", "id 4", "no characters"});
  expect_error("/added_tokens/0/special", "\"yes\"", {"added_tokens[0].special is \"yes\""});
  json file = small_file();
  file["added_tokens"].push_back(file["added_tokens"][0]);
  EXPECT_NE(error_of(file).find("\"<s>\" has the id 4"), std::string::npos) << error_of(file);
  file = small_file();
  file["added_tokens"][0]["content"] = std::string(5000, 'x');
  EXPECT_NE(error_of(file).find("5000 bytes, the limit is 4096"), std::string::npos);
}

TEST(TokenizerJson, StageErrors) {
  expect_error("/normalizer", "{\"type\": \"Lowercase\"}", {"normalizer.type is \"Lowercase\""});
  expect_error("/normalizer", "{}", {"normalizer.type is missing"});
  expect_error("/normalizer", "7", {"normalizer is 7", "an object"});
  expect_error("/normalizer",
               R"({"type": "Sequence", "normalizers": [{"type": "BertNormalizer"}]})",
               {"normalizer.normalizers[0].type is \"BertNormalizer\"", "unsupported"});
  expect_error("/normalizer", R"({"type": "Sequence", "normalizers": [null]})",
               {"normalizer.normalizers[0] is null", "an object"});
  expect_error("/pre_tokenizer/pretokenizers/1/pretokenizers/0/type", "\"Metaspace\"",
               {"pre_tokenizer.pretokenizers[1].pretokenizers[0].type is \"Metaspace\""});
  expect_error("/pre_tokenizer/pretokenizers/0/behavior", "\"isolated\"",
               {"pre_tokenizer.pretokenizers[0].behavior is \"isolated\"", "MergedWithNext"});
  expect_error("/pre_tokenizer/pretokenizers/0/pattern", "\"x\"", {".pattern is \"x\""});
  expect_error("/pre_tokenizer/pretokenizers/0/pattern", "{\"Glob\": \"x\"}", {".pattern is {"});
  expect_error("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a\"",
               {"pre_tokenizer stage 0.pattern", "expression \"[a\"", "a set without its end"});
  expect_error("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(a\"", {"does not compile"});
  expect_error("/post_processor/type", "\"BertProcessing\"",
               {"post_processor.type is \"BertProcessing\""});
  expect_error("/post_processor/single", "7", {"post_processor.single is 7"});
  expect_error("/post_processor/single/0", "\"A\"", {"post_processor.single[0] is \"A\""});
  expect_error("/post_processor/single/1", "{\"Sequence\": {\"id\": \"B\"}}",
               {"post_processor.single[1].Sequence.id is \"B\"", "\"A\""});
  expect_error("/post_processor/single", "[]", {"post_processor.single", "exactly once"});
  expect_error("/post_processor/single/0/SpecialToken/id", "\"x\"", {"\"x\"", "special_tokens"});
  expect_error("/post_processor/special_tokens/<s>/ids", "[99]", {"has the id 99"});
  expect_error("/decoder", "{\"type\": \"Metaspace\"}", {"decoder.type is \"Metaspace\""});
  expect_error("/decoder", R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
               {"type": "ByteLevel"}]})",
               {"decoder.decoders[1].type is \"ByteLevel\""});
}

TEST(TokenizerJson, TooManyStagesAndTooDeep) {
  json file = small_file();
  json digits = {{"type", "Digits"}};
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", json::array()}};
  for (int i = 0; i < 65; ++i) file["pre_tokenizer"]["pretokenizers"].push_back(digits);
  EXPECT_NE(error_of(file).find("more than 64 stages"), std::string::npos) << error_of(file);

  const std::string deep =
      "{\"model\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  const auto t = Tokenizer::from_json(deep, "f.json");
  ASSERT_FALSE(t);
  EXPECT_NE(t.error().message.find("deeper"), std::string::npos) << t.error().message;
}

TEST(TokenizerJson, NotATokenizer) {
  for (const char* text : {"", "7", "[]", "null", "{}", "{\"model\": 3}", "{\"a\": 1, \"a\": 2}",
                           "{\"model\": {\"vocab\": {}}}"}) {
    const auto t = Tokenizer::from_json(text, "f.json");
    ASSERT_FALSE(t) << text;
    EXPECT_TRUE(t.error().message.starts_with("f.json")) << t.error().message;
  }
  const auto absent = Tokenizer::load("/nonexistent/tokenizer.json");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
}

}  // namespace tokenizer_json_test
}  // namespace fathom
