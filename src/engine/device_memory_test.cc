// Engines whose backend has memory of its own, and steps that a backend repeats. The device here is
// memory of the host that claims not to be.
#include <gtest/gtest.h>

#include <array>

#include "engine/step_builder.h"
#include "engine/step_runner.h"
#include "engine/test_support.h"

namespace fathom {
namespace device_memory_test {

using namespace test;

class FakeDevice final : public Memory {
 public:
  std::byte* allocate(std::size_t bytes) override {
    if (bytes > room) return nullptr;
    ++held;
    return host_memory().allocate(bytes);
  }
  void release(std::byte* p) override {
    --held;
    host_memory().release(p);
  }
  void zero(std::byte* p, std::size_t bytes) override {
    zeroed += bytes;
    host_memory().zero(p, bytes);
  }
  bool on_host() const override { return false; }
  std::size_t room = std::size_t{1} << 30, zeroed = 0;
  int held = 0;
};

class DeviceOps : public ReferenceOps {
 public:
  explicit DeviceOps(FakeDevice& device) : device_(device) {}
  Memory& memory() const override { return device_; }
  void read(const TensorView& from, const TensorView& to) override {
    ++reads;
    ReferenceOps::read(from, to);
  }
  int reads = 0;

 private:
  FakeDevice& device_;
};

std::vector<int32_t> tokens_of(Engine& engine, const Request& request) {
  EXPECT_TRUE(engine.submit(request).has_value());
  std::vector<TokenEvent> events;
  while (engine.step(events)) {
  }
  std::vector<int32_t> out;
  for (const TokenEvent& e : events) out.push_back(e.sampled.token);
  return out;
}

TEST(DeviceMemory, AnEngineReadsItsLogitsBackAndGivesTheSameTokens) {
  const HashModel model(true);
  const Request request{
      .prompt = {3, 1, 4, 1, 5}, .sampling = {.temperature = 1, .seed = 9}, .max_tokens = 40};
  ReferenceOps plain;
  const auto expected =
      tokens_of(**Engine::create(model, plain, {.cache_tokens = 128, .page_tokens = 16}), request);
  FakeDevice device;
  DeviceOps ops(device);
  {
    const auto engine = *Engine::create(model, ops, {.cache_tokens = 128, .page_tokens = 16});
    EXPECT_FALSE(engine->cache().on_host());
    EXPECT_EQ(tokens_of(*engine, request), expected);
    EXPECT_GE(device.held, 2);  // cache and workspace
  }
  EXPECT_GE(ops.reads, 10);
  EXPECT_GT(device.zeroed, 0u);  // the MTP module's rows of fresh pages
  EXPECT_EQ(device.held, 0);
}

TEST(DeviceMemory, ACacheThatDoesNotFitIsRefusedWithItsSize) {
  const HashModel model;
  FakeDevice device;
  device.room = 1000;
  DeviceOps ops(device);
  const auto engine = Engine::create(model, ops, {.cache_tokens = 128});
  ASSERT_FALSE(engine.has_value());
  EXPECT_NE(engine.error().message.find("1024 bytes"), std::string::npos) << engine.error().message;
}

// Repeats what it is told to.
class RepeatingOps : public ReferenceOps {
 public:
  StepStart begin_step(const StepShape& shape) override {
    owners.push_back(shape.owner);
    const int64_t owner = shape.owner != 0 ? shape.owner : next_owner++;
    return {.done = repeat, .recording = 5, .owner = owner};
  }
  void end_step() override { ++ended; }
  std::vector<int64_t> owners;
  int64_t next_owner = 11;
  bool repeat = false;
  int ended = 0;
};

TEST(StepRunnerTest, ARepeatedStepLeavesOutputsAndWorkspaceAsTheRecordedOne) {
  const HashModel model;
  RepeatingOps ops;
  KvCache cache = *KvCache::create(model.kv_layers(), {.capacity_tokens = 64});
  PageTables tables;
  ASSERT_TRUE(cache.cover(8, tables));
  StepBuilder builder;
  builder.add(std::array<int32_t, 2>{7, 8}, 0, PositionClass::kGenerated, tables);
  Workspace workspace;
  workspace.f32(1, 1);
  StepRunner runner, other;
  const auto run = [&](StepRunner& r) {
    workspace.reset();
    return r.forward(model, {ops, workspace}, builder.step(cache));
  };
  const ModelOutput recorded = run(runner);
  const std::byte* const after = workspace.next();
  EXPECT_EQ(model.rows_computed, 2);
  ops.repeat = true;
  const ModelOutput repeated = run(runner);
  EXPECT_EQ(model.rows_computed, 2);  // the model was not asked
  EXPECT_EQ(repeated.hidden.data, recorded.hidden.data);
  EXPECT_EQ(repeated.hidden.rows, 2);
  EXPECT_EQ(workspace.next(), after);
  EXPECT_EQ(ops.ended, 1);
  ops.repeat = false;
  run(other);
  run(other);
  // Each runner is given a name when it first asks, and says it from then on.
  EXPECT_EQ(ops.owners, (std::vector<int64_t>{0, 11, 0, 12}));
}

}  // namespace device_memory_test
}  // namespace fathom
