// A model whose logits are a hash of everything that a sequence has in the cache, so that a row
// missing or wrong changes every later token; a second tier in memory; and engines over them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "ops/reference/reference_ops.h"

namespace fathom::test {

inline constexpr int64_t kVocab = 61;

inline uint64_t mix(uint64_t hash, uint64_t value) {
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

  mutable std::atomic<int64_t> rows_computed{0}, mtp_rows{0};

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

// Keeps pages in memory. What is given to it happens at once, or when the test says so.
class FakeTier final : public PageTier {
 public:
  struct Kept {
    std::vector<std::byte> bytes;
    int64_t written = 0, used = 0;
  };
  // Outlives the tier, as files do.
  using Store = std::map<std::pair<std::string, PageId>, Kept>;
  struct Hand {
    Store store;
    bool hold_stores = false, hold_loads = false, full = false;
    int64_t given_up = 0, cancelled = 0, waits = 0;
  };

  explicit FakeTier(Hand& hand) : hand_(hand) {}

  PageId id_of(const PageId& parent, int64_t prompt_tokens,
               std::span<const int32_t> tokens) const override {
    uint64_t hash = mix(static_cast<uint64_t>(parent[0]), 1);
    for (const uint8_t byte : parent) hash = mix(hash, byte);
    hash = mix(hash, static_cast<uint64_t>(prompt_tokens));
    for (const int32_t token : tokens) hash = mix(hash, static_cast<uint64_t>(token));
    PageId id{};
    std::memcpy(id.data(), &hash, sizeof(hash));
    id[31] = 1;
    return id;
  }
  bool store(std::string_view tenant, Page page) override {
    if (hand_.full) return false;
    std::vector<std::byte> now = joined(page);
    stores_.push_back({std::string(tenant), std::move(now), std::move(page)});
    return true;
  }
  std::vector<int32_t> released() override {
    if (!hand_.hold_stores) work();
    return std::exchange(released_, {});
  }
  void give_up_stores() override {
    hand_.given_up += static_cast<int64_t>(stores_.size());
    for (const Given& given : stores_) released_.push_back(given.page.page);
    stores_.clear();
  }
  void load(uint64_t ticket, std::string_view tenant, std::vector<Page> pages) override {
    loads_.push_back({ticket, std::string(tenant), std::move(pages)});
  }
  std::vector<Loaded> loaded() override {
    std::vector<Loaded> out;
    if (hand_.hold_loads) return out;
    for (Load& load : loads_) {
      int64_t count = 0;
      for (const Page& page : load.pages) {
        const auto kept = hand_.store.find({load.tenant, page.id});
        if (kept == hand_.store.end()) break;
        auto from = kept->second.bytes.begin();
        for (const std::span<std::byte> part : page.bytes) {
          std::copy_n(from, part.size(), part.begin());
          from += static_cast<std::ptrdiff_t>(part.size());
        }
        ++count;
      }
      // Behind what was read may be anything.
      for (auto page = load.pages.begin() + count; page != load.pages.end(); ++page)
        for (const std::span<std::byte> part : page->bytes)
          std::fill(part.begin(), part.end(), std::byte{0x5A});
      out.push_back({load.ticket, count});
    }
    loads_.clear();
    return out;
  }
  void cancel_load(uint64_t ticket) override {
    hand_.cancelled += static_cast<int64_t>(
        std::erase_if(loads_, [&](const Load& load) { return load.ticket == ticket; }));
  }
  void wait_loaded(std::chrono::milliseconds) override { ++hand_.waits; }
  void erase_tenant(std::string_view tenant) override {
    for (const Given& given : stores_)
      if (given.tenant == tenant) released_.push_back(given.page.page);
    std::erase_if(stores_, [&](const Given& given) { return given.tenant == tenant; });
    std::erase_if(hand_.store, [&](const auto& entry) { return entry.first.first == tenant; });
  }
  bool flush(std::chrono::milliseconds) override {
    work();
    return true;
  }
  PageTierStats stats() const override { return {}; }

 private:
  static std::vector<std::byte> joined(const Page& page) {
    std::vector<std::byte> out;
    for (const std::span<std::byte> part : page.bytes)
      out.insert(out.end(), part.begin(), part.end());
    return out;
  }
  struct Load {
    uint64_t ticket;
    std::string tenant;
    std::vector<Page> pages;
  };
  struct Given {
    std::string tenant;
    std::vector<std::byte> bytes;
    Page page;
  };
  void work() {
    for (const auto& [tenant, bytes, page] : stores_) {
      EXPECT_TRUE(bytes == joined(page)) << "the page was written to while it was the tier's";
      Kept& kept = hand_.store[{tenant, page.id}];
      if (kept.written == 0) {
        kept.bytes = bytes;
        ++kept.written;
      }
      ++kept.used;
      released_.push_back(page.page);
    }
    stores_.clear();
  }

  Hand& hand_;
  std::vector<Given> stores_;
  std::vector<Load> loads_;
  std::vector<int32_t> released_;
};

// The hidden state carries all 64 bits, since 16 fit a float32 exactly.
class ServingTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> engine(const EngineOptions& options, bool mtp = false,
                                 std::unique_ptr<PageTier> tier = nullptr) {
    Model& model = mtp ? static_cast<Model&>(mtp_model_) : static_cast<Model&>(model_);
    return *Engine::create(model, ops_, options, std::move(tier));
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

}  // namespace fathom::test
