#include "grammar/matcher.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace fathom {

using grammar::Config;
using grammar::Stepper;

namespace {

// Within a token, where readings cannot be dropped without breaking the mask's word.
constexpr std::size_t kMaxConfigsInToken = 1 << 16;

}  // namespace

Matcher::Matcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenMasker> masker,
                 std::span<const int32_t> stop_tokens)
    : grammar_(std::move(grammar)),
      masker_(std::move(masker)),
      bound_(grammar_->masks_for(masker_)) {
  for (const int32_t token : stop_tokens) {
    if (token >= 0 && token < masker_->vocab_size()) stop_tokens_.push_back(token);
  }
  Stepper stepper(*grammar_, bound_->added_steps(), stacks_);
  stepper.begin();
  stepper.add({grammar_->start(), grammar::kBase});
  push(stepper.configs(), stepper.ended());
}

void Matcher::push(std::span<const Config> configs, bool ended) {
  const std::size_t count =
      std::min(configs.size(), static_cast<std::size_t>(limits::kMaxMatcherStacks));
  history_.push_back(
      {.begin = dropped_ + configs_.size(), .count = static_cast<uint32_t>(count), .ended = ended});
  configs_.insert(configs_.end(), configs.begin(), configs.begin() + static_cast<int64_t>(count));
  // Trimmed by halves, so that a token costs no move of the whole list.
  constexpr auto kKept = static_cast<std::size_t>(limits::kMaxMatcherRollback) + 1;
  if (history_.size() < 2 * kKept) return;
  history_.erase(history_.begin(), history_.end() - static_cast<int64_t>(kKept));
  const uint64_t drop = history_.front().begin - dropped_;
  configs_.erase(configs_.begin(), configs_.begin() + static_cast<int64_t>(drop));
  dropped_ += drop;
}

bool Matcher::is_stop(int32_t token) const {
  return std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end();
}

bool Matcher::step_bytes(Stepper& stepper, std::string_view bytes, bool added) {
  std::vector<Config> from(configs().begin(), configs().end());
  if (added) {
    std::erase_if(from, [&](const Config& c) { return !grammar_->is_text(c.state); });
  }
  for (const char byte : bytes) {
    stepper.begin();
    for (const Config& config : from) stepper.add_after(config, static_cast<uint8_t>(byte));
    from = stepper.configs();
    if (from.size() > kMaxConfigsInToken) from.resize(kMaxConfigsInToken);
    if (from.empty() && !stepper.ended()) return false;
  }
  return true;
}

bool Matcher::accept(int32_t token) {
  if (stopped_) return false;
  if (is_stop(token)) {
    if (!complete()) return false;
    push({}, true);
    ++accepted_;
    stopped_ = true;
    return true;
  }
  const std::string_view bytes = masker_->bytes(token);
  if (bytes.empty()) return false;
  const bool added = masker_->is_added(token);
  Stepper stepper(*grammar_, bound_->added_steps(), stacks_);
  std::vector<Config> next;
  bool ended = false;
  if (step_bytes(stepper, bytes, added)) {
    next = stepper.configs();
    ended = stepper.ended();
  }
  if (added) {
    // Behind the token that a literal asks for, beside what free text makes of it.
    stepper.begin();
    for (const Config& config : next) stepper.add(config);
    for (const Config& config : configs()) {
      const auto it = bound_->added_steps().find(config.state);
      if (it != bound_->added_steps().end() && it->second.token == token)
        stepper.add({it->second.to, config.stack});
    }
    next = stepper.configs();
    ended = ended || stepper.ended();
  }
  if (next.empty() && !ended) return false;
  push(next, ended);
  ++accepted_;
  return true;
}

void Matcher::fill_mask(std::span<uint64_t> bits) {
  FATHOM_CHECK_EQ(bits.size(), masker_->mask_words());
  bound_->fill(configs(), stacks_, bits);
  for (const int32_t token : stop_tokens_) {
    const uint64_t bit = uint64_t{1} << (token % 64);
    if (complete() && !stopped_) {
      bits[token / 64] |= bit;
    } else {
      bits[token / 64] &= ~bit;
    }
  }
}

uint64_t Matcher::bytes_to_end() const {
  if (complete()) return 0;
  uint64_t fewest = UINT64_MAX;
  for (const Config& config : configs()) {
    uint64_t bytes = grammar_->bytes_to_end(config.state);
    for (grammar::StackId s = config.stack; s != grammar::kBase; s = stacks_.below(s))
      bytes += grammar_->bytes_to_end(stacks_.back(s));
    fewest = std::min(fewest, bytes);
  }
  return fewest;
}

void Matcher::rollback(int64_t tokens) {
  FATHOM_CHECK(tokens >= 0 && tokens <= can_roll_back())
      << "rollback of " << tokens << " tokens, at most " << can_roll_back();
  if (tokens == 0) return;
  history_.resize(history_.size() - static_cast<std::size_t>(tokens));
  configs_.resize(now().begin - dropped_ + now().count);
  accepted_ -= tokens;
  stopped_ = false;
}

}  // namespace fathom
