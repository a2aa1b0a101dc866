#include "grammar/bound_grammar.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/limits.h"

namespace fathom::grammar {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
  return hash ^ hash >> 32;
}

}  // namespace

BoundGrammar::BoundGrammar(const Grammar& grammar, std::shared_ptr<const TokenMasker> masker)
    : grammar_(grammar), masker_(std::move(masker)) {
  for (const LiteralPlace& place : grammar.literal_places()) {
    const std::string_view rest =
        std::string_view(grammar.literal(place.literal)).substr(place.offset);
    const int32_t token = masker_->added_token_at(rest);
    if (token < 0) continue;
    StateId to = place.state;  // a literal's states have one edge each
    for (std::size_t i = 0; i < masker_->bytes(token).size(); ++i) to = grammar.edges(to)[0].to;
    added_.emplace(place.state, AddedTokenStep{.token = token, .to = to});
  }
}

std::size_t BoundGrammar::Hash::operator()(const LinkKey& key) const {
  return mix(mix(0, key.mask), key.at);
}

std::size_t BoundGrammar::Hash::operator()(const std::vector<uint64_t>& ids) const {
  uint64_t hash = ids.size();
  for (const uint64_t id : ids) hash = mix(hash, id);
  return hash;
}

void BoundGrammar::fill(std::span<const Config> configs, const Stacks& stacks,
                        std::span<uint64_t> bits) {
  std::fill(bits.begin(), bits.end(), 0);
  if (configs.empty()) return;
  std::vector<MaskPtr> masks;
  masks.reserve(configs.size());
  for (const Config& config : configs) {
    if (!grammar_.is_covered(config.state)) masks.push_back(mask_of(config, stacks));
  }
  apply(masks.size() == 1 ? *masks[0] : *union_of(masks), bits);
}

BoundGrammar::MaskPtr BoundGrammar::mask_of(Config config, const Stacks& stacks) {
  LinkKey key{.mask = 0, .at = config.state};
  MaskPtr mask;
  for (StackId stack = config.stack;;) {
    MaskPtr link = find_link(key);
    if (link == nullptr) link = make_link(key, mask.get());
    mask = std::move(link);
    if (mask->exits.empty() || stack == kBase) return mask;
    key = {.mask = mask->id, .at = stacks.back(stack)};
    stack = stacks.below(stack);
  }
}

BoundGrammar::MaskPtr BoundGrammar::find_link(const LinkKey& key) const {
  const std::shared_lock lock(mutex_);
  const auto it = links_.find(key);
  return it == links_.end() ? nullptr : it->second;
}

BoundGrammar::MaskPtr BoundGrammar::make_link(const LinkKey& key, const Mask* above) {
  MaskWalk walk(grammar_, *masker_, added_);
  MaskPtr made;
  if (above == nullptr) {
    made = pack(walk.from_state(key.at));
  } else {
    std::vector<uint64_t> bits(masker_->mask_words());
    apply(*above, bits);
    made = pack(walk.resume(key.at, above->exits, std::move(bits)));
  }
  const std::unique_lock lock(mutex_);
  if (const auto it = links_.find(key); it != links_.end()) return it->second;
  charge(*made);
  links_.emplace(key, made);
  return made;
}

BoundGrammar::MaskPtr BoundGrammar::union_of(std::span<const MaskPtr> masks) {
  std::vector<uint64_t> ids;
  ids.reserve(masks.size());
  for (const MaskPtr& mask : masks) ids.push_back(mask->id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (ids.size() == 1) return masks[0];
  {
    const std::shared_lock lock(mutex_);
    const auto it = unions_.find(ids);
    if (it != unions_.end()) return it->second;
  }
  WalkResult all{.bits = std::vector<uint64_t>(masker_->mask_words()), .exits = {}};
  for (const MaskPtr& mask : masks) apply(*mask, all.bits);
  MaskPtr made = pack(std::move(all));
  const std::unique_lock lock(mutex_);
  charge(*made);
  unions_.emplace(std::move(ids), made);
  return made;
}

BoundGrammar::MaskPtr BoundGrammar::pack(WalkResult result) const {
  auto mask = std::make_shared<Mask>();
  mask->id = next_id_.fetch_add(1, std::memory_order_relaxed);
  mask->exits = std::move(result.exits);
  mask->exits.shrink_to_fit();
  std::size_t count = 0;
  for (const uint64_t word : result.bits)
    count += static_cast<std::size_t>(__builtin_popcountll(word));
  if (count > result.bits.size()) {
    mask->bits = std::move(result.bits);
    return mask;
  }
  mask->tokens.reserve(count);
  for (std::size_t w = 0; w < result.bits.size(); ++w) {
    for (uint64_t word = result.bits[w]; word != 0; word &= word - 1)
      mask->tokens.push_back(static_cast<int32_t>(w * 64) + __builtin_ctzll(word));
  }
  return mask;
}

void BoundGrammar::charge(const Mask& mask) {
  const int64_t bytes = bytes_of(mask);
  if (bytes_.load(std::memory_order_relaxed) + bytes > limits::kMaxMaskCacheBytes) {
    links_.clear();
    unions_.clear();
    bytes_ = 0;
  }
  bytes_ += bytes;
}

void BoundGrammar::apply(const Mask& mask, std::span<uint64_t> bits) {
  const std::size_t words = std::min(bits.size(), mask.bits.size());
  for (std::size_t w = 0; w < words; ++w) bits[w] |= mask.bits[w];
  for (const int32_t token : mask.tokens) bits[token / 64] |= uint64_t{1} << (token % 64);
}

int64_t BoundGrammar::bytes_of(const Mask& mask) {
  constexpr int64_t kOverheadBytes = 256;  // the maps' entries and the allocations
  return kOverheadBytes + static_cast<int64_t>(mask.bits.size() * 8 + mask.tokens.size() * 4 +
                                               mask.exits.size() * 4);
}

}  // namespace fathom::grammar
