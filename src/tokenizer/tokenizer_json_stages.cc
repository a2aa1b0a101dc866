// tokenizer.json: normalizer, pre_tokenizer, post_processor and decoder.
//
// Each comes alone or as a Sequence (nested at will, up to the depth that base/json.h admits); a
// Sequence is flattened into the spec's list. A component that is not implemented is an error that
// names it: a tokenizer that is nearly right is wrong.
#include <fmt/format.h>

#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/limits.h"
#include "tokenizer/tokenizer_json_internal.h"

namespace fathom::tokenizer_json {
namespace {

using nlohmann::json;
using ReadOne = std::function<Status(const JsonReader& component, const std::string& type)>;

// Where `field` stands in the file, without the file's name.
std::string path_of(const JsonReader& reader, std::string_view field) {
  return reader.where(field).substr(reader.source().size() + 2);
}

// Calls `one` for the component, or for each member if it is a Sequence, whose list stands in the
// field `members` ("normalizers", "pretokenizers", …).
Status visit_component(const JsonReader& component, std::string_view members, const ReadOne& one) {
  FATHOM_TRY(const std::string type, component.string("type"));
  if (type != "Sequence") return one(component, type);
  const auto it = component.value().find(members);
  if (it == component.value().end() || !it->is_array()) return component.bad(members, "a list");
  for (std::size_t i = 0; i < it->size(); ++i) {
    const std::string path = path_of(component, fmt::format("{}[{}]", members, i));
    if (!(*it)[i].is_object()) {
      return invalid_argument(fmt::format("{}: {} is {}, expected an object", component.source(),
                                          path, json_preview((*it)[i])));
    }
    const JsonReader member((*it)[i], component.source(), path);
    FATHOM_TRY_STATUS(visit_component(member, members, one));
  }
  return {};
}

Status for_each_component(const JsonReader& top, std::string_view field, std::string_view members,
                          const ReadOne& one) {
  FATHOM_TRY(const auto component, top.object(field));
  return component ? visit_component(*component, members, one) : Status();
}

// {"String": "…"} or {"Regex": "…"}.
Status read_pattern(const JsonReader& component, std::string& pattern, bool& is_regex) {
  FATHOM_TRY(const auto object, component.object("pattern"));
  constexpr std::string_view kExpected = "{\"Regex\": \"…\"} or {\"String\": \"…\"}";
  if (!object || object->value().size() != 1) return component.bad("pattern", kExpected);
  is_regex = object->has("Regex");
  if (!is_regex && !object->has("String")) return component.bad("pattern", kExpected);
  FATHOM_TRY(pattern, object->string(is_regex ? "Regex" : "String"));
  return {};
}

Result<SplitBehavior> read_behavior(const JsonReader& component) {
  static constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames = {{
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  }};
  FATHOM_TRY(const std::string name, component.string("behavior"));
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  return component.bad("behavior",
                       "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

Status check_stage_count(const JsonReader& top, std::string_view field, std::size_t count) {
  if (count < static_cast<std::size_t>(limits::kMaxPretokenizerStages)) return {};
  return resource_limit(
      fmt::format("{}: more than {} stages", top.where(field), limits::kMaxPretokenizerStages));
}

// {"SpecialToken": {"id": name}} or {"Sequence": {"id": "A"}}.
Result<TemplatePiece> read_template_piece(const JsonReader& piece, const JsonReader& processor) {
  TemplatePiece out;
  FATHOM_TRY(const auto sequence, piece.object("Sequence"));
  if (sequence) {
    FATHOM_TRY(const std::string id, sequence->string("id"));
    if (id != "A") return sequence->bad("id", "\"A\"");
    out.is_sequence = true;
    return out;
  }
  FATHOM_TRY(const auto special, piece.object("SpecialToken"));
  if (!special) return piece.bad("SpecialToken", "a field \"Sequence\" or \"SpecialToken\"");
  FATHOM_TRY(const std::string name, special->string("id"));
  FATHOM_TRY(const auto tokens, processor.object("special_tokens"));
  if (!tokens) return processor.bad("special_tokens", "an object");
  FATHOM_TRY(const auto token, tokens->object(name));
  if (!token) return special->bad("id", "a name that stands in special_tokens");
  FATHOM_TRY(const std::vector<int64_t> ids, token->integer_list("ids", 0, limits::kMaxVocab - 1));
  if (ids.empty()) return token->bad("ids", "a list of ids");
  out.ids.assign(ids.begin(), ids.end());
  return out;
}

Status read_template(const JsonReader& processor, TokenizerSpec& spec) {
  if (!spec.post_processor.empty()) {
    return processor.bad("type", "at most one TemplateProcessing in a Sequence");
  }
  const auto it = processor.value().find("single");
  if (it == processor.value().end() || !it->is_array()) return processor.bad("single", "a list");
  int sequences = 0;
  for (std::size_t i = 0; i < it->size(); ++i) {
    const json& item = (*it)[i];
    const std::string where = processor.where(fmt::format("single[{}]", i));
    if (!item.is_object()) {
      return invalid_argument(
          fmt::format("{} is {}, expected an object", where, json_preview(item)));
    }
    const JsonReader reader(item, processor.source(),
                            path_of(processor, fmt::format("single[{}]", i)));
    FATHOM_TRY(TemplatePiece piece, read_template_piece(reader, processor));
    sequences += piece.is_sequence ? 1 : 0;
    spec.post_processor.push_back(std::move(piece));
  }
  if (sequences != 1) return processor.bad("single", "the sequence A exactly once");
  return {};
}

Status read_decoder_component(const JsonReader& component, const std::string& type,
                              TokenizerSpec& spec) {
  DecoderSpec& decoder = spec.decoder;
  const bool first = decoder.kind == DecoderKind::kJoinWithSpaces;
  if (type == "Fuse") {  // tokens are joined in the end anyway
    if (first) decoder.kind = DecoderKind::kConcatenate;
    return {};
  }
  if (!first)
    return component.bad("type", "nothing but Fuse after ByteLevel, ByteFallback or Fuse");
  if (type == "ByteLevel") {
    decoder.kind = DecoderKind::kByteLevel;
  } else if (type == "ByteFallback") {
    decoder.kind = DecoderKind::kByteFallback;
  } else if (type == "Replace") {
    std::string pattern;
    bool is_regex = false;
    FATHOM_TRY_STATUS(read_pattern(component, pattern, is_regex));
    if (is_regex || pattern.empty()) return component.bad("pattern", "a String that is not empty");
    FATHOM_TRY(std::string content, component.string("content"));
    decoder.replacements.emplace_back(std::move(pattern), std::move(content));
  } else {
    return component.bad("type",
                         "ByteLevel, ByteFallback, Fuse, Replace or a Sequence of them "
                         "(other decoders are unsupported)");
  }
  return {};
}

}  // namespace

Status read_normalizer(const JsonReader& top, TokenizerSpec& spec) {
  using Kind = NormalizerStep::Kind;
  return for_each_component(
      top, "normalizer", "normalizers",
      [&](const JsonReader& component, const std::string& type) -> Status {
        FATHOM_TRY_STATUS(check_stage_count(top, "normalizer", spec.normalizer.size()));
        NormalizerStep step;
        if (type == "NFC") {
          step.kind = Kind::kNfc;
        } else if (type == "NFD") {
          step.kind = Kind::kNfd;
        } else if (type == "NFKC") {
          step.kind = Kind::kNfkc;
        } else if (type == "NFKD") {
          step.kind = Kind::kNfkd;
        } else if (type == "Prepend") {
          step.kind = Kind::kPrepend;
          FATHOM_TRY(step.content, component.string("prepend"));
        } else if (type == "Replace") {
          step.kind = Kind::kReplace;
          FATHOM_TRY_STATUS(read_pattern(component, step.pattern, step.is_regex));
          FATHOM_TRY(step.content, component.string("content"));
        } else {
          return component.bad("type",
                               "NFC, NFD, NFKC, NFKD, Prepend, Replace or a Sequence of them "
                               "(other normalizers are unsupported)");
        }
        spec.normalizer.push_back(std::move(step));
        return {};
      });
}

Status read_pretokenizer(const JsonReader& top, TokenizerSpec& spec) {
  return for_each_component(
      top, "pre_tokenizer", "pretokenizers",
      [&](const JsonReader& component, const std::string& type) -> Status {
        FATHOM_TRY_STATUS(check_stage_count(top, "pre_tokenizer", spec.pretokenizer.size()));
        if (type == "Split") {
          SplitStage stage;
          FATHOM_TRY_STATUS(read_pattern(component, stage.pattern, stage.is_regex));
          FATHOM_TRY(stage.behavior, read_behavior(component));
          FATHOM_TRY(stage.invert, component.boolean_or("invert", false));
          spec.pretokenizer.emplace_back(std::move(stage));
        } else if (type == "Digits") {
          DigitsStage stage;
          FATHOM_TRY(stage.individual_digits, component.boolean_or("individual_digits", false));
          spec.pretokenizer.emplace_back(stage);
        } else if (type == "ByteLevel") {
          ByteLevelStage stage;
          FATHOM_TRY(stage.add_prefix_space, component.boolean_or("add_prefix_space", true));
          FATHOM_TRY(stage.use_regex, component.boolean_or("use_regex", true));
          spec.pretokenizer.emplace_back(stage);
        } else {
          return component.bad("type",
                               "Split, Digits, ByteLevel or a Sequence of them "
                               "(other pre-tokenizers are unsupported)");
        }
        return {};
      });
}

Status read_post_processor(const JsonReader& top, TokenizerSpec& spec) {
  return for_each_component(top, "post_processor", "processors",
                            [&](const JsonReader& component, const std::string& type) -> Status {
                              if (type == "ByteLevel") return {};  // moves offsets only
                              if (type == "TemplateProcessing")
                                return read_template(component, spec);
                              return component.bad(
                                  "type",
                                  "ByteLevel, TemplateProcessing or a Sequence of them "
                                  "(other post-processors are unsupported)");
                            });
}

Status read_decoder(const JsonReader& top, TokenizerSpec& spec) {
  FATHOM_TRY_STATUS(for_each_component(top, "decoder", "decoders",
                                       [&](const JsonReader& component, const std::string& type) {
                                         return read_decoder_component(component, type, spec);
                                       }));
  // Any decoder joins without spaces; only the absence of one puts them there.
  if (top.has("decoder") && spec.decoder.kind == DecoderKind::kJoinWithSpaces) {
    spec.decoder.kind = DecoderKind::kConcatenate;
  }
  return {};
}

}  // namespace fathom::tokenizer_json
