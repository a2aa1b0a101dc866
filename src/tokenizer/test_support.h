// What the tokenizer's tests share: small tokenizers written in place, and the golden files.
//
// Owns no assertions. Not compiled into the library: only *_test.cc include it.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace fathom::test {

inline const std::string kGoldenDir = FATHOM_SOURCE_DIR "/tests/golden/data/tokenizers/";

// The whole file; files that are not gzip-compressed are read as they are.
inline std::string read_gzip(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  FATHOM_CHECK(file != nullptr) << path;
  std::string out;
  std::vector<char> block(1 << 20);
  int n = 0;
  while ((n = gzread(file, block.data(), static_cast<unsigned>(block.size()))) > 0) {
    out.append(block.data(), static_cast<std::size_t>(n));
  }
  FATHOM_CHECK_EQ(n, 0) << path;
  gzclose(file);
  return out;
}

inline std::unique_ptr<Tokenizer> tokenizer_of(std::string_view json_text) {
  auto t = Tokenizer::from_json(json_text, "tokenizer.json");
  FATHOM_CHECK(t.has_value()) << t.error().message;
  return std::move(t).value();
}

// Of a folder under tests/golden/data/tokenizers.
inline std::unique_ptr<Tokenizer> golden_tokenizer(const std::string& name) {
  const std::string plain = kGoldenDir + name + "/tokenizer.json";
  return tokenizer_of(read_gzip(std::ifstream(plain).good() ? plain : plain + ".gz"));
}

// The 256 bytes (id = byte), the given merges (ids from 256 on, in order), and no stages.
inline TokenizerSpec byte_spec(const std::vector<MergeSpec>& merges = {}) {
  TokenizerSpec spec;
  for (int b = 0; b < 256; ++b) {
    spec.vocab.push_back({std::string(byte_to_alphabet(static_cast<uint8_t>(b))), b});
  }
  for (const MergeSpec& merge : merges) {
    spec.vocab.push_back({merge.left + merge.right, static_cast<int32_t>(spec.vocab.size())});
  }
  spec.merges = merges;
  spec.pretokenizer.emplace_back(ByteLevelStage{.add_prefix_space = false, .use_regex = false});
  spec.decoder.kind = DecoderKind::kByteLevel;
  return spec;
}

inline std::unique_ptr<Tokenizer> tokenizer_of(TokenizerSpec spec) {
  auto t = Tokenizer::from_spec(std::move(spec));
  FATHOM_CHECK(t.has_value()) << t.error().message;
  return std::move(t).value();
}

inline std::vector<int32_t> ids_of(const Tokenizer& t, std::string_view text,
                                   const EncodeOptions& options = {}) {
  auto ids = t.encode(text, options);
  FATHOM_CHECK(ids.has_value()) << ids.error().message;
  return std::move(ids).value();
}

}  // namespace fathom::test
