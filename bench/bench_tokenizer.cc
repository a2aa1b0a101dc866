// Speed of encoding and decoding with DeepSeek-V3's vocabulary, one thread, in bytes of text a
// second.
//
// English and Chinese are drawn from the vocabulary's own words with frequencies falling as 1/rank
// (so that a cache sees new words as often as in real text); code is this project's. Loading is
// measured too. Run from anywhere: bench_tokenizer --benchmark_filter=Encode
#include <benchmark/benchmark.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

namespace fathom {
namespace {

constexpr std::size_t kTextBytes = 2 << 20;

const std::string& vocabulary_json() {
  static const std::string text = [] {
    const std::string path =
        FATHOM_SOURCE_DIR "/tests/golden/data/tokenizers/deepseek_v3/tokenizer.json.gz";
    gzFile file = gzopen(path.c_str(), "rb");
    FATHOM_CHECK(file != nullptr) << path;
    std::string out;
    std::vector<char> block(1 << 20);
    for (int n; (n = gzread(file, block.data(), static_cast<unsigned>(block.size()))) > 0;) {
      out.append(block.data(), static_cast<std::size_t>(n));
    }
    gzclose(file);
    return out;
  }();
  return text;
}

const Tokenizer& tokenizer() {
  static const std::unique_ptr<Tokenizer> t = [] {
    auto made = Tokenizer::from_json(vocabulary_json(), "deepseek_v3/tokenizer.json");
    FATHOM_CHECK(made.has_value()) << made.error().message;
    return std::move(made).value();
  }();
  return *t;
}

// A rank from 0 to n - 1 with probability falling as 1/(rank + 1), nearly.
std::size_t zipf(std::mt19937_64& random, std::size_t n) {
  const double u = std::uniform_real_distribution<double>(0, 1)(random);
  return std::min(n - 1, static_cast<std::size_t>(std::pow(static_cast<double>(n), u)) - 1);
}

bool is_word(std::string_view bytes) {
  if (bytes.size() < 2 || bytes[0] != ' ') return false;
  for (const char c : bytes.substr(1)) {
    if (c < 'a' || c > 'z') return false;
  }
  return true;
}

bool is_chinese(std::string_view bytes) {
  if (bytes.empty() || !utf8_is_valid(bytes)) return false;
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t n = utf8_valid_length(bytes, i);
    const char32_t c = utf8_decode(bytes, i, n);
    if (c < 0x4E00 || c > 0x9FA5) return false;
    i += n;
  }
  return true;
}

// Sentences of 5 to 20 words.
std::string sentences(bool (*wanted)(std::string_view), std::string_view comma,
                      std::string_view stop) {
  std::vector<std::string_view> words;  // common ones first: ids follow the order of the merges
  for (int32_t id = 0; id < tokenizer().vocab_size(); ++id) {
    if (wanted(tokenizer().token_bytes(id))) words.push_back(tokenizer().token_bytes(id));
  }
  std::mt19937_64 random(1);
  std::string text;
  while (text.size() < kTextBytes) {
    for (std::size_t left = 5 + random() % 16; left > 0; --left) {
      text += words[zipf(random, words.size())];
      if (random() % 8 == 0) text += comma;
    }
    text += random() % 6 == 0 ? "\n\n" : stop;
  }
  return text;
}

std::string project_code() {
  std::string text;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(FATHOM_SOURCE_DIR "/src")) {
    if (!entry.is_regular_file() || text.size() > kTextBytes) continue;
    std::ifstream file(entry.path());
    std::stringstream content;
    content << file.rdbuf();
    text += content.str();
  }
  return text;
}

void encode(benchmark::State& state, const std::string& text) {
  std::size_t tokens = 0;
  for (auto _ : state) {
    const auto ids = tokenizer().encode(text);
    FATHOM_CHECK(ids.has_value()) << ids.error().message;
    tokens = ids->size();
    benchmark::DoNotOptimize(tokens);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
  state.counters["bytes_per_token"] =
      static_cast<double>(text.size()) / static_cast<double>(tokens);
}

void BM_EncodeEnglish(benchmark::State& state) { encode(state, sentences(is_word, ",", ".")); }
void BM_EncodeChinese(benchmark::State& state) { encode(state, sentences(is_chinese, "，", "。")); }
void BM_EncodeCode(benchmark::State& state) { encode(state, project_code()); }
BENCHMARK(BM_EncodeEnglish)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_EncodeChinese)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_EncodeCode)->Unit(benchmark::kMillisecond);

void BM_EncodeShortPrompt(benchmark::State& state) {
  const std::string text =
      "<｜begin▁of▁sentence｜><｜User｜>Please explain RoPE in two sentences.<｜Assistant｜>";
  encode(state, text);
}
BENCHMARK(BM_EncodeShortPrompt)->Unit(benchmark::kMicrosecond);

void BM_Decode(benchmark::State& state) {
  const std::string text = sentences(is_word, ",", ".");
  const auto ids = tokenizer().encode(text);
  FATHOM_CHECK(ids.has_value());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer().decode(*ids)->size());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

void BM_Load(benchmark::State& state) {
  const std::string& text = vocabulary_json();
  for (auto _ : state) {
    benchmark::DoNotOptimize(Tokenizer::from_json(text, "tokenizer.json")->get());
  }
}
BENCHMARK(BM_Load)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fathom
