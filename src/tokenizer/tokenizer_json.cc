// tokenizer.json: the top level, the BPE model and the added tokens. The stages (normalizer,
// pre-tokenizer, post-processor, decoder) are read in tokenizer_json_stages.cc.
//
// Format: the serialisation of the HuggingFace `tokenizers` library, version "1.0".
#include "tokenizer/tokenizer_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "tokenizer/tokenizer_json_internal.h"

namespace fathom {
namespace {

using nlohmann::json;

Error bad_item(const JsonReader& reader, std::string_view item, const json& seen,
               std::string_view expected) {
  return invalid_argument(
      fmt::format("{} is {}, expected {}", reader.where(item), json_preview(seen), expected));
}

// Requires the field to be an object and says so otherwise.
Result<JsonReader> required_object(const JsonReader& reader, std::string_view field) {
  FATHOM_TRY(auto object, reader.object(field));
  if (!object) return reader.bad(field, "an object");
  return std::move(*object);
}

Status read_vocab(const JsonReader& model, TokenizerSpec& spec) {
  FATHOM_TRY(const JsonReader vocab, required_object(model, "vocab"));
  spec.vocab.reserve(vocab.value().size());
  for (const auto& [content, id] : vocab.value().items()) {
    const bool fits =
        id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(limits::kMaxVocab);
    if (!fits) {
      return bad_item(model, fmt::format("vocab[{}]", json_preview(json(content))), id,
                      fmt::format("an id from 0 to {}", limits::kMaxVocab - 1));
    }
    spec.vocab.push_back({content, static_cast<int32_t>(id.get<uint64_t>())});
  }
  return {};
}

// "a b": exactly one space. Lines that begin with "#version" carry no merge (and no rank).
Status read_merge_lines(const JsonReader& model, const json& merges, TokenizerSpec& spec) {
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const json& item = merges[i];
    constexpr std::string_view kExpected = "two tokens with one space between them";
    if (!item.is_string()) return bad_item(model, fmt::format("merges[{}]", i), item, kExpected);
    const auto& line = item.get_ref<const std::string&>();
    if (line.starts_with("#version")) continue;
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
      return bad_item(model, fmt::format("merges[{}]", i), item, kExpected);
    }
    spec.merges.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return {};
}

Status read_merge_pairs(const JsonReader& model, const json& merges, TokenizerSpec& spec) {
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const json& item = merges[i];
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_string()) {
      return bad_item(model, fmt::format("merges[{}]", i), item, "a list of two tokens");
    }
    spec.merges.push_back({item[0].get<std::string>(), item[1].get<std::string>()});
  }
  return {};
}

Status read_merges(const JsonReader& model, TokenizerSpec& spec) {
  const auto it = model.value().find("merges");
  if (it == model.value().end() || !it->is_array()) return model.bad("merges", "a list");
  spec.merges.reserve(it->size());
  const bool lines = it->empty() || it->front().is_string();
  return lines ? read_merge_lines(model, *it, spec) : read_merge_pairs(model, *it, spec);
}

Status read_model(const JsonReader& top, TokenizerSpec& spec) {
  FATHOM_TRY(const JsonReader model, required_object(top, "model"));
  FATHOM_TRY(const std::string type, model.string_or("type", "BPE"));
  if (type != "BPE") return model.bad("type", "\"BPE\" (other models are unsupported)");
  FATHOM_TRY(const double dropout, model.number_or("dropout", 0, 0, 1));
  if (dropout != 0) return model.bad("dropout", "null or 0 (dropout is for training)");
  for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    FATHOM_TRY(const std::string value, model.string_or(field, ""));
    if (!value.empty()) return model.bad(field, "null or \"\" (a value is unsupported)");
  }
  if (model.has("unk_token")) {
    FATHOM_TRY(spec.unk_token, model.string("unk_token"));
  }
  FATHOM_TRY(spec.fuse_unk, model.boolean_or("fuse_unk", false));
  FATHOM_TRY(spec.byte_fallback, model.boolean_or("byte_fallback", false));
  FATHOM_TRY(spec.ignore_merges, model.boolean_or("ignore_merges", false));
  FATHOM_TRY_STATUS(read_vocab(model, spec));
  return read_merges(model, spec);
}

Result<AddedTokenSpec> read_added_token(const JsonReader& reader) {
  AddedTokenSpec token;
  FATHOM_TRY(const int64_t id, reader.integer("id", 0, limits::kMaxVocab - 1));
  token.id = static_cast<int32_t>(id);
  FATHOM_TRY(token.content, reader.string("content"));
  FATHOM_TRY(token.single_word, reader.boolean_or("single_word", false));
  FATHOM_TRY(token.lstrip, reader.boolean_or("lstrip", false));
  FATHOM_TRY(token.rstrip, reader.boolean_or("rstrip", false));
  FATHOM_TRY(token.special, reader.boolean_or("special", false));
  FATHOM_TRY(token.normalized, reader.boolean_or("normalized", !token.special));
  return token;
}

Status read_added_tokens(const JsonReader& top, TokenizerSpec& spec) {
  const auto it = top.value().find("added_tokens");
  if (it == top.value().end() || it->is_null()) return {};
  if (!it->is_array()) return top.bad("added_tokens", "a list of objects");
  if (static_cast<int64_t>(it->size()) > limits::kMaxAddedTokens) {
    return resource_limit(fmt::format("{}: {} entries, the limit is {}", top.where("added_tokens"),
                                      it->size(), limits::kMaxAddedTokens));
  }
  spec.added_tokens.reserve(it->size());
  for (std::size_t i = 0; i < it->size(); ++i) {
    const std::string path = fmt::format("added_tokens[{}]", i);
    if (!(*it)[i].is_object()) return bad_item(top, path, (*it)[i], "an object");
    FATHOM_TRY(AddedTokenSpec token, read_added_token(JsonReader((*it)[i], top.source(), path)));
    spec.added_tokens.push_back(std::move(token));
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> parse_tokenizer_json(std::string_view text, std::string_view source) {
  FATHOM_TRY(const json document, parse_json(text, source));
  if (!document.is_object()) {
    return invalid_argument(fmt::format("{}: {}, expected an object with a field \"model\"", source,
                                        json_preview(document)));
  }
  TokenizerSpec spec;
  spec.source = source;
  const JsonReader top(document, spec.source);
  FATHOM_TRY(const std::string version, top.string_or("version", "1.0"));
  if (version != "1.0") return top.bad("version", "\"1.0\"");
  FATHOM_TRY_STATUS(read_model(top, spec));
  FATHOM_TRY_STATUS(read_added_tokens(top, spec));
  FATHOM_TRY_STATUS(tokenizer_json::read_normalizer(top, spec));
  FATHOM_TRY_STATUS(tokenizer_json::read_pretokenizer(top, spec));
  FATHOM_TRY_STATUS(tokenizer_json::read_post_processor(top, spec));
  FATHOM_TRY_STATUS(tokenizer_json::read_decoder(top, spec));
  return spec;
}

}  // namespace fathom
