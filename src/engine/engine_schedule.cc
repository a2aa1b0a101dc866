// Engine: which sequences run, and which rows of each a step computes.
#include <algorithm>

#include "engine/engine.h"

namespace fathom {

// How a page is found again. Where the backend computes both classes alike, an answer's pages serve
// a prompt that repeats it.
PrefixCache::Key Engine::page_key(const Sequence& s, int64_t page) const {
  const int64_t n = cache_->page_tokens(), begin = page * n;
  const int64_t in_prompt = std::clamp<int64_t>(s.prompt_size() - begin, 0, n);
  PrefixCache::Key key{.prompt_tokens = ops_.classes_agree() ? 0 : in_prompt};
  const auto at = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(n);
  if (in_prompt == n) {
    key.tokens = std::span(s.request.prompt).subspan(at, count);
  } else if (in_prompt == 0) {
    key.tokens = std::span(s.answer).subspan(at - s.request.prompt.size(), count);
  } else {
    static thread_local std::vector<int32_t> joined;
    joined.assign(s.request.prompt.begin() + begin, s.request.prompt.end());
    joined.insert(joined.end(), s.answer.begin(), s.answer.begin() + (n - in_prompt));
    key.tokens = joined;
  }
  return key;
}

// Gives a sequence the cached pages of its beginning. Its last token is computed in any case: its
// logits are wanted.
void Engine::match_prefix(Sequence& s) {
  if (!options_.prefix_cache) return;
  const int64_t most = (s.size() - 1) / cache_->page_tokens();
  std::vector<PrefixCache::Node> found;
  for (auto last = PrefixCache::kNoNode; static_cast<int64_t>(found.size()) < most;) {
    const auto node =
        prefix_cache_.find(s.request.tenant, last, page_key(s, static_cast<int64_t>(found.size())));
    if (!node) break;
    found.push_back(last = *node);
  }
  // Behind the last ones there may be nothing to go on from.
  while (cache_->has_window() && !found.empty() && prefix_cache_.window_pages(found.back()).empty())
    found.pop_back();
  for (const PrefixCache::Node node : found) {
    cache_->pages().share(prefix_cache_.page(node));
    s.tables.pages.push_back(prefix_cache_.page(node));
    s.last_node = node;
    ++s.cached_pages;
  }
  if (cache_->has_window() && !found.empty()) {
    const int64_t end = s.cached_pages * cache_->page_tokens();
    s.tables.window_pages.assign(static_cast<std::size_t>(cache_->first_window_page(end)), -1);
    for (const int32_t page : prefix_cache_.window_pages(found.back())) {
      cache_->window_pages().share(page);
      s.tables.window_pages.push_back(page);
    }
  }
  if (s.last_node != PrefixCache::kNoNode) prefix_cache_.touch(s.last_node);
  s.computed = s.cached_pages * cache_->page_tokens();
}

// When it first starts.
void Engine::note_cached(Sequence& s) {
  if (s.cached_tokens >= 0) return;
  s.cached_tokens = std::min(s.computed, s.prompt_size());
  stats_.prefix_queries += s.prompt_size();
  stats_.prefix_hits += s.cached_tokens;
}

// Evicts cached pages until so many are free; false if there are not so many. Pages that wait to be
// written go too if nothing else is left.
bool Engine::make_room(int64_t pages, int64_t window_pages) {
  bool waited = tier_ == nullptr;
  const auto give_up_stores = [&] {
    if (waited) return false;
    tier_->give_up_stores();
    take_back_stored();
    return waited = true;
  };
  while (cache_->window_pages().free() < window_pages)
    if (!prefix_cache_.evict_window() && !give_up_stores()) return false;
  while (cache_->pages().free() < pages)
    if (!prefix_cache_.evict() && !give_up_stores()) return false;
  return true;
}

// A sequence starts when there is room for all that it has so far, and a page more for each that
// runs already: otherwise one of them would soon have to give way again.
void Engine::admit() {
  while (running() < options_.max_sequences) {
    Sequence* const s = waiting_.next();
    if (s == nullptr) return;
    match_prefix(*s);
    if (!make_room(cache_->missing_pages(s->tables, s->size()) + running(), 0)) {
      // Alone, it always fits (submit saw to that).
      release(*s);
      if (running() > 0) return;
      FATHOM_CHECK(make_room(cache_->pages_for(s->size()), 0)) << s->size();
    }
    s->stored_pages = s->cached_pages;
    begin_load(*s);
    if (!s->loading) note_cached(*s);
    // Drafts read the MTP module's rows of all tokens: they are there if the pages were computed
    // with speculation on, and at worst lead to bad drafts.
    s->drafts = speculates();
    std::unique_ptr<Sequence> owned = waiting_.take(s);
    const auto behind = std::find_if(running_.begin(), running_.end(), [&](const auto& other) {
      const int32_t a = owned->request.priority, b = other->request.priority;
      return a != b ? a > b : owned->id < other->id;
    });
    running_.insert(behind, std::move(owned));
  }
}

// Puts a running sequence back among the waiting ones. It is computed again later, from what is
// left of its pages by then.
void Engine::preempt(std::size_t index) {
  store_all_pages(*running_[index]);
  release(*running_[index]);
  running_[index]->scheduled = 0;
  running_[index]->logits_row = -1;
  waiting_.push(std::move(running_[index]));
  running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
  ++stats_.preemptions;
}

// Pages for the first `tokens` of running_[order], if need be from those behind it.
bool Engine::reserve(Sequence& s, int64_t tokens, std::size_t order) {
  while (!make_room(cache_->missing_pages(s.tables, tokens),
                    cache_->missing_window_pages(s.tables, tokens))) {
    if (running_.size() == order + 1) return false;
    preempt(running_.size() - 1);
  }
  return cache_->cover(tokens, s.tables, owner_of(s.request.tenant));
}

bool Engine::speculates() const {
  return options_.speculate_up_to > 0 && running() <= options_.speculate_up_to;
}

// Decides how many rows each sequence gets: every running answer at least one, prompts what these
// leave of the budget.
void Engine::plan() {
  int64_t generated = 0;
  for (const auto& s : running_)
    if (!s->loading && s->pending_class() == PositionClass::kGenerated) ++generated;
  drafting_ = speculates();
  int64_t budget = std::max(options_.max_batch_tokens, generated) - generated;
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    s.scheduled = 0;
    s.logits_row = -1;
    if (s.loading) continue;
    if (!drafting_) {
      s.draft = -1;
      s.drafts = false;
    }
    const auto pending = static_cast<int64_t>(s.pending().size());
    int64_t rows = 0;
    if (s.pending_class() == PositionClass::kPrompt) {
      rows = std::min({pending, options_.prefill_chunk, budget});
      if (rows == 0) continue;
    } else {
      // One row, several where an answer is computed again, or one more with a draft.
      const bool last = pending == 1;
      if (!last || static_cast<int64_t>(s.answer.size()) + 1 >= s.request.max_tokens) s.draft = -1;
      rows = std::min({pending + (s.draft >= 0 ? 1 : 0), options_.prefill_chunk, 1 + budget});
      if (rows <= pending) s.draft = -1;
    }
    if (!reserve(s, s.computed + rows, i)) {
      preempt(i);
      return;  // it was the last
    }
    s.scheduled = rows;
    budget -= s.pending_class() == PositionClass::kPrompt ? rows : rows - 1;
  }
}

// Prompts first, as StepBuilder demands.
void Engine::build_step() {
  builder_.clear();
  for (const PositionClass position_class : {PositionClass::kPrompt, PositionClass::kGenerated}) {
    for (const auto& s : running_) {
      if (s->scheduled == 0 || s->pending_class() != position_class) continue;
      const auto pending = s->pending();
      const bool drafted = s->draft >= 0;
      const int64_t known = s->scheduled - (drafted ? 1 : 0);
      const int64_t first = builder_.rows();
      std::vector<int32_t> tokens(pending.begin(), pending.begin() + known);
      if (drafted) tokens.push_back(s->draft);
      builder_.add(tokens, s->computed, position_class, s->tables);
      s->step_class = position_class;
      if (s->computed + known == s->size()) s->logits_row = first + known - 1;
    }
  }
}

}  // namespace fathom
