// PageDirectory: what stands in which page of the cache, written beside the pages, so that another
// process that maps the same memory can go on with them.
//
// Owns the records and their checksums. A record appears after its page is complete and disappears
// before the page is used for something else; a page that does not match its checksum is not given
// out again. The tree that the records describe is PrefixCache's.
//
// Not every layer is covered: the rows of an MTP module come a step later than the page, and only
// drafts depend on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

class PageDirectory {
 public:
  static constexpr std::size_t kMaxTenantBytes = 640;  // a longer one's pages are not recorded

  struct Layout {
    int64_t total_pages = 0, page_tokens = 0;
    int64_t page_bytes = 0;     // from one page to the next
    int64_t covered_bytes = 0;  // of a page, that the checksum is of
    // Window pages (kv_cache.h) stand behind the others; a record names at most
    // window_pages_kept of them.
    int64_t window_pages = 0, window_page_bytes = 0, window_covered_bytes = 0;
    int64_t window_pages_kept = 0;
    std::string identity;  // what the rows depend on: the model, the types, the kernels
  };
  struct Record {
    int32_t page = -1, parent = -1;  // parent −1: the first page of a sequence
    int64_t prompt_tokens = 0;
    std::string tenant;
    std::vector<int32_t> tokens;
    std::vector<int32_t> window_pages;  // that whoever goes on behind the page needs; may be empty
  };

  // Bytes in front of the pages, a multiple of 2 MiB.
  static int64_t bytes(const Layout& layout);

  // `memory`: bytes(layout) bytes, then the pages. Zeroes, or what a process before this one left;
  // what is of another layout is wiped.
  PageDirectory(std::byte* memory, const Layout& layout);

  // Whether a process before this one used the memory.
  bool found() const { return found_; }
  // The records whose pages are intact, parents before children; all others are wiped.
  std::vector<Record> restore();

  void write(int32_t page, int32_t parent, int64_t prompt_tokens, std::string_view tenant,
             std::span<const int32_t> tokens);
  void erase(int32_t page);
  // Adds window pages to a page's record, or takes them away, before they are used for something
  // else.
  void write_window(int32_t page, std::span<const int32_t> window_pages);
  void erase_window(int32_t page);

 private:
  struct Entry;
  Entry& entry(int32_t page) const;
  uint64_t checksum(int32_t page) const;
  uint64_t window_checksum(std::span<const int32_t> window_pages) const;
  std::vector<int32_t> intact_window(Entry& e) const;
  int32_t* window_ids(Entry& e) const;

  std::byte* const memory_;
  const Layout layout_;
  const std::byte* const pages_;
  const std::byte* const window_pages_;
  bool found_ = false;
  uint64_t next_serial_ = 1;
};

// Of 8-byte words, then of what is left. Not for adversaries.
uint64_t checksum64(std::span<const std::byte> data);

}  // namespace fathom
