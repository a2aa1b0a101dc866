#include "server/api/anthropic_response.h"

#include <nlohmann/json.hpp>

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;
using Kind = OutputEvent::Kind;

ordered_json usage_of(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_prompt_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_prompt_tokens},
          {"output_tokens", usage.completion_tokens}};
}

std::string_view stop_reason(const Answer& answer) {
  switch (answer.finish) {
    case Finish::kLength:
      return "max_tokens";
    case Finish::kToolCalls:
      return "tool_use";
    case Finish::kStop:
      break;
  }
  return answer.stop_string.empty() ? "end_turn" : "stop_sequence";
}

}  // namespace

AnthropicStream::AnthropicStream(ResponseMeta meta)
    : meta_(std::move(meta)),
      counter_(meta_.request_id),
      message_(std::make_unique<ordered_json>(ordered_json{{"id", meta_.id},
                                                           {"type", "message"},
                                                           {"role", "assistant"},
                                                           {"model", meta_.model},
                                                           {"content", ordered_json::array()},
                                                           {"stop_reason", nullptr},
                                                           {"stop_sequence", nullptr},
                                                           {"usage", usage_of({})}})),
      block_(std::make_unique<ordered_json>()) {}

AnthropicStream::~AnthropicStream() = default;

void AnthropicStream::event(std::string_view type, ordered_json fields,
                            std::vector<SseEvent>& out) {
  ordered_json body = {{"type", type}};
  for (auto& [key, value] : fields.items()) body[key] = std::move(value);
  out.push_back(counter_.event(std::string(type), wire_text(body)));
}

SseEvent AnthropicStream::ping() { return counter_.event("ping", R"({"type":"ping"})"); }

SseEvent AnthropicStream::error(const ApiError& error) {
  return counter_.event("error", anthropic_error_body(error, meta_.request_id));
}

std::vector<SseEvent> AnthropicStream::begin(const Usage& usage) {
  std::vector<SseEvent> out;
  (*message_)["usage"] = usage_of(usage);
  event("message_start", {{"message", *message_}}, out);
  out.push_back(ping());
  return out;
}

void AnthropicStream::open(Open kind, const OutputEvent& e, std::vector<SseEvent>& out) {
  if (open_ == kind && kind != Open::kToolUse) return;
  close(out);
  open_ = kind;
  if (kind == Open::kThinking) {
    *block_ = {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
  } else if (kind == Open::kText) {
    *block_ = {{"type", "text"}, {"text", ""}};
  } else {
    *block_ = {
        {"type", "tool_use"}, {"id", e.id}, {"name", e.name}, {"input", ordered_json::object()}};
    arguments_.clear();
  }
  event("content_block_start",
        {{"index", (*message_)["content"].size()}, {"content_block", *block_}}, out);
}

void AnthropicStream::close(std::vector<SseEvent>& out) {
  if (open_ == Open::kNothing) return;
  // The parser gives out calls whose arguments are an object only.
  if (open_ == Open::kToolUse) (*block_)["input"] = ordered_json::parse(arguments_, nullptr, false);
  event("content_block_stop", {{"index", (*message_)["content"].size()}}, out);
  (*message_)["content"].push_back(std::move(*block_));
  *block_ = nullptr;
  open_ = Open::kNothing;
}

void AnthropicStream::grow(std::string_view delta_type, const char* field, const std::string& text,
                           std::vector<SseEvent>& out) {
  if (open_ == Open::kToolUse) {
    arguments_ += text;
  } else {
    (*block_)[field].get_ref<std::string&>() += text;
  }
  event(
      "content_block_delta",
      {{"index", (*message_)["content"].size()}, {"delta", {{"type", delta_type}, {field, text}}}},
      out);
}

std::vector<SseEvent> AnthropicStream::deltas(std::span<const Delta> deltas) {
  std::vector<SseEvent> out;
  for (const Delta& d : deltas) {
    const OutputEvent& e = d.event;
    switch (e.kind) {
      case Kind::kReasoning:
        open(Open::kThinking, e, out);
        grow("thinking_delta", "thinking", e.text, out);
        break;
      case Kind::kContent:
        open(Open::kText, e, out);
        grow("text_delta", "text", e.text, out);
        break;
      case Kind::kToolCallBegin:
        open(Open::kToolUse, e, out);
        break;
      case Kind::kToolCallArguments:
        grow("input_json_delta", "partial_json", e.text, out);
        break;
      case Kind::kToolCallEnd:
        close(out);
        break;
    }
  }
  return out;
}

std::vector<SseEvent> AnthropicStream::finish(const Answer& answer) {
  std::vector<SseEvent> out;
  close(out);
  ordered_json& m = *message_;
  m["stop_reason"] = stop_reason(answer);
  if (m["stop_reason"] == "stop_sequence") m["stop_sequence"] = answer.stop_string;
  m["usage"] = usage_of(answer.usage);
  event("message_delta",
        {{"delta", {{"stop_reason", m["stop_reason"]}, {"stop_sequence", m["stop_sequence"]}}},
         {"usage", m["usage"]}},
        out);
  event("message_stop", ordered_json::object(), out);
  return out;
}

std::string AnthropicStream::body() const { return wire_text(*message_); }

}  // namespace fathom::server::api
