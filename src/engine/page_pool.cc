#include "engine/page_pool.h"

#include "base/check.h"

namespace fathom {

PagePool::PagePool(int64_t pages)
    : holders_(static_cast<std::size_t>(pages), 0), owners_(static_cast<std::size_t>(pages), 0) {
  for (int64_t i = pages - 1; i >= 0; --i) free_.push_back(static_cast<int32_t>(i));
}

bool PagePool::take(int64_t count, std::vector<int32_t>& table, uint64_t owner) {
  if (count > free()) return false;
  for (int64_t i = 0; i < count; ++i) {
    table.push_back(free_.back());
    holders_[static_cast<std::size_t>(free_.back())] = 1;
    owners_[static_cast<std::size_t>(free_.back())] = owner;
    free_.pop_back();
  }
  return true;
}

void PagePool::claim(std::span<const int32_t> pages) {
  for (const int32_t page : pages) {
    FATHOM_CHECK_EQ(holders(page), 0) << "page " << page;
    holders_[static_cast<std::size_t>(page)] = 1;
  }
  std::erase_if(free_, [&](int32_t page) { return holders(page) > 0; });
}

void PagePool::share(int32_t page) {
  FATHOM_CHECK_GT(holders(page), 0) << "page " << page;
  ++holders_[static_cast<std::size_t>(page)];
}

void PagePool::release(int32_t page) {
  FATHOM_CHECK_GT(holders(page), 0) << "page " << page;
  if (--holders_[static_cast<std::size_t>(page)] == 0) free_.push_back(page);
}

}  // namespace fathom
