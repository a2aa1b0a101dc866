#include "grammar/grammar.h"

#include "grammar/bound_grammar.h"
#include "grammar/token_masker.h"

namespace fathom {

Grammar::~Grammar() = default;

std::shared_ptr<grammar::BoundGrammar> Grammar::masks_for(
    const std::shared_ptr<const TokenMasker>& masker) const {
  constexpr std::size_t kMaxVocabularies = 4;  // the oldest goes; who uses it keeps it
  const std::lock_guard lock(masks_mutex_);
  for (const auto& bound : masks_) {
    if (&bound->masker() == masker.get()) return bound;
  }
  if (masks_.size() == kMaxVocabularies) masks_.erase(masks_.begin());
  masks_.push_back(std::make_shared<grammar::BoundGrammar>(*this, masker));
  return masks_.back();
}

int64_t Grammar::memory_bytes() const {
  auto bytes = static_cast<int64_t>(
      states_.size() * sizeof(State) + edges_.size() * sizeof(grammar::Edge) +
      jumps_.size() * sizeof(grammar::StateId) + calls_.size() * sizeof(grammar::Call) +
      literal_places_.size() * sizeof(grammar::LiteralPlace) + string_places_.size() * 48);
  for (const std::string& literal : literals_) bytes += static_cast<int64_t>(literal.size());
  const std::lock_guard lock(masks_mutex_);
  for (const auto& bound : masks_) bytes += bound->memory_bytes();
  return bytes;
}

}  // namespace fathom
