#include "server/api/responses_response.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace fathom::server::api {
namespace {

using nlohmann::ordered_json;
using Kind = OutputEvent::Kind;

ordered_json or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json optional_number(const std::optional<double>& value) {
  return value.has_value() ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json format_json(const ResponseFormat& format) {
  switch (format.kind) {
    case ResponseFormat::Kind::kJsonObject:
      return {{"type", "json_object"}};
    case ResponseFormat::Kind::kJsonSchema:
      return {{"type", "json_schema"},
              {"name", format.name},
              {"schema", ordered_json::parse(format.schema)},
              {"strict", true}};
    case ResponseFormat::Kind::kText:
      break;
  }
  return {{"type", "text"}};
}

ordered_json choice_json(const ToolChoice& choice) {
  switch (choice.kind) {
    case ToolChoice::Kind::kNone:
      return "none";
    case ToolChoice::Kind::kRequired:
      return "required";
    case ToolChoice::Kind::kNamed:
      return {{"type", "function"}, {"name", choice.name}};
    case ToolChoice::Kind::kAuto:
      break;
  }
  return "auto";
}

ordered_json tools_json(const std::vector<ToolSpec>& tools) {
  ordered_json list = ordered_json::array();
  for (const ToolSpec& tool : tools) {
    list.push_back({{"type", "function"},
                    {"name", tool.name},
                    {"description", or_null(tool.description)},
                    {"parameters", tool.parameters.empty() ? ordered_json(nullptr)
                                                           : ordered_json::parse(tool.parameters)},
                    {"strict", tool.strict}});
  }
  return list;
}

// The response before anything came.
ordered_json skeleton(const ResponseMeta& meta, const ResponsesRequest& request) {
  const ChatRequest& chat = request.chat;
  ordered_json metadata = ordered_json::object();
  for (const auto& [key, value] : request.metadata) metadata[key] = value;
  return {{"id", meta.id},
          {"object", "response"},
          {"created_at", meta.created_unix_s},
          {"status", request.background ? "queued" : "in_progress"},
          {"background", request.background},
          {"error", nullptr},
          {"incomplete_details", nullptr},
          {"instructions", or_null(request.instructions)},
          {"max_output_tokens",
           chat.max_tokens ? ordered_json(*chat.max_tokens) : ordered_json(nullptr)},
          {"metadata", std::move(metadata)},
          {"model", meta.model},
          {"output", ordered_json::array()},
          {"parallel_tool_calls", chat.parallel_tool_calls},
          {"previous_response_id", or_null(request.previous_response_id)},
          {"reasoning", {{"effort", or_null(request.effort)}, {"summary", nullptr}}},
          {"store", request.store},
          {"temperature", optional_number(chat.sampling.temperature)},
          {"text", {{"format", format_json(chat.format)}}},
          {"tool_choice", choice_json(chat.tool_choice)},
          {"tools", tools_json(chat.tools)},
          {"top_p", optional_number(chat.sampling.top_p)},
          {"truncation", "disabled"},
          {"usage", nullptr},
          {"user", or_null(chat.user_id)}};
}

ordered_json usage_of(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details",
           {{"cached_tokens", usage.cached_prompt_tokens}, {"cache_write_tokens", 0}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

ordered_json text_part(std::string_view type) {
  ordered_json part = {{"type", type}, {"text", ""}};
  if (type != "output_text") return part;
  part["annotations"] = ordered_json::array();
  part["logprobs"] = ordered_json::array();
  return part;
}

}  // namespace

ResponsesStream::ResponsesStream(ResponseMeta meta, const ResponsesRequest& request,
                                 std::shared_ptr<const Tokenizer> tokenizer)
    : meta_(std::move(meta)),
      tokenizer_(std::move(tokenizer)),
      background_(request.background),
      logprobs_(request.chat.top_logprobs >= 0),
      counter_(meta_.request_id),
      response_(std::make_unique<ordered_json>(skeleton(meta_, request))),
      item_(std::make_unique<ordered_json>()) {}

ResponsesStream::~ResponsesStream() = default;

void ResponsesStream::event(std::string_view type, ordered_json fields,
                            std::vector<SseEvent>& out) {
  ordered_json body = {{"type", type}, {"sequence_number", counter_.next_number()}};
  for (auto& [key, value] : fields.items()) body[key] = std::move(value);
  out.push_back(counter_.event(std::string(type), wire_text(body)));
}

void ResponsesStream::lifecycle(std::string_view type, std::vector<SseEvent>& out) {
  event(type, {{"response", *response_}}, out);
}

std::vector<SseEvent> ResponsesStream::begin() {
  std::vector<SseEvent> out;
  lifecycle("response.created", out);
  if (background_) lifecycle("response.queued", out);
  (*response_)["status"] = "in_progress";
  lifecycle("response.in_progress", out);
  return out;
}

ordered_json ResponsesStream::part_place() const {
  ordered_json place = {{"item_id", (*item_)["id"]},
                        {"output_index", (*response_)["output"].size()}};
  if (open_ != Open::kCall) place["content_index"] = 0;
  return place;
}

void ResponsesStream::open(Open kind, const OutputEvent& e, std::vector<SseEvent>& out) {
  if (open_ == kind && kind != Open::kCall) return;
  close("completed", out);
  open_ = kind;
  const std::size_t index = (*response_)["output"].size();
  const auto id = [&](std::string_view prefix) {
    return fmt::format("{}_{}_{}", prefix, meta_.id, index);
  };
  if (kind == Open::kReasoning) {
    *item_ = {{"id", id("rs")}, {"type", "reasoning"}, {"summary", ordered_json::array()}};
  } else if (kind == Open::kMessage) {
    *item_ = {{"id", id("msg")}, {"type", "message"}, {"role", "assistant"}};
  } else {
    *item_ = {{"id", id("fc")},
              {"type", "function_call"},
              {"call_id", e.id},
              {"name", e.name},
              {"arguments", ""}};
  }
  if (kind != Open::kCall) (*item_)["content"] = ordered_json::array();
  (*item_)["status"] = "in_progress";
  event("response.output_item.added", {{"output_index", index}, {"item", *item_}}, out);
  if (kind == Open::kCall) return;
  const ordered_json part = text_part(kind == Open::kReasoning ? "reasoning_text" : "output_text");
  (*item_)["content"].push_back(part);
  ordered_json fields = part_place();
  fields["part"] = part;
  event("response.content_part.added", std::move(fields), out);
}

void ResponsesStream::close(std::string_view status, std::vector<SseEvent>& out) {
  if (open_ == Open::kNothing) return;
  (*item_)["status"] = status;
  ordered_json done = part_place();
  if (open_ == Open::kCall) {
    done["name"] = (*item_)["name"];
    done["arguments"] = (*item_)["arguments"];
    event("response.function_call_arguments.done", std::move(done), out);
  } else {
    const bool message = open_ == Open::kMessage;
    const ordered_json& part = (*item_)["content"][0];
    done["text"] = part["text"];
    if (message) done["logprobs"] = part["logprobs"];
    event(message ? "response.output_text.done" : "response.reasoning_text.done", std::move(done),
          out);
    ordered_json part_done = part_place();
    part_done["part"] = part;
    event("response.content_part.done", std::move(part_done), out);
  }
  event("response.output_item.done",
        {{"output_index", (*response_)["output"].size()}, {"item", *item_}}, out);
  (*response_)["output"].push_back(std::move(*item_));
  *item_ = nullptr;
  open_ = Open::kNothing;
}

void ResponsesStream::grow(const Delta& d, std::vector<SseEvent>& out) {
  ordered_json fields = part_place();
  fields["delta"] = d.event.text;
  if (open_ == Open::kCall) {
    (*item_)["arguments"].get_ref<std::string&>() += d.event.text;
    event("response.function_call_arguments.delta", std::move(fields), out);
    return;
  }
  ordered_json& part = (*item_)["content"][0];
  part["text"].get_ref<std::string&>() += d.event.text;
  if (open_ == Open::kReasoning) {
    event("response.reasoning_text.delta", std::move(fields), out);
    return;
  }
  fields["logprobs"] = ordered_json::array();
  if (logprobs_) {
    for (const SampledToken& token : d.tokens) {
      ordered_json logprob = logprob_json(*tokenizer_, token);
      part["logprobs"].push_back(logprob);
      fields["logprobs"].push_back(std::move(logprob));
    }
  }
  event("response.output_text.delta", std::move(fields), out);
}

std::vector<SseEvent> ResponsesStream::deltas(std::span<const Delta> deltas) {
  std::vector<SseEvent> out;
  for (const Delta& d : deltas) {
    switch (d.event.kind) {
      case Kind::kReasoning:
        open(Open::kReasoning, d.event, out);
        grow(d, out);
        break;
      case Kind::kContent:
        open(Open::kMessage, d.event, out);
        grow(d, out);
        break;
      case Kind::kToolCallBegin:
        open(Open::kCall, d.event, out);
        break;
      case Kind::kToolCallArguments:
        grow(d, out);
        break;
      case Kind::kToolCallEnd:
        close("completed", out);
        break;
    }
  }
  return out;
}

std::vector<SseEvent> ResponsesStream::finish(const Answer& answer) {
  std::vector<SseEvent> out;
  const bool complete = answer.finish != Finish::kLength;
  // An answer without a word is an empty message.
  if (open_ == Open::kNothing && (*response_)["output"].empty()) open(Open::kMessage, {}, out);
  close(complete ? "completed" : "incomplete", out);
  (*response_)["status"] = complete ? "completed" : "incomplete";
  if (!complete) (*response_)["incomplete_details"] = {{"reason", "max_output_tokens"}};
  (*response_)["usage"] = usage_of(answer.usage);
  lifecycle(complete ? "response.completed" : "response.incomplete", out);
  return out;
}

std::vector<SseEvent> ResponsesStream::fail(const ApiError& error) {
  std::vector<SseEvent> out;
  close("incomplete", out);
  (*response_)["status"] = "failed";
  (*response_)["error"] = {{"code", error.status == 429 ? "rate_limit_exceeded" : "server_error"},
                           {"message", error.message}};
  lifecycle("response.failed", out);
  return out;
}

void ResponsesStream::cancel() {
  std::vector<SseEvent> unsent;
  close("incomplete", unsent);
  (*response_)["status"] = "cancelled";
}

std::string ResponsesStream::body() const { return wire_text(*response_); }

}  // namespace fathom::server::api
