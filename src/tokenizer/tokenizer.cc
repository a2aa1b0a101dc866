// Building a Tokenizer's parts and running a text through them.
//
// A call borrows a scratch (cache, match data, buffers) from a small pool: one lock per call
// instead of one per piece, and what one call has cached serves the next.
#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "base/file.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/unicode_data.h"
#include "tokenizer/vocabulary.h"

namespace fathom {
namespace {

struct Scratch {
  PieceCache cache;
  BpeScratch bpe;
  RegexScratch regex;
};

// Idle scratches, ~1 MiB each; a call that finds none makes one.
class ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Scratch>();
    auto scratch = std::move(idle_.back());
    idle_.pop_back();
    return scratch;
  }
  void give(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdle) idle_.push_back(std::move(scratch));
  }

 private:
  static constexpr std::size_t kMaxIdle = 16;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> idle_;
};

// The tokens that are looked for in the normalised text, by their normalised contents.
Result<std::vector<AddedTokenSpec>> normalized_tokens(const TokenizerSpec& spec,
                                                      const Normalizer& normalizer) {
  std::vector<AddedTokenSpec> out;
  RegexScratch scratch;
  scratch.recent_code_points = true;
  for (const AddedTokenSpec& token : spec.added_tokens) {
    if (!token.normalized) continue;
    std::string storage;
    FATHOM_TRY(const auto form, normalizer.apply(token.content, storage, scratch));
    AddedTokenSpec changed = token;
    changed.content = std::string(form);
    out.push_back(std::move(changed));
  }
  return out;
}

std::vector<AddedTokenSpec> raw_tokens(const TokenizerSpec& spec) {
  std::vector<AddedTokenSpec> out;
  for (const AddedTokenSpec& token : spec.added_tokens) {
    if (!token.normalized) out.push_back(token);
  }
  return out;
}

Status check_template(const TokenizerSpec& spec, const Vocabulary& vocabulary) {
  int sequences = 0;
  for (std::size_t i = 0; i < spec.post_processor.size(); ++i) {
    const TemplatePiece& piece = spec.post_processor[i];
    sequences += piece.is_sequence ? 1 : 0;
    for (const int32_t id : piece.ids) {
      if (vocabulary.has(id)) continue;
      return invalid_argument(
          fmt::format("{}: post_processor: piece {} of the template has the id "
                      "{}, expected a token's id",
                      spec.source, i, id));
    }
  }
  if (!spec.post_processor.empty() && sequences != 1) {
    return invalid_argument(
        fmt::format("{}: post_processor: the template has the text {} times, "
                    "expected once",
                    spec.source, sequences));
  }
  return {};
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(TokenizerSpec s) : spec(std::move(s)) {}

  Status build();
  // Text without raw added tokens → ids.
  Status encode_text(std::string_view text, const EncodeOptions& options, Scratch& scratch,
                     std::vector<int32_t>& out) const;
  // Normalised text without any added token → ids.
  Status encode_plain(std::string_view text, Scratch& scratch, std::vector<int32_t>& out) const;
  // Valid UTF-8 → ids, without the template.
  Status encode_sequence(std::string_view text, const EncodeOptions& options,
                         std::vector<int32_t>& out) const;

  TokenizerSpec spec;  // vocabulary and model point into it
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  Vocabulary vocabulary;
  Bpe bpe;
  AddedTokenMatcher raw_matcher;
  AddedTokenMatcher normalized_matcher;
  mutable ScratchPool pool;
};

Status Tokenizer::Parts::build() {
  FATHOM_TRY(normalizer, Normalizer::create(spec.normalizer, spec.source));
  FATHOM_TRY(pretokenizer, Pretokenizer::create(spec.pretokenizer, spec.source));
  FATHOM_TRY(vocabulary, Vocabulary::create(spec, normalizer));
  FATHOM_TRY(bpe, Bpe::create(spec, pretokenizer.emits_bytes()));
  FATHOM_TRY(raw_matcher, AddedTokenMatcher::create(raw_tokens(spec), spec.source));
  FATHOM_TRY(auto normalized, normalized_tokens(spec, normalizer));
  FATHOM_TRY(normalized_matcher, AddedTokenMatcher::create(std::move(normalized), spec.source));
  FATHOM_TRY_STATUS(check_template(spec, vocabulary));
  spec.merges = {};  // the table has them
  return {};
}

Status Tokenizer::Parts::encode_plain(std::string_view text, Scratch& scratch,
                                      std::vector<int32_t>& out) const {
  return pretokenizer.run(text, scratch.regex, [&](std::string_view piece) -> Status {
    if (const auto ids = scratch.cache.find(piece); !ids.empty()) {
      out.insert(out.end(), ids.begin(), ids.end());
      return {};
    }
    const std::size_t before = out.size();
    FATHOM_TRY_STATUS(bpe.encode(piece, scratch.bpe, out));
    scratch.cache.put(piece, std::span(out).subspan(before));
    return {};
  });
}

Status Tokenizer::Parts::encode_text(std::string_view text, const EncodeOptions& options,
                                     Scratch& scratch, std::vector<int32_t>& out) const {
  std::string storage;
  FATHOM_TRY(const auto normal, normalizer.apply(text, storage, scratch.regex));
  std::vector<AddedTokenMatcher::Part> parts;
  normalized_matcher.find(normal, options.special_as_text, scratch.regex, parts);
  for (const auto& part : parts) {
    if (part.id >= 0) {
      out.push_back(part.id);
    } else {
      const auto plain = normal.substr(part.begin, part.end - part.begin);
      FATHOM_TRY_STATUS(encode_plain(plain, scratch, out));
    }
  }
  return {};
}

Status Tokenizer::Parts::encode_sequence(std::string_view text, const EncodeOptions& options,
                                         std::vector<int32_t>& out) const {
  std::unique_ptr<Scratch> scratch = pool.take();
  scratch->regex.recent_code_points = has_recent_code_points(text);
  std::vector<AddedTokenMatcher::Part> parts;
  raw_matcher.find(text, options.special_as_text, scratch->regex, parts);
  for (const auto& part : parts) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    const auto between = text.substr(part.begin, part.end - part.begin);
    FATHOM_TRY_STATUS(encode_text(between, options, *scratch, out));
  }
  pool.give(std::move(scratch));
  return {};
}

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_spec(TokenizerSpec spec) {
  auto parts = std::make_unique<Parts>(std::move(spec));
  FATHOM_TRY_STATUS(parts->build());
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_json(std::string_view text,
                                                        std::string_view source) {
  FATHOM_TRY(TokenizerSpec spec, parse_tokenizer_json(text, source));
  return from_spec(std::move(spec));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string& tokenizer_json_path) {
  FATHOM_TRY(const std::string text, read_file(tokenizer_json_path, limits::kMaxJsonBytes));
  return from_json(text, tokenizer_json_path);
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  if (static_cast<int64_t>(text.size()) > limits::kMaxEncodeBytes) {
    return resource_limit(fmt::format("{}: a text of {} bytes, the limit is {}",
                                      parts_->spec.source, text.size(), limits::kMaxEncodeBytes));
  }
  std::string sanitized;
  if (!utf8_is_valid(text)) {
    sanitized = utf8_sanitize(text);
    text = sanitized;
  }
  std::vector<int32_t> out;
  const auto& pieces = parts_->spec.post_processor;
  if (!options.add_special_tokens || pieces.empty()) {
    FATHOM_TRY_STATUS(parts_->encode_sequence(text, options, out));
    return out;
  }
  for (const TemplatePiece& piece : pieces) {
    if (piece.is_sequence) {
      FATHOM_TRY_STATUS(parts_->encode_sequence(text, options, out));
    } else {
      out.insert(out.end(), piece.ids.begin(), piece.ids.end());
    }
  }
  return out;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string out;
  Detokenizer detokenizer(*this, skip_special);
  for (const int32_t id : ids) {
    if (!has_token(id)) {
      return invalid_argument(
          fmt::format("{}: no token has the id {}, expected 0 to {} without the "
                      "unused ones",
                      parts_->spec.source, id, vocab_size() - 1));
    }
    detokenizer.push(id, out);
  }
  out += detokenizer.finish();
  return out;
}

int32_t Tokenizer::vocab_size() const { return parts_->vocabulary.size(); }
std::optional<int32_t> Tokenizer::token_to_id(std::string_view content) const {
  return parts_->vocabulary.id_of(content);
}
std::string_view Tokenizer::token_content(int32_t id) const {
  return parts_->vocabulary.content(id);
}
std::string_view Tokenizer::token_bytes(int32_t id) const { return parts_->vocabulary.bytes(id); }
bool Tokenizer::has_token(int32_t id) const { return parts_->vocabulary.has(id); }
bool Tokenizer::is_added(int32_t id) const { return parts_->vocabulary.is_added(id); }
bool Tokenizer::is_special(int32_t id) const { return parts_->vocabulary.is_special(id); }
DecoderKind Tokenizer::decoder_kind() const { return parts_->spec.decoder.kind; }
bool Tokenizer::is_skipped(int32_t id) const { return parts_->vocabulary.is_skipped(id); }
bool Tokenizer::is_fallback_byte(int32_t id) const {
  return parts_->vocabulary.is_fallback_byte(id);
}

}  // namespace fathom
