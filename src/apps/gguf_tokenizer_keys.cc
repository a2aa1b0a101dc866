// The keys that tell a GGUF reader what a model of tokenizer.json and its neighbours reads and
// writes: tokens, merges, special tokens, chat template, sampling defaults.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "apps/gguf_plan.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "tokenizer/gguf_spec.h"
#include "tokenizer/tokenizer_json.h"

namespace fathom {
namespace {

using nlohmann::json;

// Byte-level BPE never joins two digits in models/nano's tokenizer, which cuts them apart first; so
// V3's pre-tokenizer, which other programs know, gives the same ids as its own.
bool has_token_of_digits(const TokenizerSpec& spec) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::any_of(spec.vocab.begin(), spec.vocab.end(), [&](const VocabEntry& v) {
    return std::adjacent_find(v.content.begin(), v.content.end(), [&](char a, char b) {
             return digit(a) && digit(b);
           }) != v.content.end();
  });
}

Result<std::string> pre_name(const TokenizerSpec& spec, const std::string& path) {
  const auto name = gguf_pre_name(spec);
  if (!name || spec.decoder.kind != DecoderKind::kByteLevel) {
    return invalid_argument(path +
                            ": its pre-tokenizer has no name in GGUF, expected that of a DeepSeek, "
                            "Qwen2, Llama 3, SmolLM or GPT-2 tokenizer");
  }
  if (*name == "nano-v3" && !has_token_of_digits(spec)) return std::string("deepseek-v3");
  const bool distilled = std::any_of(spec.added_tokens.begin(), spec.added_tokens.end(),
                                     [](const auto& t) { return t.content == "<｜User｜>"; });
  if (*name == "qwen2" && distilled) return std::string("deepseek-r1-qwen");
  return std::string(*name);
}

Status add_tokens(const TokenizerSpec& spec, int64_t vocab_size, GgufKeyValues& out) {
  std::vector<std::string> tokens(static_cast<std::size_t>(vocab_size));
  std::vector<int32_t> types(tokens.size(), static_cast<int32_t>(GgufTokenType::kUnused));
  const auto put = [&](int32_t id, const std::string& content, GgufTokenType type) -> Status {
    if (id < 0 || id >= vocab_size) {
      return invalid_argument(fmt::format("{}: token id {}, expected 0 to {} (vocab_size)",
                                          spec.source, id, vocab_size - 1));
    }
    tokens[static_cast<std::size_t>(id)] = content;
    types[static_cast<std::size_t>(id)] = static_cast<int32_t>(type);
    return {};
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = fmt::format("[PAD{}]", i);
  for (const VocabEntry& v : spec.vocab)
    FATHOM_TRY_STATUS(put(v.id, v.content, GgufTokenType::kNormal));
  for (const AddedTokenSpec& t : spec.added_tokens)
    FATHOM_TRY_STATUS(put(t.id, t.content, gguf_token_type(t)));
  std::vector<std::string> merges;
  merges.reserve(spec.merges.size());
  for (const MergeSpec& m : spec.merges) {
    if (m.left.find(' ') != std::string::npos || m.right.find(' ') != std::string::npos)
      return invalid_argument(spec.source + ": a merge holds a space, expected byte-level tokens");
    merges.push_back(m.left + ' ' + m.right);
  }
  out.set_strings("tokenizer.ggml.tokens", tokens);
  out.set_i32s("tokenizer.ggml.token_type", types);
  out.set_strings("tokenizer.ggml.merges", merges);
  return {};
}

// "eos_token": a string, or an object with "content".
Result<std::string> token_text(const JsonReader& config, const char* field) {
  if (!config.has(field)) return std::string();
  const json& value = config.value()[field];
  if (value.is_object()) {
    FATHOM_TRY(const auto object, config.object(field));
    return object->string_or("content", "");
  }
  return config.string(field);
}

Result<json> read_tokenizer_config(const std::string& directory) {
  const std::string path = directory + "/tokenizer_config.json";
  if (!file_exists(path)) return json::object();
  FATHOM_TRY(json value, read_json_file(path, {.max_bytes = limits::kMaxConfigBytes,
                                               .max_values = limits::kMaxConfigValues}));
  if (!value.is_object()) return invalid_argument(path + ": expected an object");
  return value;
}

std::optional<int64_t> id_of(const TokenizerSpec& spec, const std::string& text) {
  if (text.empty()) return std::nullopt;
  for (const AddedTokenSpec& t : spec.added_tokens)
    if (t.content == text) return t.id;
  for (const VocabEntry& v : spec.vocab)
    if (v.content == text) return v.id;
  return std::nullopt;
}

// The tokens that begin and end texts. tokenizer_config.json names them; config.json and
// generation_config.json have ids, of which more than one may end an answer.
Status add_special_tokens(const ModelFiles& files, const TokenizerSpec& spec,
                          const JsonReader& config, GgufKeyValues& out) {
  const auto set = [&](std::string_view name, std::optional<int64_t> id) {
    if (id)
      out.set_u32(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(*id));
  };
  FATHOM_TRY(const std::string bos_text, token_text(config, "bos_token"));
  FATHOM_TRY(const std::string eos_text, token_text(config, "eos_token"));
  FATHOM_TRY(const std::string pad_text, token_text(config, "pad_token"));
  std::optional<int64_t> bos = id_of(spec, bos_text);
  if (!bos) bos = files.bos_token_id;
  set("bos", bos);
  std::vector<int64_t> ends = files.eos_token_ids;
  if (const auto eos = id_of(spec, eos_text)) {
    std::erase(ends, *eos);
    ends.insert(ends.begin(), *eos);
  }
  static constexpr std::string_view kEnds[] = {"eos", "eot", "eom"};
  for (std::size_t i = 0; i < std::min(ends.size(), std::size(kEnds)); ++i) set(kEnds[i], ends[i]);
  set("padding", id_of(spec, pad_text));
  const auto begins = [&](std::optional<int64_t> id) {
    return id && !spec.post_processor.empty() && !spec.post_processor.front().is_sequence &&
           spec.post_processor.front().ids == std::vector{static_cast<int32_t>(*id)};
  };
  FATHOM_TRY(const bool add_bos, config.boolean_or("add_bos_token", begins(bos)));
  FATHOM_TRY(const bool add_eos, config.boolean_or("add_eos_token", false));
  out.set_bool("tokenizer.ggml.add_bos_token", add_bos);
  out.set_bool("tokenizer.ggml.add_eos_token", add_eos);
  return {};
}

}  // namespace

Status add_tokenizer_keys(const ModelFiles& files, int64_t vocab_size, GgufKeyValues& out) {
  if (files.temperature)
    out.set_f32("general.sampling.temp", static_cast<float>(*files.temperature));
  if (files.top_p) out.set_f32("general.sampling.top_p", static_cast<float>(*files.top_p));
  if (files.top_k) out.set_i32("general.sampling.top_k", static_cast<int32_t>(*files.top_k));
  if (files.tokenizer_path.empty()) {
    out.set_string("tokenizer.ggml.model", "no_vocab");
    return {};
  }
  FATHOM_TRY(const std::string text, read_file(files.tokenizer_path, limits::kMaxJsonBytes));
  FATHOM_TRY(const TokenizerSpec spec, parse_tokenizer_json(text, files.tokenizer_path));
  FATHOM_TRY(const std::string pre, pre_name(spec, files.tokenizer_path));
  out.set_string("tokenizer.ggml.model", "gpt2");
  out.set_string("tokenizer.ggml.pre", pre);
  FATHOM_TRY_STATUS(add_tokens(spec, vocab_size, out));
  FATHOM_TRY(const json config, read_tokenizer_config(files.directory));
  FATHOM_TRY_STATUS(add_special_tokens(
      files, spec, JsonReader(config, files.directory + "/tokenizer_config.json"), out));
  if (!files.chat_template.empty()) out.set_string("tokenizer.chat_template", files.chat_template);
  return {};
}

}  // namespace fathom
