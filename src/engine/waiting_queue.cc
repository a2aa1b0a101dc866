#include "engine/waiting_queue.h"

#include <algorithm>

namespace fathom {

void WaitingQueue::push(std::unique_ptr<Sequence> sequence) {
  sequences_.push_back(std::move(sequence));
}

Sequence* WaitingQueue::next() {
  Sequence* best = nullptr;
  int64_t best_served = 0;
  for (const auto& s : sequences_) {
    const int64_t served = tenants_[s->request.tenant].served_tokens;
    if (best != nullptr) {
      const int32_t a = s->request.priority, b = best->request.priority;
      if (a != b ? a < b : served != best_served ? served > best_served : s->id > best->id)
        continue;
    }
    best = s.get();
    best_served = served;
  }
  return best;
}

std::unique_ptr<Sequence> WaitingQueue::take(const Sequence* sequence) {
  return take(sequence->id);
}

std::unique_ptr<Sequence> WaitingQueue::take(uint64_t id) {
  const auto at = std::find_if(sequences_.begin(), sequences_.end(),
                               [&](const auto& s) { return s->id == id; });
  if (at == sequences_.end()) return nullptr;
  std::unique_ptr<Sequence> out = std::move(*at);
  sequences_.erase(at);
  return out;
}

std::vector<uint64_t> WaitingQueue::ids_of(std::string_view tenant) const {
  std::vector<uint64_t> ids;
  for (const auto& s : sequences_)
    if (s->request.tenant == tenant) ids.push_back(s->id);
  return ids;
}

// A tenant that was idle starts level with the least served of the others: it can neither save up
// service nor owe it.
void WaitingQueue::begin(const std::string& tenant) {
  const auto [entry, added] = tenants_.try_emplace(tenant);
  ++entry->second.sequences;
  if (!added) return;
  int64_t least = INT64_MAX;
  for (const auto& [name, t] : tenants_)
    if (name != tenant) least = std::min(least, t.served_tokens);
  entry->second.served_tokens = least == INT64_MAX ? 0 : least;
}

void WaitingQueue::serve(const std::string& tenant, int64_t tokens) {
  tenants_[tenant].served_tokens += tokens;
}

void WaitingQueue::end(const std::string& tenant) {
  const auto entry = tenants_.find(tenant);
  if (--entry->second.sequences == 0) tenants_.erase(entry);
}

}  // namespace fathom
