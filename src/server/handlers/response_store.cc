// See response_store.h.
#include "server/handlers/response_store.h"

#include <algorithm>
#include <utility>

namespace fathom::server {
namespace {

int64_t size_of(const std::string& text) { return static_cast<int64_t>(text.size()); }

int64_t size_of(const ChatMessage& message) {
  int64_t bytes = sizeof(ChatMessage);
  for (const auto* text : {&message.content, &message.reasoning_content})
    if (text->has_value()) bytes += size_of(**text);
  if (!message.tool_calls.has_value()) return bytes;
  for (const ToolCall& call : *message.tool_calls)
    bytes += static_cast<int64_t>(sizeof(ToolCall)) + size_of(call.name) + size_of(call.arguments);
  return bytes;
}

}  // namespace

int64_t StoredResponse::bytes() const {
  int64_t total = sizeof(StoredResponse) + size_of(body);
  for (const ChatMessage& message : history) total += size_of(message);
  for (const std::string& event : events) total += 32 + size_of(event);
  return total;
}

bool ResponseStore::may_run(std::string_view owner) const {
  int64_t running = 0;
  int64_t of_owner = 0;
  for (const auto& [id, entry] : entries_) {
    if (!entry.response->running) continue;
    ++running;
    if (entry.response->owner == owner) ++of_owner;
  }
  return running < limits_.running && of_owner < limits_.running_of_owner;
}

void ResponseStore::put(const std::shared_ptr<StoredResponse>& response) {
  const auto [place, is_new] = entries_.try_emplace(response->id);
  if (is_new) by_age_.push_back(response->id);
  bytes_ -= place->second.bytes;
  place->second = {response, response->bytes()};
  bytes_ += place->second.bytes;
  make_room();
}

std::shared_ptr<StoredResponse> ResponseStore::find(std::string_view id, std::string_view owner) {
  make_room();
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.response->owner != owner) return nullptr;
  return found->second.response;
}

void ResponseStore::remove(Entries::iterator entry) {
  bytes_ -= entry->second.bytes;
  by_age_.erase(std::find(by_age_.begin(), by_age_.end(), entry->first));
  const std::shared_ptr<StoredResponse> response = std::move(entry->second.response);
  entries_.erase(entry);
  cancel(*response);
}

// What is too old goes, and then the oldest, until the rest fits. One that runs stays: its client
// is still to come.
void ResponseStore::make_room() {
  const auto now = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < by_age_.size();) {
    const auto found = entries_.find(by_age_[i]);
    const StoredResponse& response = *found->second.response;
    const bool over =
        static_cast<int64_t>(entries_.size()) > limits_.entries || bytes_ > limits_.bytes;
    if (!over && now - response.created <= limits_.age) break;
    if (response.running) {
      ++i;
    } else {
      remove(found);
    }
  }
}

void ResponseStore::erase(const StoredResponse& response) {
  const auto found = entries_.find(response.id);
  if (found != entries_.end()) remove(found);
}

void ResponseStore::cancel(StoredResponse& response) {
  if (!response.running) return;
  response.running = false;
  if (response.on_cancel) response.on_cancel();
  response.on_cancel = nullptr;
  response.live_body = nullptr;
  response.cancel.emit(boost::asio::cancellation_type::terminal);
  response.changed.notify();
}

void ResponseStore::cancel_all() {
  for (auto& [id, entry] : entries_) cancel(*entry.response);
}

}  // namespace fathom::server
