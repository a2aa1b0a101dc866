// Tokenizers through GGUF's metadata: the very ids of the tokenizer.json they were made from on
// every golden row, and refusals that say what is known.
#include "tokenizer/gguf_spec.h"

#include <gmock/gmock.h>

#include <sstream>

#include "tokenizer/test_support.h"
#include "tokenizer/tokenizer_json.h"

namespace fathom {
namespace gguf_spec_test {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What a converter would write of a tokenizer.json; owns the strings that the vocabulary views.
struct Converted {
  TokenizerSpec spec;
  std::vector<std::string> merges;
  GgufVocab vocab;
};

std::unique_ptr<Converted> convert(const std::string& path) {
  auto out = std::make_unique<Converted>();
  auto spec = parse_tokenizer_json(test::read_gzip(path), path);
  FATHOM_CHECK(spec.has_value()) << spec.error().message;
  out->spec = *std::move(spec);
  GgufVocab& v = out->vocab;
  v.source = "m.gguf";
  v.model = "gpt2";
  v.pre = gguf_pre_name(out->spec).value_or("");
  const auto put = [&](std::string_view content, int32_t id, GgufTokenType type) {
    const auto i = static_cast<std::size_t>(id);
    if (v.tokens.size() <= i) {
      v.tokens.resize(i + 1);
      v.types.resize(i + 1, GgufTokenType::kUnused);
    }
    v.tokens[i] = content;
    v.types[i] = type;
  };
  for (const VocabEntry& e : out->spec.vocab) put(e.content, e.id, GgufTokenType::kNormal);
  for (const AddedTokenSpec& t : out->spec.added_tokens) put(t.content, t.id, gguf_token_type(t));
  for (const MergeSpec& m : out->spec.merges) out->merges.push_back(m.left + " " + m.right);
  v.merges.assign(out->merges.begin(), out->merges.end());
  for (const TemplatePiece& piece : out->spec.post_processor) {
    if (piece.is_sequence) continue;
    v.bos = piece.ids.at(0);
    v.add_bos = true;
  }
  return out;
}

void expect_row(const Tokenizer& t, const json& row) {
  if (row.contains("text")) {
    const auto text = row.at("text").get<std::string>();
    const auto with = [&](const char* field) {  // absent: the same as ids
      return row.at(row.contains(field) ? field : "ids").get<std::vector<int32_t>>();
    };
    EXPECT_EQ(test::ids_of(t, text), with("ids"));
    EXPECT_EQ(test::ids_of(t, text, {.add_special_tokens = true}), with("ids_add_special_tokens"));
    EXPECT_EQ(test::ids_of(t, text, {.special_as_text = true}), with("ids_special_as_text"));
  }
  const auto ids = row.at("ids").get<std::vector<int32_t>>();
  EXPECT_EQ(*t.decode(ids, false), row.at("decoded").get<std::string>());
  EXPECT_EQ(*t.decode(ids, true), row.at("decoded_skip_special").get<std::string>());
}

struct Case {
  const char* name;
  const char* pre;
};

class GgufGolden : public ::testing::TestWithParam<Case> {};

TEST_P(GgufGolden, EveryRow) {
  const std::string name = GetParam().name;
  const bool nano = name == "nano";
  const std::string dir =
      nano ? std::string(FATHOM_SOURCE_DIR "/models/nano/") : test::kGoldenDir + name + "/";
  const std::string plain = dir + "tokenizer.json";
  const auto converted = convert(std::ifstream(plain).good() ? plain : plain + ".gz");
  EXPECT_EQ(converted->vocab.pre, GetParam().pre);
  auto spec = tokenizer_spec_from_gguf(converted->vocab);
  ASSERT_TRUE(spec) << spec.error().message;
  const auto t = Tokenizer::from_spec(*std::move(spec));
  ASSERT_TRUE(t) << t.error().message;
  std::istringstream lines(
      test::read_gzip(dir + (nano ? "tokenizer_golden.jsonl" : "golden.jsonl")));
  int rows = 0;
  for (std::string line; std::getline(lines, line); ++rows) {
    SCOPED_TRACE(name + " line " + std::to_string(rows + 1) + ": " + line.substr(0, 200));
    expect_row(**t, json::parse(line));
    if (HasFailure()) return;  // one row tells enough
  }
  EXPECT_EQ(rows, 356);
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizers, GgufGolden,
    ::testing::Values(Case{"deepseek_v3", "deepseek-v3"}, Case{"qwen3", "qwen2"},
                      Case{"small_coder", "deepseek-coder"}, Case{"small_llm", "deepseek-llm"},
                      Case{"small_qwen", "qwen2"}, Case{"small_v3", "deepseek-v3"},
                      Case{"nano", "nano-v3"}),
    [](const auto& test) { return std::string(test.param.name); });

// The bytes, then the given tokens as control tokens.
GgufVocab byte_vocab(std::string pre, std::vector<std::string_view> control = {}) {
  static const TokenizerSpec bytes = test::byte_spec();
  GgufVocab v{.source = "m.gguf", .model = "gpt2", .pre = std::move(pre)};
  for (const VocabEntry& e : bytes.vocab) v.tokens.push_back(e.content);
  v.types.assign(v.tokens.size(), GgufTokenType::kNormal);
  for (const std::string_view c : control) {
    v.tokens.push_back(c);
    v.types.push_back(GgufTokenType::kControl);
  }
  return v;
}

std::string refusal_of(const GgufVocab& vocab) {
  const auto spec = tokenizer_spec_from_gguf(vocab);
  return spec ? "" : spec.error().message;
}

std::unique_ptr<Tokenizer> tokenizer_of(const GgufVocab& vocab) {
  auto spec = tokenizer_spec_from_gguf(vocab);
  FATHOM_CHECK(spec.has_value()) << spec.error().message;
  return test::tokenizer_of(*std::move(spec));
}

TEST(GgufSpec, RefusesWhatItDoesNotKnow) {
  GgufVocab spm = byte_vocab("default");
  spm.model = "llama";
  EXPECT_THAT(refusal_of(spm), AllOf(StartsWith("m.gguf: tokenizer.ggml.model is \"llama\""),
                                     HasSubstr("expected \"gpt2\""), HasSubstr("SentencePiece")));
  for (const char* pre : {"", "default", "smaug-bpe", "deepseek"}) {
    EXPECT_THAT(refusal_of(byte_vocab(pre)),
                AllOf(StartsWith("m.gguf: tokenizer.ggml.pre is \"" + std::string(pre) + "\""),
                      HasSubstr("deepseek-v3, nano-v3, qwen2, deepseek-r1-qwen, llama-bpe"),
                      HasSubstr("gpt-2")))
        << pre;
  }
}

TEST(GgufSpec, MergesAreTwoTokens) {
  for (const char* line : {"", "ab", " ab", "ab ", "a b c", "a  b"}) {
    GgufVocab v = byte_vocab("gpt-2");
    v.merges = {"a b", line};
    EXPECT_THAT(refusal_of(v),
                AllOf(HasSubstr("tokenizer.ggml.merges[1] is \""), HasSubstr("one space")))
        << line;
  }
}

TEST(GgufSpec, StagesOfTheSmallFamilies) {
  // Llama 3 takes up to three digits at once; a whole piece that is a token needs no merges.
  GgufVocab llama = byte_vocab("llama-bpe");
  llama.tokens.push_back("123");
  llama.types.push_back(GgufTokenType::kNormal);
  EXPECT_EQ(test::ids_of(*tokenizer_of(llama), "1234"), (std::vector<int32_t>{256, '4'}));
  EXPECT_EQ(tokenizer_spec_from_gguf(llama)->ignore_merges, true);
  // SmolLM cuts digits one by one and words with the space before them.
  GgufVocab smol = byte_vocab("smollm");
  for (const char* token : {"Ġa", "12", "ab", "bĠ"}) {
    smol.tokens.push_back(token);
    smol.types.push_back(GgufTokenType::kNormal);
  }
  smol.merges = {"b Ġ", "Ġ a", "1 2", "a b"};
  EXPECT_EQ(test::ids_of(*tokenizer_of(smol), "12 ab"), (std::vector<int32_t>{'1', '2', 256, 'b'}));
  EXPECT_EQ(test::ids_of(*tokenizer_of(smol), "ab"), (std::vector<int32_t>{258}));
  EXPECT_EQ(test::ids_of(*tokenizer_of(smol), "xb a"), (std::vector<int32_t>{'x', 'b', 256}));
  // Qwen composes characters first.
  EXPECT_EQ(test::ids_of(*tokenizer_of(byte_vocab("qwen2")), "e\xCC\x81"),
            (std::vector<int32_t>{0xC3, 0xA9}));
}

TEST(GgufSpec, BeginTokens) {
  GgufVocab v = byte_vocab("gpt-2", {"<s>", "</s>"});
  v.bos = 256;
  v.eos = 257;
  const EncodeOptions add{.add_special_tokens = true};
  EXPECT_EQ(test::ids_of(*tokenizer_of(v), "a", add), (std::vector<int32_t>{'a'}));
  v.add_bos = v.add_eos = true;
  EXPECT_EQ(test::ids_of(*tokenizer_of(v), "a", add), (std::vector<int32_t>{256, 'a', 257}));
  EXPECT_EQ(test::ids_of(*tokenizer_of(v), "a"), (std::vector<int32_t>{'a'}));
  v.pre = "llama-bpe";  // adds one unless the file says otherwise
  v.add_eos = false;
  v.add_bos.reset();
  EXPECT_EQ(test::ids_of(*tokenizer_of(v), "a", add), (std::vector<int32_t>{256, 'a'}));
  v.add_bos = false;
  EXPECT_EQ(test::ids_of(*tokenizer_of(v), "a", add), (std::vector<int32_t>{'a'}));
}

TEST(GgufSpec, ABeginTokenThatIsNoToken) {
  GgufVocab v = byte_vocab("gpt-2", {"<s>"});
  v.bos = 256;
  v.types[256] = GgufTokenType::kUnused;
  EXPECT_EQ(refusal_of(v), "") << "nobody asks for it";
  v.add_bos = true;
  EXPECT_THAT(refusal_of(v), HasSubstr("tokenizer.ggml.bos_token_id is 256, expected a token"));
}

TEST(GgufSpec, PaddingAndUnusedTokensAreNoTokens) {
  GgufVocab v = byte_vocab("gpt-2", {"[PAD256]", "<s>", "[PAD1]"});
  v.types[256] = GgufTokenType::kUserDefined;  // as old converters had it
  v.tokens.push_back("unused");
  v.types.push_back(GgufTokenType::kUnused);
  const auto t = tokenizer_of(v);
  EXPECT_FALSE(t->has_token(256));
  EXPECT_TRUE(t->is_special(257));
  EXPECT_TRUE(t->has_token(258)) << "a token that has another id than its text says is one";
  EXPECT_FALSE(t->has_token(259));
  EXPECT_EQ(test::ids_of(*t, "[PAD256]").size(), 8u);
}

TEST(GgufSpec, TokensThatOnlyLookSpecialStayText) {
  const auto t = tokenizer_of(byte_vocab("deepseek-v3", {"<｜begin▁of▁sentence｜>", "<｜User｜>",
                                                         "<｜tool▁calls▁begin｜>", "<|EOT|>"}));
  const std::vector<int32_t> ids = {256, 257, 258, 259};
  EXPECT_EQ(*t->decode(ids, true), "<｜User｜><｜tool▁calls▁begin｜>");
  EXPECT_EQ(test::ids_of(*t, "<｜begin▁of▁sentence｜><｜User｜>"),
            (std::vector<int32_t>{256, 257}));
}

TEST(GgufSpec, AddedTokensThatMergesKnowStayInTheVocabulary) {
  GgufVocab v = byte_vocab("gpt-2", {"ab"});
  v.types[256] = GgufTokenType::kUserDefined;
  v.merges = {"a b"};
  ASSERT_EQ(refusal_of(v), "");
  EXPECT_EQ(test::ids_of(*tokenizer_of(v), "xab"), (std::vector<int32_t>{'x', 256}));
}

TEST(GgufSpec, WithoutTypesTheTwoKnownTokensAreControl) {
  GgufVocab v = byte_vocab("gpt-2", {"<s>", "</s>"});
  v.types.clear();
  v.bos = 256;
  v.eos = 257;
  const auto t = tokenizer_of(v);
  EXPECT_TRUE(t->is_special(256));
  EXPECT_EQ(test::ids_of(*t, "<s>a"), (std::vector<int32_t>{256, 'a'}));
}

TEST(GgufSpec, AnEmptyControlTokenIsRefused) {
  EXPECT_THAT(refusal_of(byte_vocab("gpt-2", {""})),
              HasSubstr("tokenizer.ggml.tokens[256] is \"\""));
}

}  // namespace gguf_spec_test
}  // namespace fathom
