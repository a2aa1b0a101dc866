// Answers in the form of POST /responses: output items, and the events by which they grow.
//
// One class for both: a body that is not streamed is the last event's response. Events are numbered
// without a gap (sequence_number, which also stands in their SSE id), so that a client that lost
// its connection can ask for those after a number. There is no [DONE].
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "server/api/chat_response.h"
#include "server/api/responses_request.h"

namespace fathom::server::api {

class ResponsesStream {
 public:
  // meta.id: "resp_…"; ids of items are made of it.
  ResponsesStream(ResponseMeta meta, const ResponsesRequest& request,
                  std::shared_ptr<const Tokenizer> tokenizer);
  ~ResponsesStream();

  // response.created, and response.in_progress (or response.queued, if it runs in the background).
  std::vector<SseEvent> begin();
  std::vector<SseEvent> deltas(std::span<const Delta> deltas);
  // Closes what is open, then response.completed or response.incomplete.
  std::vector<SseEvent> finish(const Answer& answer);
  // response.failed, and the state that goes with it.
  std::vector<SseEvent> fail(const ApiError& error);
  // A client gave up on a response in the background. No event.
  void cancel();

  // The response as it stands.
  std::string body() const;

 private:
  enum class Open : uint8_t { kNothing, kReasoning, kMessage, kCall };
  void event(std::string_view type, nlohmann::ordered_json fields, std::vector<SseEvent>& out);
  void lifecycle(std::string_view type, std::vector<SseEvent>& out);
  void open(Open kind, const OutputEvent& event, std::vector<SseEvent>& out);
  void close(std::string_view status, std::vector<SseEvent>& out);
  void grow(const Delta& delta, std::vector<SseEvent>& out);
  nlohmann::ordered_json part_place() const;

  ResponseMeta meta_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool background_;
  bool logprobs_;
  SseCounter counter_;
  std::unique_ptr<nlohmann::ordered_json> response_;  // its output holds complete items only
  std::unique_ptr<nlohmann::ordered_json> item_;      // the open one
  Open open_ = Open::kNothing;
};

}  // namespace fathom::server::api
