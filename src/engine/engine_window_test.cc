// Tests of the engine on a model whose cache has window pages and rows that stand for several
// tokens: reuse, preemption and other processes must give the tokens of an undisturbed run.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/engine.h"
#include "engine/test_support.h"
#include "ops/reference/reference_ops.h"

namespace fathom {
namespace engine_window_test {

using test::FakeTier;
using test::kVocab;
using test::mix;

constexpr int64_t kWindow = 40;  // tokens before the one computed
constexpr int64_t kRate = 4;

// Row kinds: 0 one for kRate tokens, 1 the window's, 2 the window's of the MTP module. The hidden
// state is a hash of everything that a token may read.
class WindowModel : public Model {
 public:
  explicit WindowModel(bool mtp) {
    info_ = {.name = "window",
             .vocab_size = kVocab,
             .hidden_size = 1,
             .mtp_layers = mtp ? 1 : 0,
             .max_context_tokens = 700};
  }
  std::vector<KvLayerSpec> kv_layers() const override {
    std::vector<KvLayerSpec> specs = {{.row_elements = 1, .tokens_per_row = kRate},
                                      {.row_elements = 2, .window = true}};
    if (info_.mtp_layers > 0) specs.push_back({.row_elements = 1, .window = true, .mtp = true});
    return specs;
  }
  int64_t window_tokens() const override { return kWindow; }

  ModelOutput forward(const ModelContext& context, const Step& step) const override {
    const auto rows = static_cast<int64_t>(step.token_ids.size());
    rows_computed += rows;
    const TensorView hidden = context.workspace.f32(rows, 1);
    for (const SequenceRows& s : step.sequences) {
      for (int64_t i = 0; i < s.num_rows; ++i) {
        const int64_t row = s.first_row + i, position = s.start_position + i;
        float* const own = cell(step.kv[1], s, position);
        own[0] = static_cast<float>(step.token_ids[static_cast<std::size_t>(row)]);
        own[1] = static_cast<float>(position);
        if ((position + 1) % kRate == 0) {
          uint64_t sum = 3;
          for (int64_t p = position + 1 - kRate; p <= position; ++p)
            sum = mix(sum, static_cast<uint64_t>(cell(step.kv[1], s, p)[0]));
          *cell(step.kv[0], s, position / kRate) = static_cast<float>(sum >> 42);
        }
        uint64_t hash = 7;
        for (int64_t w = 0; w < step.kv[0].visible_rows(position); ++w)
          hash = mix(hash, static_cast<uint64_t>(*cell(step.kv[0], s, w)));
        for (int64_t p = std::max<int64_t>(position - kWindow, 0); p <= position; ++p) {
          const float* const past = cell(step.kv[1], s, p);
          EXPECT_EQ(past[1], static_cast<float>(p));
          hash = mix(hash, static_cast<uint64_t>(past[0]));
        }
        *hidden.f32(row) = static_cast<float>(hash >> 40);
      }
    }
    return {.hidden = hidden, .mtp_input = hidden};
  }
  void logits(const ModelContext&, const TensorView& hidden, const TensorView& out) const override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t v = 0; v < kVocab; ++v)
        out.f32(r)[v] = static_cast<float>(
            6 * 0x1p-24 *
            static_cast<double>(
                mix(static_cast<uint64_t>(*hidden.f32(r)), static_cast<uint64_t>(v)) >> 40));
  }
  // Guesses badly, and writes its rows, as MTP modules do.
  TensorView mtp_forward(const ModelContext& context, const Step& step,
                         const TensorView& input) const override {
    const TensorView out = context.workspace.f32(input.rows, 1);
    for (const SequenceRows& s : step.sequences) {
      for (int64_t i = 0; i < s.num_rows; ++i) {
        *cell(step.kv[2], s, s.start_position + i) = 1;
        *out.f32(s.first_row + i) = *input.f32(s.first_row + i);
      }
    }
    return out;
  }

  mutable int64_t rows_computed = 0;

 private:
  static float* cell(const KvPages& kv, const SequenceRows& s, int64_t row) {
    return reinterpret_cast<float*>(kv.row(s, row));
  }
};

class WindowTest : public testing::TestWithParam<bool> {
 protected:
  WindowTest() : model_(GetParam()), fd_(::memfd_create("test", MFD_CLOEXEC)) {}
  ~WindowTest() override { ::close(fd_); }

  std::unique_ptr<Engine> engine(EngineOptions options, std::unique_ptr<PageTier> tier = nullptr) {
    options.speculate_up_to = GetParam() ? 4 : 0;
    auto e = Engine::create(model_, ops_, options, std::move(tier));
    EXPECT_TRUE(e) << e.error().message;
    return *std::move(e);
  }
  static std::map<uint64_t, std::vector<int32_t>> run(Engine& e) {
    std::map<uint64_t, std::vector<int32_t>> out;
    std::vector<TokenEvent> events;
    while (e.step(events)) {
    }
    for (const TokenEvent& event : events) out[event.request_id].push_back(event.sampled.token);
    return out;
  }
  std::vector<int32_t> alone(const Request& request) {
    const auto e = engine({.prefix_cache = false});
    EXPECT_TRUE(e->submit(request));
    return run(*e).begin()->second;
  }
  static std::vector<int32_t> numbers(int64_t count, int32_t first) {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < count; ++i)
      out.push_back(static_cast<int32_t>((first + 7 * i + i * i % 5) % kVocab));
    return out;
  }
  static void expect_all_free(Engine& e) {
    e.clear_prefix_cache();
    EXPECT_EQ(e.cache().pages().free(), e.cache().pages().total());
    EXPECT_EQ(e.cache().window_pages().free(), e.cache().window_pages().total());
  }

  WindowModel model_;
  ReferenceOps ops_;
  int fd_;
};

TEST_P(WindowTest, LongSequencesHoldFewWindowPages) {
  const auto e = engine({.cache_tokens = 640, .max_sequences = 1, .prefill_chunk = 33});
  ASSERT_TRUE(e->submit({.prompt = numbers(300, 1), .max_tokens = 200}));
  const int64_t total = e->cache().window_pages().total();
  EXPECT_LT(total, 640 / kWindowPageTokens * 2);
  std::vector<TokenEvent> events;
  while (e->step(events)) {
  }
  EXPECT_EQ(events.size(), 200u);
  expect_all_free(*e);
}

TEST_P(WindowTest, PromptsSharePagesWhereTheirWindowsAreKept) {
  const auto e = engine({.cache_tokens = 4000});
  const Request first{.prompt = numbers(300, 1), .max_tokens = 5};
  ASSERT_TRUE(e->submit(first));
  EXPECT_EQ(run(*e).begin()->second, alone(first));
  ASSERT_TRUE(e->submit(first));
  EXPECT_EQ(run(*e).begin()->second, alone(first));
  EXPECT_EQ(e->stats().prefix_hits, 256);  // four pages of 64, the last of the prompt

  // Parts from it behind 200 tokens: there is no window at 192 yet, only the way to it.
  Request other = first;
  for (std::size_t i = 200; i < 300; ++i) other.prompt[i] = 3;
  ASSERT_TRUE(e->submit(other));
  EXPECT_EQ(run(*e).begin()->second, alone(other));
  EXPECT_EQ(e->stats().prefix_hits, 256);
  // Now two sequences have passed there, and the third goes on from it.
  for (std::size_t i = 200; i < 300; ++i) other.prompt[i] = 4;
  ASSERT_TRUE(e->submit(other));
  EXPECT_EQ(run(*e).begin()->second, alone(other));
  EXPECT_EQ(e->stats().prefix_hits, 256 + 192);
  expect_all_free(*e);
}

TEST_P(WindowTest, TheSecondTierKeepsWindowsToo) {
  FakeTier::Hand hand;
  const Request request{.prompt = numbers(300, 1), .max_tokens = 70};
  const auto tier = [&] { return std::make_unique<FakeTier>(hand); };
  {
    const auto e = engine({.cache_tokens = 4000}, tier());
    ASSERT_TRUE(e->submit(request));
    EXPECT_EQ(run(*e).begin()->second, alone(request));
    EXPECT_TRUE(e->flush_tier(std::chrono::seconds(1)));
  }
  const auto expected = alone(request);
  {
    const auto e = engine({.cache_tokens = 4000}, tier());
    const int64_t before = model_.rows_computed;
    ASSERT_TRUE(e->submit(request));
    EXPECT_EQ(run(*e).begin()->second, expected);
    EXPECT_EQ(e->stats().prefix_hits, 256);
    EXPECT_LT(model_.rows_computed - before, 2 * (300 - 256 + 70));
    EXPECT_TRUE(e->flush_tier(std::chrono::seconds(1)));
    std::vector<TokenEvent> none;
    EXPECT_FALSE(e->step(none));
    expect_all_free(*e);
  }
  {
    // The prefix cache and who runs hold the window pages: some of the cache's go.
    const auto e = engine(
        {.cache_tokens = 8000, .max_sequences = 2, .max_batch_tokens = 16, .prefill_chunk = 16},
        tier());
    for (int32_t first = 2; first < 32; ++first) {
      ASSERT_TRUE(e->submit({.prompt = numbers(300, first), .max_tokens = 1}));
      run(*e);
    }
    std::vector<TokenEvent> events;
    ASSERT_TRUE(e->submit({.prompt = numbers(300, 50), .max_tokens = 300}));
    const int64_t needed = e->cache().kept_window_pages(256);
    for (int i = 0; i < 200 && e->cache().window_pages().free() >= needed; ++i) e->step(events);
    ASSERT_LT(e->cache().window_pages().free(), needed);
    const int64_t hits = e->stats().prefix_hits;
    const uint64_t id = *e->submit(request);
    EXPECT_EQ(run(*e)[id], expected);
    EXPECT_EQ(e->stats().prefix_hits - hits, 256);
  }
  // Without the last window the way leads to the one before it, or to none at all.
  Request shorter = request;
  shorter.prompt.resize(200);
  shorter.prompt.push_back(3);
  const auto e = engine({.cache_tokens = 4000}, tier());
  ASSERT_TRUE(e->submit(shorter));
  EXPECT_EQ(run(*e).begin()->second, alone(shorter));
  EXPECT_EQ(e->stats().prefix_hits, 0);
  EXPECT_TRUE(e->flush_tier(std::chrono::seconds(1)));
  std::vector<TokenEvent> none;
  EXPECT_FALSE(e->step(none));
  expect_all_free(*e);
}

TEST_P(WindowTest, CrowdedCachesChangeNoToken) {
  std::mt19937 rng(11);
  FakeTier::Hand hand;
  int64_t hits = 0, preemptions = 0;
  for (int round = 0; round < 40; ++round) {
    const auto e = engine({.cache_tokens = 300 + static_cast<int64_t>(rng() % 300),
                           .max_sequences = 1 + static_cast<int64_t>(rng() % 5),
                           .max_batch_tokens = 1 + static_cast<int64_t>(rng() % 80),
                           .prefill_chunk = 1 + static_cast<int64_t>(rng() % 80),
                           .page_tokens = 32},
                          round % 2 == 0 ? nullptr : std::make_unique<FakeTier>(hand));
    hand.hold_stores = rng() % 2 == 0;
    std::map<uint64_t, Request> requests;
    for (int i = 0; i < 8; ++i) {
      const auto length = 1 + static_cast<int64_t>(rng() % 180);
      Request r{.prompt = numbers(length, static_cast<int32_t>(rng() % 2)),
                .max_tokens = 1 + static_cast<int64_t>(rng() % 90)};
      r.sampling.seed = rng();
      requests[*e->submit(r)] = r;
    }
    const auto outcomes = run(*e);
    for (const auto& [id, request] : requests)
      ASSERT_EQ(outcomes.at(id), alone(request)) << "round " << round;
    hits += e->stats().prefix_hits;
    preemptions += e->stats().preemptions;
    hand.hold_stores = false;
    EXPECT_TRUE(e->flush_tier(std::chrono::seconds(1)));
    std::vector<TokenEvent> none;
    EXPECT_FALSE(e->step(none));
    expect_all_free(*e);
  }
  EXPECT_GT(hits, 1000);
  EXPECT_GT(preemptions, 10);
}

TEST_P(WindowTest, AnotherProcessGoesOnFromTheLastPage) {
  const EngineOptions shared{
      .cache_tokens = 640, .page_tokens = 32, .shared_memory = SharedKvMemory{fd_, "a"}};
  const Request request{.prompt = numbers(150, 3), .max_tokens = 120};
  const std::vector<int32_t> whole = alone(request);
  auto first = engine(shared);
  ASSERT_TRUE(first->submit(request));
  std::vector<TokenEvent> events;
  while (events.size() < 60) first->step(events);
  Request rest = request;
  for (const TokenEvent& e : events) rest.emitted.push_back(e.sampled.token);
  first.reset();
  const auto second = engine(shared);
  const int64_t before = model_.rows_computed;
  ASSERT_TRUE(second->submit(rest));
  while (second->step(events)) {
  }
  std::vector<int32_t> tokens;
  for (const TokenEvent& e : events) tokens.push_back(e.sampled.token);
  EXPECT_EQ(tokens, whole);
  // What was computed after the last full page, the rest of the answer, and refused drafts.
  EXPECT_LT(model_.rows_computed - before, 32 + 60 + (GetParam() ? 62 : 2));
  expect_all_free(*second);
}

TEST_P(WindowTest, DamagedWindowPagesAreNotUsed) {
  const EngineOptions shared{
      .cache_tokens = 640, .page_tokens = 32, .shared_memory = SharedKvMemory{fd_, "a"}};
  const Request request{.prompt = numbers(150, 3), .max_tokens = 1};
  {
    const auto first = engine(shared);
    ASSERT_TRUE(first->submit(request));
    run(*first);
    const KvPages& window = first->cache().layers()[1];
    for (int64_t page = 0; page < first->cache().window_pages().total(); ++page)
      reinterpret_cast<float*>(window.data + page * window.page_stride_bytes)[10] += 1;
  }
  const auto second = engine(shared);
  EXPECT_EQ(second->stats().pages_cached, 4);
  ASSERT_TRUE(second->submit(request));
  EXPECT_EQ(run(*second).begin()->second, alone(request));
  EXPECT_EQ(second->stats().prefix_hits, 0);
}

INSTANTIATE_TEST_SUITE_P(Drafts, WindowTest, testing::Bool());

}  // namespace engine_window_test
}  // namespace fathom
