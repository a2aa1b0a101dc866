#include "worker/wire.h"

#include <algorithm>

namespace fathom::worker {
namespace {

template <typename T, typename Field>
void assign(const std::vector<T>& from, Field* to) {
  to->Assign(from.begin(), from.end());
}

}  // namespace

void to_message(uint64_t ticket, const Request& r, v1::Submit& out) {
  out.set_ticket(ticket);
  assign(r.prompt, out.mutable_prompt());
  assign(r.emitted, out.mutable_emitted());
  v1::Sampling& s = *out.mutable_sampling();
  s.set_temperature(r.sampling.temperature);
  s.set_top_k(r.sampling.top_k);
  s.set_top_p(r.sampling.top_p);
  s.set_min_p(r.sampling.min_p);
  s.set_repetition_penalty(r.sampling.repetition_penalty);
  s.set_presence_penalty(r.sampling.presence_penalty);
  s.set_frequency_penalty(r.sampling.frequency_penalty);
  for (const auto& [token, bias] : r.sampling.logit_bias) {
    s.add_bias_tokens(token);
    s.add_bias_values(bias);
  }
  s.set_seed(r.sampling.seed);
  out.set_max_tokens(r.max_tokens);
  assign(r.stop_tokens, out.mutable_stop_tokens());
  out.set_top_logprobs(r.top_logprobs);
  if (r.constraint.kind != ConstraintSpec::Kind::kNone) {
    v1::Constraint& c = *out.mutable_constraint();
    c.set_kind(static_cast<uint32_t>(r.constraint.kind));
    c.set_text(r.constraint.text);
    assign(r.constraint.starts_after, c.mutable_starts_after());
  }
  out.set_tenant(r.tenant);
  out.set_priority(r.priority);
}

Request from_message(const v1::Submit& in) {
  Request r;
  r.prompt.assign(in.prompt().begin(), in.prompt().end());
  r.emitted.assign(in.emitted().begin(), in.emitted().end());
  const v1::Sampling& s = in.sampling();
  r.sampling.temperature = s.temperature();
  r.sampling.top_k = s.top_k();
  r.sampling.top_p = s.top_p();
  r.sampling.min_p = s.min_p();
  r.sampling.repetition_penalty = s.repetition_penalty();
  r.sampling.presence_penalty = s.presence_penalty();
  r.sampling.frequency_penalty = s.frequency_penalty();
  for (int i = 0; i < std::min(s.bias_tokens_size(), s.bias_values_size()); ++i)
    r.sampling.logit_bias.emplace_back(s.bias_tokens(i), s.bias_values(i));
  r.sampling.seed = s.seed();
  r.max_tokens = in.max_tokens();
  r.stop_tokens.assign(in.stop_tokens().begin(), in.stop_tokens().end());
  r.top_logprobs = in.top_logprobs();
  if (in.has_constraint()) {
    const v1::Constraint& c = in.constraint();
    r.constraint.kind = static_cast<ConstraintSpec::Kind>(c.kind());
    r.constraint.text = c.text();
    r.constraint.starts_after.assign(c.starts_after().begin(), c.starts_after().end());
  }
  r.tenant = in.tenant();
  r.priority = in.priority();
  return r;
}

void to_message(const LoopEvent& e, v1::Event& out) {
  out.set_ticket(e.ticket);
  out.set_first_index(e.first_index);
  for (const SampledToken& t : e.tokens) {
    v1::Token& to = *out.add_tokens();
    to.set_id(t.token);
    to.set_logprob(t.logprob);
    for (const TokenLogprob& top : t.top) {
      to.add_top_ids(top.token);
      to.add_top_logprobs(top.logprob);
    }
  }
  out.set_cached_tokens(e.cached_tokens);
  if (e.finish) out.set_finish(static_cast<uint32_t>(*e.finish));
  if (e.finish == FinishReason::kError) {
    out.set_error_code(static_cast<uint32_t>(e.error.code));
    out.set_error(e.error.message);
  }
}

LoopEvent from_message(const v1::Event& in) {
  LoopEvent e{
      .ticket = in.ticket(), .first_index = in.first_index(), .cached_tokens = in.cached_tokens()};
  for (const v1::Token& t : in.tokens()) {
    SampledToken token{.token = t.id(), .logprob = t.logprob()};
    for (int i = 0; i < std::min(t.top_ids_size(), t.top_logprobs_size()); ++i)
      token.top.push_back({t.top_ids(i), t.top_logprobs(i)});
    e.tokens.push_back(std::move(token));
  }
  if (in.has_finish()) e.finish = static_cast<FinishReason>(in.finish());
  if (e.finish == FinishReason::kError)
    e.error = {static_cast<ErrorCode>(in.error_code()), in.error()};
  return e;
}

namespace {

void to_disk_message(const PageTierStats& s, v1::DiskStats& out) {
  out.set_query_tokens(s.query_tokens);
  out.set_hit_tokens(s.hit_tokens);
  out.set_pages_read(s.pages_read);
  out.set_pages_written(s.pages_written);
  out.set_bytes_read(s.bytes_read);
  out.set_bytes_written(s.bytes_written);
  out.set_pages_skipped(s.pages_skipped);
  out.set_pages_damaged(s.pages_damaged);
  out.set_errors(s.errors);
  out.set_last_error(s.last_error);
  out.set_bytes(s.bytes);
  out.set_other_bytes(s.other_bytes);
}

PageTierStats from_disk_message(const v1::DiskStats& in) {
  return {.query_tokens = in.query_tokens(),
          .hit_tokens = in.hit_tokens(),
          .pages_read = in.pages_read(),
          .pages_written = in.pages_written(),
          .bytes_read = in.bytes_read(),
          .bytes_written = in.bytes_written(),
          .pages_skipped = in.pages_skipped(),
          .pages_damaged = in.pages_damaged(),
          .errors = in.errors(),
          .last_error = in.last_error(),
          .bytes = in.bytes(),
          .other_bytes = in.other_bytes()};
}

}  // namespace

void to_message(const EngineStats& s, v1::Stats& out) {
  out.set_waiting(s.waiting);
  out.set_running(s.running);
  out.set_pages_total(s.pages_total);
  out.set_pages_free(s.pages_free);
  out.set_pages_cached(s.pages_cached);
  out.set_prompt_tokens(s.prompt_tokens);
  out.set_generated_tokens(s.generated_tokens);
  out.set_prefix_queries(s.prefix_queries);
  out.set_prefix_hits(s.prefix_hits);
  out.set_preemptions(s.preemptions);
  out.set_drafted(s.drafted);
  out.set_accepted(s.accepted);
  out.set_page_tokens(s.page_tokens);
  if (s.tier) to_disk_message(*s.tier, *out.mutable_disk());
}

EngineStats from_message(const v1::Stats& in) {
  EngineStats out{.waiting = in.waiting(),
                  .running = in.running(),
                  .pages_total = in.pages_total(),
                  .pages_free = in.pages_free(),
                  .pages_cached = in.pages_cached(),
                  .prompt_tokens = in.prompt_tokens(),
                  .generated_tokens = in.generated_tokens(),
                  .prefix_queries = in.prefix_queries(),
                  .prefix_hits = in.prefix_hits(),
                  .page_tokens = in.page_tokens(),
                  .preemptions = in.preemptions(),
                  .drafted = in.drafted(),
                  .accepted = in.accepted()};
  if (in.has_disk()) out.tier = from_disk_message(in.disk());
  return out;
}

}  // namespace fathom::worker
