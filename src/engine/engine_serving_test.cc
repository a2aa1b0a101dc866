// Tests of what serving needs of the engine: shared prefixes, tenants, priorities, preemption,
// speculation and constraints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "engine/test_support.h"

namespace fathom {
namespace engine_serving_test {

using test::kVocab;
using test::ServingTest;
using testing::HasSubstr;

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

TEST_F(SharedMemoryTest, NothingOfAnErasedTenantIsLeftInTheMemory) {
  const auto all = [&] {
    std::string out(static_cast<std::size_t>(::lseek(fd_, 0, SEEK_END)), '\0');
    EXPECT_EQ(::pread(fd_, out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
    return out;
  };
  const std::vector<int32_t> tokens = numbers(50, 3);
  std::vector<float> row = {static_cast<float>(tokens[49]), 49};  // of no whole page
  const std::string tenant = "somebody", rows(reinterpret_cast<const char*>(row.data()), 8),
                    page(reinterpret_cast<const char*>(tokens.data() + 8), 32);
  {
    const auto first = engine(options());
    ASSERT_TRUE(first->submit({.prompt = tokens, .max_tokens = 1, .tenant = tenant}));
    run(*first);
    for (const std::string& part : {tenant, rows, page}) EXPECT_THAT(all(), HasSubstr(part));
  }
  // Another process that finds the memory in use is told to erase.
  const auto second = engine(options());
  EXPECT_EQ(second->stats().pages_cached, 6);
  second->erase_tenant(tenant);
  const std::string left = all();
  for (const std::string& part : {tenant, rows, page})
    EXPECT_EQ(left.find(part), std::string::npos);
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
