// Tests of what serving needs of the engine: shared prefixes, tenants, priorities, preemption,
// speculation and constraints. As in engine_test.cc, the model's logits are a hash of everything
// that a sequence has in the cache, so that a row missing or wrong changes every later token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "engine/engine.h"
#include "ops/reference/reference_ops.h"

namespace fathom {
namespace engine_serving_test {

using testing::HasSubstr;

constexpr int64_t kVocab = 61;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 29;
}

// Layer 0 keeps the token, layer 1 (MTP) the token that follows it. The hidden state is the hash of
// the tokens so far; the MTP module guesses right three times of four.
class HashModel : public Model {
 public:
  explicit HashModel(bool mtp = false) {
    info_.name = "hash";
    info_.vocab_size = kVocab;
    info_.hidden_size = 4;
    info_.max_context_tokens = 200;
    info_.mtp_layers = mtp ? 1 : 0;
  }
  std::vector<KvLayerSpec> kv_layers() const override {
    return info_.mtp_layers > 0 ? std::vector<KvLayerSpec>{{2}, {.row_elements = 1, .mtp = true}}
                                : std::vector<KvLayerSpec>{{2}};
  }
  ModelOutput forward(const ModelContext& context, const Step& step) const override {
    const auto rows = static_cast<int64_t>(step.token_ids.size());
    rows_computed += rows;
    const TensorView hidden = context.workspace.f32(rows, info_.hidden_size);
    for (const SequenceRows& s : step.sequences) {
      for (int64_t i = 0; i < s.num_rows; ++i) {
        const int64_t row = s.first_row + i, position = s.start_position + i;
        auto* cell = reinterpret_cast<float*>(step.kv[0].row(s, position));
        cell[0] = static_cast<float>(step.token_ids[static_cast<std::size_t>(row)]);
        cell[1] = static_cast<float>(position);
        uint64_t hash = 7;
        for (int64_t p = 0; p <= position; ++p) {
          const auto* past = reinterpret_cast<const float*>(step.kv[0].row(s, p));
          EXPECT_EQ(past[1], static_cast<float>(p));
          hash = mix(hash, static_cast<uint64_t>(past[0]));
        }
        store(hash, hidden.f32(row));
      }
    }
    return {.hidden = hidden, .mtp_input = hidden};
  }
  void logits(const ModelContext&, const TensorView& hidden, const TensorView& out) const override {
    for (int64_t r = 0; r < out.rows; ++r) write_logits(load(hidden.f32(r)), out.f32(r));
  }
  TensorView mtp_forward(const ModelContext& context, const Step& step,
                         const TensorView& hidden) const override {
    EXPECT_EQ(hidden.rows, static_cast<int64_t>(step.token_ids.size()));
    mtp_rows += hidden.rows;
    const TensorView out = context.workspace.f32(hidden.rows, info_.hidden_size);
    for (const SequenceRows& s : step.sequences) {
      for (int64_t i = 0; i < s.num_rows; ++i) {
        const int64_t row = s.first_row + i;
        auto* cell = reinterpret_cast<float*>(step.kv[1].row(s, s.start_position + i));
        cell[0] = static_cast<float>(step.token_ids[static_cast<std::size_t>(row)]);
        // What the main model will have as its hash once the following token is computed too.
        uint64_t hash = mix(load(hidden.f32(row)), static_cast<uint64_t>(cell[0]));
        if (hash % 4 == 0) hash += 1 << 20;
        store(hash, out.f32(row));
      }
    }
    return out;
  }

  mutable int64_t rows_computed = 0, mtp_rows = 0;

 private:
  static void store(uint64_t hash, float* h) {
    for (int part = 0; part < 4; ++part)
      h[part] = static_cast<float>(hash >> (48 - 16 * part) & 0xFFFF);
  }
  static uint64_t load(const float* h) {
    uint64_t hash = 0;
    for (int i = 0; i < 4; ++i) hash = hash << 16 | static_cast<uint64_t>(h[i]);
    return hash;
  }
  static void write_logits(uint64_t hash, float* out) {
    for (int64_t v = 0; v < kVocab; ++v) {
      const double u = static_cast<double>(mix(hash, static_cast<uint64_t>(v)) >> 40) * 0x1p-24;
      out[v] = static_cast<float>(6 * u);
    }
  }
};

// The hidden state carries all 64 bits, since 16 fit a float32 exactly.
class ServingTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> engine(const EngineOptions& options, bool mtp = false) {
    Model& model = mtp ? static_cast<Model&>(mtp_model_) : static_cast<Model&>(model_);
    return *Engine::create(model, ops_, options);
  }
  // Runs until nothing is left: the tokens by request.
  static std::map<uint64_t, std::vector<int32_t>> run(Engine& engine) {
    std::map<uint64_t, std::vector<int32_t>> out;
    std::vector<TokenEvent> events;
    while (engine.step(events)) {
    }
    for (const TokenEvent& e : events) {
      EXPECT_EQ(e.index, static_cast<int64_t>(out[e.request_id].size()));
      out[e.request_id].push_back(e.sampled.token);
    }
    return out;
  }
  std::vector<int32_t> alone(const Request& request) {
    const auto e = engine({.prefix_cache = false, .speculate_up_to = 0});
    EXPECT_TRUE(e->submit(request));
    return run(*e).begin()->second;
  }
  static std::vector<int32_t> numbers(int64_t count, int32_t first) {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < count; ++i)
      out.push_back(static_cast<int32_t>((first + 7 * i) % kVocab));
    return out;
  }

  HashModel model_{false}, mtp_model_{true};
  ReferenceOps ops_;
};

TEST_F(ServingTest, TheSecondOfTwoEqualPromptsComputesOnlyWhatFillsNoPage) {
  const auto e = engine({.page_tokens = 8});
  const Request request{.prompt = numbers(30, 3), .max_tokens = 5};
  ASSERT_TRUE(e->submit(request));
  const auto first = run(*e);
  const int64_t before = model_.rows_computed;
  std::vector<TokenEvent> events;
  ASSERT_TRUE(e->submit(request));
  while (e->step(events)) {
  }
  std::vector<int32_t> tokens;
  for (const TokenEvent& event : events) {
    tokens.push_back(event.sampled.token);
    EXPECT_EQ(event.cached_tokens, 24);
  }
  EXPECT_EQ(tokens, first.begin()->second);
  EXPECT_EQ(model_.rows_computed - before, 30 - 24 + 4);
  EXPECT_EQ(e->stats().prefix_hits, 24);
  EXPECT_EQ(e->stats().prefix_queries, 60);
}

TEST_F(ServingTest, APromptOfWholePagesStillComputesItsLastPage) {
  const auto e = engine({.page_tokens = 8});
  const Request request{.prompt = numbers(16, 3), .max_tokens = 3};
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(e->submit(request));
  for (const auto& [id, tokens] : run(*e)) EXPECT_EQ(tokens, alone(request)) << id;
}

TEST_F(ServingTest, ConcurrentEqualPromptsEndUpOnTheSamePages) {
  const auto e = engine({.page_tokens = 8});
  const Request request{.prompt = numbers(40, 3), .max_tokens = 30};
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(e->submit(request));
  std::vector<TokenEvent> events;
  for (int i = 0; i < 6; ++i) e->step(events);
  const EngineStats stats = e->stats();
  EXPECT_EQ(stats.running, 4);
  EXPECT_EQ(stats.pages_total - stats.pages_free, 5 + 4);
}

TEST_F(ServingTest, TenantsShareNothing) {
  const auto e = engine({.page_tokens = 8});
  Request request{.prompt = numbers(30, 3), .max_tokens = 2};
  for (const char* tenant : {"a", "b", "", "a"}) {
    request.tenant = tenant;
    ASSERT_TRUE(e->submit(request));
    run(*e);
  }
  EXPECT_EQ(e->stats().prefix_hits, 24);
  EXPECT_EQ(e->stats().pages_cached, 3 * 3);
  e->erase_tenant("a");
  EXPECT_EQ(e->stats().pages_cached, 2 * 3);
  ASSERT_TRUE(e->submit(request));
  run(*e);
  EXPECT_EQ(e->stats().prefix_hits, 24) << "erased";
  e->clear_prefix_cache();
  EXPECT_EQ(e->stats().pages_free, e->stats().pages_total);
}

TEST_F(ServingTest, ErasingATenantCancelsItsRequests) {
  const auto e = engine({.max_sequences = 1, .page_tokens = 8});
  for (const char* tenant : {"a", "a", "b"})
    ASSERT_TRUE(e->submit({.prompt = numbers(20, 1), .max_tokens = 9, .tenant = tenant}));
  std::vector<TokenEvent> events;
  e->step(events);
  e->erase_tenant("a");
  EXPECT_EQ(e->running() + e->waiting(), 1);
  EXPECT_EQ(run(*e).size(), 1u);
}

TEST_F(ServingTest, LeastRecentlyUsedPagesGoFirst) {
  const auto e = engine({.cache_tokens = 80, .page_tokens = 8});
  const auto ask = [&](int32_t first) {
    EXPECT_TRUE(e->submit({.prompt = numbers(33, first), .max_tokens = 1}));
    const int64_t hits = e->stats().prefix_hits;
    run(*e);
    return e->stats().prefix_hits - hits;
  };
  EXPECT_EQ(ask(1), 0);
  EXPECT_EQ(ask(2), 0);
  EXPECT_EQ(ask(1), 32);
  EXPECT_EQ(ask(3), 0);  // takes the room of 2
  EXPECT_EQ(ask(1), 32);
  EXPECT_LT(ask(2), 32);
}

TEST_F(ServingTest, WhoRunsOutOfPagesIsComputedAgainLater) {
  const auto e = engine({.cache_tokens = 96, .page_tokens = 8, .prefix_cache = false});
  std::map<uint64_t, Request> requests;
  for (int i = 0; i < 4; ++i) {
    Request r{.prompt = numbers(10, i), .max_tokens = 60};
    r.sampling.seed = static_cast<uint64_t>(i);
    requests[*e->submit(r)] = r;
  }
  const auto outcomes = run(*e);
  EXPECT_GT(e->stats().preemptions, 0);
  for (const auto& [id, request] : requests) EXPECT_EQ(outcomes.at(id), alone(request)) << id;
  EXPECT_EQ(e->stats().pages_free, e->stats().pages_total);
}

TEST_F(ServingTest, HigherPriorityGoesFirst) {
  const auto e = engine({.max_sequences = 1});
  std::vector<uint64_t> ids;
  for (const int32_t priority : {0, 0, 5, -1, 5})
    ids.push_back(*e->submit({.prompt = {1}, .max_tokens = 2, .priority = priority}));
  std::vector<uint64_t> order;
  std::vector<TokenEvent> events;
  while (e->step(events)) {
  }
  for (const TokenEvent& event : events)
    if (event.finish) order.push_back(event.request_id);
  EXPECT_EQ(order, (std::vector<uint64_t>{ids[2], ids[4], ids[0], ids[1], ids[3]}));
}

TEST_F(ServingTest, OneTenantsCrowdDoesNotShutOutAnother) {
  const auto e = engine({.max_sequences = 1});
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(e->submit({.prompt = numbers(5, i), .max_tokens = 4, .tenant = "crowd"}));
  std::vector<TokenEvent> events;
  for (int i = 0; i < 10; ++i) e->step(events);
  const uint64_t single = *e->submit({.prompt = {1}, .max_tokens = 1, .tenant = "single"});
  std::vector<uint64_t> order;
  events.clear();
  while (e->step(events)) {
  }
  for (const TokenEvent& event : events)
    if (event.finish) order.push_back(event.request_id);
  EXPECT_LE(std::find(order.begin(), order.end(), single) - order.begin(), 2);
}

TEST_F(ServingTest, AFullQueueRefuses) {
  const auto e = engine({.max_sequences = 1, .max_waiting = 2});
  ASSERT_TRUE(e->submit({.prompt = {1}, .max_tokens = 2}));
  ASSERT_TRUE(e->submit({.prompt = {1}, .max_tokens = 2}));
  const auto third = e->submit({.prompt = {1}, .max_tokens = 2});
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(third.error().message, HasSubstr("2 requests are waiting"));
}

TEST_F(ServingTest, DraftsChangeNoToken) {
  std::mt19937 rng(5);
  int64_t accepted = 0, drafted = 0;
  for (int round = 0; round < 60; ++round) {
    const auto e = engine({.cache_tokens = 400,
                           .max_batch_tokens = 1 + static_cast<int64_t>(rng() % 40),
                           .prefill_chunk = 1 + static_cast<int64_t>(rng() % 40),
                           .page_tokens = 1 + static_cast<int64_t>(rng() % 16),
                           .prefix_cache = rng() % 2 == 0,
                           .speculate_up_to = 3},
                          true);
    std::map<uint64_t, Request> requests;
    for (uint64_t i = 0; i < 1 + rng() % 5; ++i) {
      Request r{.prompt = numbers(1 + static_cast<int64_t>(rng() % 30), static_cast<int32_t>(i)),
                .max_tokens = 1 + static_cast<int64_t>(rng() % 40)};
      r.sampling.temperature = rng() % 2 == 0 ? 0.0f : 1.0f;
      r.sampling.seed = rng();
      if (rng() % 3 == 0) r.sampling.frequency_penalty = 0.5f;
      if (rng() % 3 == 0) r.stop_tokens = {static_cast<int32_t>(rng() % kVocab)};
      requests[*e->submit(r)] = r;
    }
    const auto outcomes = run(*e);
    for (const auto& [id, request] : requests)
      EXPECT_EQ(outcomes.at(id), alone(request)) << "round " << round;
    accepted += e->stats().accepted;
    drafted += e->stats().drafted;
    EXPECT_EQ(e->running(), 0);
    e->clear_prefix_cache();
    EXPECT_EQ(e->stats().pages_free, e->stats().pages_total);
  }
  EXPECT_GT(accepted, 300);
  EXPECT_GT(drafted - accepted, 100) << "rejection was not exercised";
}

TEST_F(ServingTest, AcceptedDraftsSaveSteps) {
  const auto steps = [&](int64_t speculate_up_to) {
    const auto e = engine({.speculate_up_to = speculate_up_to}, true);
    EXPECT_TRUE(
        e->submit({.prompt = {1, 2, 3}, .sampling = {.temperature = 0}, .max_tokens = 100}));
    std::vector<TokenEvent> events;
    int count = 0;
    while (e->step(events)) ++count;
    return count;
  };
  EXPECT_EQ(steps(0), 100);
  EXPECT_LT(steps(1), 70);
}

TEST_F(ServingTest, SpeculationStopsWhereTooManyRun) {
  const auto e = engine({.speculate_up_to = 2}, true);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(e->submit({.prompt = numbers(4, i), .max_tokens = 10}));
  run(*e);
  EXPECT_EQ(e->stats().drafted, 0);
}

class SharedMemoryTest : public ServingTest {
 protected:
  SharedMemoryTest() : fd_(::memfd_create("test", MFD_CLOEXEC)) {}
  ~SharedMemoryTest() override { ::close(fd_); }
  EngineOptions options(const std::string& identity = "a") {
    return {.cache_tokens = 400, .page_tokens = 8, .shared_memory = SharedKvMemory{fd_, identity}};
  }
  int fd_;
};

TEST_F(SharedMemoryTest, AnotherEngineGoesOnWithThePages) {
  const Request request{.prompt = numbers(30, 3), .max_tokens = 60};
  const std::vector<int32_t> whole = alone(request);
  for (const bool mtp : {false, true}) {
    auto first = engine(options(mtp ? "mtp" : "a"), mtp);
    ASSERT_TRUE(first->submit(request));
    std::vector<TokenEvent> events;
    while (events.size() < 25) first->step(events);
    // As after kill -9: nothing is said to anybody. The second maps the same memory.
    Request rest = request;
    for (const TokenEvent& e : events) rest.emitted.push_back(e.sampled.token);
    first.reset();
    const auto second = engine(options(mtp ? "mtp" : "a"), mtp);
    EXPECT_EQ(second->stats().pages_cached, (30 + static_cast<int64_t>(events.size()) - 1) / 8);
    const int64_t before = mtp ? mtp_model_.rows_computed : model_.rows_computed;
    ASSERT_TRUE(second->submit(rest));
    while (second->step(events)) {
    }
    std::vector<int32_t> tokens;
    for (const TokenEvent& e : events) tokens.push_back(e.sampled.token);
    EXPECT_EQ(tokens, whole);
    const int64_t computed = (mtp ? mtp_model_.rows_computed : model_.rows_computed) - before;
    EXPECT_LT(computed, 60 - 25 + 8 + (mtp ? 20 : 0)) << "computed again";
  }
}

TEST_F(SharedMemoryTest, DamagedPagesAndWhatStandsOnThemAreNotUsed) {
  const Request request{.prompt = numbers(50, 3), .max_tokens = 1};
  {
    const auto first = engine(options());
    ASSERT_TRUE(first->submit(request));
    run(*first);
    // A bit of the third page: 2 floats a row, 8 rows a page.
    auto* cell = reinterpret_cast<float*>(first->cache().layers()[0].data);
    const int32_t third = 2;  // pages are taken in order
    cell[third * 16 + 5] += 1;
  }
  const auto second = engine(options());
  EXPECT_EQ(second->stats().pages_cached, 2);
  ASSERT_TRUE(second->submit(request));
  EXPECT_EQ(run(*second).begin()->second, alone(request));
}

TEST_F(SharedMemoryTest, OtherModelsPagesAreNotUsed) {
  {
    const auto first = engine(options("a"));
    ASSERT_TRUE(first->submit({.prompt = numbers(50, 3), .max_tokens = 1}));
    run(*first);
  }
  EXPECT_EQ(engine(options("b"))->stats().pages_cached, 0);
  EXPECT_EQ(engine(options("a"))->stats().pages_cached, 0) << "wiped";
}

TEST_F(SharedMemoryTest, EvictedPagesAreForgotten) {
  Request request{.prompt = numbers(50, 3), .max_tokens = 1, .tenant = "t"};
  {
    const auto first = engine(options());
    ASSERT_TRUE(first->submit(request));
    request.tenant = "u";
    ASSERT_TRUE(first->submit(request));
    run(*first);
    first->erase_tenant("t");
  }
  const auto second = engine(options());
  EXPECT_EQ(second->stats().pages_cached, 6);
  ASSERT_TRUE(second->submit(request));
  run(*second);
  EXPECT_EQ(second->stats().prefix_hits, 48);
}

// Allows the tokens (last + 1) and (last + 2) alone.
class Stairs : public TokenConstraint {
 public:
  void mask(std::span<float> logits) override {
    for (std::size_t i = 0; i < logits.size(); ++i)
      if (i != (last_ + 1) % logits.size() && i != (last_ + 2) % logits.size())
        logits[i] = -INFINITY;
  }
  void accept(int32_t token) override { last_ = static_cast<std::size_t>(token); }

 private:
  std::size_t last_ = 0;
};

TEST_F(ServingTest, ConstraintsHoldAlsoWithDraftsAndAfterAnInterruption) {
  const auto make = [](const ConstraintSpec& spec) -> Result<std::unique_ptr<TokenConstraint>> {
    if (spec.text != "stairs") return invalid_argument("unknown constraint");
    return std::unique_ptr<TokenConstraint>(new Stairs);
  };
  Request request{.prompt = {5}, .max_tokens = 30};
  request.constraint = {.kind = ConstraintSpec::Kind::kJsonSchema, .text = "stairs"};
  std::vector<int32_t> whole;
  for (const bool mtp : {false, true}) {
    const auto e = engine({.constraints = make}, mtp);
    ASSERT_TRUE(e->submit(request));
    const auto tokens = run(*e).begin()->second;
    int32_t last = 0;
    for (const int32_t token : tokens) {
      const int32_t step = (token - last + kVocab) % kVocab;
      EXPECT_TRUE(step == 1 || step == 2) << step;
      last = token;
    }
    if (!mtp) whole = tokens;
    EXPECT_EQ(tokens, whole);
  }
  const auto e = engine({.constraints = make});
  request.emitted = {whole.begin(), whole.begin() + 11};
  ASSERT_TRUE(e->submit(request));
  std::vector<TokenEvent> events;
  while (e->step(events)) {
  }
  std::vector<int32_t> rest = request.emitted;
  for (const TokenEvent& event : events) rest.push_back(event.sampled.token);
  EXPECT_EQ(rest, whole);
  request.constraint.text = "ladder";
  EXPECT_FALSE(e->submit(request));
}

}  // namespace engine_serving_test
}  // namespace fathom
