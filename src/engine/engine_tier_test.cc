// Tests of the engine over a second tier that a test holds in its hand: what is handed over and
// when, that waiting for pages stops nobody else, and that every page has its holders to the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "engine/test_support.h"

namespace fathom {
namespace engine_tier_test {

using test::FakeTier;
using test::HashModel;
using test::ServingTest;

class TierTest : public ServingTest {
 protected:
  std::unique_ptr<Engine> engine(EngineOptions options = {}, bool mtp = false) {
    options.page_tokens = 8;
    return ServingTest::engine(options, mtp, std::make_unique<FakeTier>(hand_));
  }
  static std::vector<int32_t> tokens_of(const std::vector<TokenEvent>& events, uint64_t id) {
    std::vector<int32_t> out;
    for (const TokenEvent& e : events)
      if (e.request_id == id) out.push_back(e.sampled.token);
    return out;
  }
  // The engine's answer, and of how many of the prompt's tokens it says that they were cached.
  std::pair<std::vector<int32_t>, int64_t> ask(Engine& engine, const Request& request) {
    const uint64_t id = *engine.submit(request);
    std::vector<TokenEvent> events;
    while (engine.step(events)) {
    }
    return {tokens_of(events, id), events.back().cached_tokens};
  }
  int64_t kept() const { return static_cast<int64_t>(hand_.store.size()); }

  FakeTier::Hand hand_;
};

TEST_F(TierTest, AnEngineStartedAnewComputesOnlyWhatFillsNoPage) {
  Request request{.prompt = numbers(50, 3), .max_tokens = 30, .tenant = "t"};
  const std::vector<int32_t> expected = alone(request);
  for (const bool mtp : {false, true}) {
    hand_.store.clear();
    {
      const auto first = engine({}, mtp);
      EXPECT_EQ(ask(*first, request), std::make_pair(expected, int64_t{0}));
      ASSERT_TRUE(first->flush_tier(std::chrono::seconds(1)));
      // 80 tokens without the last: its row is never computed.
      EXPECT_EQ(kept(), 79 / 8);
    }
    const auto second = engine({}, mtp);
    HashModel& model = mtp ? mtp_model_ : model_;
    const int64_t before = model.rows_computed;
    EXPECT_EQ(ask(*second, request), std::make_pair(expected, int64_t{48}));
    EXPECT_LE(model.rows_computed - before, 2 + 29 + (mtp ? 29 : 0));
    EXPECT_EQ(second->stats().prefix_hits, 48);
    // Another prompt of the same beginning; and a tenant that has nothing there.
    Request other = request;
    other.prompt[30] = 60;
    EXPECT_EQ(ask(*second, other), std::make_pair(alone(other), int64_t{24}));
    request.tenant = "u";
    EXPECT_EQ(ask(*second, request), std::make_pair(expected, int64_t{0}));
    request.tenant = "t";
  }
}

TEST_F(TierTest, EvictedPagesComeBack) {
  const auto e = engine({.cache_tokens = 80});
  const Request first{.prompt = numbers(65, 1), .max_tokens = 3};
  const Request second{.prompt = numbers(65, 2), .max_tokens = 3};
  EXPECT_EQ(ask(*e, first).second, 0);
  EXPECT_EQ(ask(*e, second).second, 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ask(*e, first), std::make_pair(alone(first), int64_t{64}));
    EXPECT_EQ(ask(*e, second), std::make_pair(alone(second), int64_t{64}));
  }
  for (const auto& [key, page] : hand_.store) EXPECT_EQ(page.written, 1);
}

TEST_F(TierTest, APageIsHandedOverWhenItIsFullAndAtEachSequencesEnd) {
  const auto e = engine();
  const Request request{.prompt = numbers(33, 1), .max_tokens = 20};
  for (int i = 1; i <= 3; ++i) {
    ask(*e, request);
    e->flush_tier(std::chrono::seconds(1));
    EXPECT_EQ(kept(), 6);
    // The prompt's pages are filled once and the answer's each time; all are there at the end.
    std::map<int64_t, int> by_use;
    for (const auto& [key, page] : hand_.store) ++by_use[page.used];
    EXPECT_EQ(by_use, (i == 1 ? std::map<int64_t, int>{{2, 6}}
                              : std::map<int64_t, int>{{i + 1, 4}, {2 * i, 2}}));
  }
}

TEST_F(TierTest, WhoWaitsForPagesStopsNobodyElse) {
  const Request slow{.prompt = numbers(50, 3), .max_tokens = 4};
  const Request quick{.prompt = numbers(5, 9), .max_tokens = 30};
  ask(*engine(), slow);
  const auto e = engine();
  hand_.hold_loads = true;
  const uint64_t first = *e->submit(slow);
  std::vector<TokenEvent> events;
  EXPECT_TRUE(e->step(events));  // it has something to do, though no row
  EXPECT_TRUE(events.empty());
  const uint64_t second = *e->submit(quick);
  while (tokens_of(events, second).size() < 30) ASSERT_TRUE(e->step(events));
  EXPECT_TRUE(tokens_of(events, first).empty());
  EXPECT_LE(hand_.waits, 3) << "each load is waited for in its first step, then only if alone";
  hand_.hold_loads = false;
  while (e->step(events)) {
  }
  EXPECT_EQ(tokens_of(events, first), alone(slow));
  EXPECT_EQ(tokens_of(events, second), alone(quick));
}

TEST_F(TierTest, WhoLeavesWhileItsPagesAreReadLeavesNothing) {
  const Request request{.prompt = numbers(50, 3), .max_tokens = 4};
  ask(*engine(), request);
  const auto e = engine();
  hand_.hold_loads = true;
  const uint64_t id = *e->submit(request);
  std::vector<TokenEvent> events;
  e->step(events);
  EXPECT_LT(e->stats().pages_free, e->stats().pages_total);
  e->cancel(id);
  EXPECT_EQ(hand_.cancelled, 1);
  EXPECT_EQ(e->stats().pages_free, e->stats().pages_total);
  EXPECT_FALSE(e->step(events));
}

TEST_F(TierTest, WhoNeedsRoomTakesItFromThoseWhoWaitForPages) {
  Request low{.prompt = numbers(50, 3), .max_tokens = 4, .priority = -1};
  const Request high{.prompt = numbers(20, 9), .max_tokens = 60};
  ask(*engine(), low);
  const auto e = engine({.cache_tokens = 96});
  const uint64_t second = *e->submit(high);
  std::vector<TokenEvent> events;
  e->step(events);
  hand_.hold_loads = true;
  const uint64_t first = *e->submit(low);
  while (tokens_of(events, second).size() < 60) ASSERT_TRUE(e->step(events));
  EXPECT_GT(e->stats().preemptions, 0);
  hand_.hold_loads = false;
  while (e->step(events)) {
  }
  EXPECT_EQ(tokens_of(events, first), alone(low));
  EXPECT_EQ(tokens_of(events, second), alone(high));
}

TEST_F(TierTest, PagesThatWaitToBeWrittenGoWhenNothingElseIsLeft) {
  const auto e = engine({.cache_tokens = 80});
  hand_.hold_stores = true;
  ask(*e, {.prompt = numbers(70, 1), .max_tokens = 1});
  EXPECT_EQ(hand_.given_up, 0);
  const Request second{.prompt = numbers(70, 2), .max_tokens = 1};
  EXPECT_EQ(ask(*e, second).first, alone(second));
  EXPECT_EQ(hand_.given_up, 8);
  EXPECT_EQ(kept(), 0);
}

TEST_F(TierTest, WithoutAPlaceInTheQueueAllGoesOn) {
  hand_.full = true;
  const auto e = engine({.cache_tokens = 80});
  for (int32_t i = 0; i < 4; ++i) {
    const Request request{.prompt = numbers(70, i), .max_tokens = 2};
    EXPECT_EQ(ask(*e, request), std::make_pair(alone(request), int64_t{0}));
  }
}

TEST_F(TierTest, AnErasedTenantsPagesAreNowhere) {
  const auto e = engine();
  const auto tokens = numbers(50, 3);
  ask(*e, {.prompt = tokens, .max_tokens = 2, .tenant = "b"});
  hand_.hold_stores = true;
  const Request request{.prompt = tokens, .max_tokens = 100, .tenant = "a"};
  ask(*e, {.prompt = tokens, .max_tokens = 2, .tenant = "a"});
  const uint64_t id = *e->submit(request);
  std::vector<TokenEvent> events;
  for (int i = 0; i < 9; ++i) e->step(events);
  EXPECT_EQ(e->erase_tenant("a"), std::vector<uint64_t>{id});
  hand_.hold_stores = false;
  EXPECT_FALSE(e->step(events));
  for (const auto& [key, page] : hand_.store) EXPECT_EQ(key.first, "b");
  EXPECT_EQ(kept(), 6);
  // All that is left in the memory are b's rows.
  const KvCache& cache = e->cache();
  int64_t rows = 0;
  for (int32_t page = 0; page < cache.pages().total(); ++page) {
    for (int64_t i = 0; i < 8; ++i) {
      const auto* row = reinterpret_cast<const float*>(cache.bytes(page).data()) + 2 * i;
      rows += row[0] != 0 || row[1] != 0;
    }
  }
  EXPECT_EQ(rows, 48);
  EXPECT_EQ(ask(*e, {.prompt = tokens, .max_tokens = 2, .tenant = "a"}).second, 0);
  EXPECT_EQ(ask(*e, {.prompt = tokens, .max_tokens = 2, .tenant = "b"}).second, 48);
}

// Several compute the same page, each with the MTP module's rows, and one of them hands it over.
TEST_F(TierTest, APageStaysAsItIsWhileItIsTheTiers) {
  hand_.hold_stores = true;
  const auto e = engine({.prefill_chunk = 5, .speculate_up_to = 9}, true);
  const Request request{.prompt = numbers(40, 3), .max_tokens = 1};
  std::vector<TokenEvent> events;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(e->submit(request));
    if (i % 2 == 0) e->step(events);
  }
  while (e->step(events)) {
  }
  EXPECT_GT(mtp_model_.mtp_rows, 100);
  e->flush_tier(std::chrono::seconds(1));
}

// Anything may happen in any order: the tokens stay those of an engine without all this.
TEST_F(TierTest, NothingChangesAToken) {
  std::mt19937 rng(11);
  int64_t preempted = 0, hits = 0, cancelled = 0;
  bool was_mtp = false;
  for (int round = 0; round < 80; ++round) {
    const bool mtp = rng() % 2 == 0;
    if (mtp != was_mtp || rng() % 4 == 0) hand_.store.clear();
    was_mtp = mtp;
    const auto e = engine({.cache_tokens = 120 + static_cast<int64_t>(rng() % 300),
                           .max_batch_tokens = 1 + static_cast<int64_t>(rng() % 40),
                           .prefill_chunk = 1 + static_cast<int64_t>(rng() % 40),
                           .speculate_up_to = 3},
                          mtp);
    std::map<uint64_t, Request> requests;
    std::map<uint64_t, std::vector<int32_t>> answers;
    std::vector<TokenEvent> events;
    bool more = true;
    for (int move = 0; more || move < 60; ++move) {
      hand_.hold_loads = move < 60 && rng() % 2 == 0;
      hand_.hold_stores = move < 60 && rng() % 2 == 0;
      if (move < 60 && rng() % 4 == 0) {
        Request r{.prompt = numbers(1 + static_cast<int64_t>(rng() % 70),
                                    static_cast<int32_t>(rng() % 3)),
                  .max_tokens = 1 + static_cast<int64_t>(rng() % 30),
                  .tenant = rng() % 4 == 0 ? "x" : "y"};
        r.sampling.seed = rng() % 3;
        r.priority = static_cast<int32_t>(rng() % 2);
        requests[*e->submit(r)] = r;
      }
      if (move < 60 && rng() % 20 == 0 && !requests.empty()) {
        e->cancel(requests.begin()->first);
        requests.erase(requests.begin());
        ++cancelled;
      }
      more = e->step(events);
    }
    for (const auto& [id, request] : requests)
      EXPECT_EQ(tokens_of(events, id), alone(request)) << "round " << round;
    preempted += e->stats().preemptions;
    hits += e->stats().prefix_hits;
    EXPECT_EQ(e->running() + e->waiting(), 0);
    e->flush_tier(std::chrono::seconds(1));
    EXPECT_FALSE(e->step(events));
    e->clear_prefix_cache();
    EXPECT_EQ(e->stats().pages_free, e->stats().pages_total) << "round " << round;
  }
  EXPECT_GT(preempted, 20);
  EXPECT_GT(hits, 1000);
  EXPECT_GT(cancelled, 20);
}

}  // namespace engine_tier_test
}  // namespace fathom
