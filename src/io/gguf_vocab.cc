#include "io/gguf_vocab.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/limits.h"
#include "io/gguf.h"

namespace fathom {
namespace {

Result<std::vector<std::string_view>> read_strings(const GgufMetadata& metadata,
                                                   std::string_view key) {
  const GgufValue* value = metadata.find(key);
  auto list = value == nullptr ? std::nullopt : value->strings();
  if (!list) return metadata.bad(key, "a list of strings");
  return *std::move(list);
}

Status read_types(const GgufMetadata& metadata, GgufVocab& out) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const GgufValue* value = metadata.find(kKey);
  if (value == nullptr) return {};
  const auto list = value->integers();
  if (!list || list->size() != out.tokens.size())
    return metadata.bad(kKey, fmt::format("{} integers, one per token", out.tokens.size()));
  for (const int64_t type : *list) {
    if (type < 0 || type > static_cast<int64_t>(GgufTokenType::kByte)) {
      return invalid_argument(fmt::format("{}: {}[{}] is {}, expected 0 to 6", out.source, kKey,
                                          out.types.size(), type));
    }
    out.types.push_back(static_cast<GgufTokenType>(type));
  }
  return {};
}

Status read_id(const GgufMetadata& metadata, std::string_view key, std::size_t tokens,
               std::optional<int64_t>& out) {
  if (!metadata.has(key)) return {};
  // Some writers say "none" by the largest number.
  FATHOM_TRY(const int64_t id, metadata.integer(key, -1, UINT32_MAX));
  if (id == -1 || id == UINT32_MAX) return {};
  if (id >= static_cast<int64_t>(tokens))
    return metadata.bad(key, fmt::format("an id below {}, the number of tokens", tokens));
  out = id;
  return {};
}

Status read_flag(const GgufMetadata& metadata, std::string_view key, std::optional<bool>& out) {
  if (!metadata.has(key)) return {};
  FATHOM_TRY(out, metadata.boolean_or(key, false));
  return {};
}

}  // namespace

Result<GgufVocab> read_gguf_vocab(const GgufMetadata& metadata) {
  GgufVocab out;
  out.source = metadata.source();
  FATHOM_TRY(out.model, metadata.label_or("tokenizer.ggml.model", ""));
  if (out.model == "no_vocab" || out.model == "none") out.model.clear();
  if (out.model.empty()) return out;
  FATHOM_TRY(out.pre, metadata.label_or("tokenizer.ggml.pre", ""));
  FATHOM_TRY(out.tokens, read_strings(metadata, "tokenizer.ggml.tokens"));
  if (out.tokens.empty() || out.tokens.size() > static_cast<std::size_t>(limits::kMaxVocab))
    return metadata.bad("tokenizer.ggml.tokens", fmt::format("1 to {} tokens", limits::kMaxVocab));
  FATHOM_TRY_STATUS(read_types(metadata, out));
  if (metadata.has("tokenizer.ggml.merges")) {
    FATHOM_TRY(out.merges, read_strings(metadata, "tokenizer.ggml.merges"));
  }
  const std::size_t n = out.tokens.size();
  FATHOM_TRY_STATUS(read_id(metadata, "tokenizer.ggml.bos_token_id", n, out.bos));
  FATHOM_TRY_STATUS(read_id(metadata, "tokenizer.ggml.eos_token_id", n, out.eos));
  FATHOM_TRY_STATUS(read_id(metadata, "tokenizer.ggml.eot_token_id", n, out.eot));
  FATHOM_TRY_STATUS(read_id(metadata, "tokenizer.ggml.eom_token_id", n, out.eom));
  FATHOM_TRY_STATUS(read_flag(metadata, "tokenizer.ggml.add_bos_token", out.add_bos));
  FATHOM_TRY_STATUS(read_flag(metadata, "tokenizer.ggml.add_eos_token", out.add_eos));
  return out;
}

std::vector<int64_t> end_token_ids(const GgufVocab& vocab) {
  static constexpr std::array<std::string_view, 7> kEnds = {
      "<|im_end|>",      "<|eot_id|>", "<|eom_id|>",           "<|endoftext|>",
      "<|end_of_text|>", "<|EOT|>",    "<｜end▁of▁sentence｜>"};
  std::set<int64_t> ids;
  for (const auto& id : {vocab.eos, vocab.eot, vocab.eom})
    if (id) ids.insert(*id);
  for (std::size_t i = 0; i < vocab.types.size(); ++i) {
    if (vocab.types[i] == GgufTokenType::kControl &&
        std::find(kEnds.begin(), kEnds.end(), vocab.tokens[i]) != kEnds.end())
      ids.insert(static_cast<int64_t>(i));
  }
  return {ids.begin(), ids.end()};
}

}  // namespace fathom
