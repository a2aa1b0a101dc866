// KvCache: the paged cache of keys and values. Owns the memory and who holds which page of it.
//
// A page holds page_tokens consecutive tokens of one sequence for ALL layers, so a sequence has one
// page table. Which layer keeps what is the model's word (KvLayerSpec); pages know nothing about
// it. Several holders may share a page that is full: sequences with a common beginning, and the
// prefix cache.
//
// Rows that only the last tokens need (KvLayerSpec::window) stand in pages of their own, which a
// sequence gives back when it has moved on: window pages, of kWindowPageTokens tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/page_directory.h"
#include "engine/page_pool.h"
#include "model/model.h"

namespace fathom {

inline constexpr int64_t kDefaultPageTokens = 64;
inline constexpr int64_t kWindowPageTokens = 16;

// Memory that outlives this process, for another one to go on with.
struct SharedKvMemory {
  int fd = -1;           // of a memfd; this process's to use, not to close
  std::string identity;  // what the rows depend on: the model, its types, the kernels
};

// The pages of one sequence.
struct PageTables {
  std::vector<int32_t> pages;
  std::vector<int32_t> window_pages;  // −1: given back
};

struct KvCacheOptions {
  int64_t capacity_tokens = 0;  // rounded up to whole pages
  // Rounded up to a multiple of what the layers' rows stand for.
  int64_t page_tokens = kDefaultPageTokens;
  DType type = DType::kF32;      // F32, F16, BF16 or Q8_0
  int64_t window_tokens = 0;     // Model::window_tokens()
  int64_t window_sequences = 1;  // that slide at the same time
  int64_t step_tokens = 0;       // of one sequence in a step, at most; 0: capacity_tokens
  Memory* memory = nullptr;      // of a device; null, or memory of the host: this process's own
  const SharedKvMemory* shared = nullptr;
};

class KvCache {
 public:
  // Memory is touched only when used. An error if there would be more than limits::kMaxCachePages
  // pages or more memory than the system reserves, or if rows are no whole blocks of the type.
  static Result<KvCache> create(std::span<const KvLayerSpec> layers, const KvCacheOptions& options);

  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(KvCache&&) noexcept = default;

  // One per layer; valid as long as the cache.
  std::span<const KvPages> layers() const { return layers_; }

  int64_t page_tokens() const { return page_tokens_; }
  int64_t pages_for(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }
  PagePool& pages() { return pages_; }
  const PagePool& pages() const { return pages_; }
  // None where no layer has window rows.
  PagePool& window_pages() { return window_; }
  const PagePool& window_pages() const { return window_; }
  bool has_window() const { return window_.total() > 0; }
  int64_t page_bytes() const { return page_bytes_; }
  int64_t window_page_bytes() const { return window_page_bytes_; }

  // The records of shared memory; null for memory of this process alone.
  PageDirectory* directory() { return directory_.get(); }

  // How many pages are missing for a sequence to hold its first `tokens` tokens.
  int64_t missing_pages(const PageTables& tables, int64_t tokens) const;
  int64_t missing_window_pages(const PageTables& tables, int64_t tokens) const;
  // Takes them; false, and nothing taken, if there are too few. `owner`: for wipe(). Rows of an MTP
  // module, which may be missing in a full page, are zeroes then.
  bool cover(int64_t tokens, PageTables& tables, uint64_t owner = 0);
  // The same by number, of which there must be enough.
  void take(int64_t count, std::vector<int32_t>& table, uint64_t owner);
  void take_window(int64_t count, std::vector<int32_t>& table, uint64_t owner);
  // Gives back the window pages that no token from `computed` on reads.
  void slide(int64_t computed, PageTables& tables);
  // The first window page that a token from `computed` on reads.
  int64_t first_window_page(int64_t computed) const;
  // How many whole window pages a token right behind the first `computed`, a multiple of
  // page_tokens(), reads of.
  int64_t kept_window_pages(int64_t computed) const;
  // Releases all pages and empties the tables.
  void give_back(PageTables& tables);

  // Whether the host can read and write what stands in the pages.
  bool on_host() const { return memory_.get_deleter().device == nullptr; }
  // All that stands in a page.
  std::span<std::byte> bytes(int32_t page) const {
    return {first_page_ + page * page_bytes_, static_cast<std::size_t>(page_bytes_)};
  }
  std::span<std::byte> window_bytes(int32_t page) const {
    return {first_window_page_ + page * window_page_bytes_,
            static_cast<std::size_t>(window_page_bytes_)};
  }
  // Overwrites the pages that nobody holds and that `owner` took last; also those of which it is
  // not known, since a process before this one used them.
  void wipe(uint64_t owner);

 private:
  struct Release {
    Memory* device;  // null: mapped
    std::size_t bytes;
    Release() : Release(nullptr, 0) {}
    Release(Memory* d, std::size_t b) : device(d), bytes(b) {}
    void operator()(std::byte* p) const;
  };
  KvCache() = default;
  Status reserve(const KvCacheOptions& options, int64_t bytes);
  void zero(std::span<std::byte> bytes);

  std::unique_ptr<std::byte, Release> memory_;
  std::unique_ptr<PageDirectory> directory_;
  std::vector<KvPages> layers_;
  PagePool pages_{0}, window_{0};
  std::byte *first_page_ = nullptr, *first_window_page_ = nullptr;
  int64_t page_tokens_ = 0, page_bytes_ = 0;
  int64_t window_tokens_ = 0, window_page_bytes_ = 0;
  int64_t mtp_bytes_ = 0, window_mtp_bytes_ = 0;  // of a page, at its end
};

// Bytes of cache that a token adds for good: rows of all layers but window rows, averaged.
double kv_bytes_per_token(std::span<const KvLayerSpec> layers, DType type = DType::kF32);
// Bytes of window rows for one token.
int64_t kv_window_bytes_per_token(std::span<const KvLayerSpec> layers, DType type = DType::kF32);

}  // namespace fathom
