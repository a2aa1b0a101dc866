#include "engine/kv_cache.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/limits.h"

namespace fathom {

int64_t kv_bytes_per_token(std::span<const KvLayerSpec> layers, DType type) {
  int64_t bytes = 0;
  for (const KvLayerSpec& l : layers) bytes += dtype_row_bytes(type, l.row_elements);
  return bytes;
}

void KvCache::Unmap::operator()(std::byte* p) const { ::munmap(p, bytes); }

Result<KvCache> KvCache::create(std::span<const KvLayerSpec> layers, int64_t capacity_tokens,
                                int64_t page_tokens, DType type, const SharedKvMemory* shared) {
  FATHOM_CHECK(capacity_tokens > 0 && page_tokens > 0) << capacity_tokens << " " << page_tokens;
  if ((capacity_tokens - 1) / page_tokens >= limits::kMaxCachePages) {
    return resource_limit(fmt::format("a cache of {} tokens is too large, expected at most {}",
                                      capacity_tokens, limits::kMaxCachePages * page_tokens));
  }
  for (const KvLayerSpec& l : layers) {
    const int64_t block = dtype_block(type).elements;
    if (l.row_elements % block != 0) {
      return invalid_argument(
          fmt::format("a cache row of {} values cannot be {}, expected a multiple of {}",
                      l.row_elements, dtype_name(type), block));
    }
  }
  KvCache cache;
  cache.page_tokens_ = page_tokens;
  cache.total_pages_ = cache.pages_for(capacity_tokens);
  int64_t page_bytes = 0, bytes = 0;
  if (__builtin_mul_overflow(kv_bytes_per_token(layers, type), page_tokens, &page_bytes) ||
      __builtin_mul_overflow(page_bytes, cache.total_pages_, &bytes)) {
    return resource_limit(
        fmt::format("a cache of {} tokens does not fit the address space", capacity_tokens));
  }
  PageDirectory::Layout layout{.total_pages = cache.total_pages_,
                               .page_tokens = page_tokens,
                               .page_bytes = page_bytes,
                               .covered_bytes = page_bytes};
  int64_t front = 0;  // bytes of the directory
  if (shared != nullptr) {
    layout.identity = fmt::format("{}/{}", shared->identity, dtype_name(type));
    layout.covered_bytes =
        page_tokens *
        kv_bytes_per_token(
            layers.first(layers.size() - static_cast<std::size_t>(shared->uncovered_layers)), type);
    front = PageDirectory::bytes(layout);
    bytes += front;
    if (::ftruncate(shared->fd, bytes) != 0) {
      return resource_limit(fmt::format("cannot make {} bytes of shared memory for the cache: {}",
                                        bytes, std::strerror(errno)));
    }
  }
  void* p = ::mmap(
      nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
      shared != nullptr ? MAP_SHARED | MAP_NORESERVE : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
      shared != nullptr ? shared->fd : -1, 0);
  if (p == MAP_FAILED) {
    return resource_limit(fmt::format("cannot reserve {} bytes for a cache of {} tokens: {}", bytes,
                                      capacity_tokens, std::strerror(errno)));
  }
  // Attention reads short runs from many places: with small pages of the system it waits for
  // address translation.
  ::madvise(p, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
  cache.memory_ = std::unique_ptr<std::byte, Unmap>(static_cast<std::byte*>(p),
                                                    Unmap(static_cast<std::size_t>(bytes)));
  std::byte* base = cache.memory_.get() + front;
  if (shared != nullptr)
    cache.directory_ = std::make_unique<PageDirectory>(cache.memory_.get(), layout);
  for (const KvLayerSpec& spec : layers) {
    KvPages pages{.data = base,
                  .dtype = type,
                  .page_tokens = page_tokens,
                  .page_stride_bytes = page_bytes,
                  .row_elements = spec.row_elements};
    base += pages.row_bytes() * page_tokens;
    cache.layers_.push_back(pages);
  }
  for (int64_t i = cache.total_pages_ - 1; i >= 0; --i)
    cache.free_.push_back(static_cast<int32_t>(i));
  cache.holders_.assign(static_cast<std::size_t>(cache.total_pages_), 0);
  return cache;
}

bool KvCache::take(int64_t count, std::vector<int32_t>& table) {
  if (count > free_pages()) return false;
  for (int64_t i = 0; i < count; ++i) {
    table.push_back(free_.back());
    holders_[static_cast<std::size_t>(free_.back())] = 1;
    free_.pop_back();
  }
  return true;
}

void KvCache::claim(std::span<const int32_t> pages) {
  for (const int32_t page : pages) {
    FATHOM_CHECK_EQ(holders(page), 0) << "page " << page;
    holders_[static_cast<std::size_t>(page)] = 1;
  }
  std::erase_if(free_, [&](int32_t page) { return holders(page) > 0; });
}

void KvCache::share(int32_t page) {
  FATHOM_CHECK_GT(holders(page), 0) << "page " << page;
  ++holders_[static_cast<std::size_t>(page)];
}

void KvCache::release(int32_t page) {
  FATHOM_CHECK_GT(holders(page), 0) << "page " << page;
  if (--holders_[static_cast<std::size_t>(page)] == 0) free_.push_back(page);
}

void KvCache::give_back(std::vector<int32_t>& table) {
  for (auto page = table.rbegin(); page != table.rend(); ++page) release(*page);
  table.clear();
}

}  // namespace fathom
