// What constrained decoding costs with DeepSeek-V3's vocabulary of 128,815 tokens: compiling a
// schema, a mask found for the first time, a mask from the cache, and taking a token.
//
// The text that is followed is an answer to each schema, tokenized as a model would write it; times
// are per token. Run from anywhere: bench_grammar --benchmark_filter=Mask
#include <benchmark/benchmark.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"
#include "tokenizer/tokenizer.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

const Tokenizer& tokenizer() {
  static const std::unique_ptr<Tokenizer> t = [] {
    const std::string path =
        FATHOM_SOURCE_DIR "/tests/golden/data/tokenizers/deepseek_v3/tokenizer.json.gz";
    gzFile file = gzopen(path.c_str(), "rb");
    FATHOM_CHECK(file != nullptr) << path;
    std::string text;
    std::vector<char> block(1 << 20);
    for (int n; (n = gzread(file, block.data(), static_cast<unsigned>(block.size()))) > 0;)
      text.append(block.data(), static_cast<std::size_t>(n));
    gzclose(file);
    auto made = Tokenizer::from_json(text, path);
    FATHOM_CHECK(made.has_value()) << made.error().message;
    return std::move(made).value();
  }();
  return *t;
}

const std::shared_ptr<const TokenMasker>& masker() {
  static const std::shared_ptr<const TokenMasker> m = [] {
    auto made = TokenMasker::create(tokenizer());
    FATHOM_CHECK(made.has_value()) << made.error().message;
    return std::move(made).value();
  }();
  return m;
}

struct Case {
  const char* schema;  // empty: any JSON object
  const char* answer;
};

const Case kCases[] = {
    {"",
     R"({"name": "Ada Lovelace", "born": 1815, "fields": ["mathematics", "computing"], "notes": {"first": true, "quote": "The Analytical Engine weaves algebraic patterns."}})"},
    {R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"email":{"type":"string","format":"email"},"role":{"enum":["admin","editor","viewer"]},"tags":{"type":"array","items":{"type":"string"},"maxItems":5}},"required":["name","age","email","role","tags"],"additionalProperties":false})",
     R"({"name": "Ada Lovelace", "age": 36, "email": "ada@example.org", "role": "editor", "tags": ["mathematics", "poetry", "engines"]})"},
    {R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"title":{"type":"string","maxLength":80},"children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["title","children"],"additionalProperties":false}}})",
     R"({"title": "A root that says what the tree is about", "children": [{"title": "first branch", "children": []}, {"title": "second branch", "children": [{"title": "leaf", "children": []}]}]})"},
    {R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"},"c":{"type":"string"},"d":{"type":"string"},"e":{"type":"string"},"f":{"type":"string"},"g":{"type":"string"},"h":{"type":"string"},"i":{"type":"string"},"j":{"type":"string"},"k":{"type":"string"},"l":{"type":"string"},"m":{"type":"string"},"n":{"type":"string"}},"additionalProperties":{"type":"number"}})",
     R"({"b": "optional keys", "f": "are many ways", "m": "to go on", "more": 12.5, "still more": 7})"},
};

std::shared_ptr<const Grammar> compile(const Case& c) {
  auto made = *c.schema == '\0' ? compile_json_object() : compile_json_schema(c.schema);
  FATHOM_CHECK(made.has_value()) << made.error().message;
  return std::move(made).value();
}

std::vector<int32_t> ids_of(const Case& c) {
  auto ids = tokenizer().encode(c.answer);
  FATHOM_CHECK(ids.has_value()) << ids.error().message;
  return std::move(ids).value();
}

void follow(const std::shared_ptr<const Grammar>& grammar, const std::vector<int32_t>& ids,
            std::vector<double>* mask_us) {
  static const int32_t stop[] = {1};
  Matcher matcher(grammar, masker(), stop);
  std::vector<uint64_t> bits(masker()->mask_words());
  for (const int32_t id : ids) {
    const auto begin = Clock::now();
    matcher.fill_mask(bits);
    if (mask_us != nullptr)
      mask_us->push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    FATHOM_CHECK(matcher.accept(id)) << "token " << id;
  }
  FATHOM_CHECK(matcher.complete());
}

void BM_Compile(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(compile(kCases[state.range(0)]));
}
BENCHMARK(BM_Compile)->DenseRange(0, 3)->Unit(benchmark::kMicrosecond);

// Every mask of an answer with a grammar that is new each time.
void BM_ColdMask(benchmark::State& state) {
  const Case& c = kCases[state.range(0)];
  const std::vector<int32_t> ids = ids_of(c);
  std::vector<double> us;
  for (auto _ : state) {
    const auto grammar = compile(c);
    follow(grammar, ids, &us);
  }
  std::sort(us.begin(), us.end());
  state.counters["tokens"] = static_cast<double>(ids.size());
  state.counters["p50_us"] = us[us.size() / 2];
  state.counters["p90_us"] = us[us.size() * 9 / 10];
  state.counters["max_us"] = us.back();
}
BENCHMARK(BM_ColdMask)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);

void BM_CachedMask(benchmark::State& state) {
  const Case& c = kCases[state.range(0)];
  const std::vector<int32_t> ids = ids_of(c);
  const auto grammar = compile(c);
  follow(grammar, ids, nullptr);
  std::vector<double> us;
  for (auto _ : state) follow(grammar, ids, &us);
  std::sort(us.begin(), us.end());
  state.counters["p50_us"] = us[us.size() / 2];
  state.counters["p99_us"] = us[us.size() * 99 / 100];
  state.counters["grammar_bytes"] = static_cast<double>(grammar->memory_bytes());
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * ids.size()));
}
BENCHMARK(BM_CachedMask)->DenseRange(0, 3)->Unit(benchmark::kMicrosecond);

void BM_MakeMasker(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(TokenMasker::create(tokenizer())->get());
  state.counters["bytes"] = static_cast<double>(masker()->memory_bytes());
}
BENCHMARK(BM_MakeMasker)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fathom
