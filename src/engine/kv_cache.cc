#include "engine/kv_cache.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include "base/limits.h"

namespace fathom {
namespace {

DType row_type(const KvLayerSpec& l, DType type) { return l.exact ? DType::kF32 : type; }

int64_t row_bytes(const KvLayerSpec& l, DType type) {
  return dtype_row_bytes(row_type(l, type), l.row_elements);
}

// The least number of tokens that every layer's rows divide.
int64_t common_tokens(std::span<const KvLayerSpec> layers) {
  int64_t tokens = 1;
  for (const KvLayerSpec& l : layers) tokens = std::lcm(tokens, l.tokens_per_row);
  return tokens;
}

// Bytes of the page of `tokens` tokens: of window rows or of the others; covered: without the MTP
// module's.
int64_t bytes_of(std::span<const KvLayerSpec> layers, DType type, int64_t tokens, bool window,
                 bool covered = false) {
  int64_t bytes = 0;
  for (const KvLayerSpec& l : layers) {
    if (l.window != window || (covered && l.mtp)) continue;
    bytes += row_bytes(l, type) * (tokens / l.tokens_per_row);
  }
  return bytes;
}

// Window pages for sequences that each hold what the last tokens need and a step's tokens.
int64_t window_pages_for(const KvCacheOptions& o, int64_t capacity) {
  const int64_t step = o.step_tokens > 0 ? std::min(o.step_tokens, capacity) : capacity;
  const auto pages = [](int64_t tokens) {
    return (tokens + kWindowPageTokens - 1) / kWindowPageTokens + 1;
  };
  return o.window_sequences * (pages(o.window_tokens) + pages(1)) + pages(step);
}

// Further ones that the prefix cache may keep: a quarter of the memory of the other pages, one
// sequence's at least.
int64_t cached_window_pages(const KvCacheOptions& o, int64_t bytes, int64_t window_page_bytes) {
  return std::max(bytes / 4 / std::max<int64_t>(window_page_bytes, 1),
                  o.window_tokens / kWindowPageTokens + 2);
}

// Whether any of it is in memory.
bool is_resident(std::span<const std::byte> bytes) {
  const auto unit = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / unit * unit;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size();
  std::vector<unsigned char> there((end - begin + unit - 1) / unit);
  if (::mincore(reinterpret_cast<void*>(begin), end - begin, there.data()) != 0) return true;
  return std::any_of(there.begin(), there.end(), [](unsigned char b) { return (b & 1) != 0; });
}

}  // namespace

double kv_bytes_per_token(std::span<const KvLayerSpec> layers, DType type) {
  const int64_t tokens = common_tokens(layers);
  return static_cast<double>(bytes_of(layers, type, tokens, false)) / static_cast<double>(tokens);
}

int64_t kv_window_bytes_per_token(std::span<const KvLayerSpec> layers, DType type) {
  return bytes_of(layers, type, 1, true);
}

void KvCache::Release::operator()(std::byte* p) const {
  if (device != nullptr) {
    device->release(p);
  } else {
    ::munmap(p, bytes);
  }
}

Status KvCache::reserve(const KvCacheOptions& o, int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  if (o.memory != nullptr && !o.memory->on_host()) {
    FATHOM_CHECK(o.shared == nullptr) << "a device's memory is nobody else's";
    std::byte* const p = o.memory->allocate(size);
    if (p == nullptr) {
      return resource_limit(fmt::format("no room on the device for {} bytes, a cache of {} tokens",
                                        bytes, o.capacity_tokens));
    }
    memory_ = std::unique_ptr<std::byte, Release>(p, Release{o.memory, size});
    return {};
  }
  void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                   o.shared != nullptr ? MAP_SHARED | MAP_NORESERVE
                                       : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   o.shared != nullptr ? o.shared->fd : -1, 0);
  if (p == MAP_FAILED) {
    return resource_limit(fmt::format("cannot reserve {} bytes for a cache of {} tokens: {}", bytes,
                                      o.capacity_tokens, std::strerror(errno)));
  }
  // Attention reads short runs from many places: with small pages of the system it waits for
  // address translation.
  ::madvise(p, size, MADV_HUGEPAGE);
  memory_ = std::unique_ptr<std::byte, Release>(static_cast<std::byte*>(p), Release{nullptr, size});
  return {};
}

void KvCache::zero(std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  Memory* const device = memory_.get_deleter().device;
  (device != nullptr ? *device : host_memory()).zero(bytes.data(), bytes.size());
}

Result<KvCache> KvCache::create(std::span<const KvLayerSpec> layers, const KvCacheOptions& o) {
  FATHOM_CHECK(o.capacity_tokens > 0 && o.page_tokens > 0)
      << o.capacity_tokens << " " << o.page_tokens;
  const bool window =
      std::any_of(layers.begin(), layers.end(), [](const KvLayerSpec& l) { return l.window; });
  // Window pages end where pages end, so that a cached page has whole ones before its end.
  const int64_t multiple = std::lcm(common_tokens(layers), window ? kWindowPageTokens : 1);
  const int64_t page_tokens = (o.page_tokens + multiple - 1) / multiple * multiple;
  if ((o.capacity_tokens - 1) / page_tokens >= limits::kMaxCachePages) {
    return resource_limit(fmt::format("a cache of {} tokens is too large, expected at most {}",
                                      o.capacity_tokens, limits::kMaxCachePages * page_tokens));
  }
  for (const KvLayerSpec& l : layers) {
    FATHOM_CHECK(!l.window || l.tokens_per_row == 1) << l.tokens_per_row;
    const int64_t block = dtype_block(row_type(l, o.type)).elements;
    if (l.row_elements % block != 0) {
      return invalid_argument(
          fmt::format("a cache row of {} values cannot be {}, expected a multiple of {}",
                      l.row_elements, dtype_name(o.type), block));
    }
  }
  KvCache cache;
  cache.page_tokens_ = page_tokens;
  cache.window_tokens_ = o.window_tokens;
  cache.pages_ = PagePool(cache.pages_for(o.capacity_tokens));
  const int64_t total = cache.pages_.total();
  const int64_t capacity = total * page_tokens;
  cache.page_bytes_ = bytes_of(layers, o.type, page_tokens, false);
  cache.window_page_bytes_ = bytes_of(layers, o.type, kWindowPageTokens, true);
  int64_t bytes = 0, window_bytes = 0;
  const bool overflow = __builtin_mul_overflow(cache.page_bytes_, total, &bytes);
  if (window && !overflow) {
    cache.window_ = PagePool(window_pages_for(o, capacity) +
                             cached_window_pages(o, bytes, cache.window_page_bytes_));
  }
  if (overflow ||
      __builtin_mul_overflow(cache.window_page_bytes_, cache.window_.total(), &window_bytes) ||
      __builtin_add_overflow(bytes, window_bytes, &bytes)) {
    return resource_limit(
        fmt::format("a cache of {} tokens does not fit the address space", o.capacity_tokens));
  }
  PageDirectory::Layout layout{
      .total_pages = total,
      .page_tokens = page_tokens,
      .page_bytes = cache.page_bytes_,
      .covered_bytes = bytes_of(layers, o.type, page_tokens, false, true),
      .window_pages = cache.window_.total(),
      .window_page_bytes = cache.window_page_bytes_,
      .window_covered_bytes = bytes_of(layers, o.type, kWindowPageTokens, true, true),
      .window_pages_kept = cache.kept_window_pages(capacity)};
  int64_t front = 0;  // bytes of the directory
  if (o.shared != nullptr) {
    layout.identity = fmt::format("{}/{}", o.shared->identity, dtype_name(o.type));
    front = PageDirectory::bytes(layout);
    bytes += front;
    if (::ftruncate(o.shared->fd, bytes) != 0) {
      return resource_limit(fmt::format("cannot make {} bytes of shared memory for the cache: {}",
                                        bytes, std::strerror(errno)));
    }
  }
  FATHOM_TRY_STATUS(cache.reserve(o, bytes));
  if (o.shared != nullptr) {
    cache.directory_ = std::make_unique<PageDirectory>(cache.memory_.get(), layout);
    if (cache.directory_->found()) {
      cache.pages_.owners_are_unknown();
      cache.window_.owners_are_unknown();
    }
  }
  std::byte* const pages = cache.first_page_ = cache.memory_.get() + front;
  std::byte* const window_pages = cache.first_window_page_ = pages + total * cache.page_bytes_;
  cache.mtp_bytes_ = layout.page_bytes - layout.covered_bytes;
  cache.window_mtp_bytes_ = layout.window_page_bytes - layout.window_covered_bytes;
  // Within a page the MTP module's rows come last: the directory's checksums leave them out.
  cache.layers_.resize(layers.size());
  int64_t at = 0, window_at = 0;
  for (const bool mtp : {false, true}) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const KvLayerSpec& l = layers[i];
      if (l.mtp != mtp) continue;
      int64_t& offset = l.window ? window_at : at;
      const int64_t rows = (l.window ? kWindowPageTokens : page_tokens) / l.tokens_per_row;
      cache.layers_[i] = {
          .data = (l.window ? window_pages : pages) + offset,
          .dtype = row_type(l, o.type),
          .page_rows = rows,
          .page_stride_bytes = l.window ? cache.window_page_bytes_ : cache.page_bytes_,
          .row_elements = l.row_elements,
          .tokens_per_row = l.tokens_per_row,
          .window = l.window};
      offset += cache.layers_[i].row_bytes() * rows;
    }
  }
  return cache;
}

int64_t KvCache::missing_pages(const PageTables& tables, int64_t tokens) const {
  return std::max<int64_t>(pages_for(tokens) - static_cast<int64_t>(tables.pages.size()), 0);
}

int64_t KvCache::missing_window_pages(const PageTables& tables, int64_t tokens) const {
  if (!has_window()) return 0;
  const int64_t wanted = (tokens + kWindowPageTokens - 1) / kWindowPageTokens;
  return std::max<int64_t>(wanted - static_cast<int64_t>(tables.window_pages.size()), 0);
}

bool KvCache::cover(int64_t tokens, PageTables& tables, uint64_t owner) {
  const int64_t pages = missing_pages(tables, tokens);
  const int64_t window = missing_window_pages(tables, tokens);
  if (window > window_.free() || pages > pages_.free()) return false;
  take(pages, tables.pages, owner);
  take_window(window, tables.window_pages, owner);
  return true;
}

// Rows of another sequence, perhaps of another tenant, must not pass for this one's.
void KvCache::take(int64_t count, std::vector<int32_t>& table, uint64_t owner) {
  FATHOM_CHECK(pages_.take(count, table, owner)) << count;
  for (const int32_t page : std::span(table).last(static_cast<std::size_t>(count))) {
    zero(bytes(page).last(static_cast<std::size_t>(mtp_bytes_)));
  }
}

void KvCache::take_window(int64_t count, std::vector<int32_t>& table, uint64_t owner) {
  FATHOM_CHECK(window_.take(count, table, owner)) << count;
  for (const int32_t page : std::span(table).last(static_cast<std::size_t>(count))) {
    zero(window_bytes(page).last(static_cast<std::size_t>(window_mtp_bytes_)));
  }
}

void KvCache::wipe(uint64_t owner) {
  const auto wipe_pages = [&](PagePool& pool, const auto& bytes_of_page) {
    for (int32_t page = 0; page < static_cast<int32_t>(pool.total()); ++page) {
      if (pool.holders(page) > 0 || !pool.is_last_owner(page, owner)) continue;
      const std::span<std::byte> bytes = bytes_of_page(page);
      // Memory that was never used would be taken by writing to it.
      if (!on_host() || is_resident(bytes)) zero(bytes);
      pool.forget_owner(page);
    }
  };
  wipe_pages(pages_, [&](int32_t page) { return bytes(page); });
  wipe_pages(window_, [&](int32_t page) { return window_bytes(page); });
}

int64_t KvCache::first_window_page(int64_t computed) const {
  return std::max<int64_t>(computed - window_tokens_, 0) / kWindowPageTokens;
}

int64_t KvCache::kept_window_pages(int64_t computed) const {
  return has_window() ? computed / kWindowPageTokens - first_window_page(computed) : 0;
}

void KvCache::slide(int64_t computed, PageTables& tables) {
  const auto end = static_cast<std::size_t>(
      std::min(first_window_page(computed), static_cast<int64_t>(tables.window_pages.size())));
  for (std::size_t i = end; i-- > 0 && tables.window_pages[i] >= 0;) {
    window_.release(tables.window_pages[i]);
    tables.window_pages[i] = -1;
  }
}

void KvCache::give_back(PageTables& tables) {
  for (auto page = tables.pages.rbegin(); page != tables.pages.rend(); ++page)
    pages_.release(*page);
  for (auto page = tables.window_pages.rbegin(); page != tables.window_pages.rend(); ++page)
    if (*page >= 0) window_.release(*page);
  tables = {};
}

}  // namespace fathom
