// The stages. All three kinds come down to one: an optional prefix space, an optional expression
// with a behaviour, an optional mapping to the byte alphabet.
//
// Reference: the `tokenizers` library's pre_tokenizers and NormalizedString::split, whose folding
// of matches per behaviour is kept step by step (also for empty matches).
#include "tokenizer/pretokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "tokenizer/byte_alphabet.h"

namespace fathom {
namespace {

// GPT-2's expression (openai/gpt-2, src/encoder.py), used by ByteLevel with use_regex.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Rust's char::is_numeric: category N, in the tables of Unicode 17 (unicode_data.h).
constexpr std::string_view kNumeric = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";

struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool is_match = false;
};

Result<std::vector<Part>> find_parts(const Regex& regex, bool invert, std::string_view text,
                                     RegexScratch& scratch) {
  std::vector<Part> parts;
  std::size_t done = 0;
  RegexMatches matches(regex, text, scratch);
  Regex::Match match;
  for (;;) {
    const Regex::Outcome outcome = matches.next(match);
    if (outcome == Regex::Outcome::kLimit) return regex.limit_error(text, matches.position());
    if (outcome == Regex::Outcome::kNone) break;
    if (done != match.begin) parts.push_back({done, match.begin, invert});
    parts.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done != text.size()) parts.push_back({done, text.size(), invert});
  return parts;
}

// Neighbours of one kind become one part. (The first part joins nothing: there is no part yet.)
std::vector<Part> join_contiguous(const std::vector<Part>& parts) {
  std::vector<Part> out;
  bool previous = false;
  for (const Part& part : parts) {
    if (part.is_match == previous && !out.empty()) {
      out.back().end = part.end;
    } else {
      out.push_back(part);
    }
    previous = part.is_match;
  }
  return out;
}

// A match joins the part before it, unless that is a match too.
std::vector<Part> join_previous(const std::vector<Part>& parts) {
  std::vector<Part> out;
  bool previous = false;
  for (const Part& part : parts) {
    if (part.is_match && !previous && !out.empty()) {
      out.back().end = part.end;
    } else {
      out.push_back(part);
    }
    previous = part.is_match;
  }
  return out;
}

// The mirror image: a match joins the part behind it, unless that is a match too.
std::vector<Part> join_next(const std::vector<Part>& parts) {
  std::vector<Part> out;
  bool previous = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->is_match && !previous && !out.empty()) {
      out.back().begin = part->begin;
    } else {
      out.push_back(*part);
    }
    previous = part->is_match;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

Result<Pretokenizer::Stage> Pretokenizer::create_stage(const PretokenizerStage& spec,
                                                       const std::string& where) {
  Stage stage;
  if (const auto* split = std::get_if<SplitStage>(&spec)) {
    const std::string pattern = where + ".pattern";
    FATHOM_TRY(Regex regex, split->is_regex ? Regex::compile(split->pattern, pattern)
                                            : Regex::compile_literal(split->pattern, pattern));
    stage.regex.push_back(std::move(regex));
    stage.behavior = split->behavior;
    stage.invert = split->invert;
  } else if (const auto* digits = std::get_if<DigitsStage>(&spec)) {
    FATHOM_TRY(Regex regex, Regex::compile(kNumeric, where));
    stage.regex.push_back(std::move(regex));
    stage.behavior =
        digits->individual_digits ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  } else {
    const auto& bytes = std::get<ByteLevelStage>(spec);
    stage.add_prefix_space = bytes.add_prefix_space;
    stage.map_bytes = true;
    if (bytes.use_regex) {
      FATHOM_TRY(Regex regex, Regex::compile(kGpt2, where));
      stage.regex.push_back(std::move(regex));
    }
  }
  return stage;
}

Result<Pretokenizer> Pretokenizer::create(const std::vector<PretokenizerStage>& stages,
                                          std::string_view source) {
  if (stages.size() > static_cast<std::size_t>(limits::kMaxPretokenizerStages)) {
    return resource_limit(fmt::format("{}: pre_tokenizer: {} stages, the limit is {}", source,
                                      stages.size(), limits::kMaxPretokenizerStages));
  }
  Pretokenizer out;
  int byte_stages = 0;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    FATHOM_TRY(Stage stage,
               create_stage(stages[i], fmt::format("{}: pre_tokenizer stage {}", source, i)));
    byte_stages += stage.map_bytes ? 1 : 0;
    out.stages_.push_back(std::move(stage));
  }
  if (byte_stages == 1 && out.stages_.back().map_bytes) {
    out.stages_.back().map_bytes = false;
    out.emits_bytes_ = true;
  }
  return out;
}

Status Pretokenizer::run(std::string_view text, RegexScratch& scratch, const Emit& emit) const {
  return text.empty() ? Status() : run_stage(0, text, scratch, emit);
}

Status Pretokenizer::run_stage(std::size_t index, std::string_view text, RegexScratch& scratch,
                               const Emit& emit) const {
  if (index == stages_.size()) return emit(text);
  const Stage& stage = stages_[index];
  std::string prefixed;
  if (stage.add_prefix_space && !text.starts_with(' ')) {
    prefixed = ' ' + std::string(text);
    text = prefixed;
  }
  const auto pass_on = [&](std::string_view piece) -> Status {
    if (piece.empty()) return {};
    if (!stage.map_bytes) return run_stage(index + 1, piece, scratch, emit);
    return run_stage(index + 1, bytes_to_alphabet(piece), scratch, emit);
  };
  if (stage.regex.empty()) return pass_on(text);
  return split(stage, text, scratch, pass_on);
}

Status Pretokenizer::split(const Stage& stage, std::string_view text, RegexScratch& scratch,
                           const Emit& emit) const {
  const Regex& regex = stage.regex.front();
  const bool removed = stage.behavior == SplitBehavior::kRemoved;
  if (removed || stage.behavior == SplitBehavior::kIsolated) {
    std::size_t done = 0;
    RegexMatches matches(regex, text, scratch);
    Regex::Match match;
    for (;;) {
      const Regex::Outcome outcome = matches.next(match);
      if (outcome == Regex::Outcome::kLimit) return regex.limit_error(text, matches.position());
      if (outcome == Regex::Outcome::kNone) break;
      const auto between = text.substr(done, match.begin - done);
      const auto matched = text.substr(match.begin, match.end - match.begin);
      if (!removed || !stage.invert) FATHOM_TRY_STATUS(emit(between));
      if (!removed || stage.invert) FATHOM_TRY_STATUS(emit(matched));
      done = match.end;
    }
    return removed && stage.invert ? Status() : emit(text.substr(done));
  }
  FATHOM_TRY(std::vector<Part> parts, find_parts(regex, stage.invert, text, scratch));
  switch (stage.behavior) {
    case SplitBehavior::kContiguous:
      parts = join_contiguous(parts);
      break;
    case SplitBehavior::kMergedWithPrevious:
      parts = join_previous(parts);
      break;
    default:
      parts = join_next(parts);
      break;
  }
  for (const Part& part : parts) {
    FATHOM_TRY_STATUS(emit(text.substr(part.begin, part.end - part.begin)));
  }
  return {};
}

}  // namespace fathom
