// Tests of the engine: what requests it takes, how it schedules them, and that nothing of the
// schedule shows in a request's tokens.
//
// Most run on a model without weights whose logits are a hash of everything that a sequence has in
// the cache: a row computed twice, left out, in the wrong page or of the wrong class changes every
// later token.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "ops/reference/reference_ops.h"

namespace fathom {
namespace engine_test {

using testing::HasSubstr;

constexpr int64_t kVocab = 61;
constexpr int32_t kBrokenToken = 60;  // behind it, HashModel's logits are NaN

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 29;
}

class HashModel : public Model {
 public:
  HashModel() {
    info_.name = "hash";
    info_.vocab_size = kVocab;
    info_.hidden_size = 5;
    info_.max_context_tokens = 160;
  }
  std::vector<KvLayerSpec> kv_layers() const override { return {{2}, {3}}; }

  ModelOutput forward(const ModelContext& context, const Step& step) const override {
    const auto rows = static_cast<int64_t>(step.token_ids.size());
    EXPECT_EQ(step.positions.size(), step.token_ids.size());
    const TensorView hidden = context.workspace.f32(rows, info_.hidden_size);
    largest_step = std::max(largest_step, rows);
    largest_batch = std::max(largest_batch, static_cast<int64_t>(step.sequences.size()));
    int64_t covered = 0;
    for (const SequenceRows& s : step.sequences) {
      EXPECT_EQ(s.first_row, covered);
      covered += s.num_rows;
      for (int64_t i = 0; i < s.num_rows; ++i) run_row(step, s, i, hidden);
    }
    EXPECT_EQ(covered, rows);
    return {.hidden = hidden, .mtp_input = hidden};
  }

  void logits(const ModelContext&, const TensorView& hidden, const TensorView& out) const override {
    for (int64_t r = 0; r < out.rows; ++r) {
      const float* h = hidden.f32(r);
      uint64_t hash = 0;
      for (int i = 0; i < 4; ++i) hash = hash << 16 | static_cast<uint64_t>(h[i]);
      for (int64_t v = 0; v < kVocab; ++v) {
        const double u = static_cast<double>(mix(hash, static_cast<uint64_t>(v)) >> 40) * 0x1p-24;
        out.f32(r)[v] = v == kBrokenToken ? -INFINITY : static_cast<float>(6 * u);
      }
      if (h[4] != 0) std::fill_n(out.f32(r), kVocab, NAN);
    }
  }

  mutable int64_t largest_step = 0, largest_batch = 0;

 private:
  // Keeps token, class and position in the cache, then hashes what the cache holds up to this row.
  void run_row(const Step& step, const SequenceRows& s, int64_t i, const TensorView& hidden) const {
    const int64_t row = s.first_row + i, position = s.start_position + i;
    const auto index = static_cast<std::size_t>(row);
    EXPECT_EQ(step.positions[index], position);
    auto* first = reinterpret_cast<float*>(step.kv[0].row(s, position));
    auto* second = reinterpret_cast<float*>(step.kv[1].row(s, position));
    first[0] = second[2] = static_cast<float>(step.token_ids[index]);
    first[1] = second[0] = static_cast<float>(s.position_class);
    second[1] = static_cast<float>(position);
    uint64_t hash = 1;
    for (int64_t p = 0; p <= position; ++p) {
      for (const KvPages& layer : step.kv) {
        const auto* cell = reinterpret_cast<const float*>(layer.row(s, p));
        for (int64_t e = 0; e < layer.row_elements; ++e)
          hash = mix(hash, static_cast<uint64_t>(cell[e]));
      }
    }
    float* out = hidden.f32(row);
    for (int part = 0; part < 4; ++part)
      out[part] = static_cast<float>(hash >> (48 - 16 * part) & 0xFFFF);
    out[4] = step.token_ids[index] == kBrokenToken;
  }
};

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::optional<FinishReason> finish;
  std::string error;
};

// Adds events to outcomes by request; indices must count up from `first_index`.
void collect(const std::vector<TokenEvent>& events, std::map<uint64_t, Outcome>& outcomes,
             int64_t first_index = 0) {
  for (const TokenEvent& e : events) {
    Outcome& o = outcomes[e.request_id];
    EXPECT_FALSE(o.finish) << "request " << e.request_id << " goes on after its end";
    EXPECT_EQ(e.index, first_index + static_cast<int64_t>(o.tokens.size()))
        << "request " << e.request_id;
    o.finish = e.finish;
    o.error = e.error;
    if (e.finish == FinishReason::kError) continue;
    o.tokens.push_back(e.sampled.token);
    o.logprobs.push_back(e.sampled.logprob);
  }
}

std::unique_ptr<Engine> engine_of(const Model& model, Ops& ops, const EngineOptions& options = {}) {
  auto engine = Engine::create(model, ops, options);
  if (!engine) ADD_FAILURE() << engine.error().message;
  return *std::move(engine);
}

Outcome alone(const Model& model, Ops& ops, const Request& request,
              const EngineOptions& options = {}) {
  const auto engine = engine_of(model, ops, options);
  const auto id = engine->submit(request);
  if (!id) ADD_FAILURE() << id.error().message;
  std::vector<TokenEvent> events;
  while (engine->step(events)) {
  }
  engine->clear_prefix_cache();
  EXPECT_EQ(engine->cache().pages().free(), engine->cache().pages().total());
  std::map<uint64_t, Outcome> outcomes;
  collect(events, outcomes, static_cast<int64_t>(request.emitted.size()));
  return outcomes[*id];
}

std::vector<int32_t> random_prompt(std::mt19937& rng, int64_t longest, int64_t vocab) {
  std::vector<int32_t> prompt(1 + rng() % static_cast<uint64_t>(longest));
  for (int32_t& t : prompt) t = static_cast<int32_t>(rng() % static_cast<uint64_t>(vocab));
  return prompt;
}

// Greedy or sampled, with penalties or not, stopping at some tokens.
Request random_request(std::mt19937& rng) {
  Request r{.prompt = random_prompt(rng, 50, kVocab - 1),
            .max_tokens = 1 + static_cast<int64_t>(rng() % 40)};
  r.sampling.temperature = rng() % 2 == 0 ? 0.0f : 0.8f;
  r.sampling.seed = rng();
  if (rng() % 3 == 0) r.sampling.top_k = 8;
  if (rng() % 3 == 0) r.sampling.repetition_penalty = 1.2f;
  if (rng() % 3 == 0) r.sampling.frequency_penalty = 0.4f;
  if (rng() % 2 == 0) r.stop_tokens = {static_cast<int32_t>(rng() % (kVocab - 1)), 7};
  if (rng() % 4 == 0) r.top_logprobs = 2;
  return r;
}

class EngineTest : public testing::Test {
 protected:
  HashModel model_;
  ReferenceOps ops_;
};

TEST_F(EngineTest, RefusesRequestsItCannotRun) {
  const auto engine = engine_of(model_, ops_);
  const auto refuse = [&](const Request& request, const char* message) {
    const auto id = engine->submit(request);
    ASSERT_FALSE(id) << message;
    EXPECT_EQ(id.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(id.error().message, HasSubstr(message));
  };
  refuse({.prompt = {}, .max_tokens = 1}, "prompt is empty");
  refuse({.prompt = {1, 61}, .max_tokens = 1}, "token id 61");
  refuse({.prompt = {1, -1}, .max_tokens = 1}, "token id -1");
  refuse({.prompt = {1}, .emitted = {61}, .max_tokens = 9}, "token id 61");
  refuse({.prompt = {1}, .max_tokens = 0}, "max_tokens is 0");
  refuse({.prompt = {1}, .max_tokens = -5}, "max_tokens is -5");
  refuse({.prompt = {1}}, "max_tokens is 0");
  refuse({.prompt = std::vector<int32_t>(160, 1), .max_tokens = 1},
         "160 tokens, expected fewer than 160");
  refuse({.prompt = {1}, .emitted = {2, 3}, .max_tokens = 2}, "already complete");
  refuse({.prompt = {1}, .sampling = {.temperature = -1}, .max_tokens = 1}, "temperature");
  refuse({.prompt = {1}, .sampling = {.logit_bias = {{61, 0}}}, .max_tokens = 1}, "logit_bias");
  refuse({.prompt = {1}, .max_tokens = 1, .top_logprobs = 21}, "top_logprobs is 21");
  EXPECT_EQ(engine->waiting(), 0);
  std::vector<TokenEvent> events;
  EXPECT_FALSE(engine->step(events));
  EXPECT_TRUE(events.empty());
}

TEST_F(EngineTest, AbsurdCachesAreErrors) {
  for (const int64_t tokens : {INT64_MAX, int64_t{1} << 40})
    EXPECT_FALSE(Engine::create(model_, ops_, {.cache_tokens = tokens}));
}

TEST_F(EngineTest, EndsAtMaxTokensOrWhenTheContextIsFull) {
  const Outcome five = alone(model_, ops_, {.prompt = {1, 2, 3}, .max_tokens = 5});
  EXPECT_EQ(five.tokens.size(), 5u);
  EXPECT_EQ(five.finish, FinishReason::kLength);
  // 20 tokens of context, though the pages would hold 24: 17 of prompt leave 3.
  const Outcome full =
      alone(model_, ops_, {.prompt = std::vector<int32_t>(17, 1), .max_tokens = 1000},
            {.cache_tokens = 20, .page_tokens = 8});
  EXPECT_EQ(full.tokens.size(), 3u);
  EXPECT_EQ(full.finish, FinishReason::kLength);
  const Outcome huge = alone(model_, ops_, {.prompt = {1}, .max_tokens = INT64_MAX});
  EXPECT_EQ(huge.tokens.size(), 159u);  // of the model's 160
}

TEST_F(EngineTest, StopTokensEndTheAnswerAndAreReported) {
  Request r{.prompt = {4, 5}, .sampling = {.temperature = 0}, .max_tokens = 30};
  const Outcome free = alone(model_, ops_, r);
  ASSERT_EQ(free.tokens.size(), 30u);
  const int32_t stop = free.tokens[11];
  const auto first = std::find(free.tokens.begin(), free.tokens.end(), stop);
  r.stop_tokens = {kBrokenToken, stop};
  const Outcome stopped = alone(model_, ops_, r);
  EXPECT_EQ(stopped.tokens, std::vector<int32_t>(free.tokens.begin(), first + 1));
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  // At the last token allowed, the stop token is the reason.
  r.max_tokens = first - free.tokens.begin() + 1;
  EXPECT_EQ(alone(model_, ops_, r).finish, FinishReason::kStop);
}

TEST_F(EngineTest, LogprobsComeWithEveryToken) {
  const auto engine = engine_of(model_, ops_);
  ASSERT_TRUE(engine->submit(
      {.prompt = {9}, .sampling = {.temperature = 0}, .max_tokens = 6, .top_logprobs = 3}));
  std::vector<TokenEvent> events;
  while (engine->step(events)) {
  }
  ASSERT_EQ(events.size(), 6u);
  for (const TokenEvent& e : events) {
    ASSERT_EQ(e.sampled.top.size(), 3u);
    EXPECT_EQ(e.sampled.top[0].token, e.sampled.token);
    EXPECT_EQ(e.sampled.top[0].logprob, e.sampled.logprob);
    EXPECT_LT(e.sampled.logprob, 0);
    EXPECT_GE(e.sampled.top[1].logprob, e.sampled.top[2].logprob);
  }
}

// Broken numbers end the one request, with the reason; its neighbours and its pages are unharmed.
TEST_F(EngineTest, NonFiniteLogitsEndOneRequestAlone) {
  const Request good{.prompt = {1, 2}, .sampling = {.temperature = 0}, .max_tokens = 12};
  const Outcome expected = alone(model_, ops_, good);
  const auto engine = engine_of(model_, ops_);
  const auto good_id = engine->submit(good);
  const auto bad_id = engine->submit({.prompt = {3, kBrokenToken}, .max_tokens = 12});
  std::vector<TokenEvent> events;
  while (engine->step(events)) {
  }
  std::map<uint64_t, Outcome> outcomes;
  collect(events, outcomes);
  EXPECT_EQ(outcomes[*good_id].tokens, expected.tokens);
  EXPECT_EQ(outcomes[*bad_id].finish, FinishReason::kError);
  EXPECT_THAT(outcomes[*bad_id].error, HasSubstr("position 1"));
  engine->clear_prefix_cache();
  EXPECT_EQ(engine->cache().pages().free(), engine->cache().pages().total());
}

// Cut anywhere and handed to another engine, an answer goes on as if nothing had happened.
TEST_F(EngineTest, EmittedTokensAreContinuedExactly) {
  std::mt19937 rng(2);
  for (int round = 0; round < 20; ++round) {
    Request r = random_request(rng);
    r.stop_tokens.clear();
    const Outcome whole = alone(model_, ops_, r);
    for (std::size_t cut = 0; cut < whole.tokens.size(); ++cut) {
      r.emitted.assign(whole.tokens.begin(),
                       whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut));
      const int64_t chunk = 1 + static_cast<int64_t>(rng() % 20);
      const Outcome rest =
          alone(model_, ops_, r, {.max_batch_tokens = chunk, .prefill_chunk = chunk});
      const std::vector<int32_t> expected(whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut),
                                          whole.tokens.end());
      ASSERT_EQ(rest.tokens, expected) << "round " << round << ", cut at " << cut;
      ASSERT_EQ(rest.finish, whole.finish);
    }
  }
}

TEST_F(EngineTest, CancelFreesPagesAtAnyMoment) {
  const Request r{.prompt = std::vector<int32_t>(30, 3), .max_tokens = 20};
  const EngineOptions options{
      .cache_tokens = 100, .prefill_chunk = 8, .page_tokens = 10, .prefix_cache = false};
  int moments = 0;
  for (int steps = 0;; ++steps, ++moments) {
    const auto engine = engine_of(model_, ops_, options);
    const auto first = *engine->submit(r), second = *engine->submit(r), third = *engine->submit(r);
    std::vector<TokenEvent> events;
    for (int i = 0; i < steps; ++i) engine->step(events);
    const bool over = engine->running() + engine->waiting() == 0;
    engine->cancel(999);  // unknown
    engine->cancel(first);
    engine->cancel(first);
    engine->cancel(third);
    events.clear();
    engine->step(events);
    for (const TokenEvent& e : events) EXPECT_EQ(e.request_id, second);
    engine->cancel(second);
    EXPECT_EQ(engine->running() + engine->waiting(), 0);
    engine->clear_prefix_cache();
    EXPECT_EQ(engine->cache().pages().free(), engine->cache().pages().total())
        << "after step " << steps;
    EXPECT_FALSE(engine->step(events));
    if (over) break;
  }
  EXPECT_GT(moments, 40);
}

// Two hundred requests on a cache with room for few: all end, each as alone, in at most
// max_sequences.
TEST_F(EngineTest, ManyMoreRequestsThanRoom) {
  std::mt19937 rng(3);
  const auto engine =
      engine_of(model_, ops_, {.cache_tokens = 300, .max_sequences = 5, .page_tokens = 8});
  std::map<uint64_t, Request> requests;
  for (int i = 0; i < 200; ++i) {
    const Request r = random_request(rng);
    requests[*engine->submit(r)] = r;
  }
  EXPECT_EQ(engine->waiting(), 200);
  std::vector<TokenEvent> events;
  while (engine->step(events)) ASSERT_LE(engine->running(), 5);
  EXPECT_LE(model_.largest_batch, 5);
  engine->clear_prefix_cache();
  EXPECT_EQ(engine->cache().pages().free(), engine->cache().pages().total());
  std::map<uint64_t, Outcome> outcomes;
  collect(events, outcomes);
  for (const auto& [id, request] : requests) {
    const Outcome expected = alone(model_, ops_, request);
    EXPECT_EQ(outcomes[id].tokens, expected.tokens) << "request " << id;
    EXPECT_EQ(outcomes[id].finish, expected.finish) << "request " << id;
  }
}

// First come, first served: a large request at the head is not passed by small ones behind it, and
// the first tokens of equal requests come in the order of submission.
TEST_F(EngineTest, AdmitsInOrder) {
  const auto engine =
      engine_of(model_, ops_, {.cache_tokens = 100, .max_sequences = 3, .page_tokens = 10});
  std::vector<uint64_t> ids;
  for (const int64_t max_tokens : {40, 95, 5, 5, 5, 5, 50, 5})
    ids.push_back(*engine->submit({.prompt = {1, 2}, .max_tokens = max_tokens}));
  std::vector<uint64_t> order;
  std::vector<TokenEvent> events;
  while (engine->step(events)) {
    for (const TokenEvent& e : events)
      if (e.index == 0) order.push_back(e.request_id);
    events.clear();
  }
  EXPECT_EQ(order, ids);
}

TEST_F(EngineTest, StepsKeepToTheBudget) {
  for (const int64_t budget : {1, 4, 7, 16, 50}) {
    HashModel model;
    const auto engine = engine_of(model, ops_,
                                  {.cache_tokens = 1000,
                                   .max_sequences = 4,
                                   .max_batch_tokens = budget,
                                   .prefill_chunk = 9,
                                   .page_tokens = 8});
    for (int i = 0; i < 6; ++i) {
      Request r{.prompt = std::vector<int32_t>(40, i), .max_tokens = 12};
      if (i % 2 == 1) r.emitted = {1, 2, 3, 4, 5, 6, 7};
      ASSERT_TRUE(engine->submit(r));
    }
    std::vector<TokenEvent> events;
    while (engine->step(events)) {
    }
    // Every running answer gets its row, be the budget ever so small.
    EXPECT_LE(model.largest_step, std::max<int64_t>(budget, 4)) << "budget " << budget;
    EXPECT_GE(model.largest_step, std::min<int64_t>(budget, 4 * 9)) << "budget unused";
    EXPECT_EQ(events.size(), 3u * 12 + 3 * 5);
  }
}

// Five hundred schedules: random chunk, budget, room, arrivals and cancellations. Every request
// that was not cancelled has the tokens it has alone.
TEST_F(EngineTest, ScheduleDoesNotShowInTokens) {
  std::mt19937 rng(4);
  std::vector<Request> requests;
  std::vector<Outcome> expected;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(random_request(rng));
    expected.push_back(alone(model_, ops_, requests.back()));
  }
  int64_t compared = 0, cancelled = 0;
  for (int schedule = 0; schedule < 500; ++schedule) {
    const auto pick = [&](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
    };
    const auto engine = engine_of(model_, ops_,
                                  {.cache_tokens = pick(96, 400),
                                   .max_sequences = pick(1, 8),
                                   .max_batch_tokens = pick(1, 60),
                                   .prefill_chunk = pick(1, 60),
                                   .page_tokens = pick(1, 20),
                                   .prefix_cache = rng() % 2 == 0});
    std::map<uint64_t, std::size_t> running;
    std::map<uint64_t, Outcome> outcomes;
    std::set<uint64_t> gone;
    int left = 8;
    while (true) {
      while (left > 0 && rng() % 3 == 0) {
        const std::size_t which = rng() % requests.size();
        const auto id = engine->submit(requests[which]);
        ASSERT_TRUE(id) << id.error().message;
        running[*id] = which;
        --left;
      }
      if (!running.empty() && rng() % 40 == 0) {
        const auto victim =
            std::next(running.begin(), static_cast<std::ptrdiff_t>(rng() % running.size()));
        engine->cancel(victim->first);
        if (!outcomes[victim->first].finish) gone.insert(victim->first);
      }
      std::vector<TokenEvent> events;
      const bool worked = engine->step(events);
      for (const TokenEvent& e : events) ASSERT_EQ(gone.count(e.request_id), 0u);
      collect(events, outcomes);
      if (!worked && left == 0) break;
    }
    engine->clear_prefix_cache();
    ASSERT_EQ(engine->cache().pages().free(), engine->cache().pages().total());
    for (const auto& [id, which] : running) {
      if (gone.count(id) != 0) {
        ++cancelled;
        continue;
      }
      ASSERT_EQ(outcomes[id].tokens, expected[which].tokens) << "schedule " << schedule;
      ASSERT_EQ(outcomes[id].finish, expected[which].finish) << "schedule " << schedule;
      ASSERT_EQ(outcomes[id].logprobs, expected[which].logprobs) << "schedule " << schedule;
      ++compared;
    }
  }
  EXPECT_GT(compared, 2500);
  EXPECT_GT(cancelled, 100);
}

// Counts the rows that a real model is given.
class CountingOps : public OpsDecorator {
 public:
  using OpsDecorator::OpsDecorator;
  void embed(const EmbedArgs& a) override {
    largest_step = std::max(largest_step, static_cast<int64_t>(a.token_ids.size()));
    OpsDecorator::embed(a);
  }
  int64_t step_rows() const override { return suitable_rows; }
  int64_t largest_step = 0, suitable_rows = 512;
};

// The same promise on a real architecture, by the reference operations.
TEST(EngineModelTest, ScheduleDoesNotShowInTokens) {
  const auto files = open_model_files(std::string(FATHOM_SOURCE_DIR) + "/tests/golden/data/qwen2");
  ASSERT_TRUE(files) << files.error().message;
  const auto model = load_model(*files);
  ASSERT_TRUE(model) << model.error().message;
  ReferenceOps reference;
  CountingOps ops(reference);
  std::mt19937 rng(5);
  std::vector<Request> requests;
  std::vector<Outcome> expected;
  for (int i = 0; i < 4; ++i) {
    requests.push_back({.prompt = random_prompt(rng, 30, 512), .max_tokens = 8});
    requests.back().sampling = {.temperature = i % 2 == 0 ? 0.0f : 1.0f, .seed = rng()};
    expected.push_back(alone(**model, ops, requests.back(), {.cache_tokens = 64}));
  }
  for (const int64_t budget : {3, 11, 40}) {
    ops.largest_step = 0;
    const auto engine = engine_of(**model, ops,
                                  {.cache_tokens = 128,
                                   .max_sequences = 3,
                                   .max_batch_tokens = budget,
                                   .prefill_chunk = budget,
                                   .page_tokens = 16});
    std::vector<uint64_t> ids;
    for (const Request& r : requests) ids.push_back(*engine->submit(r));
    std::vector<TokenEvent> events;
    while (engine->step(events)) {
    }
    std::map<uint64_t, Outcome> outcomes;
    collect(events, outcomes);
    for (std::size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(outcomes[ids[i]].tokens, expected[i].tokens)
          << "budget " << budget << ", request " << i;
    EXPECT_LE(ops.largest_step, budget);
  }
}

// A backend says how many rows a step should have where the options don't.
TEST(EngineModelTest, StepsAreAsLongAsSuitsTheBackend) {
  const auto files = open_model_files(std::string(FATHOM_SOURCE_DIR) + "/tests/golden/data/qwen2");
  ASSERT_TRUE(files) << files.error().message;
  const auto model = load_model(*files);
  ASSERT_TRUE(model) << model.error().message;
  ReferenceOps reference;
  CountingOps ops(reference);
  const Request request{.prompt = std::vector<int32_t>(30, 5), .max_tokens = 2};
  for (const int64_t rows : {7, 29}) {
    ops.suitable_rows = rows;
    ops.largest_step = 0;
    alone(**model, ops, request, {.cache_tokens = 64});
    EXPECT_EQ(ops.largest_step, rows);
  }
}

}  // namespace engine_test
}  // namespace fathom
