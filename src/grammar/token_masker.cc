#include "grammar/token_masker.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "grammar/string_tokens.h"

namespace fathom {
namespace {

// The bytes that grammars may ask for one at a time: printable ASCII, newlines, and UTF-8's.
bool text_needs(int byte) {
  return byte == '\n' || (byte >= 0x20 && byte < 0x7F) || (byte >= 0x80 && byte < 0xC0) ||
         (byte >= 0xC2 && byte <= 0xF4);
}

}  // namespace

TokenMasker::TokenMasker() = default;
TokenMasker::~TokenMasker() = default;

Result<std::shared_ptr<const TokenMasker>> TokenMasker::create(const Tokenizer& tokenizer,
                                                               int64_t vocab_size) {
  std::shared_ptr<TokenMasker> out(new TokenMasker);
  const int32_t size = tokenizer.vocab_size();
  out->vocab_size_ = std::max<int64_t>(vocab_size, size);
  out->begin_.reserve(static_cast<std::size_t>(size) + 1);
  out->added_.resize(static_cast<std::size_t>(size));
  std::array<bool, 256> single{};
  for (int32_t id = 0; id < size; ++id) {
    out->begin_.push_back(static_cast<uint32_t>(out->text_.size()));
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (static_cast<int64_t>(bytes.size()) > limits::kMaxTrieTokenBytes) continue;
    out->text_ += bytes;
    out->added_[id] = tokenizer.is_added(id) || tokenizer.is_skipped(id);
    if (bytes.size() == 1 && !out->added_[id]) single[static_cast<uint8_t>(bytes[0])] = true;
  }
  out->begin_.push_back(static_cast<uint32_t>(out->text_.size()));
  for (int byte = 0; byte < 256; ++byte) {
    if (single[byte] || !text_needs(byte)) continue;
    return invalid_argument(
        fmt::format("the vocabulary has no token for the byte {:#04x} alone, which JSON output "
                    "needs; expected a byte-level or byte-fallback vocabulary",
                    byte));
  }
  std::vector<Entry> ordinary, added;
  for (int32_t id = 0; id < size; ++id) {
    const std::string_view bytes = out->bytes(id);
    if (bytes.empty()) continue;
    (out->added_[id] ? added : ordinary).push_back({bytes, id});
    if (!tokenizer.is_added(id)) continue;
    out->added_by_text_.emplace(bytes, id);
    out->longest_added_ = std::max(out->longest_added_, bytes.size());
  }
  out->tokens_.reserve(ordinary.size() + added.size());
  out->add_trie(std::move(ordinary));
  out->ordinary_end_ = static_cast<uint32_t>(out->nodes_.size());
  out->add_trie(std::move(added));
  out->nodes_.push_back({.tokens = static_cast<uint32_t>(out->tokens_.size())});
  out->nodes_.shrink_to_fit();
  out->string_tokens_ = std::make_unique<grammar::StringTokens>(*out);
  return std::shared_ptr<const TokenMasker>(std::move(out));
}

void TokenMasker::add_trie(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.token < b.token;
  });
  std::vector<uint32_t> path;  // the nodes of the last text, root's child first
  std::string_view last;
  for (const Entry& entry : entries) {
    const auto parts =
        std::mismatch(last.begin(), last.end(), entry.bytes.begin(), entry.bytes.end());
    const auto shared = static_cast<std::size_t>(parts.first - last.begin());
    for (; path.size() > shared; path.pop_back())
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    for (std::size_t i = shared; i < entry.bytes.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.tokens = static_cast<uint32_t>(tokens_.size()),
                        .depth = static_cast<uint16_t>(i + 1),
                        .byte = static_cast<uint8_t>(entry.bytes[i])});
    }
    tokens_.push_back(entry.token);
    last = entry.bytes;
  }
  for (const uint32_t node : path) nodes_[node].end = static_cast<uint32_t>(nodes_.size());
}

std::string_view TokenMasker::bytes(int32_t token) const {
  if (token < 0 || static_cast<std::size_t>(token) + 1 >= begin_.size()) return {};
  return std::string_view(text_).substr(begin_[token], begin_[token + 1] - begin_[token]);
}

bool TokenMasker::is_added(int32_t token) const {
  return token >= 0 && static_cast<std::size_t>(token) < added_.size() && added_[token];
}

int32_t TokenMasker::added_token_at(std::string_view text) const {
  for (std::size_t n = std::min(text.size(), longest_added_); n > 0; --n) {
    const auto it = added_by_text_.find(text.substr(0, n));
    if (it != added_by_text_.end()) return it->second;
  }
  return -1;
}

int64_t TokenMasker::memory_bytes() const {
  return static_cast<int64_t>(nodes_.capacity() * sizeof(Node) + tokens_.capacity() * 4 +
                              text_.capacity() + begin_.capacity() * 4 + added_.size() / 8 +
                              added_by_text_.size() * 48) +
         string_tokens_->memory_bytes();
}

}  // namespace fathom
