// Fuzzes the reader of tokenizer.json and the whole pipeline behind it.
//
// Input: one byte of mode, then
//   even: a tokenizer.json, a zero byte, a text: whatever loads must encode, decode and stream
//   alike; odd: a text for a fixed byte-level tokenizer with DeepSeek-V3's chain: it must also come
//   back.
// Foreign files may hold slow expressions (up to the match limit for every position), so their
// texts are kept short.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/tokenizer.h"

namespace fathom {
namespace {

constexpr std::size_t kMaxForeignText = 64;

std::unique_ptr<Tokenizer> fixed_tokenizer() {
  TokenizerSpec spec;
  for (int b = 0; b < 256; ++b) {
    spec.vocab.push_back({std::string(byte_to_alphabet(static_cast<uint8_t>(b))), b});
  }
  for (const MergeSpec& merge : {MergeSpec{"t", "h"},
                                 {"th", "e"},
                                 {"Ġ", "the"},
                                 {"Ġ", "Ġ"},
                                 {"ä", "¸"},
                                 {"ä¸", "Ń"},
                                 {"1", "2"},
                                 {"a", "a"},
                                 {"aa", "aa"}}) {
    spec.vocab.push_back({merge.left + merge.right, static_cast<int32_t>(spec.vocab.size())});
    spec.merges.push_back(merge);
  }
  AddedTokenSpec special{400, "<｜User｜>"};
  special.special = true;
  AddedTokenSpec normalized{401, "<think>"};
  normalized.normalized = true;
  spec.added_tokens = {special, normalized};
  for (const char* pattern : {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
                              R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)"
                              "\r\n"
                              R"(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)"
                              "\r\n"
                              R"(]*|\s*[)"
                              "\r\n"
                              R"(]+|\s+(?!\S)|\s+)"}) {
    spec.pretokenizer.emplace_back(SplitStage{pattern, true, SplitBehavior::kIsolated, false});
  }
  spec.pretokenizer.emplace_back(ByteLevelStage{.add_prefix_space = false, .use_regex = false});
  spec.decoder.kind = DecoderKind::kByteLevel;
  auto t = Tokenizer::from_spec(std::move(spec));
  FATHOM_CHECK(t.has_value()) << t.error().message;
  return std::move(t).value();
}

// Encodes, decodes and streams; returns the decoded text, or "" where encoding ends in an error.
std::string round_trip(const Tokenizer& t, std::string_view text, const EncodeOptions& options) {
  const auto ids = t.encode(text, options);
  if (!ids) {
    FATHOM_CHECK(!ids.error().message.empty());
    return "";
  }
  std::string decoded;
  for (const bool skip_special : {true, false}) {
    auto whole = t.decode(*ids, skip_special);
    FATHOM_CHECK(whole.has_value()) << whole.error().message;
    decoded = std::move(whole).value();
    std::string streamed;
    Detokenizer stream(t, skip_special);
    for (const int32_t id : *ids) {
      const std::string part = stream.push(id);
      FATHOM_CHECK(utf8_is_valid(part));
      streamed += part;
    }
    streamed += stream.finish();
    FATHOM_CHECK_EQ(streamed, decoded);
    FATHOM_CHECK(utf8_is_valid(decoded));
  }
  return decoded;
}

void fuzz_file(std::string_view input) {
  const std::size_t end = input.find('\0');
  const auto t = Tokenizer::from_json(input.substr(0, end), "fuzz.json");
  if (!t) {
    FATHOM_CHECK(utf8_is_valid(t.error().message)) << t.error().message;
    return;
  }
  if (end == std::string_view::npos) return;
  const std::string_view text = input.substr(end + 1, kMaxForeignText);
  round_trip(**t, text, {.add_special_tokens = true});
  round_trip(**t, text, {.special_as_text = true});
}

void fuzz_text(std::string_view text) {
  static const std::unique_ptr<Tokenizer> t = fixed_tokenizer();
  const std::string expected = utf8_sanitize(text);
  FATHOM_CHECK_EQ(round_trip(*t, text, {}), expected);
  FATHOM_CHECK_EQ(round_trip(*t, text, {.special_as_text = true}), expected);
}

}  // namespace
}  // namespace fathom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    fathom::fuzz_file(input);
  } else {
    fathom::fuzz_text(input);
  }
  return 0;
}
