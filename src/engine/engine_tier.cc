// Engine: what goes to the second tier, and what comes back from it.
//
// A sequence hands over each page that it filled, and at its end all its pages, so that the tier
// keeps what it lacks and learns what was in use. While a page is being written the tier is one
// more of its holders. Nothing is handed over in the step that completes a page, since the MTP
// module's rows follow within it.
#include <algorithm>
#include <utility>

#include "engine/engine.h"

namespace fathom {
namespace {

using namespace std::chrono_literals;

// What a step waits for a load that has just begun while others could go on: to hear that there is
// nothing takes a tenth of it.
constexpr auto kPatience = 1ms;
constexpr auto kNothingElse = 5ms;  // where all sequences wait for their pages

}  // namespace

// The page as the tier knows it. Ids are computed in order and kept.
PageTier::Page Engine::tier_page(Sequence& s, int64_t index) const {
  const auto at = static_cast<std::size_t>(index);
  while (s.page_ids.size() <= at) {
    const auto next = static_cast<int64_t>(s.page_ids.size());
    const PrefixCache::Key key = page_key(s, next);
    const PageId parent = s.page_ids.empty() ? PageId{} : s.page_ids.back();
    s.page_ids.push_back(tier_->id_of(parent, key.prompt_tokens, key.tokens));
  }
  const PrefixCache::Key key = page_key(s, index);
  return {.page = s.tables.pages[at],
          .id = s.page_ids[at],
          .parent = index > 0 ? s.page_ids[at - 1] : PageId{},
          .depth = index,
          .prompt_tokens = key.prompt_tokens,
          .tokens = {key.tokens.begin(), key.tokens.end()},
          .bytes = {cache_->bytes(s.tables.pages[at])}};
}

// The window pages that whoever goes on behind page `index` needs, as a page of their own: its
// parent is that page, and it has no tokens.
PageTier::Page Engine::tier_window(Sequence& s, int64_t index, int32_t number,
                                   std::span<const int32_t> window_pages) const {
  constexpr int64_t kNoPage = -1;  // as prompt_tokens: no page of tokens has that
  const PageId parent = tier_page(s, index).id;
  PageTier::Page out{.page = number,
                     .id = tier_->id_of(parent, kNoPage, {}),
                     .parent = parent,
                     .depth = index,
                     .prompt_tokens = kNoPage,
                     .tokens = {},
                     .bytes = {}};
  for (const int32_t page : window_pages) out.bytes.push_back(cache_->window_bytes(page));
  return out;
}

void Engine::store_all_pages(Sequence& s) {
  s.stored_pages = 0;
  store_pages(s);
}

void Engine::store_pages(Sequence& s) {
  if (tier_ == nullptr) return;
  auto node = s.last_node;
  const int64_t first = s.stored_pages;
  for (; s.stored_pages < s.cached_pages; ++s.stored_pages) {
    const int32_t page = s.tables.pages[static_cast<std::size_t>(s.stored_pages)];
    if (tier_->store(s.request.tenant, tier_page(s, s.stored_pages))) cache_->pages().share(page);
  }
  if (!cache_->has_window()) return;
  for (int64_t i = s.cached_pages; i-- > first; node = prefix_cache_.parent(node)) {
    const std::span<const int32_t> window = prefix_cache_.window_pages(node);
    if (window.empty()) continue;
    const auto unused = std::find_if(lent_windows_.begin(), lent_windows_.end(),
                                     [](const auto& lent) { return lent.empty(); });
    const auto slot = static_cast<std::size_t>(unused - lent_windows_.begin());
    // Numbers below zero are those of windows.
    const int32_t number = -2 - static_cast<int32_t>(slot);
    if (!tier_->store(s.request.tenant, tier_window(s, i, number, window))) continue;
    if (slot == lent_windows_.size()) lent_windows_.emplace_back();
    lent_windows_[slot].assign(window.begin(), window.end());
    for (const int32_t page : window) cache_->window_pages().share(page);
  }
}

void Engine::take_back_stored() {
  for (const int32_t number : tier_->released()) {
    if (number >= 0) {
      cache_->pages().release(number);
      continue;
    }
    std::vector<int32_t>& window = lent_windows_[static_cast<std::size_t>(-2 - number)];
    for (const int32_t page : window) cache_->window_pages().release(page);
    window.clear();
  }
}

// Reads what memory lacks of the sequence's beginning into pages that are its own already.
void Engine::begin_load(Sequence& s) {
  if (tier_ == nullptr) return;
  const int64_t most = (s.size() - 1) / cache_->page_tokens();
  if (s.cached_pages >= most) return;
  // Only pages: the window is taken once it is known where it ends.
  cache_->take(most - static_cast<int64_t>(s.tables.pages.size()), s.tables.pages,
               owner_of(s.request.tenant));
  std::vector<PageTier::Page> wanted;
  for (int64_t i = s.cached_pages; i < most; ++i) wanted.push_back(tier_page(s, i));
  tier_->load(s.id, s.request.tenant, std::move(wanted));
  s.loading = true;
  began_loading_ = true;
}

// Reads the window behind the last of `pages` pages, of which those that memory lacked were read;
// false if there is no hope of one.
bool Engine::begin_window_load(Sequence& s, int64_t pages) {
  if (pages <= s.cached_pages) return false;
  const int64_t count = cache_->kept_window_pages(pages * cache_->page_tokens());
  if (!make_room(0, count)) return false;
  s.loaded_window.clear();
  cache_->take_window(count, s.loaded_window, owner_of(s.request.tenant));
  s.loading_window = pages;
  std::vector<PageTier::Page> wanted{tier_window(s, pages - 1, -1, s.loaded_window)};
  tier_->load(s.id, s.request.tenant, std::move(wanted));
  return true;
}

// What came of it: the window is the sequence's, or the one a page earlier is tried.
void Engine::finish_window_load(Sequence& s, bool found) {
  const int64_t pages = std::exchange(s.loading_window, 0);
  if (!found) {
    for (const int32_t page : s.loaded_window) cache_->window_pages().release(page);
    s.loaded_window.clear();
    s.loading = begin_window_load(s, pages - 1);
    if (!s.loading) note_cached(s);
    return;
  }
  for (const int32_t page : s.tables.window_pages)
    if (page >= 0) cache_->window_pages().release(page);
  const int64_t end = pages * cache_->page_tokens();
  s.tables.window_pages.assign(static_cast<std::size_t>(cache_->first_window_page(end)), -1);
  s.tables.window_pages.insert(s.tables.window_pages.end(), s.loaded_window.begin(),
                               s.loaded_window.end());
  s.loaded_window.clear();
  use_loaded(s, pages);
}

// Goes on behind the first `pages` pages.
void Engine::use_loaded(Sequence& s, int64_t pages) {
  s.loading = false;
  s.computed = pages * cache_->page_tokens();
  publish_pages(s);
  s.stored_pages = s.cached_pages;
  note_cached(s);
}

void Engine::finish_loads() {
  for (const PageTier::Loaded& done : tier_->loaded()) {
    const auto found = std::find_if(running_.begin(), running_.end(), [&](const auto& s) {
      return s->id == done.ticket && s->loading;
    });
    FATHOM_CHECK(found != running_.end()) << "a load of sequence " << done.ticket;
    Sequence& s = **found;
    if (s.loading_window > 0) {
      finish_window_load(s, done.pages > 0);
    } else if (!cache_->has_window()) {
      use_loaded(s, s.cached_pages + done.pages);
    } else if (!begin_window_load(s, s.cached_pages + done.pages)) {
      s.loading = false;
      note_cached(s);
    }
  }
}

// Before a step's sequences are chosen: nobody writes to a page that is full by now.
void Engine::exchange_with_tier() {
  if (tier_ == nullptr) return;
  take_back_stored();
  finish_loads();
  for (const auto& s : running_) store_pages(*s);
}

// Once they are chosen. With nothing else to do there is time.
void Engine::await_loads() {
  if (tier_ == nullptr) return;
  const auto loading =
      std::count_if(running_.begin(), running_.end(), [](const auto& s) { return s->loading; });
  if (loading == 0) return;
  if (loading == running()) {
    tier_->wait_loaded(kNothingElse);
  } else if (began_loading_) {
    tier_->wait_loaded(kPatience);
  }
  began_loading_ = false;
  finish_loads();
}

bool Engine::flush_tier(std::chrono::milliseconds timeout) {
  if (tier_ == nullptr) return true;
  for (const auto& s : running_) store_pages(*s);
  return tier_->flush(timeout);
}

}  // namespace fathom
