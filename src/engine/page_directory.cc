#include "engine/page_directory.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/check.h"

namespace fathom {
namespace {

constexpr uint64_t kMagic = 0x314B564D4F485446;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;

struct Head {
  uint64_t magic = 0;
  uint64_t layout = 0;  // hash
};

uint64_t hash_of(const PageDirectory::Layout& l) {
  uint64_t hash = checksum64(std::as_bytes(std::span(l.identity)));
  for (const int64_t v :
       {l.total_pages, l.page_tokens, l.page_bytes, l.covered_bytes, l.window_pages,
        l.window_page_bytes, l.window_covered_bytes, l.window_pages_kept})
    hash = (hash ^ static_cast<uint64_t>(v)) * kPrime;
  return hash;
}

}  // namespace

uint64_t checksum64(std::span<const std::byte> data) {
  // Eight chains, so that multiplications overlap.
  uint64_t lanes[8];
  for (uint64_t i = 0; i < 8; ++i) lanes[i] = kPrime + i;
  std::size_t at = 0;
  for (; at + 64 <= data.size(); at += 64) {
    for (std::size_t i = 0; i < 8; ++i) {
      uint64_t word = 0;
      std::memcpy(&word, data.data() + at + 8 * i, 8);
      lanes[i] = (lanes[i] ^ word) * kPrime;
      lanes[i] ^= lanes[i] >> 29;
    }
  }
  uint64_t hash = data.size();
  for (; at < data.size(); ++at) hash = (hash ^ std::to_integer<uint64_t>(data[at])) * kPrime;
  for (const uint64_t lane : lanes) hash = ((hash ^ lane) * kPrime) ^ hash >> 31;
  return hash;
}

// Behind an entry follow its tokens, then the ids of its window pages.
struct PageDirectory::Entry {
  std::atomic<uint64_t> serial;         // 0: there is no record
  std::atomic<uint64_t> window_serial;  // of the record; another number: it has no window pages
  uint64_t window_checksum;
  uint64_t parent_serial;
  uint64_t checksum;
  int64_t prompt_tokens;
  int32_t parent;
  uint32_t window_count;
  uint32_t tenant_bytes;
  char tenant[kMaxTenantBytes];
  int32_t* tokens() { return reinterpret_cast<int32_t*>(this + 1); }
};

namespace {

int64_t entry_bytes(const PageDirectory::Layout& l, std::size_t head) {
  return (static_cast<int64_t>(head) + (l.page_tokens + l.window_pages_kept) * 4 + 63) / 64 * 64;
}

}  // namespace

int64_t PageDirectory::bytes(const Layout& layout) {
  const int64_t all = 64 + layout.total_pages * entry_bytes(layout, sizeof(Entry));
  return (all + kHugePage - 1) / kHugePage * kHugePage;
}

PageDirectory::Entry& PageDirectory::entry(int32_t page) const {
  return *reinterpret_cast<Entry*>(memory_ + 64 + page * entry_bytes(layout_, sizeof(Entry)));
}

uint64_t PageDirectory::checksum(int32_t page) const {
  return checksum64(
      {pages_ + page * layout_.page_bytes, static_cast<std::size_t>(layout_.covered_bytes)});
}

int32_t* PageDirectory::window_ids(Entry& e) const { return e.tokens() + layout_.page_tokens; }

uint64_t PageDirectory::window_checksum(std::span<const int32_t> window_pages) const {
  uint64_t hash = window_pages.size();
  for (const int32_t page : window_pages) {
    hash = (hash ^ checksum64({window_pages_ + page * layout_.window_page_bytes,
                               static_cast<std::size_t>(layout_.window_covered_bytes)})) *
           kPrime;
  }
  return hash;
}

std::vector<int32_t> PageDirectory::intact_window(Entry& e) const {
  if (e.window_serial.load(std::memory_order_acquire) != e.serial.load(std::memory_order_relaxed) ||
      e.window_count > layout_.window_pages_kept)
    return {};
  const std::span<const int32_t> ids(window_ids(e), e.window_count);
  const auto known = [&](int32_t id) { return id >= 0 && id < layout_.window_pages; };
  if (!std::all_of(ids.begin(), ids.end(), known) || window_checksum(ids) != e.window_checksum)
    return {};
  return {ids.begin(), ids.end()};
}

void PageDirectory::write_window(int32_t page, std::span<const int32_t> window_pages) {
  FATHOM_CHECK_LE(static_cast<int64_t>(window_pages.size()), layout_.window_pages_kept);
  Entry& e = entry(page);
  const uint64_t serial = e.serial.load(std::memory_order_relaxed);
  e.window_serial.store(0, std::memory_order_release);
  if (serial == 0) return;
  e.window_count = static_cast<uint32_t>(window_pages.size());
  std::copy(window_pages.begin(), window_pages.end(), window_ids(e));
  e.window_checksum = window_checksum(window_pages);
  e.window_serial.store(serial, std::memory_order_release);
}

void PageDirectory::erase_window(int32_t page) {
  entry(page).window_serial.store(0, std::memory_order_release);
}

PageDirectory::PageDirectory(std::byte* memory, const Layout& layout)
    : memory_(memory),
      layout_(layout),
      pages_(memory + bytes(layout)),
      window_pages_(pages_ + layout.total_pages * layout.page_bytes) {
  auto* const head = reinterpret_cast<Head*>(memory_);
  found_ = head->magic != 0;
  const Head wanted{.magic = kMagic, .layout = hash_of(layout)};
  if (head->magic == wanted.magic && head->layout == wanted.layout) return;
  for (int64_t page = 0; page < layout_.total_pages; ++page)
    entry(static_cast<int32_t>(page)).serial.store(0, std::memory_order_relaxed);
  *head = wanted;
}

std::vector<PageDirectory::Record> PageDirectory::restore() {
  std::vector<std::pair<uint64_t, int32_t>> order;
  for (int64_t i = 0; i < layout_.total_pages; ++i) {
    const auto page = static_cast<int32_t>(i);
    if (const uint64_t serial = entry(page).serial.load(std::memory_order_acquire); serial != 0)
      order.emplace_back(serial, page);
  }
  std::sort(order.begin(), order.end());
  std::vector<uint64_t> kept(static_cast<std::size_t>(layout_.total_pages), 0);
  std::vector<Record> out;
  for (const auto& [serial, page] : order) {
    next_serial_ = serial + 1;
    Entry& e = entry(page);
    const bool has_parent =
        e.parent == -1 ||
        (e.parent >= 0 && e.parent < layout_.total_pages && e.parent_serial != 0 &&
         kept[static_cast<std::size_t>(e.parent)] == e.parent_serial);
    if (!has_parent || e.tenant_bytes > kMaxTenantBytes || e.checksum != checksum(page)) {
      e.serial.store(0, std::memory_order_release);
      continue;
    }
    kept[static_cast<std::size_t>(page)] = serial;
    out.push_back({.page = page,
                   .parent = e.parent,
                   .prompt_tokens = e.prompt_tokens,
                   .tenant = std::string(e.tenant, e.tenant_bytes),
                   .tokens = {e.tokens(), e.tokens() + layout_.page_tokens},
                   .window_pages = intact_window(e)});
  }
  return out;
}

void PageDirectory::write(int32_t page, int32_t parent, int64_t prompt_tokens,
                          std::string_view tenant, std::span<const int32_t> tokens) {
  FATHOM_CHECK_EQ(static_cast<int64_t>(tokens.size()), layout_.page_tokens);
  Entry& e = entry(page);
  e.serial.store(0, std::memory_order_release);
  e.window_serial.store(0, std::memory_order_release);
  uint64_t parent_serial = 0;
  if (parent >= 0) parent_serial = entry(parent).serial.load(std::memory_order_relaxed);
  // A page behind one that has no record could not be found again.
  if (tenant.size() > kMaxTenantBytes || (parent >= 0 && parent_serial == 0)) return;
  e.parent = parent;
  e.parent_serial = parent_serial;
  e.prompt_tokens = prompt_tokens;
  e.tenant_bytes = static_cast<uint32_t>(tenant.size());
  std::copy(tenant.begin(), tenant.end(), e.tenant);
  std::copy(tokens.begin(), tokens.end(), e.tokens());
  e.checksum = checksum(page);
  e.serial.store(next_serial_++, std::memory_order_release);
}

// Whose it was and what it said goes with it.
void PageDirectory::erase(int32_t page) {
  Entry& e = entry(page);
  e.serial.store(0, std::memory_order_release);
  std::memset(e.tenant, 0, sizeof(e.tenant));
  std::memset(e.tokens(), 0, static_cast<std::size_t>(layout_.page_tokens) * sizeof(int32_t));
}

}  // namespace fathom
