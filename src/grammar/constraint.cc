#include "grammar/constraint.h"

#include <utility>

#include "grammar/json_schema.h"
#include "grammar/tool_calls.h"

namespace fathom {

Result<std::shared_ptr<const Grammar>> compile_constraint(ConstraintKind kind,
                                                          std::string_view text) {
  switch (kind) {
    case ConstraintKind::kJsonObject:
      return compile_json_object();
    case ConstraintKind::kJsonSchema:
      return compile_json_schema(text);
    case ConstraintKind::kToolCalls: {
      FATHOM_TRY(const ToolCallSpec spec, parse_tool_calls(text));
      return compile_tool_calls(spec);
    }
  }
  return internal_error("a constraint of an unknown kind");
}

Result<std::shared_ptr<const Grammar>> GrammarCache::get(ConstraintKind kind,
                                                         std::string_view text) {
  std::string key(1, static_cast<char>('0' + static_cast<int>(kind)));
  if (kind != ConstraintKind::kJsonObject) key += text;
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = by_key_.find(key); it != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, it->second);
      return it->second->grammar;
    }
  }
  FATHOM_TRY(std::shared_ptr<const Grammar> grammar, compile_constraint(kind, text));
  const std::lock_guard lock(mutex_);
  if (const auto it = by_key_.find(key); it != by_key_.end()) return it->second->grammar;
  entries_.push_front({std::move(key), grammar});
  by_key_.emplace(entries_.front().key, entries_.begin());
  while (!entries_.empty() && (entries_.size() > max_count_ || bytes_locked() > max_bytes_)) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  return grammar;
}

std::size_t GrammarCache::count() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

int64_t GrammarCache::memory_bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_locked();
}

int64_t GrammarCache::bytes_locked() const {
  int64_t bytes = 0;
  for (const Entry& entry : entries_)
    bytes += static_cast<int64_t>(entry.key.size()) + entry.grammar->memory_bytes();
  return bytes;
}

}  // namespace fathom
