// ResponseStore: responses that clients may ask for again, for an hour at most, in memory.
//
// Owns who may see which (their owner alone), the limits, and making room. Does not run responses:
// responses.cc does, and keeps the entry up to date. Used on the io thread.
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "chat/chat.h"
#include "server/handlers/signal.h"

namespace fathom::server {

struct StoredResponse {
  std::string id;
  std::string owner;  // the principal's name
  bool background = false;
  bool running = false;
  std::string body;  // once it has ended
  // The conversation up to and with its answer, without instructions.
  std::vector<ChatMessage> history;
  // Of a response in the background: its events as SSE text; the index is their sequence number.
  std::vector<std::string> events;
  Signal changed;  // events or running
  boost::asio::cancellation_signal cancel;
  // While it runs: ends it as cancelled, which sets `body`; and what it is so far.
  std::function<void()> on_cancel;
  std::function<std::string()> live_body;
  std::chrono::steady_clock::time_point created;

  std::string current_body() const { return live_body ? live_body() : body; }
  int64_t bytes() const;  // roughly what it takes
};

class ResponseStore {
 public:
  struct Limits {
    int64_t entries = limits::kMaxStoredResponses;
    int64_t bytes = limits::kMaxStoredResponseBytes;
    std::chrono::milliseconds age{limits::kStoredResponseMs};
    int64_t running = limits::kMaxBackgroundResponses;
    int64_t running_of_owner = limits::kMaxBackgroundResponsesPerOwner;
  };
  explicit ResponseStore(Limits limits) : limits_(limits) {}
  ~ResponseStore() { cancel_all(); }

  // Whether one more of this owner may run in the background.
  bool may_run(std::string_view owner) const;
  // Stores it, or (again) measures it once it has grown or ended, and makes room.
  void put(const std::shared_ptr<StoredResponse>& response);
  // Null: there is none, it is too old, or it is somebody else's.
  std::shared_ptr<StoredResponse> find(std::string_view id, std::string_view owner);
  // One that runs is cancelled.
  void erase(const StoredResponse& response);
  static void cancel(StoredResponse& response);
  void cancel_all();

  std::size_t size() const { return entries_.size(); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::shared_ptr<StoredResponse> response;
    int64_t bytes = 0;
  };
  using Entries = std::map<std::string, Entry, std::less<>>;
  void remove(Entries::iterator entry);
  void make_room();

  Limits limits_;
  Entries entries_;
  std::deque<std::string> by_age_;  // ids, the oldest first
  int64_t bytes_ = 0;
};

}  // namespace fathom::server
