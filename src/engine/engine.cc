#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace fathom {

std::span<const int32_t> Engine::Sequence::pending() const {
  const auto from = static_cast<std::size_t>(computed);
  if (computed < prompt_size()) return std::span(request.prompt).subspan(from);
  return std::span(answer).subspan(from - request.prompt.size());
}

PositionClass Engine::Sequence::pending_class() const {
  return computed < prompt_size() ? PositionClass::kPrompt : PositionClass::kGenerated;
}

Engine::Engine(const Model& model, Ops& ops, const EngineOptions& options, KvCache cache)
    : model_(model), ops_(ops), options_(options), cache_(std::move(cache)) {
  FATHOM_CHECK(options.max_sequences > 0 && options.max_batch_tokens > 0 &&
               options.prefill_chunk > 0)
      << options.max_sequences << " " << options.max_batch_tokens << " " << options.prefill_chunk;
}

Result<std::unique_ptr<Engine>> Engine::create(const Model& model, Ops& ops,
                                               const EngineOptions& options) {
  EngineOptions o = options;
  if (o.cache_tokens <= 0) o.cache_tokens = model.info().max_context_tokens;
  FATHOM_TRY(KvCache cache,
             KvCache::create(model.kv_layers(), o.cache_tokens, o.page_tokens, o.kv_type));
  return std::unique_ptr<Engine>(new Engine(model, ops, o, std::move(cache)));
}

Result<uint64_t> Engine::submit(Request request) {
  const int64_t vocab = model_.info().vocab_size;
  if (request.prompt.empty())
    return invalid_argument("the prompt is empty, expected a token or more");
  for (const auto* ids : {&request.prompt, &request.emitted}) {
    for (const int32_t id : *ids) {
      if (id < 0 || id >= vocab)
        return invalid_argument(
            fmt::format("token id {} in the prompt, expected 0 to {}", id, vocab - 1));
    }
  }
  FATHOM_TRY_STATUS(validate(request.sampling, vocab));
  if (request.top_logprobs > limits::kMaxTopLogprobs) {
    return invalid_argument(fmt::format("top_logprobs is {}, expected at most {}",
                                        request.top_logprobs, limits::kMaxTopLogprobs));
  }
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t context = context_tokens();
  if (prompt >= context) {
    return invalid_argument(fmt::format(
        "the prompt has {} tokens, expected fewer than {} (the context)", prompt, context));
  }
  if (request.max_tokens < 1) {
    return invalid_argument(
        fmt::format("max_tokens is {}, expected 1 or more", request.max_tokens));
  }
  request.max_tokens = std::min(request.max_tokens, context - prompt);
  if (static_cast<int64_t>(request.emitted.size()) >= request.max_tokens)
    return invalid_argument("the answer to go on with is already complete");
  Sequence s;
  s.id = next_id_++;
  s.answer = request.emitted;
  s.request = std::move(request);
  waiting_.push_back(std::move(s));
  return waiting_.back().id;
}

void Engine::cancel(uint64_t request_id) {
  std::erase_if(waiting_, [&](const Sequence& s) { return s.id == request_id; });
  for (auto& s : running_)
    if (s->id == request_id) finish(*s);
  std::erase_if(running_, [](const auto& s) { return s->id == 0; });
}

// Gives the pages back and marks the sequence for removal.
void Engine::finish(Sequence& sequence) {
  cache_.give_back(sequence.pages);
  sequence.id = 0;
}

// A sequence gets the pages for its whole answer before it starts, so that none has to stop midway.
void Engine::admit() {
  while (!waiting_.empty() && running() < options_.max_sequences) {
    Sequence& s = waiting_.front();
    const int64_t tokens = s.prompt_size() + s.request.max_tokens;
    if (!cache_.take(cache_.pages_for(tokens), s.pages)) return;
    running_.push_back(std::make_unique<Sequence>(std::move(s)));
    waiting_.pop_front();
  }
}

// Prompts first (as StepBuilder demands), within what the generated rows leave of the budget: each
// running answer gets its row before any prompt does.
void Engine::build_step() {
  builder_.clear();
  int64_t generated_rows = 0;
  for (const auto& s : running_)
    if (s->pending_class() == PositionClass::kGenerated) ++generated_rows;
  int64_t budget = std::max<int64_t>(options_.max_batch_tokens, generated_rows) - generated_rows;
  const auto schedule = [&](Sequence& s, int64_t rows) {
    builder_.add(s.pending().first(static_cast<std::size_t>(rows)), s.computed, s.pending_class(),
                 s.pages);
    s.scheduled = rows;
    s.logits_row = s.computed + rows == s.size() ? builder_.rows() - 1 : -1;
  };
  for (const auto& s : running_) {
    s->scheduled = 0;
    s->logits_row = -1;
    if (s->pending_class() != PositionClass::kPrompt || budget == 0) continue;
    const int64_t rows =
        std::min({static_cast<int64_t>(s->pending().size()), options_.prefill_chunk, budget});
    schedule(*s, rows);
    budget -= rows;
  }
  for (const auto& s : running_) {
    if (s->scheduled > 0 || s->pending_class() != PositionClass::kGenerated) continue;
    // One row, or several where an interrupted answer is computed again.
    const auto pending = static_cast<int64_t>(s->pending().size());
    const int64_t rows = std::min({pending, options_.prefill_chunk, 1 + budget});
    schedule(*s, rows);
    budget -= rows - 1;
  }
}

bool Engine::step(std::vector<TokenEvent>& events) {
  admit();
  if (running_.empty()) return false;
  build_step();
  FATHOM_CHECK(!builder_.empty()) << running() << " sequences and no row";
  workspace_.reset();
  sample_rows(events);
  std::erase_if(running_, [](const auto& s) { return s->id == 0; });
  return true;
}

void Engine::sample_rows(std::vector<TokenEvent>& events) {
  const ModelContext context{ops_, workspace_};
  const TensorView hidden = model_.forward(context, builder_.step(cache_));
  std::vector<int32_t> rows;
  for (const auto& s : running_) {
    s->computed += s->scheduled;
    if (s->logits_row >= 0) rows.push_back(static_cast<int32_t>(s->logits_row));
  }
  if (rows.empty()) return;
  const auto count = static_cast<int64_t>(rows.size());
  const TensorView picked = workspace_.f32(count, hidden.cols);
  const TensorView logits = workspace_.f32(count, model_.info().vocab_size);
  ops_.gather_rows({.x = hidden, .rows = rows, .out = picked});
  model_.logits(context, picked, logits);
  int64_t row = 0;
  for (const auto& s : running_) {
    if (s->logits_row < 0) continue;
    TokenEvent event{.request_id = s->id, .index = static_cast<int64_t>(s->answer.size())};
    const Request& r = s->request;
    auto sampled = sampler_.sample({logits.f32(row++), static_cast<std::size_t>(logits.cols)},
                                   r.sampling, r.prompt, s->answer, s->size(), r.top_logprobs);
    if (!sampled) {
      event.finish = FinishReason::kError;
      event.error = sampled.error().message;
    } else {
      event.sampled = *std::move(sampled);
      s->answer.push_back(event.sampled.token);
      const auto& stops = r.stop_tokens;
      if (std::find(stops.begin(), stops.end(), event.sampled.token) != stops.end()) {
        event.finish = FinishReason::kStop;
      } else if (static_cast<int64_t>(s->answer.size()) >= r.max_tokens) {
        event.finish = FinishReason::kLength;
      }
    }
    const bool done = event.finish.has_value();
    events.push_back(std::move(event));
    if (done) finish(*s);
  }
}

}  // namespace fathom
