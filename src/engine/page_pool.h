// PagePool: which of a number of pages are free, and how many holders each of the others has.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace fathom {

class PagePool {
 public:
  explicit PagePool(int64_t pages);

  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t total() const { return static_cast<int64_t>(holders_.size()); }
  int32_t holders(int32_t page) const { return holders_[static_cast<std::size_t>(page)]; }

  // Takes `count` pages, which nobody else holds, and appends them to `table`; false, and nothing
  // taken, if there are too few. `owner`: any number but UINT64_MAX, 0 for nobody in particular.
  bool take(int64_t count, std::vector<int32_t>& table, uint64_t owner = 0);
  // Whether `owner` took the page last, or may have.
  bool is_last_owner(int32_t page, uint64_t owner) const {
    const uint64_t last = owners_[static_cast<std::size_t>(page)];
    return last == owner || last == kUnknown;
  }
  void forget_owner(int32_t page) { owners_[static_cast<std::size_t>(page)] = 0; }
  // Somebody else used the pages before.
  void owners_are_unknown() { std::fill(owners_.begin(), owners_.end(), kUnknown); }
  // Takes these very pages, which must be free.
  void claim(std::span<const int32_t> pages);
  // One more holder of a page that somebody holds.
  void share(int32_t page);
  // One holder less; the last one frees the page.
  void release(int32_t page);

 private:
  std::vector<int32_t> free_;  // the last is taken first
  static constexpr uint64_t kUnknown = UINT64_MAX;
  std::vector<int32_t> holders_;  // by page
  std::vector<uint64_t> owners_;  // by page: who took it last
};

}  // namespace fathom
