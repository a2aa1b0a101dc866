// WaitingQueue: which of the waiting requests goes next.
//
// The larger priority first; within one priority the tenant that has been served least (by tokens
// computed since it was last idle), so that one with a thousand requests does not shut out one with
// a single request; within a tenant the order of arrival.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/sequence.h"

namespace fathom {

class WaitingQueue {
 public:
  void push(std::unique_ptr<Sequence> sequence);
  // The next one; null if none waits. It stays in the queue.
  Sequence* next();
  // Takes out the one that next() gave.
  std::unique_ptr<Sequence> take(const Sequence* sequence);
  // Takes out by id; null if none has it.
  std::unique_ptr<Sequence> take(uint64_t id);
  std::vector<uint64_t> ids_of(std::string_view tenant) const;
  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }

  // A sequence of `tenant` was accepted, has had `tokens` computed, or has ended.
  void begin(const std::string& tenant);
  void serve(const std::string& tenant, int64_t tokens);
  void end(const std::string& tenant);

 private:
  struct Tenant {
    int64_t sequences = 0;  // accepted and not ended
    int64_t served_tokens = 0;
  };
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::unordered_map<std::string, Tenant> tenants_;
};

}  // namespace fathom
