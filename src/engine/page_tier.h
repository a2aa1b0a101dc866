// PageTier: a place for full pages behind the cache's memory, from which they come back after they
// were evicted or the process was started anew.
//
// Owns the interface only; kv_disk/ implements it over files. A page is known by the id of all that
// it and the pages before it were computed from; what stands in its bytes is no business of a
// tier's. Everything here is called on the engine's thread, and nothing waits for a disk but what
// says so.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

// Of a page and all before it, within a tenant. Nobody finds two pages with one id.
using PageId = std::array<uint8_t, 32>;

// Counters grow for the tier's life; the others are of the moment.
struct PageTierStats {
  int64_t query_tokens = 0, hit_tokens = 0;  // looked up, found
  int64_t pages_read = 0, pages_written = 0;
  int64_t bytes_read = 0, bytes_written = 0;
  int64_t pages_skipped = 0;  // not kept: too much waited, or there was no room
  int64_t pages_damaged = 0;  // found and not used
  int64_t errors = 0;         // of the system
  std::string last_error;
  int64_t bytes = 0;        // that the tier takes, all models together
  int64_t other_bytes = 0;  // of these, of other models, keys or versions
  bool operator==(const PageTierStats&) const = default;
};

class PageTier {
 public:
  struct Page {
    int32_t page = -1;  // the caller's number of it
    PageId id{}, parent{};
    int64_t depth = 0;          // pages before it
    int64_t prompt_tokens = 0;  // of its tokens, how many are of class kPrompt
    std::vector<int32_t> tokens;
    std::vector<std::span<std::byte>> bytes;  // in the cache, one behind another
  };
  struct Loaded {
    uint64_t ticket = 0;
    int64_t pages = 0;  // from the first on
  };

  virtual ~PageTier() = default;

  // `parent`: zeros for the first page of a sequence.
  virtual PageId id_of(const PageId& parent, int64_t prompt_tokens,
                       std::span<const int32_t> tokens) const = 0;

  // Keeps a page, unless it is kept already, and marks it as just used. Its bytes must stay as they
  // are until released() names it. False, and nothing taken, if too much waits.
  virtual bool store(std::string_view tenant, Page page) = 0;
  // The pages given to store(), in any order, once their bytes are no longer needed.
  virtual std::vector<int32_t> released() = 0;
  // Gives up what is not kept yet. Waits for the page that is being written.
  virtual void give_up_stores() = 0;

  // Reads pages, the first first, until one is not there. Until loaded() tells of the ticket, their
  // bytes are the tier's; then those behind the ones read hold anything.
  virtual void load(uint64_t ticket, std::string_view tenant, std::vector<Page> pages) = 0;
  virtual std::vector<Loaded> loaded() = 0;
  // loaded() will not tell of it. Waits for the page that is being read.
  virtual void cancel_load(uint64_t ticket) = 0;
  // Until loaded() has something to tell, but not longer.
  virtual void wait_loaded(std::chrono::milliseconds timeout) = 0;

  // Forgets a tenant: of what was given before, nothing is kept or read once this returns. Files
  // may go a little later. Waits for the page that is being written.
  virtual void erase_tenant(std::string_view tenant) = 0;
  // Waits until all that was given is kept; false if it took too long.
  virtual bool flush(std::chrono::milliseconds timeout) = 0;

  // Any thread.
  virtual PageTierStats stats() const = 0;
};

}  // namespace fathom
