// Tests of engines over the tier on disk: answers are those without it, and what was computed once
// is not computed again, whatever happened in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>
#include <thread>

#include "engine/engine_loop.h"
#include "engine/test_support.h"
#include "kv_disk/disk_tier.h"
#include "kv_disk/test_support.h"

namespace fathom::kv_disk {
namespace engine_disk_test {

using namespace std::chrono_literals;
using fathom::test::HashModel;
using fathom::test::ServingTest;

class EngineDiskTest : public ServingTest {
 protected:
  std::unique_ptr<Engine> engine(EngineOptions options = {}, bool mtp = false,
                                 int64_t max_bytes = 64 << 20) {
    options.page_tokens = 8;
    auto tier = DiskTier::open({.directory = directory_ / "kv",
                                .max_bytes = max_bytes,
                                .key = test::key_of(1),
                                .identity = mtp ? "mtp" : "plain"});
    EXPECT_TRUE(tier) << tier.error().message;
    return ServingTest::engine(options, mtp, *std::move(tier));
  }
  std::pair<std::vector<int32_t>, int64_t> ask(Engine& engine, const Request& request) {
    EXPECT_TRUE(engine.submit(request));
    std::vector<TokenEvent> events;
    while (engine.step(events)) {
    }
    std::vector<int32_t> tokens;
    for (const TokenEvent& e : events) tokens.push_back(e.sampled.token);
    return {tokens, events.back().cached_tokens};
  }

  kv_disk::test::TemporaryDirectory directory_;
};

TEST_F(EngineDiskTest, AnswersAreTheSameAndARestartComputesLittle) {
  Request request{.prompt = numbers(100, 3), .max_tokens = 40, .tenant = "t"};
  request.sampling.temperature = 1;
  request.sampling.seed = 4;
  const std::vector<int32_t> expected = alone(request);
  for (const bool mtp : {false, true}) {
    HashModel& model = mtp ? mtp_model_ : model_;
    {
      const auto first = engine({}, mtp);
      EXPECT_EQ(ask(*first, request), std::make_pair(expected, int64_t{0}));
      EXPECT_TRUE(first->flush_tier(10s));
    }
    const auto second = engine({}, mtp);
    const int64_t before = model.rows_computed;
    EXPECT_EQ(ask(*second, request), std::make_pair(expected, int64_t{96}));
    EXPECT_LE(model.rows_computed - before, 4 + 39 + (mtp ? 39 : 0));
    EXPECT_EQ(second->stats().tier->hit_tokens, 96);
    // An answer that goes on after a crash finds its own pages too.
    const auto third = engine({}, mtp);
    Request rest = request;
    rest.emitted = {expected.begin(), expected.begin() + 30};
    const int64_t then = model.rows_computed;
    EXPECT_EQ(ask(*third, rest).first, std::vector<int32_t>(expected.begin() + 30, expected.end()));
    EXPECT_LE(model.rows_computed - then, (130 - 120) + 10 + (mtp ? 10 : 0));
  }
}

TEST_F(EngineDiskTest, EvictedPromptsAreLoadedInsteadOfComputed) {
  const auto e = engine({.cache_tokens = 120});
  std::vector<Request> requests;
  for (int32_t i = 0; i < 5; ++i) requests.push_back({.prompt = numbers(100, i), .max_tokens = 3});
  for (const Request& r : requests) {
    EXPECT_EQ(ask(*e, r), std::make_pair(alone(r), int64_t{0}));
    e->flush_tier(10s);
  }
  const int64_t before = model_.rows_computed;
  for (const Request& r : requests) EXPECT_EQ(ask(*e, r), std::make_pair(alone(r), int64_t{96}));
  EXPECT_EQ(model_.rows_computed - before, 5 * (4 + 2) + 5 * (100 + 2));  // the last: alone()
  EXPECT_EQ(e->stats().tier->pages_written, 5 * 12);
}

TEST_F(EngineDiskTest, DamageCostsTimeAndNoToken) {
  const Request request{.prompt = numbers(100, 3), .max_tokens = 3};
  const auto expected = alone(request);
  const auto first = engine();
  ask(*first, request);
  EXPECT_TRUE(first->flush_tier(10s));
  std::mt19937 rng(3);
  int64_t damaged = 0;
  for (int round = 0; round < 20; ++round) {
    const auto files = test::page_files(directory_ / "kv");
    const auto& victim = files[rng() % files.size()];
    std::string text = test::text_of(victim);
    if (rng() % 2 == 0) {
      text.resize(rng() % text.size());
    } else {
      text[rng() % text.size()] ^= 16;
    }
    test::put_text(victim, text);
    const auto e = engine();
    const auto [tokens, cached] = ask(*e, request);
    EXPECT_EQ(tokens, expected);
    EXPECT_LT(cached, 96);
    EXPECT_TRUE(e->flush_tier(10s));
    damaged += e->stats().tier->pages_damaged;
    const auto again = engine();
    EXPECT_EQ(ask(*again, request), std::make_pair(expected, int64_t{96})) << "written again";
  }
  EXPECT_EQ(damaged, 20);
}

TEST_F(EngineDiskTest, AnErasedTenantsPagesAreNotFoundByAnyEngine) {
  Request request{.prompt = numbers(50, 3), .max_tokens = 5, .tenant = "a"};
  const auto e = engine();
  ask(*e, request);
  EXPECT_TRUE(e->flush_tier(10s));
  ASSERT_EQ(test::page_files(directory_ / "kv").size(), 6u);
  e->erase_tenant("a");
  EXPECT_EQ(ask(*e, {.prompt = numbers(50, 3), .max_tokens = 1, .tenant = "a"}).second, 0);
  e->erase_tenant("a");
  EXPECT_TRUE(e->flush_tier(10s));
  EXPECT_TRUE(test::page_files(directory_ / "kv").empty());
  EXPECT_EQ(ask(*engine(), request).second, 0);
}

// Engines on threads of their own, as workers are, on one directory that is too small for all.
TEST_F(EngineDiskTest, ManyEnginesOnOneDirectory) {
  std::vector<Request> requests;
  std::vector<std::vector<int32_t>> expected;
  for (int32_t i = 0; i < 12; ++i) {
    Request r{.prompt = numbers(30 + 5 * (i % 4), i % 3), .max_tokens = 12};
    r.sampling.seed = static_cast<uint64_t>(i % 2);
    r.tenant = i % 5 == 0 ? "x" : "y";
    expected.push_back(alone(r));
    requests.push_back(std::move(r));
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::map<uint64_t, std::vector<int32_t>> answers;
  std::size_t ended = 0;
  const auto sink = [&](std::vector<LoopEvent> events) {
    const std::lock_guard lock(mutex);
    for (const LoopEvent& e : events) {
      for (const SampledToken& t : e.tokens) answers[e.ticket].push_back(t.token);
      if (e.finish) ++ended;
    }
    changed.notify_all();
  };
  std::size_t asked = 0;
  PageTierStats sum;
  for (int round = 0; round < 4; ++round) {
    std::vector<std::unique_ptr<EngineLoop>> loops;
    for (int i = 0; i < 3; ++i) {
      loops.push_back(std::make_unique<EngineLoop>(
          engine({.cache_tokens = 400, .prefill_chunk = 16, .speculate_up_to = 64}, true,
                 20 * 4096),
          sink));
    }
    for (uint64_t ticket = 0; ticket < 60; ++ticket) {
      loops[ticket % 3]->submit(1000 * static_cast<uint64_t>(round) + ticket,
                                requests[ticket % requests.size()]);
      ++asked;
    }
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, 60s, [&] { return ended == asked; }));
    lock.unlock();
    for (const auto& loop : loops) {
      std::promise<void> flushed;
      loop->flush(10s, [&] { flushed.set_value(); });
      flushed.get_future().wait();
      const PageTierStats stats = *loop->stats().tier;
      EXPECT_EQ(stats.errors, 0) << stats.last_error;
      EXPECT_EQ(stats.pages_damaged, 0);
      sum.hit_tokens += stats.hit_tokens;
      sum.pages_written += stats.pages_written;
    }
  }
  for (const auto& [ticket, tokens] : answers)
    EXPECT_EQ(tokens, expected[ticket % 1000 % requests.size()]) << ticket;
  EXPECT_GT(sum.hit_tokens, 0);
  EXPECT_GT(sum.pages_written, 20);
}

}  // namespace engine_disk_test
}  // namespace fathom::kv_disk
