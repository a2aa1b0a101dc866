#include "server/api/answer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace fathom::server::api {
namespace {

using Kind = OutputEvent::Kind;

// Plain text is what a family without thoughts and calls writes.
ChatFamily parser_family(const AnswerSpec& spec) {
  return spec.family.value_or(ChatFamily::kChatMl);
}

const Tokenizer& tokenizer_of(const AnswerSpec& spec) {
  FATHOM_CHECK(spec.tokenizer != nullptr) << "an answer without a tokenizer";
  return *spec.tokenizer;
}

bool continues(const Delta& a, const OutputEvent& b) {
  const bool has_text = b.kind == Kind::kReasoning || b.kind == Kind::kContent;
  return has_text && a.event.kind == b.kind;
}

}  // namespace

Usage sum_usage(std::span<const Usage> usages) {
  Usage sum;
  for (const Usage& u : usages) {
    sum.prompt_tokens = std::max(sum.prompt_tokens, u.prompt_tokens);
    sum.cached_prompt_tokens = std::max(sum.cached_prompt_tokens, u.cached_prompt_tokens);
    sum.completion_tokens += u.completion_tokens;
    sum.reasoning_tokens += u.reasoning_tokens;
  }
  return sum;
}

AnswerAssembler::AnswerAssembler(AnswerSpec spec)
    : spec_(std::move(spec)),
      stream_(tokenizer_of(spec_), parser_family(spec_),
              {.starts_in_thinking = spec_.starts_in_thinking,
               .parse_tools = spec_.parse_tools,
               .call_id_prefix = spec_.call_id_prefix},
              spec_.stops),
      think_end_(spec_.tokenizer->token_to_id("</think>")),
      thought_(spec_.starts_in_thinking ? Thought::kOpen : Thought::kNotYet) {
  answer_.usage.prompt_tokens = spec_.prompt_tokens;
}

// A thought ends with the token </think>, and where that is none or does not come, before the first
// token of something else.
void AnswerAssembler::count_reasoning(const SampledToken& token,
                                      const std::vector<OutputEvent>& events) {
  Usage& usage = answer_.usage;
  for (const OutputEvent& event : events) {
    if (event.kind == Kind::kReasoning) {
      if (thought_ == Thought::kNotYet) thought_ = Thought::kOpen;
    } else if (thought_ != Thought::kClosed) {
      if (thought_ == Thought::kOpen) usage.reasoning_tokens = usage.completion_tokens - 1;
      thought_ = Thought::kClosed;
    }
  }
  if (thought_ != Thought::kOpen) return;
  usage.reasoning_tokens = usage.completion_tokens;
  if (think_end_ == token.token) thought_ = Thought::kClosed;
}

void AnswerAssembler::take(std::vector<OutputEvent> events, std::vector<Delta>& out) {
  for (OutputEvent& event : events) {
    std::vector<SampledToken> tokens;
    switch (event.kind) {
      case Kind::kReasoning:
      case Kind::kContent: {
        const bool reasoning = event.kind == Kind::kReasoning;
        (reasoning ? answer_.reasoning : answer_.content) += event.text;
        if (spec_.top_logprobs < 0) break;
        tokens = spans_.take(event.text);
        auto& all = reasoning ? answer_.reasoning_tokens : answer_.content_tokens;
        all.insert(all.end(), tokens.begin(), tokens.end());
        break;
      }
      case Kind::kToolCallBegin:
        spans_.drop();
        answer_.calls.push_back({event.id, event.name, ""});
        break;
      case Kind::kToolCallArguments:
        answer_.calls.back().arguments += event.text;
        break;
      case Kind::kToolCallEnd:
        break;
    }
    if (!out.empty() && continues(out.back(), event)) {
      out.back().event.text += event.text;
      out.back().tokens.insert(out.back().tokens.end(), tokens.begin(), tokens.end());
    } else {
      out.push_back({std::move(event), std::move(tokens)});
    }
  }
}

void AnswerAssembler::push_one(const SampledToken& token, std::vector<Delta>& out) {
  ++answer_.usage.completion_tokens;
  const auto& ends = spec_.stop_tokens;
  if (std::find(ends.begin(), ends.end(), token.token) != ends.end()) return;
  if (spec_.top_logprobs >= 0) {
    const bool hidden = spec_.tokenizer->is_skipped(token.token);
    spans_.push(token, hidden ? "" : spec_.tokenizer->token_bytes(token.token));
  }
  std::vector<OutputEvent> events = stream_.push(token.token);
  count_reasoning(token, events);
  take(std::move(events), out);
}

std::vector<Delta> AnswerAssembler::push(std::span<const SampledToken> tokens) {
  std::vector<Delta> out;
  for (const SampledToken& token : tokens)
    if (!stopped()) push_one(token, out);
  return out;
}

std::vector<Delta> AnswerAssembler::finish(FinishReason reason) {
  std::vector<Delta> out;
  take(stream_.finish(), out);
  answer_.stop_string = stream_.stopped_by();
  if (reason == FinishReason::kLength && !stopped()) {
    answer_.finish = Finish::kLength;
  } else {
    answer_.finish = answer_.calls.empty() ? Finish::kStop : Finish::kToolCalls;
  }
  return out;
}

}  // namespace fathom::server::api
