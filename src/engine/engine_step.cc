// Engine: one step, from rows to tokens.
#include <algorithm>

#include "engine/engine.h"

namespace fathom {

bool Engine::step(std::vector<TokenEvent>& events) {
  exchange_with_tier();
  admit();
  await_loads();
  if (running_.empty()) return false;
  plan();
  build_step();
  if (builder_.empty()) {
    const bool loading =
        std::any_of(running_.begin(), running_.end(), [](const auto& s) { return s->loading; });
    FATHOM_CHECK(loading) << running() << " sequences and no row";
    return true;
  }
  workspace_.reset();
  host_.reset();
  const ModelContext context{ops_, workspace_};
  const ModelOutput out = runner_.forward(model_, context, builder_.step(*cache_));
  sample(out.hidden, events);
  if (drafting_) draft(out.mtp_input);
  // Only now: the MTP module wrote rows of this step's tokens too.
  for (const auto& s : running_) cache_->slide(s->computed, s->tables);
  std::erase_if(running_, [](const auto& s) { return s->done(); });
  return true;
}

// Draws the tokens of all rows that end a sequence. A drafted token that is drawn indeed brings its
// own row's token with it: the draw depends on seed and position alone, so the tokens are those
// that there would be without drafts.
void Engine::sample(const TensorView& hidden, std::vector<TokenEvent>& events) {
  std::vector<int32_t> rows;
  for (const auto& s : running_) {
    if (s->logits_row < 0) continue;
    rows.push_back(static_cast<int32_t>(s->logits_row));
    if (s->draft >= 0) rows.push_back(static_cast<int32_t>(s->logits_row + 1));
  }
  TensorView logits;
  if (!rows.empty()) {
    const auto count = static_cast<int64_t>(rows.size());
    const TensorView picked = workspace_.f32(count, hidden.cols);
    logits = workspace_.f32(count, model_.info().vocab_size);
    ops_.gather_rows({.x = hidden, .rows = rows, .out = picked});
    model_.logits({ops_, workspace_}, picked, logits);
    logits = ops_.on_host(logits, host_);
  }
  const auto row_of = [&](int64_t r) {
    return std::span<float>(logits.f32(r), static_cast<std::size_t>(logits.cols));
  };
  int64_t row = 0;
  for (const auto& s : running_) {
    const bool drafted = s->logits_row >= 0 && s->draft >= 0;
    advance(*s, s->scheduled - (drafted ? 1 : 0));
    if (s->logits_row < 0) continue;
    const int64_t first = row;
    row += drafted ? 2 : 1;
    const bool goes_on = sample_row(*s, row_of(first), events);
    if (!drafted) continue;
    ++stats_.drafted;
    if (!goes_on || s->answer.back() != s->draft) {
      s->draft = -1;
      continue;  // the drafted row is overwritten later
    }
    ++stats_.accepted;
    advance(*s, 1);
    sample_row(*s, row_of(first + 1), events);
  }
}

// Takes note of computed rows.
void Engine::advance(Sequence& s, int64_t rows) {
  if (s.computed < s.prompt_size()) stats_.prompt_tokens += rows;
  s.computed += rows;
  waiting_.serve(s.request.tenant, rows);
  publish_pages(s);
}

// Full pages go to the prefix cache.
void Engine::publish_pages(Sequence& s) {
  if (!options_.prefix_cache) return;
  while ((s.cached_pages + 1) * cache_->page_tokens() <= s.computed) {
    int32_t& page = s.tables.pages[static_cast<std::size_t>(s.cached_pages)];
    s.last_node =
        prefix_cache_.insert(s.request.tenant, s.last_node, page_key(s, s.cached_pages), page);
    // Another sequence computed the same before: hold its page, with the same bytes, instead.
    const int32_t same = prefix_cache_.page(s.last_node);
    const bool known = same != page;
    if (known) {
      cache_->pages().share(same);
      cache_->pages().release(page);
      page = same;
      s.foreign_tokens = (s.cached_pages + 1) * cache_->page_tokens();
    }
    ++s.cached_pages;
    if (cache_->has_window()) keep_window(s, known);
  }
}

// Window pages take far more memory than the page that they stand before, so the prefix cache keeps
// them only where somebody is likely to go on: behind what several sequences share (`known`:
// another one's page was there), at the end of a prompt, along an answer, and every so often on the
// way.
void Engine::keep_window(const Sequence& s, bool known) {
  constexpr int64_t kPagesBetween = 8;
  const int64_t end = s.cached_pages * cache_->page_tokens();
  const bool in_prompt = end + cache_->page_tokens() <= s.prompt_size();  // and not its last page
  if (in_prompt && !known && s.cached_pages % kPagesBetween != 0) return;
  const auto count = static_cast<std::size_t>(cache_->kept_window_pages(end));
  const auto first = static_cast<std::size_t>(cache_->first_window_page(end));
  // Of a page that came from the second tier there is none, unless it was the last.
  if (s.tables.window_pages[first] < 0) return;
  prefix_cache_.keep_window(s.last_node, std::span(s.tables.window_pages).subspan(first, count));
}

// Draws one token from a row of logits. False if the sequence ended.
bool Engine::sample_row(Sequence& s, std::span<float> logits, std::vector<TokenEvent>& events) {
  TokenEvent event{.request_id = s.id,
                   .index = static_cast<int64_t>(s.answer.size()),
                   .cached_tokens = s.cached_tokens};
  const Request& r = s.request;
  if (s.constraint != nullptr) s.constraint->mask(logits);
  auto sampled = sampler_.sample(logits, r.sampling, r.prompt, s.answer, s.size(), r.top_logprobs);
  if (!sampled) {
    event.finish = FinishReason::kError;
    event.error = sampled.error().message;
  } else {
    event.sampled = *std::move(sampled);
    const int32_t token = event.sampled.token;
    s.answer.push_back(token);
    if (s.constraint != nullptr) s.constraint->accept(token);
    ++stats_.generated_tokens;
    const auto& stops = r.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      event.finish = FinishReason::kStop;
    } else if (static_cast<int64_t>(s.answer.size()) >= r.max_tokens) {
      event.finish = FinishReason::kLength;
    }
  }
  const bool done = event.finish.has_value();
  events.push_back(std::move(event));
  if (done) finish(s);
  return !done;
}

// Runs the MTP module over the rows of this step, each with the token that follows it, so that its
// cache has them; the last row of an answer gives the next draft.
void Engine::draft(const TensorView& input) {
  draft_builder_.clear();
  std::vector<int32_t> rows;  // of `input`
  std::vector<std::pair<Sequence*, int64_t>> wanted;
  const Step step = builder_.step(*cache_);
  std::size_t at = 0;
  for (const PositionClass position_class : {PositionClass::kPrompt, PositionClass::kGenerated}) {
    for (const auto& s : running_) {
      const bool scheduled = s->scheduled > 0 && s->step_class == position_class;
      if (!scheduled) continue;
      const SequenceRows& r = step.sequences[at++];
      if (s->done() || !s->drafts) continue;
      s->draft = -1;
      s->draft = -1;
      const int64_t start = std::max(r.start_position, s->foreign_tokens);
      if (start >= s->computed) continue;
      std::vector<int32_t> following;
      for (int64_t p = start; p < s->computed; ++p) {
        following.push_back(s->token(p + 1));
        rows.push_back(static_cast<int32_t>(r.first_row + p - r.start_position));
      }
      draft_builder_.add(following, start, position_class, s->tables);
      if (s->computed + 1 == s->size() && s->logits_row >= 0)
        wanted.emplace_back(s.get(), draft_builder_.rows() - 1);
    }
  }
  if (draft_builder_.empty()) return;
  const ModelContext context{ops_, workspace_};
  const TensorView known = workspace_.f32(static_cast<int64_t>(rows.size()), input.cols);
  ops_.gather_rows({.x = input, .rows = rows, .out = known});
  const TensorView mtp = model_.mtp_forward(context, draft_builder_.step(*cache_), known);
  if (wanted.empty()) return;
  std::vector<int32_t> last;
  for (const auto& [s, row] : wanted) last.push_back(static_cast<int32_t>(row));
  const TensorView picked = workspace_.f32(static_cast<int64_t>(last.size()), mtp.cols);
  TensorView logits = workspace_.f32(picked.rows, model_.info().vocab_size);
  ops_.gather_rows({.x = mtp, .rows = last, .out = picked});
  model_.logits(context, picked, logits);
  logits = ops_.on_host(logits, host_);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    Sequence& s = *wanted[i].first;
    // The draw that the draft has to meet: the same seed and position.
    auto drawn = sampler_.sample(
        {logits.f32(static_cast<int64_t>(i)), static_cast<std::size_t>(logits.cols)},
        s.request.sampling, s.request.prompt, s.answer, s.size(), -1);
    if (drawn) s.draft = drawn->token;
  }
}

}  // namespace fathom
