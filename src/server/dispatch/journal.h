// Journal: every request in flight and the tokens it has got, so that another engine can go on with
// it.
//
// Owns these records, in memory. What reads and writes them is model_host.h. Sampling depends on
// seed and position alone, so a record is all that is needed for the same continuation.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "engine/request.h"

namespace fathom::server {

class AnswerQueue;

struct JournalEntry {
  Request request;  // `emitted`: the tokens that the client was given or will be
  std::string request_id;
  std::shared_ptr<AnswerQueue> answer;
  int port = -1;            // index of the engine that computes it; −1: it waits for one
  uint64_t port_epoch = 0;  // which life of that engine
  int faults = 0;           // engines that crashed before they completed a step with it
};

class Journal {
 public:
  // A fresh ticket.
  uint64_t append(JournalEntry entry) {
    const uint64_t ticket = next_++;
    entries_.emplace(ticket, std::move(entry));
    return ticket;
  }
  // Null if it has ended.
  JournalEntry* find(uint64_t ticket) {
    const auto at = entries_.find(ticket);
    return at == entries_.end() ? nullptr : &at->second;
  }
  void end(uint64_t ticket) { entries_.erase(ticket); }
  std::unordered_map<uint64_t, JournalEntry>& entries() { return entries_; }
  const std::unordered_map<uint64_t, JournalEntry>& entries() const { return entries_; }
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  std::unordered_map<uint64_t, JournalEntry> entries_;
  uint64_t next_ = 1;
};

}  // namespace fathom::server
