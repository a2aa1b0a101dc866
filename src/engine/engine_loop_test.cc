// Tests of the engine's thread: that tickets keep requests apart, and that refusals, cancellations
// and the end come out as promised.
#include "engine/engine_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "ops/reference/reference_ops.h"

namespace fathom {
namespace engine_loop_test {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Always the same token, a millisecond a step.
class SlowModel : public Model {
 public:
  SlowModel() {
    info_ = {.name = "slow", .vocab_size = 8, .hidden_size = 1, .max_context_tokens = 5000};
  }
  std::vector<KvLayerSpec> kv_layers() const override { return {{1}}; }
  ModelOutput forward(const ModelContext& context, const Step& step) const override {
    std::this_thread::sleep_for(1ms);
    return {.hidden = context.workspace.f32(static_cast<int64_t>(step.token_ids.size()), 1)};
  }
  void logits(const ModelContext&, const TensorView&, const TensorView& out) const override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t v = 0; v < 8; ++v) out.f32(r)[v] = v == 3 ? 1.0f : 0.0f;
  }
};

class EngineLoopTest : public testing::Test {
 protected:
  std::unique_ptr<EngineLoop> loop() {
    return std::make_unique<EngineLoop>(*Engine::create(model_, ops_, {}),
                                        [this](std::vector<LoopEvent> events) {
                                          const std::lock_guard lock(mutex_);
                                          for (LoopEvent& e : events) {
                                            counts_[e.ticket] += e.tokens.size();
                                            if (e.finish) ends_[e.ticket] = std::move(e);
                                          }
                                          changed_.notify_all();
                                        });
  }
  static Request request(int64_t max_tokens) {
    return {.prompt = {1, 2}, .sampling = {.temperature = 0}, .max_tokens = max_tokens};
  }
  template <typename Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, condition);
  }

  SlowModel model_;
  ReferenceOps ops_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, std::size_t> counts_;
  std::map<uint64_t, LoopEvent> ends_;
};

TEST_F(EngineLoopTest, EveryTicketGetsItsTokensAndItsEnd) {
  const auto l = loop();
  for (uint64_t i = 1; i <= 20; ++i) l->submit(100 + i, request(static_cast<int64_t>(i)));
  ASSERT_TRUE(wait([&] { return ends_.size() == 20; }));
  for (uint64_t i = 1; i <= 20; ++i) {
    EXPECT_EQ(counts_[100 + i], i);
    EXPECT_EQ(ends_[100 + i].finish, FinishReason::kLength);
  }
  EXPECT_EQ(l->stats().generated_tokens, 210);
  EXPECT_GE(l->steps(), 20u);
}

TEST_F(EngineLoopTest, ARefusalIsAnEndThatSaysWhoseFaultItIs) {
  const auto l = loop();
  l->submit(7, {.prompt = {}, .max_tokens = 1});
  ASSERT_TRUE(wait([&] { return ends_.count(7) == 1; }));
  EXPECT_EQ(ends_[7].finish, FinishReason::kError);
  EXPECT_EQ(ends_[7].error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(ends_[7].error.message, HasSubstr("prompt is empty"));
}

TEST_F(EngineLoopTest, CancelledRequestsGiveUpTheirPlace) {
  const auto l = loop();
  l->submit(1, request(4000));
  ASSERT_TRUE(wait([&] { return counts_[1] > 3; }));
  l->cancel(1);
  l->cancel(99);
  l->submit(2, request(3));
  ASSERT_TRUE(wait([&] { return ends_.count(2) == 1; }));
  EXPECT_EQ(ends_.count(1), 0u);
  while (l->busy()) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(l->stats().running, 0);
}

TEST_F(EngineLoopTest, EndsWhileSomethingRuns) {
  const auto l = loop();
  l->submit(1, request(4000));
  ASSERT_TRUE(wait([&] { return counts_[1] > 3; }));
}

TEST_F(EngineLoopTest, ErasingATenantEndsItsWork) {
  const auto l = loop();
  Request r = request(4000);
  r.tenant = "t";
  l->submit(1, r);
  ASSERT_TRUE(wait([&] { return counts_[1] > 3; }));
  l->erase_tenant("t");
  ASSERT_TRUE(wait([&] { return ends_.count(1) == 1; }));
  EXPECT_EQ(ends_[1].finish, FinishReason::kError);
  while (l->busy()) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(l->stats().running, 0);
}

}  // namespace engine_loop_test
}  // namespace fathom
