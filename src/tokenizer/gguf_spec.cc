#include "tokenizer/gguf_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <unordered_map>

#include "base/json.h"
#include "base/utf8.h"

namespace fathom {
namespace {

// The expressions are those of the published tokenizer.json files.
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLineEnd = "[\r\n]";
constexpr const char* kCjk = "[一-龥ࠀ-一가-퟿]+";
// The letters of scripts with case.
constexpr const char* kLlmLetters =
    "\\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-"
    "\u02AF\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1"
    "\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD"
    "\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D"
    "\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-"
    "\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4"
    "\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D"
    "\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4"
    "\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E"
    "\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F"
    "\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2"
    "\U000118A0-\U000118DF\U0001E900-\U0001E943]+";
constexpr const char* kLlmPunctuation =
    "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+";
constexpr const char* kV3Cjk = "[一-龥぀-ゟ゠-ヿ]+";
constexpr const char* kV3Words =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

// One pre-tokenizer. Its stages are the splits in order, the digits' if there is one, and the byte
// alphabet.
struct Pre {
  std::array<std::string_view, 3> names;  // the first is the one to write; "" behind the last
  std::array<const char*, 5> splits;
  bool single_digits = false;
  bool gpt2_words = false;  // the byte alphabet's stage splits by GPT-2's expression first
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
};

// "nano-v3" is models/nano's own: V3's with digits one by one. Other programs do not know it.
constexpr std::array<Pre, 8> kPres = {{
    {.names = {"deepseek-llm"},
     .splits = {kLineEnd, kLlmLetters, kLlmPunctuation, "\\s+$", kCjk},
     .single_digits = true},
    {.names = {"deepseek-coder"},
     .splits = {kLineEnd, "\\s?\\p{L}+", "\\s?\\p{P}+", kCjk},
     .single_digits = true},
    {.names = {"deepseek-v3"}, .splits = {"\\p{N}{1,3}", kV3Cjk, kV3Words}},
    {.names = {"nano-v3"}, .splits = {"\\p{N}", kV3Cjk, kV3Words}},
    {.names = {"qwen2", "deepseek-r1-qwen"}, .splits = {kQwen2}, .nfc = true},
    {.names = {"llama-bpe", "llama3", "llama-v3"},
     .splits = {kLlama3},
     .ignore_merges = true,
     .add_bos = true},
    {.names = {"smollm"}, .splits = {}, .single_digits = true, .gpt2_words = true},
    {.names = {"gpt-2"}, .splits = {}, .gpt2_words = true},
}};

// Tokens that converters mark as control tokens by their look alone: the published tokenizers do
// not call them special, so they count as text when special tokens are left out.
bool looks_special_only(std::string_view content) {
  static constexpr std::array<std::string_view, 6> kQwen = {"<|fim_prefix|>", "<|fim_middle|>",
                                                            "<|fim_suffix|>", "<|fim_pad|>",
                                                            "<|repo_name|>",  "<|file_sep|>"};
  if (std::find(kQwen.begin(), kQwen.end(), content) != kQwen.end()) return true;
  if (!content.starts_with("<｜") || !content.ends_with("｜>")) return false;
  return content != "<｜begin▁of▁sentence｜>" && content != "<｜end▁of▁sentence｜>" &&
         content != "<｜▁pad▁｜>" && !content.starts_with("<｜place▁holder▁no▁");
}

// Converters fill the list up to the model's vocabulary with [PAD123]: no tokens.
bool is_unused(const GgufVocab& vocab, std::size_t id) {
  return (!vocab.types.empty() && vocab.types[id] == GgufTokenType::kUnused) ||
         vocab.tokens[id] == fmt::format("[PAD{}]", id);
}

const Pre* find_pre(std::string_view name) {
  for (const Pre& pre : kPres)
    if (!name.empty() && std::find(pre.names.begin(), pre.names.end(), name) != pre.names.end())
      return &pre;
  return nullptr;
}

std::string known_pres() {
  std::string out;
  for (const Pre& pre : kPres)
    for (const std::string_view name : pre.names)
      if (!name.empty()) out += fmt::format("{}{}", out.empty() ? "" : ", ", name);
  return out;
}

void add_stages(const Pre& pre, TokenizerSpec& spec) {
  if (pre.nfc) spec.normalizer.push_back({.kind = NormalizerStep::Kind::kNfc});
  for (const char* pattern : pre.splits)
    if (pattern != nullptr)
      spec.pretokenizer.emplace_back(SplitStage{.pattern = pattern, .is_regex = true});
  if (pre.single_digits) spec.pretokenizer.emplace_back(DigitsStage{.individual_digits = true});
  spec.pretokenizer.emplace_back(ByteLevelStage{.use_regex = pre.gpt2_words});
  spec.decoder.kind = DecoderKind::kByteLevel;
  spec.ignore_merges = pre.ignore_merges;
}

bool is_added(GgufTokenType type) {
  return type == GgufTokenType::kControl || type == GgufTokenType::kUserDefined;
}

// Tokens, all but the unused ones. Added tokens stand in the vocabulary proper only if a merge
// knows them.
Status add_tokens(const GgufVocab& vocab, TokenizerSpec& spec) {
  std::unordered_map<std::string, int32_t> added;
  for (std::size_t i = 0; i < vocab.tokens.size(); ++i) {
    GgufTokenType type = vocab.types.empty() ? GgufTokenType::kNormal : vocab.types[i];
    const auto id = static_cast<int32_t>(i);
    // Without a list of types these two are known at least.
    if (vocab.types.empty() && (vocab.bos == id || vocab.eos == id)) type = GgufTokenType::kControl;
    if (is_unused(vocab, i)) continue;
    std::string content(vocab.tokens[i]);
    if (!is_added(type)) {
      spec.vocab.push_back({std::move(content), id});
      continue;
    }
    if (content.empty()) {
      return invalid_argument(
          fmt::format("{}: tokenizer.ggml.tokens[{}] is \"\", expected the text of a control token",
                      vocab.source, i));
    }
    const bool special = type == GgufTokenType::kControl && !looks_special_only(content);
    added.emplace(content, id);
    spec.added_tokens.push_back({.id = id, .content = std::move(content), .special = special});
  }
  for (const MergeSpec& merge : spec.merges) {
    for (const std::string& text : {merge.left, merge.right, merge.left + merge.right}) {
      const auto it = added.find(text);
      if (it == added.end()) continue;
      spec.vocab.push_back({it->first, it->second});
      added.erase(it);
    }
  }
  return {};
}

Status add_merges(const GgufVocab& vocab, TokenizerSpec& spec) {
  spec.merges.reserve(vocab.merges.size());
  for (std::size_t i = 0; i < vocab.merges.size(); ++i) {
    const std::string_view line = vocab.merges[i];
    const std::size_t space = line.find(' ');
    if (space == line.npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != line.npos) {
      return invalid_argument(fmt::format(
          "{}: tokenizer.ggml.merges[{}] is {}, expected two tokens with one space between them",
          vocab.source, i, json_preview(nlohmann::json(utf8_sanitize(line.substr(0, 300))))));
    }
    spec.merges.push_back(
        {std::string(line.substr(0, space)), std::string(line.substr(space + 1))});
  }
  return {};
}

// What AutoTokenizer's "add special tokens" adds.
Status add_template(const GgufVocab& vocab, const Pre& pre, TokenizerSpec& spec) {
  const bool bos = vocab.add_bos.value_or(pre.add_bos) && vocab.bos.has_value();
  const bool eos = vocab.add_eos.value_or(false) && vocab.eos.has_value();
  if (!bos && !eos) return {};
  const auto fixed = [&](int64_t id, std::string_view name) -> Status {
    if (is_unused(vocab, static_cast<std::size_t>(id))) {
      return invalid_argument(fmt::format(
          "{}: tokenizer.ggml.{}_token_id is {}, expected a token that is not marked unused",
          vocab.source, name, id));
    }
    spec.post_processor.push_back({.is_sequence = false, .ids = {static_cast<int32_t>(id)}});
    return {};
  };
  if (bos) FATHOM_TRY_STATUS(fixed(*vocab.bos, "bos"));
  spec.post_processor.push_back({.is_sequence = true, .ids = {}});
  if (eos) FATHOM_TRY_STATUS(fixed(*vocab.eos, "eos"));
  return {};
}

bool same_stage(const PretokenizerStage& a, const PretokenizerStage& b) {
  if (a.index() != b.index()) return false;
  if (const auto* x = std::get_if<SplitStage>(&a)) {
    const auto& y = std::get<SplitStage>(b);
    return x->pattern == y.pattern && x->is_regex == y.is_regex && x->behavior == y.behavior &&
           x->invert == y.invert;
  }
  if (const auto* x = std::get_if<DigitsStage>(&a))
    return x->individual_digits == std::get<DigitsStage>(b).individual_digits;
  const auto& x = std::get<ByteLevelStage>(a);
  const auto& y = std::get<ByteLevelStage>(b);
  return x.add_prefix_space == y.add_prefix_space && x.use_regex == y.use_regex;
}

}  // namespace

Result<TokenizerSpec> tokenizer_spec_from_gguf(const GgufVocab& vocab) {
  const auto bad = [&](std::string_view key, std::string_view seen, std::string_view expected) {
    return invalid_argument(fmt::format("{}: {} is {}, expected {}", vocab.source, key,
                                        json_preview(nlohmann::json(seen)), expected));
  };
  if (vocab.model != "gpt2") {
    return bad("tokenizer.ggml.model", vocab.model,
               "\"gpt2\" (byte-level BPE; other kinds, such as SentencePiece, are unsupported)");
  }
  const Pre* pre = find_pre(vocab.pre);
  if (pre == nullptr) {
    return bad("tokenizer.ggml.pre", vocab.pre,
               fmt::format("one of {}; convert the model again with a current tool if it is old",
                           known_pres()));
  }
  TokenizerSpec spec;
  spec.source = vocab.source;
  add_stages(*pre, spec);
  FATHOM_TRY_STATUS(add_merges(vocab, spec));
  FATHOM_TRY_STATUS(add_tokens(vocab, spec));
  FATHOM_TRY_STATUS(add_template(vocab, *pre, spec));
  return spec;
}

std::optional<std::string_view> gguf_pre_name(const TokenizerSpec& spec) {
  for (const Pre& pre : kPres) {
    TokenizerSpec known;
    add_stages(pre, known);
    const bool same_normalizer = std::equal(
        spec.normalizer.begin(), spec.normalizer.end(), known.normalizer.begin(),
        known.normalizer.end(), [](const auto& a, const auto& b) { return a.kind == b.kind; });
    if (same_normalizer && spec.ignore_merges == known.ignore_merges &&
        std::equal(spec.pretokenizer.begin(), spec.pretokenizer.end(), known.pretokenizer.begin(),
                   known.pretokenizer.end(), same_stage))
      return pre.names[0];
  }
  return std::nullopt;
}

GgufTokenType gguf_token_type(const AddedTokenSpec& token) {
  return token.special || looks_special_only(token.content) ? GgufTokenType::kControl
                                                            : GgufTokenType::kUserDefined;
}

}  // namespace fathom
