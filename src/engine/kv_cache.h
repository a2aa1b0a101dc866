// KvCache: the paged cache of keys and values. Owns the memory, the list of free pages and who
// holds which.
//
// A page holds page_tokens consecutive tokens of one sequence for ALL layers, so a sequence has one
// page table. Which layer keeps what is the model's word (KvLayerSpec); pages know nothing about
// it. Several holders may share a page that is full: sequences with a common beginning, and the
// prefix cache.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/page_directory.h"
#include "model/model.h"

namespace fathom {

inline constexpr int64_t kDefaultPageTokens = 64;

// Memory that outlives this process, for another one to go on with.
struct SharedKvMemory {
  int fd = -1;                   // of a memfd; this process's to use, not to close
  std::string identity;          // what the rows depend on: the model, its types, the kernels
  int64_t uncovered_layers = 0;  // the last ones, of an MTP module (page_directory.h)
};

class KvCache {
 public:
  // Room for `capacity_tokens` of rows of `type` (F32, F16, BF16 or Q8_0), rounded up to whole
  // pages. Memory is touched only when used. An error if that is more than limits::kMaxCachePages
  // or than the system reserves, or if rows are no whole blocks of `type`.
  static Result<KvCache> create(std::span<const KvLayerSpec> layers, int64_t capacity_tokens,
                                int64_t page_tokens = kDefaultPageTokens, DType type = DType::kF32,
                                const SharedKvMemory* shared = nullptr);

  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(KvCache&&) noexcept = default;

  // One per layer; valid as long as the cache.
  std::span<const KvPages> layers() const { return layers_; }

  int64_t page_tokens() const { return page_tokens_; }
  int64_t pages_for(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t total_pages() const { return total_pages_; }

  // The records of shared memory; null for memory of this process alone.
  PageDirectory* directory() { return directory_.get(); }
  // Takes these very pages, which must be free.
  void claim(std::span<const int32_t> pages);

  // Takes `count` pages, which nobody else holds, and appends them to `table`; false, and nothing
  // taken, if there are too few.
  bool take(int64_t count, std::vector<int32_t>& table);
  // One more holder of a page that somebody holds.
  void share(int32_t page);
  // One holder less; the last one frees the page.
  void release(int32_t page);
  // Releases the pages of `table` and empties it.
  void give_back(std::vector<int32_t>& table);
  int32_t holders(int32_t page) const { return holders_[static_cast<std::size_t>(page)]; }

 private:
  struct Unmap {
    std::size_t bytes;
    Unmap() : bytes(0) {}
    explicit Unmap(std::size_t b) : bytes(b) {}
    void operator()(std::byte* p) const;
  };
  KvCache() = default;

  std::unique_ptr<std::byte, Unmap> memory_;
  std::unique_ptr<PageDirectory> directory_;
  std::vector<KvPages> layers_;
  std::vector<int32_t> free_;     // the last is taken first
  std::vector<int32_t> holders_;  // by page
  int64_t page_tokens_ = 0;
  int64_t total_pages_ = 0;
};

// Bytes of cache for one token in all layers.
int64_t kv_bytes_per_token(std::span<const KvLayerSpec> layers, DType type = DType::kF32);

}  // namespace fathom
