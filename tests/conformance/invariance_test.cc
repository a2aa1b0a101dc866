// The law of determinism (ARCHITECTURE.md): the bytes of a position's logits depend on the tokens
// before it and on its class, never on the chunk, the batch, the threads or an interruption.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "engine/engine.h"
#include "support/backend.h"
#include "support/golden.h"

namespace fathom::test {
namespace {

// Prompts of the fixture that are long enough to cross pages and row blocks.
std::vector<std::vector<int32_t>> long_prompts(const std::string& dir) {
  const Golden golden(dir);
  std::vector<std::vector<int32_t>> out;
  for (int i = 0; golden.has("p" + std::to_string(i) + ".input_ids"); ++i) {
    auto ids = golden.ids("p" + std::to_string(i) + ".input_ids");
    if (ids.size() > 170) ids.resize(170);
    out.push_back(std::move(ids));
  }
  return out;
}

void expect_same_bytes(const std::vector<float>& a, const std::vector<float>& b,
                       const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) return;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) == 0) continue;
    ADD_FAILURE() << what << ": logit " << i << " is " << a[i] << ", expected exactly " << b[i];
    return;
  }
}

// Logits of the last token of each prompt, all prompts in one step; class as given.
std::vector<std::vector<float>> batched_last_logits(
    const Model& model, Ops& ops, const std::vector<std::vector<int32_t>>& prompts,
    PositionClass position_class, DType kv_type) {
  int64_t total = 0;
  for (const auto& p : prompts) total += static_cast<int64_t>(p.size()) + 4 * kDefaultPageTokens;
  KvCache cache =
      *KvCache::create(model.kv_layers(), {.capacity_tokens = total,
                                           .type = kv_type,
                                           .window_tokens = model.window_tokens(),
                                           .window_sequences = static_cast<int64_t>(prompts.size()),
                                           .memory = &ops.memory()});
  std::vector<PageTables> tables(prompts.size());
  StepBuilder builder;
  std::vector<int32_t> rows;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    FATHOM_CHECK(cache.cover(static_cast<int64_t>(prompts[i].size()), tables[i]));
    builder.add(prompts[i], 0, position_class, tables[i]);
    rows.push_back(static_cast<int32_t>(builder.rows() - 1));
  }
  Workspace workspace(ops.memory()), host;
  const ModelContext context{ops, workspace};
  const TensorView hidden = model.forward(context, builder.step(cache)).hidden;
  const TensorView picked = workspace.f32(static_cast<int64_t>(rows.size()), hidden.cols);
  TensorView logits = workspace.f32(picked.rows, model.info().vocab_size);
  ops.gather_rows({.x = hidden, .rows = rows, .out = picked});
  model.logits(context, picked, logits);
  logits = ops.on_host(logits, host);
  std::vector<std::vector<float>> out;
  for (int64_t i = 0; i < logits.rows; ++i)
    out.emplace_back(logits.f32(i), logits.f32(i) + logits.cols);
  return out;
}

struct Setting {
  std::string name;
  ComputeType compute = ComputeType::kAuto;
  std::optional<DType> weights;  // encoded so; none = as the file has them
  DType kv = DType::kF32;
};

const std::vector<Setting> kSettings = {
    {.name = "f32"},
    {.name = "bf16", .compute = ComputeType::kBF16, .kv = DType::kF16},
    {.name = "q8_0", .weights = DType::kQ8_0, .kv = DType::kBF16},
    {.name = "q4_0", .weights = DType::kQ4_0, .kv = DType::kQ8_0},
    {.name = "q4_1", .weights = DType::kQ4_1, .kv = DType::kF16},
    {.name = "q4_k", .weights = DType::kQ4_K, .kv = DType::kBF16},
    {.name = "q6_k", .weights = DType::kQ6_K, .kv = DType::kBF16},
};

class InvarianceTest : public testing::TestWithParam<std::tuple<std::string, Setting>> {
 protected:
  std::string dir() const {
    const std::string& name = std::get<0>(GetParam());
    return name == "nano" ? nano_dir() : data_dir() + "/" + name;
  }
  const Setting& setting() const { return std::get<1>(GetParam()); }
  ComputeType compute() const { return setting().compute; }
  OpenModel open_it() const { return open_model(dir(), setting().weights); }
  // Q8_0 rows are whole blocks; where the model's are not, F16 takes its place.
  DType kv(const Model& model) const {
    for (const KvLayerSpec& l : model.kv_layers())
      if (!l.exact && l.row_elements % dtype_block(setting().kv).elements != 0) return DType::kF16;
    return setting().kv;
  }
};

TEST_P(InvarianceTest, ChunksAndThreads) {
  const OpenModel open = open_it();
  const DType kv_type = kv(*open.model);
  const auto prompt = long_prompts(dir()).back();
  ASSERT_GT(prompt.size(), 20u);
  const auto backend = make_backend({.threads = 2, .compute = compute()});
  const auto alone = make_backend({.threads = 1, .compute = compute()});
  Ops &two = *backend, &one = *alone;
  const auto whole = all_logits(*open.model, two, prompt, {.chunk = 1 << 20, .kv_type = kv_type});
  for (const int64_t chunk : {1, 7, 64}) {
    expect_same_bytes(all_logits(*open.model, two, prompt, {.chunk = chunk, .kv_type = kv_type}),
                      whole, "chunk " + std::to_string(chunk));
  }
  expect_same_bytes(all_logits(*open.model, one, prompt, {.chunk = 64, .kv_type = kv_type}), whole,
                    "1 thread");
  expect_same_bytes(all_logits(*open.model, two, prompt, {.chunk = 1 << 20, .kv_type = kv_type}),
                    whole, "again");
  if (open.model->info().mtp_layers > 0) {
    const auto mtp =
        all_logits(*open.model, two, prompt, {.chunk = 1 << 20, .kv_type = kv_type}, true);
    expect_same_bytes(all_logits(*open.model, one, prompt, {.chunk = 7, .kv_type = kv_type}, true),
                      mtp, "mtp");
  }
}

TEST_P(InvarianceTest, GeneratedPositionsReplayedManyAtOnce) {
  const OpenModel open = open_it();
  const DType kv_type = kv(*open.model);
  const auto prompt = long_prompts(dir()).back();
  const auto backend = make_backend({.threads = 2, .compute = compute()});
  const auto alone = make_backend({.threads = 1, .compute = compute()});
  Ops &two = *backend, &one = *alone;
  const int64_t border = 10;
  const auto stepwise = all_logits(*open.model, two, prompt,
                                   {.chunk = 1, .kv_type = kv_type, .generated_from = border});
  for (const int64_t chunk : {7, 64, 1 << 20}) {
    expect_same_bytes(all_logits(*open.model, one, prompt,
                                 {.chunk = chunk, .kv_type = kv_type, .generated_from = border}),
                      stepwise, "replay in chunks of " + std::to_string(chunk));
  }
}

TEST_P(InvarianceTest, Batches) {
  const OpenModel open = open_it();
  const DType kv_type = kv(*open.model);
  auto prompts = long_prompts(dir());
  while (prompts.size() < 8) {  // shorter and shorter starts of the longest one
    auto p = prompts.back();
    p.resize(p.size() * 2 / 3 + 1);
    prompts.push_back(std::move(p));
  }
  prompts.resize(8);
  const auto backend = make_backend({.threads = 2, .compute = compute()});
  Ops& ops = *backend;
  for (const PositionClass c : {PositionClass::kPrompt, PositionClass::kGenerated}) {
    const auto together = batched_last_logits(*open.model, ops, prompts, c, kv_type);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto alone = batched_last_logits(*open.model, ops, {prompts[i]}, c, kv_type);
      expect_same_bytes(together[i], alone[0], "prompt " + std::to_string(i) + " in a batch of 8");
    }
  }
}

// Answers at temperature 1: all requests at once, one by one, and taken up again after every few
// tokens by another engine (what happens when a worker dies).
TEST_P(InvarianceTest, InterruptedAnswersGoOnWithTheSameTokens) {
  const OpenModel open = open_it();
  const DType kv_type = kv(*open.model);
  const auto prompts = long_prompts(dir());
  const auto backend = make_backend({.threads = 2, .compute = compute()});
  Ops& ops = *backend;
  const int64_t count = 24;
  const auto request = [&](std::size_t i, std::vector<int32_t> emitted) {
    return Request{.prompt = prompts[i],
                   .emitted = std::move(emitted),
                   .sampling = {.temperature = 1, .seed = 1000 + i},
                   .max_tokens = count};
  };
  std::vector<std::vector<int32_t>> together(prompts.size());
  {
    auto engine = *Engine::create(
        *open.model, ops, {.cache_tokens = 8192, .max_batch_tokens = 100, .kv_type = kv_type});
    std::vector<uint64_t> ids;
    for (std::size_t i = 0; i < prompts.size(); ++i) ids.push_back(*engine->submit(request(i, {})));
    std::vector<TokenEvent> events;
    while (engine->step(events)) {
    }
    for (const TokenEvent& e : events)
      for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] == e.request_id) together[i].push_back(e.sampled.token);
    engine->clear_prefix_cache();
    EXPECT_EQ(engine->cache().pages().free(), engine->cache().pages().total());
  }
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t> emitted;
    while (static_cast<int64_t>(emitted.size()) < count) {
      auto engine = *Engine::create(*open.model, ops,
                                    {.cache_tokens = 1024, .prefill_chunk = 5, .kv_type = kv_type});
      const auto id = engine->submit(request(i, emitted));
      ASSERT_TRUE(id) << id.error().message;
      std::vector<TokenEvent> events;
      for (std::size_t want = 1 + emitted.size() % 7;
           events.size() < want && engine->step(events);) {
      }
      for (const TokenEvent& e : events) emitted.push_back(e.sampled.token);
    }
    EXPECT_EQ(emitted, together[i]) << "prompt " << i;
  }
}

std::vector<std::string> all_models() {
  auto names = fixtures();
  names.push_back("nano");
  return names;
}

std::string test_name(const testing::TestParamInfo<InvarianceTest::ParamType>& test) {
  return std::get<0>(test.param) + "_" + std::get<1>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(Models, InvarianceTest,
                         testing::Combine(testing::ValuesIn(all_models()),
                                          testing::ValuesIn(kSettings)),
                         test_name);

}  // namespace
}  // namespace fathom::test
