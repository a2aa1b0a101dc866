#include "server/api/logprob_spans.h"

#include <algorithm>

#include "base/utf8.h"

namespace fathom::server::api {
namespace {

constexpr std::string_view kTags[] = {"<think>", "</think>"};
constexpr std::string_view kReplacement = "\uFFFD";

// Bytes at the start of `pending` that never come out, if what comes out next is something else.
std::size_t hidden_bytes(std::string_view pending) {
  for (const std::string_view tag : kTags)
    if (pending.starts_with(tag)) return tag.size();
  return 1;
}

}  // namespace

void LogprobSpans::push(const SampledToken& token, std::string_view bytes) {
  pending_.push_back({token, bytes.size()});
  text_ += bytes;
}

void LogprobSpans::consume(std::size_t bytes, bool take, std::vector<SampledToken>& out) {
  text_.erase(0, bytes);
  while (!pending_.empty()) {
    Pending& first = pending_.front();
    const std::size_t n = std::min(bytes, first.bytes);
    if (take && n > 0 && !first.taken) {
      out.push_back(first.token);
      first.taken = true;
    }
    first.bytes -= n;
    bytes -= n;
    if (first.bytes > 0) return;
    pending_.pop_front();
  }
}

std::vector<SampledToken> LogprobSpans::take(std::string_view text) {
  std::vector<SampledToken> out;
  while (!text.empty() && !text_.empty()) {
    const auto [end, at] = std::mismatch(text.begin(), text.end(), text_.begin(), text_.end());
    const auto same = static_cast<std::size_t>(end - text.begin());
    // A tag may begin like the text that follows it, never the other way round.
    const bool tag = std::any_of(std::begin(kTags), std::end(kTags), [&](std::string_view t) {
      return std::string_view(text_).starts_with(t) && !text.starts_with(t);
    });
    if (same > 0 && !tag) {
      consume(same, true, out);
      text.remove_prefix(same);
    } else if (text.starts_with(kReplacement) && utf8_valid_length(text_, 0) == 0) {
      consume(utf8_invalid_length(text_, 0), true, out);
      text.remove_prefix(kReplacement.size());
    } else {
      consume(hidden_bytes(text_), false, out);
    }
  }
  return out;
}

void LogprobSpans::drop() {
  pending_.clear();
  text_.clear();
}

}  // namespace fathom::server::api
