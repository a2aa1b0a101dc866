// What the engine's ConstraintSpec asks for, compiled; and a cache, for clients send the same
// schema again and again.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "grammar/grammar.h"

namespace fathom {

// The kinds of engine/request.h's ConstraintSpec that constrain.
enum class ConstraintKind : uint8_t { kJsonObject, kJsonSchema, kToolCalls };

// `text`: nothing, a schema, or tool_calls_text(). Errors: as json_schema.h and tool_calls.h say.
Result<std::shared_ptr<const Grammar>> compile_constraint(ConstraintKind kind,
                                                          std::string_view text);

// The grammars used last, with their masks. Any number of threads. Two that ask for the same new
// grammar at once may both compile it; one of the two is kept.
class GrammarCache {
 public:
  GrammarCache(std::size_t max_count, int64_t max_bytes)
      : max_count_(max_count), max_bytes_(max_bytes) {}

  // As compile_constraint. A grammar too large for the cache is given out and not kept.
  Result<std::shared_ptr<const Grammar>> get(ConstraintKind kind, std::string_view text);

  std::size_t count() const;
  // Grammars grow while their masks are found, so this may exceed max_bytes until the next get().
  int64_t memory_bytes() const;

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
  };
  int64_t bytes_locked() const;

  const std::size_t max_count_;
  const int64_t max_bytes_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the last used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_;
};

}  // namespace fathom
