// Collecting the tokens, then decoding each once: what a token adds to a text is the same wherever
// it stands, except for the runs of a byte-fallback decoder (detokenizer.cc).
#include "tokenizer/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tokenizer/byte_alphabet.h"

namespace fathom {
namespace {

std::string replace_all(std::string text, const std::pair<std::string, std::string>& replacement) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t i; (i = text.find(replacement.first, done)) != std::string::npos;) {
    out.append(text, done, i - done);
    out += replacement.second;
    done = i + replacement.first.size();
  }
  out.append(text, done);
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The byte of "<0xNN>".
std::optional<uint8_t> fallback_byte(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const int high = hex_digit(text[3]);
  const int low = hex_digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

Status check_ids(const TokenizerSpec& spec, int32_t& largest) {
  largest = -1;
  const auto check = [&](std::string_view content, int32_t id, std::string_view field) -> Status {
    if (id < 0 || id >= limits::kMaxVocab) {
      return invalid_argument(fmt::format("{}: {}: the id of {} is {}, expected 0 to {}",
                                          spec.source, field, json_preview_text(content), id,
                                          limits::kMaxVocab - 1));
    }
    if (static_cast<int64_t>(content.size()) > limits::kMaxTokenBytes) {
      return resource_limit(
          fmt::format("{}: {}: the token with id {} has {} bytes, the limit is {}", spec.source,
                      field, id, content.size(), limits::kMaxTokenBytes));
    }
    if (!utf8_is_valid(content)) {
      return invalid_argument(fmt::format("{}: {}: the token with id {} is {}, expected UTF-8",
                                          spec.source, field, id, json_preview_text(content)));
    }
    largest = std::max(largest, id);
    return {};
  };
  for (const auto& entry : spec.vocab) {
    FATHOM_TRY_STATUS(check(entry.content, entry.id, "model.vocab"));
  }
  for (const auto& token : spec.added_tokens) {
    FATHOM_TRY_STATUS(check(token.content, token.id, "added_tokens"));
  }
  const auto tokens = static_cast<int64_t>(spec.vocab.size() + spec.added_tokens.size());
  if (largest - tokens > limits::kMaxVocabHoles) {
    return resource_limit(fmt::format(
        "{}: model.vocab: the largest id is {} but there are {} tokens only, expected at most {} "
        "unused ids",
        spec.source, largest, tokens, limits::kMaxVocabHoles));
  }
  return {};
}

}  // namespace

Result<Vocabulary> Vocabulary::create(const TokenizerSpec& spec, const Normalizer& normalizer) {
  Vocabulary out;
  out.source_ = spec.source;
  int32_t largest = -1;
  FATHOM_TRY_STATUS(check_ids(spec, largest));
  out.tokens_.resize(static_cast<std::size_t>(largest) + 1);
  out.ids_.reserve(spec.vocab.size() + spec.added_tokens.size());
  for (const auto& entry : spec.vocab) {
    FATHOM_TRY_STATUS(out.add(entry.content, entry.id, "model.vocab"));
  }
  FATHOM_TRY_STATUS(out.add_added(spec));
  FATHOM_TRY_STATUS(out.decode_all(spec, normalizer));
  return out;
}

Status Vocabulary::add(std::string_view content, int32_t id, std::string_view field) {
  Token& token = tokens_[id];
  if (token.exists) {
    return invalid_argument(fmt::format("{}: {}: {} has the id {}, which {} has already", source_,
                                        field, json_preview_text(content), id,
                                        json_preview_text(token.content)));
  }
  if (const auto [it, fresh] = ids_.emplace(content, id); !fresh) {
    return invalid_argument(fmt::format("{}: {}: {} has the id {}, expected {} as before", source_,
                                        field, json_preview_text(content), id, it->second));
  }
  token.content = content;
  token.exists = true;
  return {};
}

Status Vocabulary::add_added(const TokenizerSpec& spec) {
  for (const AddedTokenSpec& added : spec.added_tokens) {
    if (static_cast<int64_t>(added.content.size()) > limits::kMaxAddedTokenBytes) {
      return resource_limit(
          fmt::format("{}: added_tokens: the token with id {} has {} bytes, the "
                      "limit is {}",
                      source_, added.id, added.content.size(), limits::kMaxAddedTokenBytes));
    }
    Token& token = tokens_[added.id];
    // An added token may stand in the model's vocabulary too, but not twice in the list.
    if (!token.exists || token.added || token.content != added.content) {
      FATHOM_TRY_STATUS(add(added.content, added.id, "added_tokens"));
    }
    token.added = true;
    token.special = added.special;
  }
  return {};
}

Status Vocabulary::decode_all(const TokenizerSpec& spec, const Normalizer& normalizer) {
  std::unordered_set<std::string_view> special;
  std::unordered_map<int32_t, std::string>
      normalized;  // texts of added tokens that normalising changes
  RegexScratch scratch;
  for (const AddedTokenSpec& added : spec.added_tokens) {
    if (added.special) special.insert(added.content);
    if (!added.normalized) continue;
    scratch.recent_code_points = true;
    std::string storage;
    FATHOM_TRY(const auto form, normalizer.apply(added.content, storage, scratch));
    if (form != added.content) normalized.emplace(added.id, std::string(form));
  }
  for (int32_t id = 0; id < size(); ++id) {
    Token& token = tokens_[id];
    if (!token.exists) continue;
    const auto changed = normalized.find(id);
    std::string text(changed == normalized.end() ? token.content : changed->second);
    token.skipped = special.contains(text);
    for (const auto& replacement : spec.decoder.replacements) text = replace_all(text, replacement);
    if (spec.decoder.kind == DecoderKind::kByteLevel) {
      if (auto bytes = alphabet_to_bytes(text)) text = std::move(*bytes);
    } else if (spec.decoder.kind == DecoderKind::kByteFallback) {
      const auto byte = fallback_byte(text);
      token.fallback_byte = byte.has_value();
      if (byte) text.assign(1, static_cast<char>(*byte));
    }
    if (bytes_.size() + text.size() > UINT32_MAX) {
      return resource_limit(source_ + ": model.vocab: the tokens have more than 4 GiB of text");
    }
    token.bytes_begin = static_cast<uint32_t>(bytes_.size());
    bytes_ += text;
    token.bytes_end = static_cast<uint32_t>(bytes_.size());
  }
  return {};
}

std::optional<int32_t> Vocabulary::id_of(std::string_view content) const {
  const auto it = ids_.find(content);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

std::string_view Vocabulary::content(int32_t id) const {
  return has(id) ? tokens_[id].content : std::string_view();
}

std::string_view Vocabulary::bytes(int32_t id) const {
  if (!has(id)) return {};
  const Token& token = tokens_[id];
  return std::string_view(bytes_).substr(token.bytes_begin, token.bytes_end - token.bytes_begin);
}

}  // namespace fathom
