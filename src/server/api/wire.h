// How JSON and server-sent events look on the wire. Owns the text form; knows no endpoint.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace fathom::server::api {

// Compact JSON; invalid UTF-8 becomes U+FFFD (it can only come from us).
std::string wire_text(const nlohmann::ordered_json& value);

// One server-sent event.
struct SseEvent {
  std::string event;  // "" for dialects that name none
  std::string id;     // "<request>/<number>": where a client that reconnects goes on
  std::string data;   // one line
  bool operator==(const SseEvent&) const = default;
};

// "event: …\nid: …\ndata: …\n\n".
std::string sse_text(const SseEvent& event);
// What is sent while nothing else is: a comment, which clients skip. No blank line follows it:
// OpenAI's Python client remembers the id of the event before, takes the line for the end of
// another one, without data, and fails. Where the answer is not streamed, a blank line does the
// same (white space before JSON).
inline constexpr std::string_view kSseKeepAlive = ": keep-alive\n";
inline constexpr std::string_view kBodyKeepAlive = "\n";

// Numbers the events of one response.
class SseCounter {
 public:
  explicit SseCounter(std::string request_id) : request_id_(std::move(request_id)) {}
  int64_t next_number() const { return next_; }
  SseEvent event(std::string name, std::string data);

 private:
  std::string request_id_;
  int64_t next_ = 0;
};

}  // namespace fathom::server::api
