// TokenizerSpec: what a tokenizer is, as plain data, before anything is built from it.
//
// Readers of foreign formats (tokenizer.json, GGUF metadata) fill one of these and hand it to
// Tokenizer::from_spec, which checks every value: a reader need only get the types right. The model
// is always byte-pair encoding; the stages are those of the HuggingFace `tokenizers` library, and
// their names and meanings are documented there (huggingface.co/docs/tokenizers, "Components").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace fathom {

struct VocabEntry {
  std::string content;  // as the model sees it: byte-level alphabets are not decoded
  int32_t id = 0;
};

// One merge; its rank is its place in the list. Of equal pairs the last one counts.
struct MergeSpec {
  std::string left;
  std::string right;
};

// A token that is cut out of the text before anything else looks at it.
struct AddedTokenSpec {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space after it
  bool normalized = false;   // matched on the normalised text, by its normalised content
  bool special = false;      // dropped by skip_special, split like text by special_as_text
};

struct NormalizerStep {
  enum class Kind { kNfc, kNfd, kNfkc, kNfkd, kPrepend, kReplace };
  Kind kind = Kind::kNfc;
  std::string pattern;    // kReplace
  bool is_regex = false;  // kReplace: `pattern` is an Oniguruma expression, else literal text
  std::string content;    // kPrepend, kReplace
};

// What becomes of the matches (and, with `invert`, of the text between them).
enum class SplitBehavior {
  kIsolated,            // a piece of its own
  kRemoved,             // dropped
  kMergedWithPrevious,  // end of the piece before
  kMergedWithNext,      // beginning of the piece after
  kContiguous,          // neighbouring matches form one piece
};

struct SplitStage {
  std::string pattern;
  bool is_regex = false;  // Oniguruma syntax (regex_syntax.h), else literal text
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};

struct DigitsStage {
  bool individual_digits = false;
};

// Replaces every byte by one of 256 printable characters, so that the model sees bytes.
struct ByteLevelStage {
  bool add_prefix_space = false;
  bool use_regex = true;  // split by GPT-2's expression first
};

using PretokenizerStage = std::variant<SplitStage, DigitsStage, ByteLevelStage>;

// A piece of the post-processor's template: the text's own ids, or fixed ids.
struct TemplatePiece {
  bool is_sequence = false;
  std::vector<int32_t> ids;  // when not the sequence
};

// How the token texts become one text again.
enum class DecoderKind {
  kJoinWithSpaces,  // no decoder: one space between tokens
  kConcatenate,     // as they are
  kByteFallback,    // "<0x41>" is a byte; a run of bytes that is not UTF-8 becomes U+FFFD each
  kByteLevel,       // the byte alphabet of ByteLevelStage is undone
};

struct DecoderSpec {
  DecoderKind kind = DecoderKind::kJoinWithSpaces;
  // Applied to each token's text first: every occurrence of `first` becomes `second`.
  std::vector<std::pair<std::string, std::string>> replacements;
};

struct TokenizerSpec {
  std::string source = "tokenizer";  // begins every error message
  std::vector<VocabEntry> vocab;
  std::vector<MergeSpec> merges;
  std::optional<std::string> unk_token;
  bool fuse_unk = false;       // neighbouring unknown characters give one unk_token
  bool byte_fallback = false;  // unknown characters become <0xNN> tokens where those exist
  bool ignore_merges = false;  // a piece that is a token needs no merges
  std::vector<AddedTokenSpec> added_tokens;
  std::vector<NormalizerStep> normalizer;
  std::vector<PretokenizerStage> pretokenizer;
  std::vector<TemplatePiece> post_processor;  // empty: the ids as they are
  DecoderSpec decoder;
};

}  // namespace fathom
