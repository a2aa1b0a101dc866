// Answers in the form of Anthropic's Messages: content blocks, and the events by which they grow.
//
// input_tokens counts what the cache did not have, cache_read_input_tokens the rest, as there. A
// thought has an empty signature: nothing here checks one.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "server/api/chat_response.h"

namespace fathom::server::api {

class AnthropicStream {
 public:
  // meta.id: "msg_…".
  explicit AnthropicStream(ResponseMeta meta);
  ~AnthropicStream();

  // message_start and a ping; `usage`: the prompt's part of it.
  std::vector<SseEvent> begin(const Usage& usage);
  std::vector<SseEvent> deltas(std::span<const Delta> deltas);
  // Closes the open block, then message_delta and message_stop.
  std::vector<SseEvent> finish(const Answer& answer);
  SseEvent error(const ApiError& error);
  SseEvent ping();

  // The whole message; after finish().
  std::string body() const;

 private:
  enum class Open : uint8_t { kNothing, kThinking, kText, kToolUse };
  void event(std::string_view type, nlohmann::ordered_json fields, std::vector<SseEvent>& out);
  void open(Open kind, const OutputEvent& event, std::vector<SseEvent>& out);
  void close(std::vector<SseEvent>& out);
  void grow(std::string_view delta_type, const char* field, const std::string& text,
            std::vector<SseEvent>& out);

  ResponseMeta meta_;
  SseCounter counter_;
  std::unique_ptr<nlohmann::ordered_json> message_;  // its content holds complete blocks only
  std::unique_ptr<nlohmann::ordered_json> block_;    // the open one
  std::string arguments_;                            // of an open tool_use
  Open open_ = Open::kNothing;
};

}  // namespace fathom::server::api
