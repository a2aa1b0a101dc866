// Splits what a model writes, as it arrives, into reasoning, content and tool calls.
//
// Owns the recognition of <think>…</think> and of each family's tool calls. Does not own the
// detokenizer, which gives it whole UTF-8 characters, nor stop strings.
//
// The rules, which hold however the text is cut into feeds:
//  - A tag never leaves a part of itself in the text around it. What only looks like the start of a
//    tag comes out once that is certain.
//  - Newlines right after <think>, right before and after </think>, and right before and after tool
//    calls belong to the form and are dropped. A thought that never ends keeps its last newlines.
//  - <think> is recognised at the start of the output only, and only in families that write it
//    themselves; elsewhere it is content.
//  - A call is reported when it is complete: its name and one arguments delta, a JSON object. A
//    client acts on a call, and half of one could not be taken back.
//  - A call that is malformed or unfinished comes out as content, tags and all: nothing is lost.
//  - In Qwen3's form the arguments are a value inside a JSON object; they are printed as Python
//    would. The other forms give the model's own text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/chat.h"

namespace fathom {

struct OutputParserOptions {
  bool starts_in_thinking = false;  // prompt_opens_thinking of the prompt
  bool parse_tools = false;         // otherwise calls are content
  std::string call_id_prefix = "call_";
};

struct OutputEvent {
  enum class Kind { kReasoning, kContent, kToolCallBegin, kToolCallArguments, kToolCallEnd };
  Kind kind = Kind::kContent;
  std::string text;  // the delta of kReasoning, kContent and kToolCallArguments
  int index = 0;     // of the call, from 0, in the three kinds of tool calls
  std::string id;    // kToolCallBegin: call_id_prefix and the index
  std::string name;  // kToolCallBegin
  bool operator==(const OutputEvent&) const = default;
};

// For one answer of one model. Not for use by two threads at once.
class OutputParser {
 public:
  OutputParser(ChatFamily family, OutputParserOptions options);

  // The events that `text` makes certain. Deltas of one kind are merged within a call.
  std::vector<OutputEvent> feed(std::string_view text);
  // What was held back. Call once, at the end; feed must not follow.
  std::vector<OutputEvent> finish();

 private:
  // kDsml: of V3.2 and V4, whose lists have different names.
  enum class CallForm { kNone, kFenced, kPlain, kXml, kDsmlV32, kDsmlV4 };
  enum class State { kStart, kReasoning, kContent, kCalls };

  void advance(bool final);
  // Each returns false when it needs more text.
  bool advance_start(bool final);
  bool advance_text(bool final);
  bool advance_calls(bool final);
  bool advance_xml_call(bool final);
  bool advance_call_list(bool final);
  bool wait_for_call_end(std::string_view end_tag, bool final);

  void write(std::string_view text);
  void flush_newlines();
  void give_up_on_calls(std::size_t bytes);
  bool take_call(std::string_view body);
  std::string_view tag() const;
  // The tags of a list of calls.
  struct ListTags {
    std::string_view calls_begin, call_begin, call_end, calls_end;
  };
  ListTags list_tags() const;

  std::string_view pending() const { return std::string_view(buffer_).substr(head_); }
  void consume(std::size_t bytes);

  CallForm form_;
  OutputParserOptions options_;
  State state_;
  bool finished_ = false;
  std::string buffer_;    // text not yet understood stands from head_ on
  std::size_t head_ = 0;  // moved within an advance, so that a long text is not moved for each tag
  // In kCalls. Positions in pending(), kept so that no byte is looked at again for each feed.
  bool has_opener_ = false;     // the list's opening tag still stands first
  std::size_t call_at_ = 0;     // only white space stands between the opening tag and here
  std::size_t searched_ = 0;    // no call ends before here
  std::size_t newlines_ = 0;    // newlines before pending() that a tag may still swallow
  bool skip_newlines_ = false;  // a tag stood before them
  int calls_ = 0;
  int calls_in_list_ = 0;
  std::vector<OutputEvent> events_;
};

// Events as a client sees them in the end: neighbouring deltas of one kind and index joined.
std::vector<OutputEvent> merge_events(std::vector<OutputEvent> events);

}  // namespace fathom
