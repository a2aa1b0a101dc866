#include "chat/output_parser.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/json.h"
#include "chat/dsml.h"
#include "chat/encoder.h"
#include "chat/python_text.h"

namespace fathom {
namespace {

using Kind = OutputEvent::Kind;

constexpr std::string_view kXmlBegin = "<tool_call>";
constexpr std::string_view kXmlEnd = "</tool_call>";
constexpr std::string_view kFenceBegin = "```json";
constexpr std::string_view kFenceEnd = "```";
constexpr std::string_view kAsciiSpace = " \t\r\n";

struct Call {
  std::string name;
  std::string arguments;
};

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kAsciiSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kAsciiSpace) - begin + 1);
}

// A function's name is one word. This also refuses a call whose name is really a piece of another.
bool is_name(std::string_view text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) <= ' ' || c == '<' || c == '"' || c == '`' || c == '\x7f';
  });
}

std::optional<Call> make_call(std::string_view name, std::string_view arguments) {
  if (!is_name(name)) return std::nullopt;
  const auto parsed = parse_json(arguments, "arguments");
  if (!parsed || !parsed->is_object()) return std::nullopt;
  return Call{std::string(name), std::string(arguments)};
}

// function<｜tool▁sep｜>NAME\n```json\n{…}\n```
std::optional<Call> parse_fenced(std::string_view body) {
  const std::size_t separator = body.find(chat::kToolSep);
  if (separator == body.npos || trim(body.substr(0, separator)) != "function") return std::nullopt;
  const std::string_view rest = body.substr(separator + chat::kToolSep.size());
  const std::size_t line_end = rest.find('\n');
  if (line_end == rest.npos) return std::nullopt;
  std::string_view fenced = trim(rest.substr(line_end));
  if (fenced.size() < kFenceBegin.size() + kFenceEnd.size() || !fenced.starts_with(kFenceBegin) ||
      !fenced.ends_with(kFenceEnd)) {
    return std::nullopt;
  }
  fenced.remove_prefix(kFenceBegin.size());
  fenced.remove_suffix(kFenceEnd.size());
  return make_call(trim(rest.substr(0, line_end)), trim(fenced));
}

// NAME<｜tool▁sep｜>{…}
std::optional<Call> parse_plain(std::string_view body) {
  const std::size_t separator = body.find(chat::kToolSep);
  if (separator == body.npos) return std::nullopt;
  return make_call(trim(body.substr(0, separator)),
                   trim(body.substr(separator + chat::kToolSep.size())));
}

// {"name": …, "arguments": {…}}
std::optional<Call> parse_xml(std::string_view body) {
  const auto parsed = parse_ordered_json(trim(body), "tool call");
  if (!parsed || !parsed->is_object()) return std::nullopt;
  const auto name = parsed->find("name");
  const auto arguments = parsed->find("arguments");
  if (name == parsed->end() || !name->is_string() || arguments == parsed->end() ||
      !arguments->is_object() || !is_name(name->get_ref<const std::string&>())) {
    return std::nullopt;
  }
  return Call{name->get<std::string>(), chat::python_json(*arguments)};
}

// ` name="NAME">` and parameters
std::optional<Call> parse_dsml(std::string_view body) {
  const auto call = chat::parse_dsml_call(body);
  if (!call) return std::nullopt;
  return make_call(call->name, call->arguments);
}

bool could_become(std::string_view text, std::string_view tag) {
  return text.size() < tag.size() && tag.starts_with(text);
}

bool writes_think_tag(ChatFamily family) {
  switch (family) {
    case ChatFamily::kDeepseekR1:
    case ChatFamily::kDeepseekR1_0528:
    case ChatFamily::kR1Distill:
    case ChatFamily::kQwen3:
    case ChatFamily::kNano:
      return true;
    default:
      return false;
  }
}

}  // namespace

OutputParser::OutputParser(ChatFamily family, OutputParserOptions options)
    : form_(CallForm::kNone), options_(std::move(options)), state_(State::kContent) {
  if (options_.parse_tools) {
    switch (family) {
      case ChatFamily::kDeepseekV25:
      case ChatFamily::kDeepseekV3:
      case ChatFamily::kDeepseekV3_0324:
      case ChatFamily::kDeepseekR1:
      case ChatFamily::kDeepseekR1_0528:
      case ChatFamily::kR1Distill:
        form_ = CallForm::kFenced;
        break;
      case ChatFamily::kDeepseekV31:
      case ChatFamily::kDeepseekV31Terminus:
        form_ = CallForm::kPlain;
        break;
      case ChatFamily::kDeepseekV32:
        form_ = CallForm::kDsmlV32;
        break;
      case ChatFamily::kDeepseekV4:
        form_ = CallForm::kDsmlV4;
        break;
      case ChatFamily::kQwen3:
        form_ = CallForm::kXml;
        break;
      default:
        break;
    }
  }
  if (options_.starts_in_thinking) {
    state_ = State::kReasoning;
    skip_newlines_ = true;
  } else if (writes_think_tag(family)) {
    state_ = State::kStart;
  }
}

std::vector<OutputEvent> OutputParser::feed(std::string_view text) {
  FATHOM_CHECK(!finished_) << "OutputParser::feed after finish";
  buffer_ += text;
  advance(false);
  return std::exchange(events_, {});
}

std::vector<OutputEvent> OutputParser::finish() {
  FATHOM_CHECK(!finished_) << "OutputParser::finish twice";
  finished_ = true;
  advance(true);
  return std::exchange(events_, {});
}

void OutputParser::advance(bool final) {
  for (bool more = true; more;) {
    switch (state_) {
      case State::kStart:
        more = advance_start(final);
        break;
      case State::kReasoning:
      case State::kContent:
        more = advance_text(final);
        break;
      case State::kCalls:
        more = advance_calls(final);
        break;
    }
  }
  buffer_.erase(0, head_);
  head_ = 0;
}

// Positions in pending() start anew.
void OutputParser::consume(std::size_t bytes) {
  head_ += bytes;
  has_opener_ = false;
  call_at_ = 0;
  searched_ = 0;
}

// The tag that ends the present run of text; empty if none can.
std::string_view OutputParser::tag() const {
  if (state_ == State::kReasoning) return chat::kThinkEnd;
  if (form_ == CallForm::kNone) return {};
  return form_ == CallForm::kXml ? kXmlBegin : list_tags().calls_begin;
}

OutputParser::ListTags OutputParser::list_tags() const {
  switch (form_) {
    case CallForm::kDsmlV32:
      return {"<｜DSML｜function_calls>", chat::kDsmlInvokeBegin, chat::kDsmlInvokeEnd,
              "</｜DSML｜function_calls>"};
    case CallForm::kDsmlV4:
      return {"<｜DSML｜tool_calls>", chat::kDsmlInvokeBegin, chat::kDsmlInvokeEnd,
              "</｜DSML｜tool_calls>"};
    default:
      return {chat::kCallsBegin, chat::kCallBegin, chat::kCallEnd, chat::kCallsEnd};
  }
}

void OutputParser::write(std::string_view text) {
  if (text.empty()) return;
  const Kind kind = state_ == State::kReasoning ? Kind::kReasoning : Kind::kContent;
  if (events_.empty() || events_.back().kind != kind) events_.push_back({.kind = kind});
  events_.back().text += text;
}

void OutputParser::flush_newlines() {
  write(std::string(newlines_, '\n'));
  newlines_ = 0;
}

bool OutputParser::advance_start(bool final) {
  const std::size_t begin = std::min(pending().find_first_not_of('\n'), pending().size());
  newlines_ += begin;
  consume(begin);
  if (!final && could_become(pending(), chat::kThinkBegin)) return false;
  if (pending().starts_with(chat::kThinkBegin)) {
    consume(chat::kThinkBegin.size());
    newlines_ = 0;
    skip_newlines_ = true;
    state_ = State::kReasoning;
  } else {
    state_ = State::kContent;
  }
  return true;
}

bool OutputParser::advance_text(bool final) {
  const std::string_view end_tag = tag();
  std::string_view rest = pending();
  while (!rest.empty()) {
    if (rest[0] == '\n') {
      ++newlines_;
      rest.remove_prefix(1);
      continue;
    }
    if (!end_tag.empty() && rest[0] == '<') {
      if (rest.starts_with(end_tag)) break;
      if (!final && could_become(rest, end_tag)) break;
    }
    if (skip_newlines_) newlines_ = 0;
    skip_newlines_ = false;
    flush_newlines();
    const std::size_t length = std::min(rest.find_first_of("\n<", 1), rest.size());
    write(rest.substr(0, length));
    rest.remove_prefix(length);
  }
  consume(pending().size() - rest.size());
  if (end_tag.empty() || !rest.starts_with(end_tag)) {
    // Newlines that no tag can swallow need not wait.
    if (!skip_newlines_ && (final || end_tag.empty())) flush_newlines();
    return false;
  }
  if (state_ == State::kReasoning) {
    consume(end_tag.size());
    newlines_ = 0;
    skip_newlines_ = true;
    state_ = State::kContent;
  } else {
    // The newlines before the list are kept until it holds a call.
    if (skip_newlines_) newlines_ = 0;
    skip_newlines_ = false;
    has_opener_ = true;
    call_at_ = searched_ = end_tag.size();
    calls_in_list_ = 0;
    state_ = State::kCalls;
  }
  return true;
}

// The first `bytes` of what is pending are no call: they and the newlines before are content.
void OutputParser::give_up_on_calls(std::size_t bytes) {
  flush_newlines();
  write(pending().substr(0, bytes));
  consume(bytes);
}

bool OutputParser::take_call(std::string_view body) {
  std::optional<Call> call;
  switch (form_) {
    case CallForm::kFenced:
      call = parse_fenced(body);
      break;
    case CallForm::kPlain:
      call = parse_plain(body);
      break;
    case CallForm::kXml:
      call = parse_xml(body);
      break;
    case CallForm::kDsmlV32:
    case CallForm::kDsmlV4:
      call = parse_dsml(body);
      break;
    case CallForm::kNone:
      break;
  }
  if (!call.has_value()) return false;
  newlines_ = 0;
  const int index = calls_++;
  ++calls_in_list_;
  events_.push_back({.kind = Kind::kToolCallBegin,
                     .index = index,
                     .id = options_.call_id_prefix + std::to_string(index),
                     .name = call->name});
  events_.push_back({.kind = Kind::kToolCallArguments, .text = call->arguments, .index = index});
  events_.push_back({.kind = Kind::kToolCallEnd, .index = index});
  return true;
}

bool OutputParser::wait_for_call_end(std::string_view end_tag, bool final) {
  if (!final) {
    // The end may have begun; what stands before that need not be searched again.
    const std::size_t size = pending().size();
    searched_ = std::max(searched_, size - std::min(size, end_tag.size() - 1));
    return false;
  }
  // Models leave out the end of a list after its last call.
  if (calls_in_list_ == 0 || !trim(pending()).empty()) give_up_on_calls(pending().size());
  consume(pending().size());
  return false;
}

bool OutputParser::advance_calls(bool final) {
  return form_ == CallForm::kXml ? advance_xml_call(final) : advance_call_list(final);
}

bool OutputParser::advance_xml_call(bool final) {
  const std::size_t end = pending().find(kXmlEnd, searched_);
  if (end == std::string_view::npos) return wait_for_call_end(kXmlEnd, final);
  const std::size_t after = end + kXmlEnd.size();
  if (take_call(pending().substr(kXmlBegin.size(), end - kXmlBegin.size()))) {
    consume(after);
    skip_newlines_ = true;
  } else {
    give_up_on_calls(after);
  }
  state_ = State::kContent;
  return true;
}

// Pending: the tag that opened the list, unless something came of it already; white space; a call
// or the end of the list.
bool OutputParser::advance_call_list(bool final) {
  const ListTags tags = list_tags();
  call_at_ = std::min(pending().find_first_not_of(kAsciiSpace, call_at_), pending().size());
  const std::string_view rest = pending().substr(call_at_);
  if (rest.starts_with(tags.call_begin)) {
    const std::size_t begin = call_at_ + tags.call_begin.size();
    const std::size_t end = pending().find(tags.call_end, std::max(searched_, begin));
    if (end == std::string_view::npos) return wait_for_call_end(tags.call_end, final);
    const std::size_t after = end + tags.call_end.size();
    if (take_call(pending().substr(begin, end - begin))) {
      consume(after);
    } else {
      give_up_on_calls(after);
    }
    return true;
  }
  if (rest.starts_with(tags.calls_end)) {
    const std::size_t after = call_at_ + tags.calls_end.size();
    if (calls_in_list_ > 0) {
      consume(after);
      skip_newlines_ = true;
    } else {
      give_up_on_calls(after);
    }
    state_ = State::kContent;
    return true;
  }
  if (could_become(rest, tags.call_begin) || could_become(rest, tags.calls_end))
    return wait_for_call_end(tags.call_end, final);
  // Neither: the list ends here. What follows is content, in which another list may begin.
  give_up_on_calls(has_opener_ ? tags.calls_begin.size() : 0);
  state_ = State::kContent;
  return true;
}

std::vector<OutputEvent> merge_events(std::vector<OutputEvent> events) {
  std::vector<OutputEvent> out;
  for (OutputEvent& event : events) {
    const bool is_delta = event.kind == Kind::kReasoning || event.kind == Kind::kContent ||
                          event.kind == Kind::kToolCallArguments;
    if (is_delta && !out.empty() && out.back().kind == event.kind &&
        out.back().index == event.index) {
      out.back().text += event.text;
    } else {
      out.push_back(std::move(event));
    }
  }
  return out;
}

}  // namespace fathom
